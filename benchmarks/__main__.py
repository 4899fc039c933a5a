"""`make bench`: every figure as a ratio to the floor of the same run."""

import argparse
import json
import os
import platform
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import forecasts, makespan
from benchmarks.data import ROOT, table
from benchmarks.measure import Measured, measure, python


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(prog="python -m benchmarks")
    options.add_argument("--rows", type=int, default=42_888)
    options.add_argument("--runs", type=int, default=5)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="batcher-bench-") as name:
        folder = Path(name)
        source = table(folder, chosen.rows)
        console = Console(width=110)
        console.print(machine())
        console.print(plan_table(folder, source, chosen.rows, chosen.runs))
    makespan.show()
    print()
    forecasts.show()


def machine() -> str:
    """What was measured on."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "toktok-rs", "orjson", "pydantic", "openai"))
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {packages}"


def plan_table(folder: Path, source: Path, rows: int, runs: int) -> Table:
    """`plan` beside its floor."""
    floor = measure(
        python("-m", "benchmarks.floor_plan", str(source), str(folder)), ROOT, {}, lambda: _clear(folder), runs
    )
    environment = {
        "BATCHER_JOB__PATH": str(ROOT / "jobs" / "bios"),
        "BATCHER_JOB__INPUT": str(source),
        "BATCHER_STATE__DIR": str(folder / "state"),
    }
    (folder / "batcher.toml").write_text("")
    planned = measure(python("-m", "batcher", "plan", "--json"), folder, environment, lambda: _clear(folder), runs)
    drawn = Table(title=f"plan of {rows:,} rows, start-up included (medians of {runs})", title_justify="left")
    for column in ("what", "seconds", "least-most", "to the floor", "peak MB", "to the floor"):
        drawn.add_column(column, justify="left" if column == "what" else "right")
    drawn.add_row(*_row("floor: read, render, count, write, append", floor, floor))
    for step, seconds in json.loads(floor.output.splitlines()[-1]).items():
        drawn.add_row(f"  {step} alone", f"{seconds:.2f}", "", f"{seconds / floor.median_s:.2f}", "", "")
    drawn.add_row(*_row("batcher plan", planned, floor))
    return drawn


def _row(name: str, measured: Measured, floor: Measured) -> tuple[str, ...]:
    return (
        name,
        f"{measured.median_s:.2f}",
        f"{measured.least_s:.2f}-{measured.most_s:.2f}",
        f"{measured.median_s / floor.median_s:.2f}",
        f"{measured.peak_mb:.0f}",
        f"{measured.peak_mb / floor.peak_mb:.2f}",
    )


def _clear(folder: Path) -> None:
    shutil.rmtree(folder / "state", ignore_errors=True)
    for name in ("floor.duckdb", "floor.jsonl"):
        (folder / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
