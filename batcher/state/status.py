"""What `plan` and `status` say: read from the state as data, which `--json` prints and `tables` draws."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from batcher.catalog.prices import PriceOf
from batcher.config import Config
from batcher.core.lifecycle import ArtistState, is_terminal
from batcher.state import facts
from batcher.state.costs import Costs, costs_by_shard, sum_costs
from batcher.state.db.transaction import Transaction
from batcher.state.expectation import Expectation, build_expectation
from batcher.state.outlook import load_outlook
from batcher.state.versions import load_versions

NEWEST_SAMPLES = 500

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
    outlook = load_outlook(tx, config)
    room = outlook.room
    by_shard = costs_by_shard(tx, outlook.versions, price_of)
    states, priorities = _count_artists(tx)
    return Status(
        now=tx.now,
        states=states,
        priorities=priorities,
        shards=_rows_to_dicts(tx.fetch_all("shards_by_state"), "state", "shards", "lines", "tokens"),
        batches=[b for b in tx.fetch_dicts("batches_in_flight") if not is_terminal(b["status"]) or b["retry_at"]],
        failures=_rows_to_dicts(tx.fetch_all("failures_by_class"), "class", "code", "times", "counted", "last_at"),
        lost=_rows_to_dicts(tx.fetch_all("lost_by_class"), "state", "class", "code", "artists"),
        waiting_lines=_rows_to_dicts(tx.fetch_all("who_waits"), "class", "lines", "first_at", "last_at"),
        waiting_shards=_rows_to_dicts(tx.fetch_all("shards_waiting", now=tx.now), "shard", "state", "until"),
        pauses=[{"scope": p.scope, "reason": p.reason, "until": p.until} for p in outlook.pauses],
        limit=room.limit,
        ceiling=room.ceiling,
        reserved=room.reserved,
        headroom=room.headroom,
        blocked_until=room.blocked_until,
        outage_until=outlook.outage_until,
        direct_until=outlook.direct_until,
        stopped=facts.read_stop_reason(tx),
        costs=sum_costs(by_shard),
        expectation=build_expectation(outlook, config, price_of, tx.now),
        shard_costs=by_shard,
        quota=tx.fetch_dicts("quota_history", most=NEWEST_SAMPLES),
        refusals=_rows_to_dicts(
            tx.fetch_all("room_refusals", now=tx.now), "times", "last_at", "in_flight", "named_limit"
        )[0],
        files_left=len(tx.fetch_all("files_left")),
    )


def _count_artists(tx: Transaction) -> tuple[Mapping[str, int], list[dict[str, int]]]:
    """Artists in each state that has any, and the progress of each priority: both from one count of all artists."""
    states, priorities = Counter[str](), dict[int, Counter[str]]()
    for priority, state, artists in tx.fetch_all("count_by_priority"):
        states[state] += artists
        priorities.setdefault(priority, Counter())[state] += artists
    progress = [
        {"priority": priority, **{name: sum(counted[s] for s in among) for name, among in PROGRESS.items()}}
        for priority, counted in priorities.items()
    ]
    return dict(sorted(states.items())), [row for row in progress if row["artists"]]


def to_json(value: Any) -> Any:
    """Tuples by name as objects, and so all that is in them."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: to_json(part) for name, part in value._asdict().items()}
    return [to_json(part) for part in value] if isinstance(value, list | tuple) else value


def _rows_to_dicts(rows: Sequence[tuple[Any, ...]], *names: str) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def read_artist(tx: Transaction, artist_id: str, price_of: PriceOf) -> dict[str, Any] | None:
    """One artist's whole history; None when the state does not know the id."""
    rows = tx.fetch_dicts("artist", artist_id=artist_id)
    if not rows:
        return None
    return {
        **rows[0],
        "bio": next(iter(tx.fetch_dicts("artist_bio", artist_id=artist_id)), None),
        "costs": sum_costs(costs_by_shard(tx, load_versions(tx), price_of, artist_id))._asdict(),
        "attempts_made": tx.fetch_dicts("artist_attempts", artist_id=artist_id),
        "events": tx.fetch_dicts("artist_events", artist_id=artist_id),
    }
