"""The whole job under bad luck: `batcher run` on a real table against the sandbox at tier 1, over HTTP.

`python -m benchmarks.week TABLE.parquet`. A day of the sandbox takes two and a half minutes, and the delays of the
failure table are as much shorter. Meanwhile the limit is halved, others take 30% of it, the quota is gone for half an
hour, batches are limited to a few an hour, 2% of the lines of each class fail, one batch expires, and one line is
poison.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import duckdb

from batcher.config import table_limit
from batcher.sandbox import Faults, Sandbox, SandboxSettings, scaled_clock
from batcher.sandbox.app import running_sandbox
from batcher.sandbox.errors import ApiError
from benchmarks.data import ROOT

SPEED = 600.0
HOUR = 3600.0
MODEL = "gpt-6-luna"
LIMIT = table_limit(MODEL, 1) or 0
PASSING = ("rate_limit", "server", "request_timeout", "refusal", "length", "invalid_json", "empty")
"""Classes of which 2% of the lines fail at their first execution; with the permanent ones 0.2% each, or more than 1%
would rightly end dead."""
PERMANENT = ("content_policy", "context_length")
POISON = 7


class Watched(Sandbox):
    """Notes how long after the end of a rate limit the next batch was taken."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.free_at = 0.0
        self.recoveries_s: list[float] = []

    def create_batch(self, payload: Mapping[str, object], lost: bool = False) -> Any:
        """As the sandbox, and looks at the time."""
        try:
            made = super().create_batch(payload, lost)
        except ApiError as error:
            if error.status == 429:  # there is room again an hour after the oldest batch in the window
                self.free_at = self._creates._times[0] + HOUR
            raise
        if self.free_at:
            self.recoveries_s.append(max(0.0, self.now() - self.free_at))
            self.free_at = 0.0
        return made


