"""What `plan` and `status` say: read from the state as data, which `--json` prints and `tables` draws."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from batcher.admission import ceiling, headroom, reserved_for
from batcher.config import Config
from batcher.forecast import Forecast, forecast
from batcher.lifecycle import is_terminal
from batcher.looking import look
from batcher.model import Room, Usage
from batcher.planner import PlanReport, PlanResult
from batcher.prices import Prices
from batcher.store import Transaction
from batcher.store.planned import count_by_state

ASSUMED_OUTPUT_SHARE = 0.5
"""The share of max_output_tokens that an answer is assumed to use, before any is measured."""


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What a plan says beside its tables."""

    limit: int
    ceiling: int
    lines: int
    tokens: int
    bytes: int
    usd_expected: float | None
    usd_most: float | None
    usd_standard: float | None
    forecast: Forecast
    deadline_s: float


def summarise_plan(report: PlanReport, config: Config, prices: Prices | None, room: Room) -> PlanSummary:
    """Totals, price and forecast of what is still to be sent."""
    lines, tokens = sum(p.lines for p in report.priorities), sum(p.tokens for p in report.priorities)
    most = Usage(tokens, 0, lines * config.model.max_output_tokens)
    expected = Usage(tokens, 0, int(most.output * ASSUMED_OUTPUT_SHARE))
    reserved = [reserved_for(s.tokens, room) for s in report.shards]
    return PlanSummary(
        limit=room.limit,
        ceiling=ceiling(room),
        lines=lines,
        tokens=tokens,
        bytes=sum(p.bytes for p in report.priorities),
        usd_expected=prices.batch.cost(expected) if prices else None,
        usd_most=prices.batch.cost(most) if prices else None,
        usd_standard=prices.standard.cost(expected) if prices else None,
        forecast=forecast(reserved, ceiling(room)),
        deadline_s=config.deadline.hours * 3600,
    )


def plan_json(result: PlanResult, report: PlanReport, summary: PlanSummary) -> dict[str, Any]:
    """The plan for machines."""
    return {
        "lines_planned": result.lines_planned,
        "artists_new": result.artists_new,
        "rows_read": result.rows_read,
        "changed_rows": result.changed_rows,
        "skipped_rows": [message for _, message in result.skipped],
        "done_unknown": result.done_unknown,
        "states": dict(report.states),
        "priorities": [asdict(p) for p in report.priorities],
        "shards": [asdict(s) for s in report.shards],
        **asdict(summary),
    }


@dataclass(frozen=True, slots=True)
class Status:
    """The whole job at one moment."""

    now: float
    states: Mapping[str, int]
    priorities: Sequence[Mapping[str, Any]]
    shards: Sequence[Mapping[str, Any]]
    batches: Sequence[Mapping[str, Any]]
    failures: Sequence[Mapping[str, Any]]
    lost: Sequence[Mapping[str, Any]]
    waiting_lines: Sequence[Mapping[str, Any]]
    waiting_shards: Sequence[Mapping[str, Any]]
    pauses: Sequence[Mapping[str, Any]]
    limit: int
    ceiling: int
    reserved: int
    headroom: int
    blocked_until: float
    outage_until: float
    stopped: str
    spent_usd: float
    wasted_usd: float
    forecast: Forecast
    files_left: int


def read_status(tx: Transaction, config: Config) -> Status:
    """Everything that `status` tells."""
    snapshot = look(tx, config, None)
    room = snapshot.room
    spent, wasted, *_ = tx.one("money_spent")
    times = [float(row[0]) for row in tx.run("service_times")]
    open_shards = [reserved_for(s.tokens, room) for s in snapshot.shards]
    planned = [reserved_for(int(row["tokens"]), room) for row in tx.dicts("plan_shards") if row["state"] == "planned"]
    return Status(
        now=tx.now,
        states=count_by_state(tx),
        priorities=tx.dicts("finished_by_priority"),
        shards=_named(tx.run("shards_by_state"), "state", "shards", "lines", "tokens"),
        batches=[b for b in tx.dicts("batches_in_flight") if not is_terminal(b["status"]) or b["retry_at"]],
        failures=_named(tx.run("failures_by_class"), "class", "code", "times", "counted", "last_at"),
        lost=_named(tx.run("lost_by_class"), "state", "class", "code", "artists"),
        waiting_lines=_named(tx.run("who_waits"), "class", "lines", "first_at", "last_at"),
        waiting_shards=_named(tx.run("shards_waiting", now=tx.now), "shard", "state", "until"),
        pauses=[{"scope": p.scope, "reason": p.reason, "until": p.until} for p in snapshot.pauses],
        limit=room.limit,
        ceiling=ceiling(room),
        reserved=room.reserved,
        headroom=headroom(room),
        blocked_until=room.blocked_until,
        outage_until=snapshot.outage_until,
        stopped=snapshot.stopped,
        spent_usd=float(spent),
        wasted_usd=float(wasted),
        forecast=forecast([*open_shards, *planned], ceiling(room), times),
        files_left=len(tx.run("files_left")),
    )


def _named(rows: Sequence[tuple[Any, ...]], *names: str) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def read_artist(tx: Transaction, artist_id: str) -> dict[str, Any] | None:
    """One artist's whole history; None when the state does not know the id."""
    rows = tx.dicts("artist", artist_id=artist_id)
    if not rows:
        return None
    return {
        **rows[0],
        "bio": next(iter(tx.dicts("artist_bio", artist_id=artist_id)), None),
        "attempts_made": tx.dicts("artist_attempts", artist_id=artist_id),
        "events": tx.dicts("artist_events", artist_id=artist_id),
    }
