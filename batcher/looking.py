"""The look at the state that a decision is made from."""

from dataclasses import asdict, dataclass

import orjson

from batcher.admission import ceiling, reserved_for
from batcher.config import Config, enqueued_limit, shard_limits
from batcher.forecast import Flight, Load
from batcher.model import FILE_LIFE_S, Budget, Measured, Room, ShardLimits, Snapshot
from batcher.planning import default_limits
from batcher.prices import Prices, Rates, resolve
from batcher.retry import LONGEST_RETRY_AFTER_S
from batcher.store import Transaction, acting

LEARNED_FOR_S = 24 * 3600.0
"""How long a limit that a refusal named is believed."""
HOUR_S = 3600.0
LONGEST_WAIT_S = LONGEST_RETRY_AFTER_S + HOUR_S
"""No wait is longer, unless a setting says so."""
REFUSED_FOR_S = 2 * 3600.0
"""How long a refusal tells how much room others leave, for the forecast."""
PRICES = "prices"
"""The fact that holds the prices that the last command to plan or act has found."""


def look(tx: Transaction, config: Config, prices: Prices | None) -> Snapshot:
    """The snapshot of this moment."""
    latest = latest_wait(tx, config)
    shards, batches, loose = acting.views(tx, latest)
    room = room_now(tx, config)
    pauses = acting.pauses(tx)
    return Snapshot(
        room=room,
        shards=shards,
        batches=batches,
        loose=loose,
        pauses=pauses,
        budget=budget_now(tx, config, prices, room),
        shard_limits=limits_now(config, room),
        polled_at=tx.fact("polled_at"),
        poll_interval_s=config.poll.interval_s,
        outage_until=max(_until(tx, "outage_until", latest), _until(tx, "asked_until", latest)),
        created_last_hour=int(tx.one("created_since", since=tx.now - HOUR_S)[0]),
        unread=len(tx.run("unread_due", now=tx.now, since=tx.now - FILE_LIFE_S)),
        files_due=int(tx.one("count_files_due", now=tx.now)[0]),
        lapsed_ceiling=lapsed_ceiling(tx, config),
        probing=any(p.reason == "quota" and p.until is not None and p.until <= tx.now for p in pauses),
        probe_since=max((p.until or 0.0 for p in pauses if p.reason == "quota"), default=0.0),
        cancelled=frozenset(int(row[0]) for row in tx.run("open_wishes")),
        stopped=tx.text_fact("stopped"),
    )


def latest_wait(tx: Transaction, config: Config) -> float:
    """The latest time that a wait may have: a later one was written by a clock that was ahead, and is past."""
    caps = [policy.cap_s for policy in config.retry.rules().policies.values()]
    return tx.now + max(LONGEST_WAIT_S, *caps)


def _until(tx: Transaction, name: str, latest: float) -> float:
    until = tx.fact(name)
    return until if until <= latest else 0.0


def room_now(tx: Transaction, config: Config) -> Room:
    """The limit in force (what the service last said within a day, else the settings) and what we hold of it."""
    learned = tx.run("learned_limit", model=config.model.name, since=tx.now - LEARNED_FOR_S, now=tx.now)
    limit = int(learned[0][0]) if learned else enqueued_limit(config)
    factor = measured_now(tx).ratio * (1 + config.limits.margin)
    latest = latest_wait(tx, config)
    return Room(
        limit=limit,
        threshold=config.limits.threshold,
        factor=factor,
        reserved=int(tx.one("reserved", factor=factor)[0]),
        blocked_until=max(_until(tx, name, latest) for name in ("blocked_until", "send_after")),
    )


def measured_now(tx: Transaction) -> Measured:
    """What the settled batches teach."""
    return Measured(*tx.one("measured"))


def lapsed_ceiling(tx: Transaction, config: Config) -> int | None:
    """What a limit that was named over a day ago allowed, while no shard has passed it since; None where that is over,
    or where the settings give no more."""
    named = tx.run("newest_limit", model=config.model.name, now=tx.now)
    if not named:
        return None
    limit, lapses_at = int(named[0][0]), float(named[0][1]) + LEARNED_FOR_S
    ceiling_then = int(limit * config.limits.threshold)
    if tx.now < lapses_at or limit >= enqueued_limit(config):
        return None
    passed = tx.one("ceiling_passed", since=lapses_at, ceiling=ceiling_then)[0]
    return None if passed else ceiling_then


