"""Runs one command and says what it took: `python -S launch.py OUTPUT COMMAND ARGUMENT...`, as one line of JSON.

A process of its own, which holds next to nothing: what the kernel counts as a process's peak begins with what its
parent held when it started it. Of a command that starts processes of its own the kernel tells the largest alone, so all
of them are added up fifty times a second.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

SAMPLE_S = 0.02
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1024**2


def main(output: str, *command: str) -> None:
    """Runs the command, with both its streams in the file `output`."""
    told = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    streams = [(os.POSIX_SPAWN_DUP2, told, stream) for stream in (1, 2)]
    began = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=streams)
    sums = [0.0]
    threading.Thread(target=sample, args=(child, sums), daemon=True).start()
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    processor = usage.ru_utime + usage.ru_stime
    print(json.dumps([os.waitstatus_to_exitcode(status), seconds, processor, max(usage.ru_maxrss / 1024, *sums)]))


def sample(process: int, sums: list[float]) -> None:
    """Adds to `sums` the megabytes of a process and its children, where it has any, until it ends."""
    while True:
        time.sleep(SAMPLE_S)
        try:
            others = Path(f"/proc/{process}/task/{process}/children").read_text().split()
            if others:
                sums.append(sum(map(resident_mb, [str(process), *others])))
        except OSError:  # one of them has ended
            continue


def resident_mb(process: str) -> float:
    """What a process holds now; pages that it shares are counted too."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE_MB


if __name__ == "__main__":
    main(*sys.argv[1:])
