"""Tables of what the commands cost, each with its floor, over seeded data of real shape."""

import compileall
import json
import shutil
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.table import Table

from benchmarks import transfer
from benchmarks.data import ROOT, source_table
from benchmarks.measure import Measured, Timed, measure, python, row, table
from tests.support.browser import find_chromium, open_browser

SETTINGS = """
[job]
path = "{job}"
input = "{table}"
[limits]
enqueued_tokens = 2_000_000_000
tokens_per_shard = {tokens}
[brake]
first_wave = 1
[state]
dir = "state"
"""
TOKENS_PER_SHARD = 1_212_000
"""Lines of a shard as tier 3 cuts them for gpt-6-luna: 25 shards of 42,888 lines."""


class Bench:
    """Commands in a folder, over a table of `rows` rows, each run several times."""

    def __init__(self, folder: Path, rows: int, runs: int) -> None:
        self.folder, self.rows, self.runs = folder, rows, runs
        compileall.compile_dir(ROOT / "batcher", quiet=1)  # as pip does where it installs a package
        self.table = source_table(folder, rows)
        settings = SETTINGS.format(job=ROOT / "jobs" / "bios", table=self.table, tokens=TOKENS_PER_SHARD)
        (folder / "batcher.toml").write_text(settings)
        self.planning = python("-m", "batcher", "plan", "--json")
        self.taking_in = python("-m", "benchmarks.acting", "take-in", str(folder))
        self.collecting = python("-m", "batcher", "collect", "--out", "bios.parquet", "--overwrite")

    def tables(self) -> Iterator[Table]:
        """Yield every table, in the order of a job's steps."""
        yield self.plan()
        yield self.looks()
        yield self.results()
        yield self.judging()
        yield self.transfer()

    def plan(self) -> Table:
        """Measure `plan`, start-up included, and a straightforward script."""
        straight = python("-m", "benchmarks.floor_plan", str(self.table), str(self.folder))
        floor, planned = self.measure(Timed(straight, self.clear), Timed(self.planning, self.clear))
        drawn = table(f"plan of {self.rows:,} rows, start-up included")
        self._floor(drawn, "floor: read, render, count, write, append", floor)
        drawn.add_row(*row("batcher plan", planned, floor))
        return drawn

    def looks(self) -> Table:
        """Measure the commands that read a state with every line planned, and the smallest change of it."""
        drawn = table(f"looks at {self.rows:,} planned lines, start-up included")
        drawn.add_row(*row("python -c pass", self._again("-c", "pass")))
        drawn.add_row(*row("batcher version", self._again("-m", "batcher", "version")))
        drawn.add_row(*row("batcher status", self._again("-m", "batcher", "status")))
        drawn.add_row(*row("batcher pause: one guarded step", self._again("-m", "batcher", "pause")))
        self._again("-m", "batcher", "resume")
        step = self._again("-m", "benchmarks.step", str(self.folder / "state"))
        drawn.add_row("  the step alone, in ms: " + step.output.strip())
        size = sum(file.stat().st_size for file in (self.folder / "state").glob("state.duckdb*"))
        drawn.add_row(f"  the state: {size / 1e6:.0f} MB, {size / self.rows:.0f} bytes a line")
        return drawn

    def results(self) -> Table:
        """Measure ingesting and collecting the results of every line, without a network."""
        sent = self.send()
        answers = self.folder / "answers"
        size = sum(file.stat().st_size for file in answers.glob("*.jsonl"))
        straight = python("-m", "benchmarks.floor_results", str(answers), str(self.folder))
        floor, taken, collected = self.measure(
            Timed(straight, self.clear), Timed(self.taking_in, self.as_sent), Timed(self.collecting)
        )
        drawn = table(f"results of {self.rows:,} lines, {size / 1e6:.0f} MB, start-up included")
        drawn.add_row(*row("release and send all, and make up the answers", sent))
        self._floor(drawn, "floor: parse, append, write Parquet", floor)
        drawn.add_row(*row("take in (download, archive, judge, record)", taken, floor))
        drawn.add_row(*row("batcher collect", collected, floor))
        drawn.add_row(*row("batcher report", self._again("-m", "batcher", "report", "--out", "report.html")))
        drawn.add_row(f"  its page: {self.open_report()}")
        return drawn

    def open_report(self) -> str:
        """Return the size of the page of a report, and how long Chromium takes until its charts are drawn."""
        page = self.folder / "report.html"
        size = f"{page.stat().st_size / 1e6:.2f} MB"
        if find_chromium() is None:
            return f"{size}; there is no Chromium to open it"
        with open_browser() as browser:
            taken = []
            for _ in range(self.runs):
                browser.open_page(page)
                taken.append(int(browser.evaluate("document.documentElement.dataset.drawnAfter")))
        return f"{size}, its charts drawn in {statistics.median(taken)} ms ({min(taken)}-{max(taken)})"

    def judging(self) -> Table:
        """Measure `judge` on the answers that were taken in: of every bio, and of every line that has none."""
        drawn = table(f"{self.rows:,} kept answers judged again, start-up included")
        drawn.add_row(
            *row("batcher judge --dry-run: bios that stay", self._again("-m", "batcher", "judge", "--dry-run"))
        )
        shutil.copytree(self.folder / "state", self.folder / "taken")
        (judged,) = self.measure(Timed(python("-m", "batcher", "judge", "--json"), self.refuse_all))
        drawn.add_row(*row("batcher judge: each line takes its bio", judged))
        return drawn

    def refuse_all(self) -> None:
        """Restore the state from after the ingest, with every answer refused."""
        shutil.rmtree(self.folder / "state")
        shutil.copytree(self.folder / "taken", self.folder / "state")
        self._again("-m", "benchmarks.refusing", str(self.folder / "state"))

    def send(self) -> Measured:
        """Send every shard of a plan, write the answers, and keep a copy of the state."""
        sending = Timed(python("-m", "benchmarks.acting", "send", str(self.folder)))
        (sent,) = measure([sending], self.folder, PATHS, 1)
        shutil.copytree(self.folder / "state", self.folder / "sent")
        return sent

    def as_sent(self) -> None:
        """Restore the state from before the ingest."""
        shutil.rmtree(self.folder / "state")
        shutil.copytree(self.folder / "sent", self.folder / "state")

    def transfer(self) -> Table:
        """Measure transfers of files of the largest size over loopback; importing the client takes longer."""
        source, target = transfer.make_file(self.folder / "source"), self.folder / "target"
        drawn = table("one file of 200 MB over loopback, start-up included")
        client = "import benchmarks.transfer, openai, openai.types"
        drawn.add_row(*row("importing the client, and nothing else", self._again("-c", client)))
        with transfer.serving(source) as url:
            for way, name in (("up", "upload"), ("down", "download")):
                path = str(source if way == "up" else target)
                floor = self._again("-m", "benchmarks.transfer", "floor", way, url, path)
                moved = self._again("-m", "benchmarks.transfer", "batcher", way, url, path)
                drawn.add_row(*row(f"floor: {name} with http.client", floor, floor))
                drawn.add_row(*row(f"batcher's {name}", moved, floor))
        return drawn

    def _floor(self, drawn: Table, name: str, floor: Measured) -> None:
        drawn.add_row(*row(name, floor, floor))
        for step, seconds in json.loads(floor.output.splitlines()[-1]).items():
            drawn.add_row(f"  {step} alone", f"{seconds:.2f}", "", f"{seconds / floor.median_s:.2f}")

    def measure(self, *timed: Timed) -> list[Measured]:
        """Run commands in the folder, in turn."""
        return measure(timed, self.folder, PATHS, self.runs)

    def _again(self, *arguments: str) -> Measured:
        """Run one command on the current state."""
        return self.measure(Timed(python(*arguments)))[0]

    def clear(self) -> None:
        """Restore the folder from before the first plan; after the first send only remove the files of the floors."""
        for name in ("floor.duckdb", "floor.jsonl", "floor.parquet"):
            (self.folder / name).unlink(missing_ok=True)
        if not (self.folder / "answers").exists():  # nothing was sent yet
            shutil.rmtree(self.folder / "state", ignore_errors=True)


PATHS: Mapping[str, str] = {"PYTHONPATH": str(ROOT)}
"""The measured commands run in another folder."""
