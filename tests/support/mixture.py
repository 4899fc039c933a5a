"""The soak of everything at once: each seed draws its own mixture of dialects, faults and kills, and one job meets it.

Commands are real processes that are killed, the sandbox answers over HTTP, and all live by one clock that sleeping
moves. What must hold in the end: no line was executed again after a usable answer, and no line is lost. A line is lost
that is neither done, nor dead for a reason that lasts, nor held for the user to decide.
"""

import gzip
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from batcher.sandbox import Dialect, Faults, Sandbox, SandboxSettings, apply_changes
from batcher.sandbox.base.faults import FaultSampler, draw_line_fault
from batcher.sandbox.base.settings import COUNTS, CUTS, ERRORS, ODD_OBJECTS, OPERATIONS, PAGING, STATUSES, TIMES
from batcher.sandbox.web.server import running_sandbox
from tests.support.nursery import nursery
from tests.support.shared_clock import VARIABLE, SharedClock
from tests.support.world import ROOT, START, write_table

KEY = "sk-the-key-of-the-soak"
GRACE_S = 300.0
HOUR, DAY = 3_600.0, 86_400.0
LONGEST_S, LONGEST_JOB_S, MOST_CALLS = 900.0, 20 * DAY, 10_000
"""Real seconds, seconds of the job's clock, and calls, after any of which a job counts as one that does not end."""
LASTING = frozenset({"content_policy", "context_length"})
"""Failures of a line that no second try mends."""

CONFIG = """
[job]
path = "{job}"
input = "artists.csv"
[limits]
lines_per_shard = {per_shard}
[brake]
max_unusable = 1
first_wave = 1
[poll]
interval_s = 600
[api]
timeout_s = 20
reconcile_grace_s = {grace}
"""


@dataclass(frozen=True)
class Mixture:
    """What one seed has drawn. Times are seconds; `calm_after_s` is when strangers leave the listings."""

    faults: Mapping[str, object]
    dialect: Mapping[str, object]
    settings: Mapping[str, object]
    kills: int
    calm_after_s: float = 2 * HOUR

    def leave_out(self, names: Sequence[str]) -> "Mixture":
        """Return the mixture without the ingredients of these names."""
        faults, dialect, settings = (
            {name: value for name, value in kind.items() if name not in names}
            for kind in (self.faults, self.dialect, self.settings)
        )
        return replace(self, faults=faults, dialect=dialect, settings=settings)

    def describe(self) -> str:
        """Return what was drawn, in one line."""
        parts = {**self.faults, **self.dialect, **self.settings}
        return ", ".join(f"{name}={_shorten(value)}" for name, value in parts.items())


def _shorten(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.2g}") if value < START / 2 else round(value - START)
    if isinstance(value, Mapping):
        return {key: _shorten(item) for key, item in value.items()}
    return [_shorten(item) for item in value] if isinstance(value, list | tuple) else value


# --- drawing ----------------------------------------------------------------------------------------------------------


