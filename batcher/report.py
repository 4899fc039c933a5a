"""What `plan` and `status` say: read from the state as data, which `--json` prints and `tables` draws."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from batcher.admission import ceiling, headroom
from batcher.config import Config, table_limit
from batcher.forecast import Forecast, fitting, forecast
from batcher.lifecycle import is_terminal
from batcher.looking import Outlook, outlook_now
from batcher.model import Measured, Usage
from batcher.prices import Prices
from batcher.store import Transaction
from batcher.store.planned import count_by_state

if TYPE_CHECKING:  # a status plans nothing
    from batcher.planner import PlanReport, PlanResult

ASSUMED_OUTPUT_SHARES = (0.25, 0.5)
"""The shares of max_output_tokens that an answer is assumed to use at best and most likely, before any is measured."""
TIERS = 5


@dataclass(frozen=True, slots=True)
class Dollars:
    """What is still to be sent may cost, beside what is spent and in flight; None for an unknown price."""

    best: float | None
    expected: float | None
    most: float | None
    """Every answer at max_output_tokens, and as many lines again as so far."""
    standard: float | None
    """The expected amount at the standard price."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """When it will have ended and what it will still cost, against the deadline."""

    forecast: Forecast
    dollars: Dollars
    deadline_s: float
    """Seconds until the deadline; negative when it is past."""
    advice: Sequence[str]
    """What would help where the expected end is past the deadline."""
    measured: Measured
    waits_for_user: bool


def expect(outlook: Outlook, config: Config, prices: Prices | None, now: float) -> Expectation:
    """The expectation of this moment."""
    view = forecast(outlook.load, outlook.ended_s)
    deadline_s = outlook.planned_at + config.deadline.hours * 3600 - now
    return Expectation(
        forecast=view,
        dollars=_dollars(outlook, config, prices),
        deadline_s=deadline_s,
        advice=_advice(outlook, config, deadline_s) if view.expected_s > deadline_s else (),
        measured=outlook.measured,
        waits_for_user=outlook.waits_for_user,
    )


def _dollars(outlook: Outlook, config: Config, prices: Prices | None) -> Dollars:
    """The price of the lines that are neither sent nor ended."""
    if prices is None:
        return Dollars(None, None, None, None)
    seen, most = outlook.measured, config.model.max_output_tokens
    if seen.enough:
        low = middle = seen.output / seen.executed
        cached = seen.cached / max(seen.input, 1)
    else:
        low, middle = (share * most for share in ASSUMED_OUTPUT_SHARES)
        cached = 0.0
    again = 1 / (1 - min(seen.again_share, 0.75))

    def usage(output: float, factor: float, cached_share: float) -> Usage:
        tokens = int(outlook.tokens * seen.ratio * factor)
        return Usage(tokens, int(tokens * cached_share), int(outlook.lines * output * factor))

    expected = usage(middle, again, cached)
    return Dollars(
        best=prices.batch.cost(usage(low, 1.0, cached)),
        expected=prices.batch.cost(expected),
        most=prices.batch.cost(usage(most, again, 0.0)),
        standard=prices.standard.cost(expected),
    )


def _advice(outlook: Outlook, config: Config, deadline_s: float) -> list[str]:
    """What would bring the expected end before the deadline."""
    found = []
    for tier in range(config.limits.tier + 1, TIERS + 1):
        limit = table_limit(config.model.name, tier)
        if limit is None:
            continue
        wider = replace(outlook.load, ceiling=int(limit * config.limits.threshold))
        if forecast(wider, outlook.ended_s).expected_s <= deadline_s:
            found.append(f"usage tier {tier} (a limit of {limit:,} enqueued tokens) would do")
            break
    lines = fitting(outlook.load, outlook.ended_s, deadline_s)
    if lines:
        found.append(f"the {lines:,} most urgent of the {outlook.lines:,} open lines fit")
    return found or ["a later [deadline], or fewer artists"]


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What a plan says beside its tables."""

    limit: int
    ceiling: int
    lines: int
    tokens: int
    bytes: int
    budget_usd: float
    """What is left of it; 0: no bound, or nothing."""
    expectation: Expectation


def summarise_plan(report: "PlanReport", config: Config, prices: Prices | None, now: float) -> PlanSummary:
    """Totals, price and forecast of what is still to be sent."""
    outlook = report.outlook
    return PlanSummary(
        limit=outlook.snapshot.room.limit,
        ceiling=ceiling(outlook.snapshot.room),
        lines=outlook.lines,
        tokens=outlook.tokens,
        bytes=sum(p.bytes for p in report.priorities),
        budget_usd=max(0.0, config.budget.max_usd - outlook.spent_usd - outlook.in_flight_usd),
        expectation=expect(outlook, config, prices, now),
    )


def plan_json(result: "PlanResult", report: "PlanReport", summary: PlanSummary) -> dict[str, Any]:
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
class Costs:
    """The truth about the money, in dollars; None for an unknown price."""

    spent: float
    wasted: float
    """Of that on answers that gave no bio, or a second one."""
    saved: float | None
    """Against the standard price of the same tokens."""
    in_flight: float
    """The most that what is in flight may cost; 0 where no price is known."""


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
    costs: Costs
    expectation: Expectation
    shard_costs: Sequence[Mapping[str, Any]]
    files_left: int


def read_status(tx: Transaction, config: Config, prices: Prices | None) -> Status:
    """Everything that `status` tells."""
    outlook = outlook_now(tx, config)
    snapshot = outlook.snapshot
    room = snapshot.room
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
        costs=_costs(tx, prices, outlook.in_flight_usd),
        expectation=expect(outlook, config, prices, tx.now),
        shard_costs=tx.dicts("money_by_shard"),
        files_left=len(tx.run("files_left")),
    )


def _costs(tx: Transaction, prices: Prices | None, in_flight: float) -> Costs:
    spent, wasted, tokens_in, cached, out = tx.one("money_spent")
    saved = None
    if prices is not None:
        used = Usage(int(tokens_in or 0), int(cached or 0), int(out or 0))
        saved = prices.standard.cost(used) - prices.batch.cost(used)
    return Costs(float(spent), float(wasted), saved, in_flight)


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
