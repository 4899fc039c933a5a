"""Milliseconds of opening the state, one guarded step and closing it: `python -m benchmarks.step STATE`."""

import statistics
import sys
import time
from pathlib import Path

from batcher.state.db.store import Store

STEPS = 15


def main(folder: Path) -> None:
    """Measure, with the engine started before, as in an acting process."""
    store = Store(folder, time.time, time.sleep)
    with store.read_transaction():
        pass
    taken = []
    for n in range(STEPS):
        began = time.perf_counter()
        with store.transaction("step") as tx:
            tx.write_fact("benchmark", float(n))
        taken.append(1000 * (time.perf_counter() - began))
    print(f"{statistics.median(taken):.1f} ({min(taken):.1f}-{max(taken):.1f})")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
