"""Runs the real commands in processes that are killed, against a sandbox over HTTP that is not, and compares results.

The sandbox's clock is fast, the delays of the failure table are short; no result depends on how long anything takes.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import duckdb

from batcher.sandbox import Faults, Sandbox, SandboxSettings, apply_changes, scaled_clock
from batcher.sandbox.base.faults import LOST, FaultSampler
from batcher.sandbox.web.server import running_sandbox
from tests.support.mixture import soak_seed
from tests.support.nursery import nursery
from tests.support.world import ROOT, write_table

LONGEST_COMMAND_S = 120.0
CRASH_AT = "BATCHER_TEST_CRASH_AT"

QUICK = """
[job]
path = "{job}"
input = "{table}"
[limits]
lines_per_shard = {per_shard}
{limits}
[pilot]
lines = {pilot}
[brake]
max_unusable = 1
first_wave = 1
[poll]
interval_s = {poll}
[api]
timeout_s = 20
reconcile_grace_s = {grace}
[retry]
call = {{ base_s = 0.02, cap_s = 0.05 }}
outage = {{ base_s = 0.1, cap_s = 0.3 }}
rate_limit = {{ base_s = 0.3, cap_s = 0.5 }}
enqueued_limit = {{ base_s = 0.2, cap_s = 0.3 }}
shard_refused = {{ base_s = 0.1, cap_s = 0.2, tries = 20 }}
quota = {{ base_s = 0.2, cap_s = 0.3 }}
server = {{ base_s = 0.1, cap_s = 0.2 }}
{retry}
[direct]
store = true
{direct}
"""

STRICT = """

_ACCEPT = accept


def accept(artist, bio):
    return "urgency is out of range" if {refuses} else _ACCEPT(artist, bio)
"""


@dataclass(frozen=True)
class Scenario:
    """A small job, what goes wrong at the service meanwhile, and the commands that do the job."""

    faults: Mapping[str, object] = field(default_factory=dict)
    script: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The fates of the first calls of an operation (batcher/sandbox/base/faults.py)."""
    settings: Mapping[str, object] = field(default_factory=dict)
    commands: Sequence[Sequence[str]] = (("run", "--out", "bios.csv"),)
    prelude: Sequence[tuple[Sequence[str], str]] = ()
    """Commands that run before the tested ones, each with the crash point at which it always dies ("": it ends)."""
    lines: int = 12
    per_shard: int = 6
    priorities: Sequence[int] = (1, 2)
    limits: str = ""
    retry: str = ""
    direct: str = ""
    pilot: int = 0
    """Lines of the pilot that `run` sends before a job of 2,000 lines and more."""
    grace: float = 0.3
    poll: float = 0.15
    speed: float = 600.0
    table: Path | None = None
    """A table instead of the generated one; it has `lines` rows."""
    sandbox: type[Sandbox] = Sandbox
    codes: Sequence[int] = (0, 4)
    """Exit codes with which its commands may end."""
    prepare: Callable[[Path], None] = lambda _folder: None
    deaths: int = 100
    """At most so many at crash points in one job."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that its commands have besides the key and the address."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended: everything that must be the same whether it was killed or not."""

    states: Mapping[str, str]
    bios: Mapping[str, str]
    executions: Mapping[str, int]
    answers: Mapping[str, int]
    twice: int


class CountingChance(FaultSampler):
    """A fault sampler that plays a script of fates first, and counts the answers lost after their effect."""

    def __init__(self, seed: int, script: Mapping[str, Sequence[str]]) -> None:
        super().__init__(seed)
        self._script = {operation: list(fates) for operation, fates in script.items()}
        self.lost = self.seen = 0

    def draw_fate(self, faults: Faults, operation: str) -> str:
        drawn = super().draw_fate(faults, operation)
        if self._script.get(operation):
            drawn = self._script[operation].pop(0)
        self.lost += drawn == LOST
        self.seen += operation in {"upload", "create", "content", "direct"}
        return drawn


