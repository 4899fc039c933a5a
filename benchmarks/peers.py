"""`make bench-peers`: the same requests and the same results with gpt-batch-api, in an environment of its own.

It needs Python 3.12 (PEER_PYTHON names one) and the package registry. The requests are those that `batcher plan` has
written, so reading the table, checking rows and rendering prompts cost Batcher alone, as do judging the answers, and
writing them as one table. tiktoken would download its
ranks; bpe-openai ships the same file. batchor is not measured: its licence (PolyForm Noncommercial) does not
allow a company to run it.
"""

import argparse
import gzip
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

from rich.console import Console

from benchmarks.costs import PATHS, Bench
from benchmarks.data import ROWS
from benchmarks.measure import RUNS, Measured, Timed, measure, row, table

GPT_BATCH_API = "gpt-batch-api==1.0.5"
RANKS = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
"""The address from which tiktoken downloads the ranks; the file in its cache is named after it."""


def main() -> None:
    """Install the peer, measure, and print the tables."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    options.add_argument("--rows", type=int, default=ROWS)
    options.add_argument("--runs", type=int, default=RUNS)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="batcher-peers-") as name:
        folder = Path(name)
        peer = install(folder / "gpt-batch-api")
        bench = Bench(folder, chosen.rows, chosen.runs)
        (planned,) = bench.measure(Timed(bench.planning, bench.clear))
        bench.send()
        taken, collected = bench.measure(Timed(bench.taking_in, bench.as_sent), Timed(bench.collecting))
        ranks_at = {"TIKTOKEN_CACHE_DIR": str(ranks(folder)), **PATHS}
        drawn = table(f"{chosen.rows:,} requests and their results, start-up included")
        drawn.columns[3].header = drawn.columns[5].header = "to batcher"
        drawn.add_row(*row("batcher plan", planned, planned))
        shards = str(folder / "sent" / "shards")
        for what, ours in (("build", planned.median_s), ("parse", taken.median_s + collected.median_s)):
            if what == "parse":
                drawn.add_row(*row("batcher: taking in, and recording", taken))
                drawn.add_row(*row("batcher collect", collected))
            command = [str(peer), "-m", "benchmarks.peer", shards, name, what]
            runs = [measure([Timed(command)], folder, ranks_at, 1)[0] for _ in range(chosen.runs)]
            middle = sorted(runs, key=seconds)[len(runs) // 2]
            told = f"{GPT_BATCH_API}: {what} alone, of {middle.median_s:.1f} s in all"
            drawn.add_row(
                told, f"{seconds(middle):.2f}", "", f"{seconds(middle) / ours:.1f}", "", "", f"{middle.peak_mb:.0f}"
            )
    Console(width=130).print(drawn)


def seconds(measured: Measured) -> float:
    """Return the seconds that the peer reports for the work alone."""
    told: float = json.loads(measured.output.splitlines()[-1])["seconds"]
    return told


def install(folder: Path) -> Path:
    """Create an environment with the peer in it, and return its interpreter."""
    wanted = os.environ.get("PEER_PYTHON", "python3.12")
    try:
        subprocess.run([wanted, "-m", "venv", str(folder)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"{wanted} makes no environment ({error}); set PEER_PYTHON to a Python of 3.12 or later")
    subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", GPT_BATCH_API, "orjson"], check=True)
    return folder / "bin" / "python"


def ranks(folder: Path) -> Path:
    """Create a cache in which tiktoken finds the ranks of o200k_base."""
    cache = folder / "tiktoken"
    cache.mkdir()
    packed = resources.files("bpe_openai").joinpath("data/o200k_base.tiktoken.gz").read_bytes()
    name = hashlib.sha1(RANKS.encode(), usedforsecurity=False).hexdigest()
    (cache / name).write_bytes(gzip.decompress(packed))
    return cache


if __name__ == "__main__":
    main()
