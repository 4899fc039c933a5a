"""The look at the state that a decision is made from."""

from batcher.admission import ceiling
from batcher.config import Config, enqueued_limit, shard_limits
from batcher.model import Budget, Room, ShardLimits, Snapshot
from batcher.prices import Prices
from batcher.store import Transaction, acting

LEARNED_FOR_S = 24 * 3600.0
"""How long a limit that a refusal named is believed."""
HOUR_S = 3600.0


def look(tx: Transaction, config: Config, prices: Prices | None) -> Snapshot:
    """The snapshot of this moment."""
    shards, batches, loose = acting.views(tx)
    room = room_now(tx, config)
    pauses = acting.pauses(tx)
    return Snapshot(
        room=room,
        shards=shards,
        batches=batches,
        loose=loose,
        pauses=pauses,
        budget=budget_now(tx, config, prices),
        shard_limits=limits_now(config, room),
        polled_at=tx.fact("polled_at"),
        poll_interval_s=config.poll.interval_s,
        outage_until=max(tx.fact("outage_until"), tx.fact("asked_until")),
        created_last_hour=int(tx.one("created_since", since=tx.now - HOUR_S)[0]),
        files_due=int(tx.one("count_files_due", now=tx.now)[0]),
        lapsed_ceiling=lapsed_ceiling(tx, config),
        probing=any(p.reason == "quota" and p.until is not None and p.until <= tx.now for p in pauses),
        cancelled=frozenset(int(row[0]) for row in tx.run("open_wishes")),
        stopped=tx.text_fact("stopped"),
    )


def room_now(tx: Transaction, config: Config) -> Room:
    """The limit in force (what the service last said within a day, else the settings) and what we hold of it."""
    learned = tx.run("learned_limit", model=config.model.name, since=tx.now - LEARNED_FOR_S)
    limit = int(learned[0][0]) if learned else enqueued_limit(config)
    return Room(
        limit=limit,
        threshold=config.limits.threshold,
        factor=1 + config.limits.margin,
        reserved=int(tx.one("reserved")[0]),
        blocked_until=max(tx.fact("blocked_until"), tx.fact("send_after")),
    )


def lapsed_ceiling(tx: Transaction, config: Config) -> int | None:
    """What a limit that was named over a day ago allowed, while no shard has passed it since; None where that is over,
    or where the settings give no more."""
    named = tx.run("newest_limit", model=config.model.name)
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
    return ShardLimits(limits.lines, limits.bytes, max(1, min(limits.tokens, int(ceiling(room) / room.factor))))


def budget_now(tx: Transaction, config: Config, prices: Prices | None) -> Budget:
    """The dollars, where a budget is set. Unknown prices with a budget are refused when the command starts."""
    if config.budget.max_usd <= 0 or prices is None:
        return Budget()
    spent, in_flight = tx.one("money")
    return Budget(
        max_usd=config.budget.max_usd,
        spent_usd=float(spent),
        in_flight_usd=float(in_flight),
        usd_per_input_token=prices.batch.input * (1 + config.limits.margin),
        usd_per_line=prices.batch.output * config.model.max_output_tokens,
    )
