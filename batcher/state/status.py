"""What `plan` and `status` say: read from the state as data, which `--json` prints and `tables` draws."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from batcher.catalog.prices import PriceOf, Prices
from batcher.config import Config, table_limit
from batcher.core.forecast import MOST_AGAIN, Forecast, fitting, forecast
from batcher.core.lifecycle import ArtistState, is_terminal
from batcher.core.model import Measured, Usage
from batcher.core.workers import MOST_WORKERS, recommended_workers
from batcher.state.costs import Costs, costs_by_shard, total
from batcher.state.db.transaction import Transaction
from batcher.state.plan import load_versions
from batcher.state.snapshot import OpenLines, Outlook, charge_of, outlook_now

if TYPE_CHECKING:  # a status plans nothing
    from batcher.plan.planner import PlanReport, PlanResult

ASSUMED_OUTPUT_SHARES = (0.25, 0.5)
"""The shares of max_output_tokens that an answer is assumed to use at best and most likely, before any is measured."""
TIERS = 5
NEWEST_SAMPLES = 500
LATER = "a later [deadline], or fewer artists"

A = ArtistState
PROGRESS: Mapping[str, Sequence[ArtistState]] = {
    "artists": [state for state in A if state is not A.SKIPPED],
    "done_before": [A.DONE_BEFORE],
    "done": [A.DONE],
    "in_flight": [A.IN_BATCH, A.IN_DIRECT],
    "open": [A.READY, A.WAITING],
    "held": [A.HELD],
    "dead": [A.DEAD],
}
"""What is told of each priority: artists in these states."""


class Dollars(NamedTuple):
    """What is still to be sent may cost, beside what is spent and in flight; None for an unknown price."""

    best: float | None
    expected: float | None
    most: float | None
    """Every answer at max_output_tokens, and as many lines paid for again as so far."""
    standard: float | None
    """The expected amount at the standard price."""


class Expectation(NamedTuple):
    """When it will have ended and what it will still cost, against the deadline."""

    forecast: Forecast
    dollars: Dollars
    deadline_s: float
    """Seconds until the deadline; negative when it is past."""
    advice: Sequence[str]
    """What would help where the expected end is past the deadline."""
    measured: Measured
    waits_for_user: bool


def expect(outlook: Outlook, config: Config, price_of: PriceOf, now: float) -> Expectation:
    """The expectation of this moment."""
    view = forecast(outlook.load, outlook.ended_s)
    deadline_s = outlook.planned_at + config.deadline.hours * 3600 - now
    return Expectation(
        forecast=view,
        dollars=_dollars(outlook, price_of),
        deadline_s=deadline_s,
        advice=_advice(outlook, config, deadline_s) if view.expected_s > deadline_s else (),
        measured=outlook.measured,
        waits_for_user=outlook.waits_for_user,
    )


def _dollars(outlook: Outlook, price_of: PriceOf) -> Dollars:
    """The price of the lines that are neither sent nor ended, each at that of its version."""
    parts = [(part, price_of(part.version.model)) for part in outlook.open]
    known = [_dollars_of(part, outlook, prices) for part, prices in parts if prices is not None]
    if len(known) < len(parts):
        return Dollars(None, None, None, None)
    best, expected, most, standard = (sum(amounts) for amounts in zip((0.0,) * 4, *known, strict=True))
    return Dollars(best, expected, most, standard)


def _dollars_of(part: OpenLines, outlook: Outlook, prices: Prices) -> tuple[float, float, float, float]:
    """Best, expected, most (as the budget reserves it), and expected at the standard price."""
    seen, most = outlook.measured, part.version.max_output_tokens
    charge = charge_of(part.version, prices, outlook.room)
    if seen.enough:
        low = middle = min(most, seen.output / seen.executed)
        cached = seen.cached / max(seen.input, 1)
    else:
        low, middle = (share * most for share in ASSUMED_OUTPUT_SHARES)
        cached = 0.0
    # What expired, met a rate limit or an error of the server's goes again too, but nobody paid for it.
    paid = 1 / (1 - min(seen.paid_again_share, MOST_AGAIN))

    def usage(output: float, factor: float, cached_share: float) -> Usage:
        tokens = int(part.tokens * seen.ratio * factor)
        return Usage(tokens, int(tokens * cached_share), int(part.lines * output * factor))

    expected = usage(middle, paid, cached)
    return (
        prices.batch.cost(usage(low, 1.0, cached)),
        prices.batch.cost(expected),
        (part.tokens * charge.usd_per_token + part.lines * charge.usd_per_line) * paid,
        prices.standard.cost(expected),
    )


def _advice(outlook: Outlook, config: Config, deadline_s: float) -> list[str]:
    """What would bring the expected end before the deadline."""
    if deadline_s <= 0:
        return [LATER]
    found = []
    tiers = [(table_limit(config.model.name, tier), tier) for tier in range(config.limits.tier + 1, TIERS + 1)]
    known = [(limit, tier) for limit, tier in tiers if limit is not None]

    def would_do(limit: int) -> bool:
        wider = outlook.load._replace(ceiling=int(limit * config.limits.threshold))
        return forecast(wider, outlook.ended_s).expected_s <= deadline_s

    first = bisect_left(known, True, key=lambda row: would_do(row[0]))  # a forecast each is what takes time
    for limit, tier in known[first : first + 1]:
        found.append(f"usage tier {tier} (a limit of {limit:,} enqueued tokens) would do")
    lines = fitting(outlook.load, outlook.ended_s, deadline_s)
    if lines:
        found.append(f"the {lines:,} most urgent of the {outlook.lines:,} open lines fit")
    rest = outlook.lines - lines
    if 0 < rest <= MOST_WORKERS * outlook.per_worker_s * deadline_s:
        workers = recommended_workers(rest, deadline_s / 3600, outlook.per_worker_s)
        found.append(f"`batcher direct --workers {workers}` for {rest:,} lines, at the standard price")
    return found or [LATER]


class PlanSummary(NamedTuple):
    """What a plan says beside its tables."""

    limit: int
    ceiling: int
    lines: int
    tokens: int
    bytes: int
    budget_usd: float
    """What is left of it; 0: no bound, or nothing."""
    expectation: Expectation
    per_worker_s: float
    """Lines that one worker of the direct lane does in a second."""
    workers: int
    """So many would do all lines by the deadline."""


def summarise_plan(report: "PlanReport", config: Config, price_of: PriceOf, now: float) -> PlanSummary:
    """Totals, price and forecast of what is still to be sent."""
    outlook = report.outlook
    expectation = expect(outlook, config, price_of, now)
    return PlanSummary(
        limit=outlook.room.limit,
        ceiling=outlook.room.ceiling,
        lines=outlook.lines,
        tokens=outlook.tokens,
        bytes=sum(p.bytes for p in report.priorities),
        budget_usd=max(0.0, config.budget.max_usd - outlook.spent_usd - outlook.in_flight_usd),
        expectation=expectation,
        per_worker_s=outlook.per_worker_s,
        workers=recommended_workers(outlook.lines, expectation.deadline_s / 3600, outlook.per_worker_s),
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
        "priorities": [p._asdict() for p in report.priorities],
        "shards": [s._asdict() for s in report.shards],
        **as_json(summary),
    }


class Status(NamedTuple):
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
    direct_until: float
    stopped: str
    costs: Costs
    expectation: Expectation
    shard_costs: Sequence[Costs]
    quota: Sequence[Mapping[str, Any]]
    """The newest samples of the account's room: submissions, refusals, headers."""
    refusals: Mapping[str, Any]
    """For the enqueued-token limit: times, last_at, in_flight and named_limit then."""
    files_left: int