def limits_now(config: Config, room: Room) -> ShardLimits:
    """The size of shards cut now: never one that could not fit the empty queue."""
    limits = shard_limits(config)
    tokens = min(limits.tokens, int(ceiling(room) / room.factor))
    if room.limit < enqueued_limit(config):  # less than was planned for: smaller shards, as many of them at once
        tokens = min(tokens, default_limits(room.limit, room.threshold, room.factor).tokens)
    return ShardLimits(limits.lines, limits.bytes, max(1, tokens))


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a forecast is made from."""

    snapshot: Snapshot
    load: Load
    ended_s: tuple[float, ...]
    """Service times of the batches that ended, in seconds."""
    measured: Measured
    tokens: int
    """Counted tokens of the lines that are neither sent nor ended."""
    lines: int
    spent_usd: float
    in_flight_usd: float
    """The most that what is in flight may cost."""
    waits_for_user: bool
    """Paused by hand: the forecast counts from `resume`."""
    planned_at: float


def outlook_now(tx: Transaction, config: Config) -> Outlook:
    """The outlook of this moment."""
    snapshot = look(tx, config, None)
    room, loose = snapshot.room, snapshot.loose
    unsent = [(int(tokens), int(lines)) for tokens, lines in tx.run("unsent")]
    loose_tokens, loose_lines = sum(g.tokens for g in loose), sum(g.lines for g in loose)
    measured = measured_now(tx)
    spent, in_flight = tx.one("money")
    until = [p.until for p in snapshot.pauses if p.scope == "all" and p.until is not None]
    load = Load(
        ceiling=_attainable(tx, config, room),
        shards=[(reserved_for(tokens, room), lines) for tokens, lines in unsent],
        flights=[Flight(*row) for row in tx.run("flights", now=tx.now)],
        loose=(reserved_for(loose_tokens, room), loose_lines),
        again=measured.again_share,
        free_in_s=max(0.0, *(at - tx.now for at in [*until, snapshot.outage_until, room.blocked_until])),
    )
    return Outlook(
        snapshot=snapshot,
        load=load,
        ended_s=tuple(float(row[0]) for row in tx.run("service_times")),
        measured=measured,
        tokens=loose_tokens + sum(tokens for tokens, _ in unsent),
        lines=loose_lines + sum(lines for _, lines in unsent),
        spent_usd=float(spent),
        in_flight_usd=float(in_flight),
        waits_for_user=any(p.scope == "all" and p.until is None for p in snapshot.pauses),
        planned_at=float(tx.one("run")[1]),
    )


def keep_prices(tx: Transaction, model: str, prices: Prices | None) -> None:
    """Keeps the prices, so that a look need not load the table of all models: that takes longer than the look."""
    found = {"model": model, "prices": asdict(prices) if prices else None}
    tx.set_fact(PRICES, text=orjson.dumps(found).decode())


def prices_now(tx: Transaction, model: str) -> Prices | None:
    """The prices that were kept, else (another model since) those of today's table."""
    found = orjson.loads(tx.text_fact(PRICES) or "{}")
    if found.get("model") != model:
        return resolve(model)
    kept = found["prices"]
    return Prices(Rates(**kept["batch"]), Rates(**kept["standard"])) if kept else None


def _attainable(tx: Transaction, config: Config, room: Room) -> int:
    """The room that a forecast may count on: where others hold the rest, what was in flight at the last refusal."""
    refused = tx.run("refused_at", model=config.model.name, since=tx.now - REFUSED_FOR_S, now=tx.now)
    most = ceiling(room)
    return min(most, max(int(refused[0][0]), room.reserved)) if refused and refused[0][0] else most


def budget_now(tx: Transaction, config: Config, prices: Prices | None, room: Room) -> Budget:
    """The dollars. Unknown prices are no dollars: with a budget set, the command that acts refuses to start."""
    if prices is None:
        return Budget()
    # Without a bound nobody asks how much is spent, and adding it up reads every attempt there was.
    spent, in_flight = tx.one("money") if config.budget.max_usd > 0 else (0, 0)
    return Budget(
        max_usd=config.budget.max_usd,
        spent_usd=float(spent),
        in_flight_usd=float(in_flight),
        usd_per_input_token=prices.batch.input * room.factor,
        usd_per_line=prices.batch.output * config.model.max_output_tokens,
        usd_per_retry=prices.batch.output * config.retry.more_room,
    )