class Dice:
    """The draws of one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def draw(self, chances: Mapping[str, tuple[float, Callable[[], object]]]) -> dict[str, object]:
        """Return the ingredients that are drawn: name -> (chance, how to draw its value)."""
        return {name: value() for name, (chance, value) in chances.items() if self.random.random() < chance}

    def upto(self, most: float) -> Callable[[], float]:
        return lambda: self.random.uniform(0.0, most)

    def one_of(self, values: Sequence[object]) -> Callable[[], object]:
        """Return how to draw one of these but the first, which is what is usual."""
        return lambda: self.random.choice(values[1:])

    def some_of(self, values: Sequence[str]) -> list[str]:
        return self.random.sample(values, self.random.randint(1, len(values)))

    def rates(self, names: Sequence[str], most: float) -> Callable[[], dict[str, float]]:
        return lambda: {name: self.random.uniform(0.0, most) for name in self.some_of(names)}

    def ordinals(self) -> list[int]:
        return self.random.sample(range(1, 12), self.random.randint(1, 3))

    def span(self, longest: float) -> list[float]:
        begin = START + self.random.uniform(0.0, 3 * HOUR)
        return [begin, begin + self.random.uniform(60.0, longest)]


def draw_mixture(seed: int) -> Mixture:
    """Return the mixture of a seed; each ingredient has a chance of its own."""
    dice = Dice(seed)
    dialect = dice.draw(
        {
            "body_as_text": (0.25, lambda: True),
            "status_in_words": (0.25, lambda: True),
            "paging": (0.5, dice.one_of(PAGING)),
            "largest_limit": (0.25, lambda: {"batches": dice.random.choice((20, 50)), "files": 100}),
            "frozen_listing": (0.2, lambda: True),
            "odd_objects": (0.25, lambda: dice.some_of(ODD_OBJECTS)),
            "counts": (0.4, dice.one_of(COUNTS)),
            "errors": (0.3, dice.one_of(ERRORS)),
            "statuses": (0.3, dice.one_of(STATUSES)),
            "times": (0.25, dice.one_of(TIMES)),
            "omitted": (0.25, lambda: dice.some_of(("created_at", "expires_at", "request_counts", "usage", "model"))),
            "create_fields": (0.25, lambda: ["id", *dice.some_of(("status", "object", "input_file_id"))]),
        }
    )
    faults = dice.draw(
        {
            "line_failures": (0.6, dice.rates(
                ("server", "rate_limit", "request_timeout", "refusal", "length", "invalid_json", "empty", "status_0",
                 "content_policy"), 0.008)),
            "lose_answer": (0.6, dice.rates(OPERATIONS[:7], 0.2)),
            "refuse_before": (0.3, dice.rates(OPERATIONS[:7], 0.15)),
            "reset_before": (0.3, dice.rates(OPERATIONS[:7], 0.15)),
            "truncate_download": (0.25, dice.upto(0.4)),
            "cut_output": (0.35, dice.rates(CUTS, 0.15)),
            "list_lag_s": (0.4, dice.upto(0.4 * GRACE_S)),
            "late_create_s": (0.25, dice.upto(0.4 * GRACE_S)),
            "file_not_ready_s": (0.2, dice.upto(120.0)),
            "input_not_ready_s": (0.25, dice.upto(900.0)),
            "drop_metadata": (0.2, lambda: True),
            "corrupt_output": (0.25, dice.upto(0.02)),
            "expire_batches": (0.2, dice.ordinals),
            "late_files_s": (0.5, dice.upto(20 * HOUR)),
            "fail_batches": (0.25, lambda: dict.fromkeys(map(str, dice.ordinals()), "token_limit_exceeded")),
            "quota_gone_between": (0.1, lambda: dice.span(600.0)),
            "outage_between": (0.15, lambda: dice.span(4 * HOUR)),
            "stuck_finalizing_s": (0.1, dice.upto(20 * HOUR)),
            "lone_surrogates": (0.4, dice.upto(0.2)),
            "nul_texts": (0.25, dice.upto(0.1)),
            "quoted_text": (0.3, lambda: KEY),
        }
    )  # fmt: skip
    settings = dice.draw(
        {
            "enqueued_tokens": (0.2, lambda: 900_000),
            "refuse_at_create": (0.2, lambda: True),
            "batches_per_hour": (0.1, lambda: 5),
            "cache_writes": (0.3, dice.upto(1.0)),
            "reasoning_tokens": (0.3, lambda: dice.random.randint(20, 200)),
            "uploads_per_minute": (0.1, lambda: 2),
        }
    )
    return Mixture(faults, dialect, settings, dice.random.randint(0, 10))


# --- a job ------------------------------------------------------------------------------------------------------------


@cache
def prepare_job(base: Path, lines: int) -> Path:
    """Return a folder with a job of `lines` lines in ten shards, planned once and copied for each seed."""
    folder = base / f"planned-{os.getpid()}"
    folder.mkdir()
    config = CONFIG.format(job=ROOT / "jobs" / "bios", per_shard=max(1, -(-lines // 10)), grace=GRACE_S)
    (folder / "batcher.toml").write_text(config, encoding="utf-8")
    write_table(folder / "artists.csv", lines, (1, 2))
    clock = SharedClock.create(folder / "clock", START - 60.0)
    del clock
    code = nursery().run(["plan"], folder, _environment(folder, "http://127.0.0.1:9/v1"), *2 * (folder / "output.txt",))
    assert code == 0, (folder / "output.txt").read_text(encoding="utf-8")
    return folder


def _environment(folder: Path, url: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("BATCHER_", "OPENAI_"))}
    ours = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url, VARIABLE: str(folder / "clock"), "PYTHONPATH": str(ROOT)}
    return kept | ours


class CountingSampler(FaultSampler):
    """Counts the calls, so that a process can be killed after some of them however slow the machine is."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.fates: Counter[str] = Counter()

    def draw_fate(self, faults: Faults, operation: str) -> str:
        drawn = super().draw_fate(faults, operation)
        self.fates[drawn] += 1
        return drawn