class Killing:
    """One job in a folder, and its sandbox."""

    def __init__(self, folder: Path, scenario: Scenario, seed: int = 0) -> None:
        self.folder, self.scenario = folder, scenario
        folder.mkdir(parents=True, exist_ok=True)
        config = QUICK.format(
            job=ROOT / "jobs" / "bios", per_shard=scenario.per_shard, limits=scenario.limits, retry=scenario.retry,
            direct=scenario.direct, pilot=scenario.pilot,
            grace=scenario.grace, poll=scenario.poll, table=scenario.table or "artists.csv",
        )  # fmt: skip
        (folder / "batcher.toml").write_text(config, encoding="utf-8")
        if scenario.table is None:
            write_table(folder / "artists.csv", scenario.lines, scenario.priorities)
        fixed = SandboxSettings(
            seed=seed, validating_s=(5, 10), service_s=(20, 40), finalizing_s=(5, 10), cancelling_s=(5, 10)
        )
        settings = apply_changes(fixed, {"faults": apply_changes(Faults(), scenario.faults), **scenario.settings})
        self.chance = CountingChance(seed, scenario.script)
        self.sandbox = scenario.sandbox(settings, folder / "sandbox", scaled_clock(scenario.speed), self.chance)
        self.url = ""
        self.deaths = 0
        self.output = folder / "output.txt"

    def refuse_where(self, refuses: str) -> None:
        """Give the job a copy of the example's folder, whose `accept` refuses where an expression is true."""
        source, target = ROOT / "jobs" / "bios", self.folder / "job"
        target.mkdir(exist_ok=True)
        for name in ("system.md", "user.md", "job.py"):
            (target / name).write_bytes((source / name).read_bytes())
        with (target / "job.py").open("a", encoding="utf-8") as file:
            file.write(STRICT.replace("{refuses}", refuses))
        config = self.folder / "batcher.toml"
        config.write_text(config.read_text(encoding="utf-8").replace(str(source), "job"), encoding="utf-8")

    @contextmanager
    def serving(self) -> Iterator["Killing"]:
        """Serve the sandbox for the length of the block."""
        with running_sandbox(self.sandbox) as self.url:
            yield self

    def start(self, command: Sequence[str], output: Path | None = None) -> "subprocess.Popen[bytes]":
        """Start a command in a process of its own; its output is appended to `output`."""
        arguments = [sys.executable, "-m", "batcher", *self._arguments(command)]
        with (output or self.output).open("ab") as said:
            return subprocess.Popen(arguments, cwd=self.folder, env=self._environment(), stdout=said, stderr=said)

    def _arguments(self, command: Sequence[str]) -> list[str]:
        return [*command, "--config", str(self.folder / "batcher.toml")]

    def _environment(self) -> dict[str, str]:
        unset = ("BATCHER_", "OPENAI_")
        env = {key: value for key, value in os.environ.items() if not key.startswith(unset)}
        ours = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": self.url, "PYTHONPATH": str(ROOT)}
        return {**env, **ours, **self.scenario.environment}

    def done(self, command: Sequence[str], crash_at: str = "") -> int:
        """Run a command to its end, which may be a crash point, and return its exit code."""
        env = {**self._environment(), CRASH_AT: crash_at}
        return nursery().run(self._arguments(command), self.folder, env, self.output, self.output)

    def finish(self, process: "subprocess.Popen[bytes]") -> int:
        """Wait for the end of a command, and return its exit code."""
        try:
            return process.wait(LONGEST_COMMAND_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def run(self, crash_at: Collection[str] = ()) -> set[str]:
        """Run every command in turn, and again after each death; return the points at which it died.

        crash_at: points at which it dies, at each of them once, where it reaches it before its last death.
        """
        for command, point in self.scenario.prelude:
            assert self.done(command, point) == (-signal.SIGKILL if point else 0), self.output.read_text()
        self.scenario.prepare(self.folder)
        died: set[str] = set()
        for command in self.scenario.commands:
            while (code := self.done(command, ",".join({*crash_at} - died))) == -signal.SIGKILL:
                died.add(self.output.read_text().rpartition("killed at ")[2].strip())
                crash_at = crash_at if len(died) < self.scenario.deaths else ()
            assert code in self.scenario.codes, f"{command} ended with {code}:\n{self.output.read_text()[-3000:]}"
        return died

    def run_under_fire(self, seed: int, life_s: Callable[[random.Random], float]) -> None:
        """Run the same command repeatedly, each time killed after `life_s` seconds, until it ends on its own.

        A process that is killed before it has done anything, on a slow machine, is followed by one that lives longer.
        """
        dice, scale = random.Random(seed), 1.0
        (command,) = self.scenario.commands
        while True:
            before = self.calls()
            code = self._lives(command, scale * life_s(dice))
            if code == -signal.SIGKILL:
                self.deaths += 1
                scale *= 1.0 if self.calls() > before else 1.25
                continue
            assert code in {0, 4}, f"ended with {code}:\n{self.output.read_text()[-3000:]}"
            return

    def _lives(self, command: Sequence[str], seconds: float) -> int:
        """Run a command, killed when it lives longer than this, and return its exit code."""
        pid = nursery().start(self._arguments(command), self.folder, self._environment(), self.output, self.output)
        end = time.monotonic() + seconds
        while not nursery().has_ended(pid):
            if time.monotonic() >= end:
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.005)
        return nursery().wait(pid)

    def calls(self) -> int:
        """Return the number of calls with an effect that have reached the service."""
        return self.chance.seen

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """Run any query on the state that the job has left, and return its rows."""
        with duckdb.connect(str(self.folder / ".batcher" / "state.duckdb"), read_only=True) as con:
            return con.execute(sql).fetchall()

    def outcome(self) -> Outcome:
        """Return how the job ended."""
        self.sandbox.advance_clock(86_400.0)  # batches that Batcher does not know of end, too, and are counted
        with self.sandbox.lock:
            self.sandbox.run_due_events()
        ledger = self.sandbox.ledger
        return Outcome(
            states={str(a): str(s) for a, s in self.query("SELECT artist_id, state FROM artists")},
            bios={str(a): str(d) for a, d in self.query("SELECT artist_id, data FROM bios")},
            executions=ledger.attempt_counts(),
            answers=ledger.execution_counts(),
            twice=ledger.billing_totals()["usable_more_than_once"],
        )

    def figures(self) -> Counter[str]:
        """Return the figures that a soak prints."""
        adopted = "kind IN ('record_create', 'adopt_late') AND detail LIKE 'adopted%'"
        outcome = self.outcome()
        return Counter(
            {
                "kills": self.deaths,
                "answers lost": self.chance.lost,
                "batches created": len(self.sandbox.lifecycle.batches),
                "adopted": len(self.query(f"SELECT 1 FROM events WHERE {adopted}")),
                "double executions": sum(n - 1 for n in outcome.answers.values()),
                "lines lost": self.scenario.lines - sum(state == "done" for state in outcome.states.values()),
            }
        )


