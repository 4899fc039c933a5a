"""Moments of a large job for the live view, and the rows that it draws of them."""

from datetime import timedelta, timezone
from typing import Any

from rich.cells import cell_len
from rich.console import Console

from batcher.core.forecast import Forecast
from batcher.core.lifecycle import BatchStatus
from batcher.state.costs import Costs
from batcher.state.reports.expectation import CostForecast
from batcher.state.reports.status import (
    LostCount,
    OpenPause,
    PriorityProgress,
    ShardCount,
    Status,
    UnsettledBatch,
    WaitingLines,
)
from batcher.views.live.frame import Frame, JobName, RecentEvent
from batcher.views.live.screen import build_rows
from tests.support.status_kit import build_status

ZONE = timezone(timedelta(hours=1), "CET")
NOW = 1_795_723_482.0  # Thu 26 Nov 2026, 21:04:42 in that zone
SIZES = [(80, 24), (120, 40), (60, 15)]
NAME = JobName("bios", "gpt-6-luna", "https://api.openai.com/v1", 10.0, NOW - 3.2 * 3600)
HOUR = 3600.0


def batch(number: int, done: int, hours: float) -> UnsettledBatch:
    """Return a batch of 2,000 lines of which `done` are answered, sent `hours` ago."""
    status = BatchStatus.IN_PROGRESS if done else BatchStatus.VALIDATING
    batch_id, at = f"batch_{number:032x}", NOW - hours * HOUR
    return UnsettledBatch(batch_id, number, 1 + number % 3, status, 2000, done, 0, False, at, at, 2000, 0.0)


def status_of(states: dict[str, int], spent: float, **changes: Any) -> Status:
    """Return the status of a job of so many artists in each state that has spent so many dollars."""
    base = build_status()
    total = sum(states.values())
    counts = (states.get(s, 0) for s in ("done_before", "done", "in_batch", "ready", "held", "dead"))
    forecast = Forecast(4, 2 * HOUR, 5.5 * HOUR, 20.5 * HOUR, 9 if spent else 0)
    to_come = 3.71 - spent if states.get("ready") else 0.0
    status = base._replace(
        now=NOW,
        states=states,
        priorities=[PriorityProgress(1, total, *counts)],
        shards=[ShardCount("released", 8, states.get("ready", 0), 9_000_000)] if states.get("ready") else [],
        limit=14_000_000,
        ceiling=12_600_000,
        reserved=0,
        headroom=12_600_000,
        costs=Costs(None, states.get("done", 0), 0.0, spent, 0.0, spent),
        expectation=base.expectation._replace(
            forecast=forecast, deadline_s=110 * HOUR, dollars=CostForecast(to_come, to_come, 2 * to_come, 2 * to_come)
        ),
    )
    return status._replace(**changes)


def early() -> Status:
    """Return a job of which the first wave was just sent."""
    batches = [batch(n, 0, 0.05) for n in range(1, 7)]
    states = {"in_batch": 12_000, "ready": 30_888}
    return status_of(states, 0.0, batches=batches, reserved=4_100_000, first_wave=12_000)


def middle() -> Status:
    """Return a job with many batches in flight, failures and a wait."""
    batches = [batch(n, (17 - n) * 160, 3.0 - n / 8) for n in range(5, 17)]
    states = {"done_before": 8_180, "done": 16_240, "in_batch": 24_000, "waiting": 120, "dead": 3, "ready": 2_525}
    return status_of(
        states,
        1.5182,
        batches=batches,
        reserved=10_420_000,
        waiting_lines=[WaitingLines("rate_limit", 120, NOW + 240, NOW + 600)],
        lost=[LostCount("dead", "unusable", "not_accepted", 3)],
        costs=Costs(None, 16_240, 1.1, 1.5182, 0.0312, 1.5),
    )


def paused() -> Status:
    """Return a job that was paused by hand, and whose end is past its deadline."""
    states = {"done": 16_240, "in_batch": 2_000, "ready": 24_648}
    status = status_of(
        states, 1.5182, batches=[batch(9, 1_300, 2.0)], pauses=[OpenPause("all", "by hand", None)], reserved=500_000
    )
    return status._replace(expectation=status.expectation._replace(waits_for="`batcher resume`"))


def late() -> Status:
    """Return a job that misses its deadline."""
    status = middle()
    return status._replace(expectation=status.expectation._replace(deadline_s=HOUR))


def stopped() -> Status:
    """Return a job that has stopped for its setup."""
    states = {"done": 2_000, "ready": 40_888}
    why = "OpenAI refused the request: The provided model `gpt-6-lunar` is not supported by the Batch API."
    status = status_of(states, 0.19, stopped=why)
    return status._replace(expectation=status.expectation._replace(waits_for="what has stopped it is mended"))


def ended() -> Status:
    """Return a job that has ended with dead and held lines."""
    lost = [LostCount("dead", "unusable", "not_accepted", 10), LostCount("dead", "invalid", "content_policy", 2)]
    states = {"done": 42_870, "dead": 12, "held": 6}
    return status_of(states, 3.71, lost=[*lost, LostCount("held", "missing", None, 6)])


EVENTS = [
    RecentEvent(NOW - 600 + 60 * n, f"shard {n}: completed, {2000 - n:,} bios; failed: {n} unusable")
    for n in range(1, 11)
]


def frame(width: int, height: int, note: str = "batches are running") -> Frame:
    """Return a frame of this size with ten events."""
    return Frame(width, height, NOW, NAME, EVENTS, note, NOW + 12 if note else 0.0, ZONE)


def draw(status: Status, shown: Frame) -> list[str]:
    """Return the rows of a screen as text, checked to fit."""
    rows = build_rows(status, shown)
    assert len(rows) <= shown.height
    assert all(row.cell_len <= shown.width for row in rows), [r.plain for r in rows if r.cell_len > shown.width]
    console = Console(width=shown.width, height=shown.height, legacy_windows=False)
    for row in rows:
        assert len(row.wrap(console, shown.width)) <= 1
        assert cell_len(row.plain) == row.cell_len
    return [row.plain.rstrip() for row in rows]
