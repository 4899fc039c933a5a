"""One acting process without a network: `python -m benchmarks.acting send|take-in FOLDER`, after a plan in FOLDER.

`send` releases and sends every shard, and writes the answers; `take-in` finds every batch ended and ingests them.
"""

import random
import sys
from pathlib import Path

from batcher.catalog.prices import resolve_prices
from batcher.config.loading import load_config
from batcher.job.loading import load_job
from batcher.lanes.batch.runner import BatchRunner
from batcher.lanes.context import LaneContext
from batcher.state.db.store import Store
from batcher.state.shards import release_shards
from benchmarks.answers import LocalService
from benchmarks.shape import NOW


class Clock:
    """A clock that moves only by sleeping."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Move the clock."""
        self.now += seconds


def main(what: str, folder: Path) -> None:
    """Run the batch lane once."""
    config = load_config(folder / "batcher.toml")
    clock = Clock(NOW if what == "send" else NOW + 7_200)
    store = Store(config.state.dir, clock, clock.sleep)
    service = LocalService(folder / "answers", ended=what == "take-in")
    tools = LaneContext(
        store, service, load_job(config.job.path), config, config.retry.to_rules(), resolve_prices,
        random.Random(7).random, clock, clock.sleep,
    )  # fmt: skip
    if what == "send":
        with store.transaction("release") as tx:
            release_shards(tx, None)
    runner = BatchRunner(tools)
    runner.prepare_run()
    print(runner.run_until_idle(once=True))
    if what == "send":
        service.keep()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