class JobDoesNotEnd(Exception):  # noqa: N818 - an outcome
    """Raised for a job that has not ended in its time."""


@dataclass
class MixedJob:
    """One job that meets one mixture."""

    folder: Path
    seed: int
    mixture: Mixture
    deaths: int = 0
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.clock = SharedClock.create(self.folder / "clock", START)
        fixed = SandboxSettings(seed=self.seed, id_salt="soak", api_key=KEY, **_DURATIONS)
        settings = apply_changes(
            fixed,
            {
                **self.mixture.settings,
                "faults": apply_changes(Faults(), self.mixture.faults),
                "dialect": apply_changes(Dialect(), self.mixture.dialect),
            },
        )
        self.sampler = CountingSampler(self.seed)
        self.sandbox = Sandbox(settings, self.folder / "sandbox", self.clock, self.sampler)
        self.output = self.folder / "output.txt"
        self.dice = random.Random(self.seed + 1)

    def run(self) -> None:
        """Release everything and follow it, killed as often as the mixture says; look again where lines are held."""
        with running_sandbox(self.sandbox) as url:
            environment = _environment(self.folder, url)
            self._run_to_its_end(["submit"], environment)
            code = self._run_to_its_end(["poll"], environment)
            if code == 3:
                self.clock.sleep(2 * DAY)
                self._run_to_its_end(["poll"], environment)

    def _run_to_its_end(self, command: list[str], environment: Mapping[str, str]) -> int:
        """Run a command until it ends by itself, started again after each kill; return its exit code."""
        while True:
            code = self._run_once(command, environment, may_die=self.deaths < self.mixture.kills)
            if code == -signal.SIGKILL:
                self.deaths += 1
            elif code in (0, 3, 4):
                return code
            else:
                raise JobDoesNotEnd(f"{command[0]} ended with {code}")

    def _run_once(self, command: list[str], environment: Mapping[str, str], may_die: bool) -> int:
        last_call = self._count_calls() + 1 + int(self.dice.expovariate(1 / 12.0))
        pid = nursery().start(command, self.folder, environment, self.output, self.output)
        while not nursery().has_ended(pid):
            self._calm_down()
            if self._is_late() or (may_die and self._count_calls() >= last_call):
                time.sleep(self.dice.uniform(0.0, 0.05))
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.004)
        code = nursery().wait(pid)
        if self._is_late():
            hours = (self.clock() - START) / HOUR
            raise JobDoesNotEnd(f"{command[0]} had not ended after {hours:.0f} hours and {self._count_calls():,} calls")
        return code

    def _count_calls(self) -> int:
        return self.sampler.fates.total()

    def _is_late(self) -> bool:
        late = self.clock() - START > LONGEST_JOB_S or time.monotonic() - self.began > LONGEST_S
        return late or self._count_calls() > MOST_CALLS

    def _calm_down(self) -> None:
        """End what would forbid for ever to tell that a batch is absent."""
        if self.sandbox.dialect.odd_objects and self.clock() - START > self.mixture.calm_after_s:
            with self.sandbox.lock:
                self.sandbox.update_dialect({"odd_objects": []})

    def count_figures(self) -> Counter[str]:
        """Return the figures of a job that has ended or was given up."""
        hours = (self.clock() - START) / HOUR
        self.sandbox.advance_clock(3 * DAY)  # batches that Batcher does not know of end, too, and are counted
        with self.sandbox.lock:
            self.sandbox.run_due_events()
        lines = self._load_lines()
        twice = self.sandbox.ledger.billing_totals()["usable_more_than_once"]
        return Counter(
            {
                "kills": self.deaths,
                "answers lost": self.sampler.fates["lost"],
                "batches": len(self.sandbox.lifecycle.batches),
                "done": sum(state == "done" for state, _ in lines.values()),
                "dead": sum(state == "dead" for state, _ in lines.values()),
                "held": sum(state == "held" for state, _ in lines.values()),
                "twice": twice,
                "lost": sum(self._is_lost(line, state) for line, (state, _) in lines.items()),
                "keys kept": self._count_keys(),
                "hours": round(hours),
            }
        )

    def _is_lost(self, line: str, state: str) -> bool:
        if state in ("done", "held"):
            return False
        if state != "dead" or self.sandbox.ledger.usable_counts().get(line, 0):
            return True
        return draw_line_fault(self.sandbox.faults, self.seed, line, 1, 0.0) not in LASTING

    def _load_lines(self) -> dict[str, tuple[str, str]]:
        with duckdb.connect(str(self.folder / ".batcher" / "state.duckdb"), read_only=True) as con:
            rows = con.execute("SELECT custom_id, state, coalesce(failure, '') FROM artists").fetchall()
        return {str(line): (str(state), str(failure)) for line, state, failure in rows}

    def count_held(self) -> Counter[str]:
        """Return how many lines are held and dead, by state and failure."""
        return Counter(f"{state} {failure}" for state, failure in self._load_lines().values() if failure)

    def _count_keys(self) -> int:
        """Return how many of the texts that the job has left hold the key."""
        texts = [self.output.read_bytes()]
        texts += [gzip.decompress(path.read_bytes()) for path in self.folder.glob(".batcher/results/*.gz")]
        return sum(KEY.encode() in text for text in texts)


