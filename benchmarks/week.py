"""The whole job under bad luck: `batcher run` on a real table against the sandbox at tier 1, over HTTP.

`python -m benchmarks.week TABLE.parquet`. All delays and intervals have their real length; waiting for them takes no
time (`benchmarks.jumping`). Meanwhile batches are limited to a few an hour, the limit is halved, others use 30% of it,
the quota is exhausted for half an hour, 2% of the lines of each class fail, one batch expires, and one line is poison.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb

from batcher.catalog.limits import lookup_tier_limit
from batcher.sandbox import Faults, Sandbox, SandboxSettings, scaled_clock
from batcher.sandbox.base.errors import ApiError
from batcher.sandbox.web.server import running_sandbox
from benchmarks.data import ROOT

HOUR = 3600.0
MODEL = "gpt-6-luna"
LIMIT = lookup_tier_limit(MODEL, 1) or 0
PASSING = ("rate_limit", "server", "request_timeout", "refusal", "length", "invalid_json", "empty")
"""Classes of which 2% of the lines fail at their first execution. Of the permanent classes 0.2% fail, as otherwise more
than 1% of the lines would rightly end dead."""
PERMANENT = ("content_policy", "context_length")
POISON = 7


class Watched(Sandbox):
    """A sandbox that plays the course of events by the share of executed lines, and notes how rate limits end."""

    def __init__(self, settings: SandboxSettings, folder: Path, lines: int) -> None:
        super().__init__(settings, folder, scaled_clock(1.0))
        self.lines = lines
        self.happened: list[str] = []
        self.recoveries: list[tuple[float, str]] = []
        """When there was room for a batch again after a refusal, and the batch that was created next."""
        self._free_at = 0.0
        self._steps: list[tuple[float, str, Callable[[], None]]] = [
            (0.05, "batches limited to 6 an hour", lambda: self.update_settings({"batches_per_hour": 6})),
            (0.20, "batches free again", lambda: self.update_settings({"batches_per_hour": 2_000})),
            (0.25, "limit halved", lambda: self.update_settings({"enqueued_tokens": LIMIT // 2})),
            (0.45, "others hold 30%", lambda: self.update_settings({"phantom_tokens": int(0.3 * LIMIT / 2)})),
            (0.60, "others gone, quota gone for half an hour", self._end_quota),
            (0.75, "limit whole again", lambda: self.update_settings({"enqueued_tokens": LIMIT})),
        ]

    def run_due_events(self) -> float:
        """Do as the sandbox does, and play the events that are due."""
        now = super().run_due_events()
        done = self.ledger._totals["executions"] / self.lines
        while self._steps and done >= self._steps[0][0]:
            _, what, act = self._steps.pop(0)
            act()
            self.happened.append(f"{done:.0%}: {what}")
        return now

    def create_batch(self, payload: Mapping[str, object], lost: bool = False) -> Any:
        """Do as the sandbox does, and note the time."""
        try:
            made = super().create_batch(payload, lost)
        except ApiError as error:
            if error.status == 429:  # there is room again an hour after the oldest batch in the window
                self._free_at = self._creates._times[0] + HOUR
            raise
        if self._free_at and made is not None:
            self.recoveries.append((min(self._free_at, self.now()), made.id))  # or the limit was raised
            self._free_at = 0.0
        return made

    def _end_quota(self) -> None:
        now = self.now()
        self.update_settings({"phantom_tokens": 0})
        self.update_faults({"quota_gone_between": [now, now + HOUR / 2]})


def configuration(table: Path) -> str:
    """Return the settings: tier 1, all else as it is by default."""
    return "\n".join(
        [
            f'[job]\npath = "{ROOT / "jobs" / "bios"}"\ninput = "{table}"',
            f'[model]\nname = "{MODEL}"\n[limits]\ntier = 1\n[pilot]\nlines = 0\n[poll]\ninterval_s = 60',
        ]
    )


def main() -> None:
    """Run the job, and print the measures of success with their targets."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.week")
    parser.add_argument("table", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    table = chosen.table.resolve()
    with duckdb.connect() as con:
        rows = con.execute("SELECT artist_id FROM read_parquet(?)", [str(table)]).fetchall()
    with tempfile.TemporaryDirectory(prefix="batcher-week-") as name:
        folder = Path(name)
        failures = {**dict.fromkeys(PASSING, 0.02), **dict.fromkeys(PERMANENT, 0.002)}
        faults = Faults(line_failures=failures, expire_batches=(20,), poison=(str(rows[POISON][0]),))
        settings = SandboxSettings(seed=chosen.seed, tier=1, enqueued_tokens=LIMIT, faults=faults)
        sandbox = Watched(settings, folder / "sandbox", len(rows))
        (folder / "batcher.toml").write_text(configuration(table), encoding="utf-8")
        began, real = sandbox.now(), time.monotonic()
        with running_sandbox(sandbox) as url:
            code = _run(folder, url)
        print(
            f"ended with {code} after {(sandbox.now() - began) / HOUR:.1f} hours, {time.monotonic() - real:.0f} s here"
        )
        _tell(folder, sandbox, (sandbox.now() - began) / HOUR)


def _run(folder: Path, url: str) -> int:
    env = {**os.environ, "OPENAI_API_KEY": "sk-sandbox", "OPENAI_BASE_URL": url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.jumping", "run", "--out", "bios.parquet", "--failed", "failed.parquet"]
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
"""Refusals for the enqueued limit: over the limit that the service had named by then, before it had named any, and the
others, caused by what the rest of the organisation holds."""


RECOVERED = """
WITH taken AS (SELECT * FROM submissions WHERE batch_id = $batch),
     ended AS (SELECT o.ended_at, o.reserved, b.finished_at
               FROM taken AS n JOIN submissions AS o ON o.ended_at <= n.intended_at
               JOIN batches AS b ON b.batch_id = o.batch_id),
     latest AS (SELECT sum(reserved) AS freed, max(finished_at) AS finished_at
                FROM ended WHERE ended_at >= (SELECT max(ended_at) FROM ended) - 1)
SELECT n.create_intended_at - greatest($free, CASE WHEN n.reserved_before + n.reserved + l.freed > 0.8 * n.limit_tokens
                                                   THEN l.finished_at ELSE 0 END)
FROM taken AS n, latest AS l
"""
"""Seconds from the end of a rate limit to the next batch; where the queue was full at that end, from the moment when a
batch of ours ended and made room."""


def _tell(folder: Path, sandbox: Watched, hours: float) -> None:
    def query(sql: str, **params: object) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(folder / ".batcher" / "state.duckdb"), read_only=True) as con:
            return con.execute(sql, params or None).fetchall()

    states = Counter(dict(query("SELECT state, count(*) FROM artists GROUP BY 1")))
    lost = query("SELECT failure, code, count(*) FROM artists WHERE state = 'dead' GROUP BY ALL ORDER BY 3 DESC")
    ((foreseen, untold, phantom),) = query(REFUSED)
    quota = query("SELECT reason, tries, until - since FROM pauses WHERE reason = 'quota'")
    twice = sandbox.ledger.billing_totals()["usable_more_than_once"]
    done, dead = states["done"], states["dead"]
    waited = [query(RECOVERED, free=free, batch=batch)[0][0] for free, batch in sandbox.recoveries]
    print((folder / "said.txt").read_text(encoding="utf-8")[-1800:])
    for line in sandbox.happened:
        print(f"  at {line}")
    print("| measure | target | seen |\n|---|---|---|")
    print(f"| completion (done and dead, of all) | 100% | {(done + dead) / sandbox.lines:.2%}: {dict(states)} |")
    print(f"| dead | < 1% | {dead / sandbox.lines:.2%}: {lost} |")
    print(f"| hours | < 168 | {hours:.1f} |")
    print(f"| usable answers paid twice | 0 | {twice} |")
    print(f"| refusals for the enqueued limit that could have been foreseen | 0 | {foreseen} |")
    print(f"| others: of a limit that was not named yet; because of what others hold | - | {untold}; {phantom} |")
    incidents = sum(1 for _, tries, _ in quota if not tries)
    steps = ", ".join(f"{seconds:.0f} s" for _, _, seconds in quota)
    print(f"| quota incidents beside the injected half hour | 0 | {incidents - 1}; pauses of {steps} |")
    seen = ", ".join(f"{seconds:.0f} s" for seconds in waited)
    print(
        f"| recovery from a rate limit | < 300 s | {max(waited, default=0):.0f} s at most, of {len(waited)}: {seen} |"
    )


if __name__ == "__main__":
    main()
