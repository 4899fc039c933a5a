"""Runs one command and prints what it needed: `python -S launch.py OUTPUT COMMAND ARGUMENT...`, as one line of JSON.

This is a process of its own with next to no memory: the peak that the kernel counts for a process begins with what its
parent held when it started it. For a command that starts processes of its own the kernel reports the largest alone, so
the memory of all of them is added up fifty times a second.
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
    """Run the command, with both its streams in the file `output`."""
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
    """Append to `sums` the megabytes of a process and its children, where it has any, until it ends."""
    while True:
        time.sleep(SAMPLE_S)
        try:
            others = Path(f"/proc/{process}/task/{process}/children").read_text().split()
            if others:
                sums.append(sum(map(resident_mb, [str(process), *others])))
        except OSError:  # one of them has ended
            continue


def resident_mb(process: str) -> float:
    """Return the memory of a process now; pages that it shares are counted too."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE_MB


if __name__ == "__main__":
    main(*sys.argv[1:])