_DURATIONS: Mapping[str, Any] = {"service_s": (600.0, 5_400.0), "cancelling_s": (5.0, 120.0)}


@dataclass(frozen=True)
class Verdict:
    """How one seed has ended; `problem` is "" where all that must hold does."""

    seed: int
    figures: Counter[str]
    problem: str
    tail: str
    mixture: str
    seconds: float


def soak_seed(base: Path, lines: int, seed: int, without: Sequence[str] = ()) -> Verdict:
    """Run the job of a seed and return its verdict; its folder is removed. without: ingredients that are left out."""
    began = time.monotonic()
    folder = base / f"seed-{seed}"
    mixture = draw_mixture(seed).leave_out(without)
    shutil.copytree(prepare_job(base, lines), folder)
    job = MixedJob(folder, seed, mixture)
    problem = ""
    try:
        job.run()
    except JobDoesNotEnd as error:
        problem = str(error)
    figures = job.count_figures()
    if not problem and (figures["twice"] or figures["lost"] or figures["keys kept"]):
        problem = f"{figures['twice']} twice, {figures['lost']} lost, {figures['keys kept']} texts with the key"
    said = job.output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    tail = " / ".join(line for line in said[-3:]) if problem else ""
    tail += f" {dict(job.count_held())}" if problem else ""
    shutil.rmtree(folder)
    return Verdict(seed, figures, problem, tail, mixture.describe(), time.monotonic() - began)
