"""A status of a job, made without one: what the views draw."""

from typing import Any

from batcher.core.forecast import RemainingWork, compute_forecast
from batcher.core.room import MeasuredUsage
from batcher.state.costs import sum_costs
from batcher.state.reports.expectation import CostForecast, Expectation
from batcher.state.reports.status import RoomRefusals, Status

NOW = 1_795_700_000.0
"""The moment of such a status, in November 2026."""


def build_status(**changes: Any) -> Status:
    """Return the status of a job of which nothing was planned, with these fields changed."""
    calm = Status(
        now=NOW, states={}, priorities=[], shards=[], batches=[], failures=[], lost=[], waiting_lines=[],
        waiting_shards=[], pauses=[], limit=1_000_000, ceiling=800_000, reserved=0, headroom=800_000, blocked_until=0.0,
        outage_until=0.0, direct_until=0.0, stopped="", quota_said="", costs=sum_costs([]),
        expectation=Expectation(
            compute_forecast(RemainingWork(800_000)), CostForecast(0.0, 0.0, 0.0, 0.0), 3600.0, [], MeasuredUsage(), "",
            "", NOW,
        ),
        shard_costs=[], quota=[], refusals=RoomRefusals(0, None, None, None), files_left=0, brakes=[], pilot=None,
        first_wave=None, asked_again={},
    )  # fmt: skip
    return calm._replace(**changes)
