"""Runs one command and says what it took: `python -S launch.py OUTPUT COMMAND ARGUMENT...`, as one line of JSON.

A process of its own, which holds next to nothing: what the kernel counts as a process's peak begins with what its
parent held when it started it.
"""

import json
import os
import sys
import time


def main(output: str, *command: str) -> None:
    """Runs the command, with both its streams in the file `output`."""
    told = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    streams = [(os.POSIX_SPAWN_DUP2, told, stream) for stream in (1, 2)]
    began = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=streams)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    processor = usage.ru_utime + usage.ru_stime
    print(json.dumps([os.waitstatus_to_exitcode(status), seconds, processor, usage.ru_maxrss / 1024]))


if __name__ == "__main__":
    main(*sys.argv[1:])
