"""`make bench`: prints every figure with the floor of the same run. `--profile`: prints where the time is spent."""

import argparse
import os
import platform
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from benchmarks import forecasts, makespan
from benchmarks.costs import PATHS, Bench
from benchmarks.data import ROOT, ROWS
from benchmarks.measure import RUNS, python

MILLION = 1_000_000


def main() -> None:
    """Measure, and print the tables."""
    options = argparse.ArgumentParser(prog="python -m benchmarks")
    options.add_argument("--rows", type=int, default=ROWS)
    options.add_argument("--runs", type=int, default=RUNS)
    options.add_argument("--million", action="store_true", help="the same once for a million rows: half an hour, 10 GB")
    options.add_argument("--profile", action="store_true", help="where the time goes, by function, and nothing else")
    chosen = options.parse_args()
    console = Console(width=130)
    console.print(machine())
    for rows, runs in [(chosen.rows, chosen.runs)] + [(MILLION, 1)] * chosen.million:
        with tempfile.TemporaryDirectory(prefix="batcher-bench-") as name:
            bench = Bench(Path(name), rows, runs)
            if chosen.profile:
                profile(Path(name))
                return
            for drawn in bench.tables():
                console.print(drawn)
    makespan.show()
    print()
    forecasts.show()


def machine() -> str:
    """Return the machine and versions that the figures were measured on."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "toktok-rs", "orjson", "pydantic", "openai"))
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {packages}"


def profile(folder: Path) -> None:
    """Print where a plan and an ingest spend their time: the functions with most time of their own."""
    for title, arguments in (
        ("plan", ("batcher", "plan", "--json")),
        ("send", ("benchmarks.acting", "send", ".")),
        ("take in", ("benchmarks.acting", "take-in", ".")),
        ("status", ("batcher", "status", "--json")),
    ):
        told = folder / "profile"
        command = python("-m", "cProfile", "-o", str(told), "-m", *arguments)
        subprocess.run(command, cwd=folder, env={**os.environ, **PATHS}, stdout=subprocess.DEVNULL, check=True)
        print(f"\n{title}", flush=True)
        show = f"import pstats; pstats.Stats({str(told)!r}).strip_dirs().sort_stats('tottime').print_stats(25)"
        subprocess.run(python("-c", show), cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