def under_fire(seed: int, lines: int, folder: Path) -> Counter[str]:
    """Run a job of `lines` lines that is killed every 0.1 to 2 s until it is done, and return its figures.

    Meanwhile a fifth of the answers to uploads and creates is lost, and the listing lags.
    """
    job = Killing(folder, fire(lines), seed)
    with job.serving():
        job.run_under_fire(seed, lambda dice: dice.uniform(0.1, 2.0))
    return job.figures()


def whole_table(table: Path, lines: int, folder: Path, seed: int = 0) -> Killing:
    """Run a real table, killed every 5 s on average, while a tenth of all answers is lost and 2% of the lines fail."""
    calls = ("upload", "create", "list", "retrieve", "content", "delete")
    faults = {
        "lose_answer": dict.fromkeys(calls, 0.1), "list_lag_s": 60, "line_failures": {"server": 0.01, "refusal": 0.01},
    }  # fmt: skip
    scenario = Scenario(faults, {}, {"service_s": [600, 3600]}, (("run",),), lines=lines, per_shard=2_000, table=table)
    job = Killing(folder, scenario, seed)
    with job.serving():
        job.run_under_fire(seed, lambda dice: dice.expovariate(1 / 5.0))
    return job


def fire(lines: int) -> Scenario:
    """Return a job of `lines` lines in ten shards, whose answers get lost."""
    faults = {"lose_answer": {"upload": 0.2, "create": 0.2}, "list_lag_s": 60}
    return Scenario(faults, {}, {"service_s": [200, 600]}, (("run",),), lines=lines, per_shard=max(1, lines // 10))


def main() -> None:
    """`python -m tests.support.kill_harness --seeds 200 --lines 5000`: prints a line for each seed, and the sums."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--lines", type=int, default=5_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="seeds at once")
    parser.add_argument("--without", default="", help="ingredients that are left out, with commas between")
    parser.add_argument("--plain", action="store_true", help="lost answers and kills alone, and real time")
    parser.add_argument("--table", type=Path, help="one run on this table instead, killed every 5 s")
    chosen = parser.parse_args()
    if chosen.table is not None:
        _one_table(chosen.table.resolve(), chosen.first)
        return
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    good = (
        _soak_plainly(seeds, chosen.lines)
        if chosen.plain
        else _soak_mixtures(seeds, chosen.lines, chosen.jobs, chosen.without.split(","))
    )
    if not good:
        sys.exit(1)


def _soak_plainly(seeds: Sequence[int], lines: int) -> bool:
    """Return whether no seed has bought a line twice or lost one."""
    sums: Counter[str] = Counter()
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="batcher-soak-") as name:
            figures = under_fire(seed, lines, Path(name))
        sums.update(figures)
        print(f"seed {seed}: {told(figures)}", flush=True)
    print(f"{len(seeds)} seeds, {lines:,} lines each: {told(sums)}")
    return not sums["double executions"] and not sums["lines lost"]


def _soak_mixtures(seeds: Sequence[int], lines: int, jobs: int, without: Sequence[str]) -> bool:
    """Return whether everything held in each seed's mixture of dialects, faults and kills."""
    sums: Counter[str] = Counter()
    failed = []
    with tempfile.TemporaryDirectory(prefix="batcher-soak-") as name, Pool(jobs) as pool:
        for verdict in pool.imap_unordered(partial(soak_seed, Path(name), lines, without=without), seeds):
            sums.update(verdict.figures)
            mark = f": {verdict.problem}" if verdict.problem else ""
            print(f"seed {verdict.seed} ({verdict.seconds:.0f} s){mark}: {told(verdict.figures)}", flush=True)
            if verdict.problem:
                failed.append(verdict.seed)
                print(f"    drawn: {verdict.mixture}\n    said: {verdict.tail}", flush=True)
    print(f"{len(seeds)} seeds, {lines:,} lines each: {told(sums)}")
    print(f"failed: {', '.join(map(str, sorted(failed))) or 'none'}")
    return not failed


def _one_table(table: Path, seed: int) -> None:
    with duckdb.connect() as con:
        ((lines,),) = con.execute("SELECT count(*) FROM read_parquet(?)", [str(table)]).fetchall()
    with tempfile.TemporaryDirectory(prefix="batcher-whole-") as name:
        began = time.monotonic()
        job = whole_table(table, lines, Path(name), seed)
        retries = len(job.query("SELECT 1 FROM attempts WHERE outcome NOT IN ('bio', 'repeated')"))
        executed = job.sandbox.ledger.billing_totals()["executions"]
        usable_twice = job.outcome().twice
        print(f"{lines:,} lines in {time.monotonic() - began:.0f} s: {told(job.figures())}")
        print(f"executions {executed:,}, failed attempts {retries:,}, usable twice {usable_twice}")


def told(figures: Mapping[str, int]) -> str:
    """Return the figures as one line of text."""
    return ", ".join(f"{name} {n:,}" for name, n in figures.items())


def wait_until(condition: Callable[[], bool], longest_s: float = 60.0) -> None:
    """Wait until a condition holds; fail when it does not hold in time."""
    end = time.monotonic() + longest_s
    while not condition():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.02)


if __name__ == "__main__":
    main()