@dataclass
class Course:
    """What happens when, by the share of the lines that were executed."""

    sandbox: Watched
    lines: int
    over: Event = field(default_factory=Event)
    happened: list[str] = field(default_factory=list)

    def follow(self) -> None:
        """Plays the events in their order."""
        steps: list[tuple[float, str, Callable[[], None]]] = [
            (0.05, "batches limited to 12 an hour", lambda: self._limits({"batches_per_hour": 12})),
            (0.15, "batches free again", lambda: self._limits({"batches_per_hour": 2_000})),
            (0.25, "limit halved", lambda: self._limits({"enqueued_tokens": LIMIT // 2})),
            (0.45, "others hold 30%", lambda: self._limits({"phantom_tokens": int(0.3 * LIMIT / 2)})),
            (0.60, "others gone, quota gone for half an hour", self._quota),
            (0.75, "limit whole again", lambda: self._limits({"enqueued_tokens": LIMIT})),
        ]
        while steps and not self.over.wait(0.05):
            done = self.sandbox.ledger.totals()["executions"] / self.lines
            if done >= steps[0][0]:
                _, what, act = steps.pop(0)
                with self.sandbox.lock:
                    act()
                self.happened.append(f"{done:.0%}: {what}")

    def _limits(self, changes: Mapping[str, object]) -> None:
        self.sandbox.set_limits(changes)

    def _quota(self) -> None:
        now = self.sandbox.now()
        self._limits({"phantom_tokens": 0})
        self.sandbox.set_faults({"quota_gone_between": [now, now + HOUR / 2]})


def configuration(table: Path) -> str:
    """The settings: tier 1, and every delay as much shorter as the sandbox's clock is faster."""
    pairs = {
        "rate_limit": (60, 300), "outage": (60, 300), "enqueued_limit": (60, 300), "shard_refused": (60, 300),
        "quota": (300, 3600), "server": (0.5, 4), "call": (0.5, 4),
    }  # fmt: skip
    rows = [f"{k} = {{ base_s = {base / SPEED:.5f}, cap_s = {cap / SPEED:.5f} }}" for k, (base, cap) in pairs.items()]
    return "\n".join(
        [
            f'[job]\npath = "{ROOT / "jobs" / "bios"}"\ninput = "{table}"',
            f'[model]\nname = "{MODEL}"\n[limits]\ntier = 1',
            f"[poll]\ninterval_s = {120 / SPEED}\n[api]\nreconcile_grace_s = 1",
            f"[pause]\nduration_hours = {24 / SPEED}\n[retry]",
            *rows,
        ]
    )


def main() -> None:
    """Runs and prints the measures of success beside their targets."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.week")
    parser.add_argument("table", type=Path)
    table = parser.parse_args().table.resolve()
    with duckdb.connect() as con:
        rows = con.execute("SELECT artist_id FROM read_parquet(?)", [str(table)]).fetchall()
    with tempfile.TemporaryDirectory(prefix="batcher-week-") as name:
        folder = Path(name)
        failures = {**dict.fromkeys(PASSING, 0.02), **dict.fromkeys(PERMANENT, 0.002)}
        faults = Faults(line_failures=failures, expire_batches=(20,), poison=(str(rows[POISON][0]),))
        settings = SandboxSettings(seed=1, tier=1, enqueued_tokens=LIMIT, speed=SPEED, faults=faults)
        sandbox = Watched(settings, folder / "sandbox", scaled_clock(SPEED))
        (folder / "batcher.toml").write_text(configuration(table), encoding="utf-8")
        course = Course(sandbox, len(rows))
        began, real = sandbox.now(), time.monotonic()
        with running_sandbox(sandbox) as url:
            thread = Thread(target=course.follow, daemon=True)
            thread.start()
            code = _run(folder, url)
            course.over.set()
            thread.join()
        _tell(folder, course, code, (sandbox.now() - began) / HOUR, time.monotonic() - real)


def _run(folder: Path, url: str) -> int:
    env = {**os.environ, "OPENAI_API_KEY": "sk-sandbox", "OPENAI_BASE_URL": url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "batcher", "run", "--out", "bios.parquet", "--failed", "failed.parquet"]
    with (folder / "said.txt").open("wb") as said:
        return subprocess.run(command, cwd=folder, env=env, stdout=said, stderr=said, check=False).returncode


REFUSED = """
WITH refused AS (
    SELECT n.reserved_before + n.reserved AS held,
           (SELECT max_by(q.limit_tokens, q.happened_at) FROM quota_samples AS q
            WHERE q.source = 'refusal' AND q.happened_at < n.intended_at) AS named
    FROM submissions AS n WHERE n.outcome = 'refused: enqueued_limit'
)
SELECT count(*) FILTER (held > 0.8 * named), count(*) FILTER (named IS NULL), count(*) FILTER (held <= 0.8 * named)
FROM refused
"""
"""Refusals for the enqueued limit: over what the service had named by then, before it had named any, and the others:
what the rest of the organisation holds."""


def _tell(folder: Path, course: Course, code: int, hours: float, seconds: float) -> None:
    def query(sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(folder / ".batcher" / "state.duckdb"), read_only=True) as con:
            return con.execute(sql).fetchall()

    states = Counter(dict(query("SELECT state, count(*) FROM artists GROUP BY 1")))
    lost = query("SELECT failure, code, count(*) FROM artists WHERE state = 'dead' GROUP BY ALL ORDER BY 3 DESC")
    ((foreseen, untold, phantom),) = query(REFUSED)
    quota = query("SELECT reason, tries, until - since FROM pauses WHERE reason = 'quota'")
    twice = course.sandbox.ledger.totals()["usable_more_than_once"]
    done, dead = states["done"], states["dead"]
    recovery = max(course.sandbox.recoveries_s, default=0.0)
    print((folder / "said.txt").read_text(encoding="utf-8")[-1800:])
    print(f"ended with {code} after {hours:.1f} simulated hours, {seconds:.0f} s")
    for line in course.happened:
        print(f"  at {line}")
    print("| measure | target | seen |\n|---|---|---|")
    print(f"| completion (done and dead, of all) | 100% | {(done + dead) / course.lines:.2%}: {dict(states)} |")
    print(f"| dead | < 1% | {dead / course.lines:.2%}: {lost} |")
    print(f"| simulated hours | < 168 | {hours:.1f} |")
    print(f"| usable answers paid twice | 0 | {twice} |")
    print(f"| refusals for the enqueued limit that could have been foreseen | 0 | {foreseen} |")
    print(f"| others: of a limit that was not named yet; because of what others hold | - | {untold}; {phantom} |")
    incidents = sum(1 for _, tries, _ in quota if not tries)
    steps = ", ".join(f"{seconds * SPEED:.0f} s" for _, _, seconds in quota)
    print(f"| quota incidents (the injected half hour) | 1, in pauses of 300, 600 and 1200 s | {incidents}: {steps} |")
    # At this speed each tenth of a second that this machine takes for a batch's results is a simulated minute.
    print(
        f"| recovery from a rate limit | < 300 s | {recovery:.0f} simulated s at most, {recovery / SPEED:.1f} s of "
        f"this machine's time, {len(course.sandbox.recoveries_s)} times |"
    )


if __name__ == "__main__":
    main()