def read_status(tx: Transaction, config: Config, price_of: PriceOf) -> Status:
    """Everything that `status` tells."""
    outlook = outlook_now(tx, config)
    room = outlook.room
    by_shard = costs_by_shard(tx, outlook.versions, price_of)
    states, priorities = _artists(tx)
    return Status(
        now=tx.now,
        states=states,
        priorities=priorities,
        shards=_named(tx.run("shards_by_state"), "state", "shards", "lines", "tokens"),
        batches=[b for b in tx.dicts("batches_in_flight") if not is_terminal(b["status"]) or b["retry_at"]],
        failures=_named(tx.run("failures_by_class"), "class", "code", "times", "counted", "last_at"),
        lost=_named(tx.run("lost_by_class"), "state", "class", "code", "artists"),
        waiting_lines=_named(tx.run("who_waits"), "class", "lines", "first_at", "last_at"),
        waiting_shards=_named(tx.run("shards_waiting", now=tx.now), "shard", "state", "until"),
        pauses=[{"scope": p.scope, "reason": p.reason, "until": p.until} for p in outlook.pauses],
        limit=room.limit,
        ceiling=room.ceiling,
        reserved=room.reserved,
        headroom=room.headroom,
        blocked_until=room.blocked_until,
        outage_until=outlook.outage_until,
        direct_until=outlook.direct_until,
        stopped=tx.text_fact("stopped"),
        costs=total(by_shard),
        expectation=expect(outlook, config, price_of, tx.now),
        shard_costs=by_shard,
        quota=tx.dicts("quota_history", most=NEWEST_SAMPLES),
        refusals=_named(tx.run("room_refusals", now=tx.now), "times", "last_at", "in_flight", "named_limit")[0],
        files_left=len(tx.run("files_left")),
    )


def _artists(tx: Transaction) -> tuple[Mapping[str, int], list[dict[str, int]]]:
    """Artists in each state that has any, and the progress of each priority: both from one count of all artists."""
    states, priorities = Counter[str](), dict[int, Counter[str]]()
    for priority, state, artists in tx.run("count_by_priority"):
        states[state] += artists
        priorities.setdefault(priority, Counter())[state] += artists
    progress = [
        {"priority": priority, **{name: sum(counted[s] for s in among) for name, among in PROGRESS.items()}}
        for priority, counted in priorities.items()
    ]
    return dict(sorted(states.items())), [row for row in progress if row["artists"]]


def as_json(value: Any) -> Any:
    """Tuples by name as objects, and so all that is in them."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: as_json(part) for name, part in value._asdict().items()}
    return [as_json(part) for part in value] if isinstance(value, list | tuple) else value


def _named(rows: Sequence[tuple[Any, ...]], *names: str) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def read_artist(tx: Transaction, artist_id: str, price_of: PriceOf) -> dict[str, Any] | None:
    """One artist's whole history; None when the state does not know the id."""
    rows = tx.dicts("artist", artist_id=artist_id)
    if not rows:
        return None
    return {
        **rows[0],
        "bio": next(iter(tx.dicts("artist_bio", artist_id=artist_id)), None),
        "costs": total(costs_by_shard(tx, load_versions(tx), price_of, artist_id))._asdict(),
        "attempts_made": tx.dicts("artist_attempts", artist_id=artist_id),
        "events": tx.dicts("artist_events", artist_id=artist_id),
    }
