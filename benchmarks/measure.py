"""Timing whole processes from outside: wall and processor seconds, and peak memory, medians of several runs."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

RUNS = 5
LAUNCHER = Path(__file__).with_name("launch.py")


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds (median, least, most), processor seconds and megabytes (medians; memory at its peak) of a command."""

    median_s: float
    least_s: float
    most_s: float
    processor_s: float
    """Seconds in user and system mode, of all threads: unchanged when others use the machine, too."""
    peak_mb: float
    output: str


def _nothing() -> None:
    """Do nothing: the default preparation of a run."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A command to be timed, and the preparation before each run of it."""

    command: Sequence[str]
    before: Callable[[], None] = _nothing


def measure(timed: Sequence[Timed], folder: Path, environment: Mapping[str, str], runs: int = RUNS) -> list[Measured]:
    """Run commands several times in `folder`, in turn, so that other load on the machine affects all of them."""
    figures: list[list[tuple[float, float, float]]] = [[] for _ in timed]
    outputs = ["" for _ in timed]
    for _ in range(runs):
        for n, each in enumerate(timed):
            each.before()
            taken, outputs[n] = _run(each.command, folder, environment)
            figures[n].append(taken)
    return [_summed(taken, output) for taken, output in zip(figures, outputs, strict=True)]


def _run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> tuple[tuple[float, float, float], str]:
    """Return seconds, processor seconds and peak megabytes of one run, and what it printed."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as told:
        launcher = python("-S", str(LAUNCHER), told.name, *command)
        launched = subprocess.run(
            launcher, cwd=folder, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True
        )
        output = told.read()
    code, seconds, processor, peak = json.loads(launched.stdout)
    if code not in {0, 3, 4}:
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{output}")
    return (seconds, processor, peak), output


def _summed(taken: Sequence[tuple[float, float, float]], output: str) -> Measured:
    seconds, processor, peaks = zip(*taken, strict=True)
    median = statistics.median
    return Measured(median(seconds), min(seconds), max(seconds), median(processor), median(peaks), output)


def python(*arguments: str) -> list[str]:
    """Return a command that runs with this interpreter."""
    return [sys.executable, *arguments]


def table(title: str) -> Table:
    """Return a table of what was measured."""
    drawn = Table(title=title, title_justify="left")
    for column in ("what", "seconds", "least-most", "to the floor", "processor s", "to the floor", "peak MB"):
        drawn.add_column(column, justify="left" if column == "what" else "right")
    return drawn


def row(name: str, measured: Measured, floor: Measured | None = None) -> tuple[str, ...]:
    """Return a row of the table."""
    return (
        name,
        f"{measured.median_s:.2f}",
        f"{measured.least_s:.2f}-{measured.most_s:.2f}",
        f"{measured.median_s / floor.median_s:.2f}" if floor else "",
        f"{measured.processor_s:.2f}",
        f"{measured.processor_s / floor.processor_s:.2f}" if floor else "",
        f"{measured.peak_mb:.0f}",
    )
