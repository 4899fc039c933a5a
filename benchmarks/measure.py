"""Timing whole processes from outside: wall seconds and peak memory, medians of several runs."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RUNS = 5


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds (median, least, most) and megabytes (median of the peaks) of a command."""

    median_s: float
    least_s: float
    most_s: float
    peak_mb: float
    output: str


def measure(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], before: Callable[[], None], runs: int = RUNS
) -> Measured:
    """Runs a command several times after `before`, in `folder`."""
    seconds, peaks, output = [], [], ""
    for _ in range(runs):
        before()
        began = time.perf_counter()
        with tempfile.TemporaryFile("w+") as out:
            child = subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, stdout=out, stderr=out)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            seconds.append(time.perf_counter() - began)
            out.seek(0)
            output = out.read()
        if child.returncode not in {0, 3, 4}:
            raise SystemExit(f"{' '.join(command)} ended with {child.returncode}:\n{output}")
        peaks.append(usage.ru_maxrss / 1024)
    return Measured(statistics.median(seconds), min(seconds), max(seconds), statistics.median(peaks), output)


def python(*arguments: str) -> list[str]:
    """A command of this interpreter's."""
    return [sys.executable, *arguments]
