"""The look at the state that a decision is made from."""

from collections.abc import Sequence

import orjson

from batcher.catalog.prices import PriceOf, Prices, Rates, resolve
from batcher.config import Config, enqueued_limit, shard_limits
from batcher.core.cutting import default_limits
from batcher.core.lifecycle import INTENTS
from batcher.core.model import JobVersion, ShardLimits
from batcher.core.remote import FILE_LIFE_S
from batcher.core.retry import latest_wait
from batcher.core.room import Budget, Charge, Measured, Room
from batcher.core.snapshot import BatchView, ShardView, Snapshot
from batcher.state import intents, quota_pauses
from batcher.state.db.transaction import Transaction
from batcher.state.versions import load_versions

LEARNED_FOR_S = 24 * 3600.0
"""How long a limit that a refusal named is believed."""
REFUSED_ALONE = 3
"""How often a shard is refused for the limit, with nothing of ours in flight before it, until it is halved."""
PIECES_AT_MOST = 32
"""A shard is halved no further than to this part of the limit: where others leave less there is no room, and cutting
on would end in shards of single lines."""
HOUR_S = 3600.0
PRICES = "prices"
"""The facts that hold the prices that the last command to plan or act has found, one for each model."""


def look(tx: Transaction, config: Config, price_of: PriceOf) -> Snapshot:
    """The snapshot of this moment."""
    latest = latest_wait_now(tx, config)
    shards, batches, loose = intents.views(tx, latest)
    room = room_now(tx, config)
    pauses = quota_pauses.pauses(tx, latest)
    return Snapshot(
        room=room,
        shards=shards,
        batches=batches,
        loose=loose,
        pauses=pauses,
        budget=budget_now(tx, config, price_of, room)._replace(frees=_frees(tx, config, shards, batches)),
        shard_limits=limits_now(config, room),
        polled_at=tx.fact("polled_at"),
        poll_interval_s=config.poll.interval_s,
        outage_until=_outage_until(tx, latest),
        created_last_hour=int(tx.one("created_since", since=tx.now - HOUR_S, now=tx.now)[0]),
        unread=len(tx.run("unread_due", now=tx.now, since=tx.now - FILE_LIFE_S)),
        files_due=int(tx.one("count_files_due", now=tx.now)[0]),
        lapsed_ceiling=lapsed_ceiling(tx, config),
        probing=any(p.reason == "quota" and p.until is not None and p.until <= tx.now for p in pauses),
        probe_since=max((p.until or 0.0 for p in pauses if p.reason == "quota"), default=0.0),
        cancelled=frozenset(int(row[0]) for row in tx.run("open_wishes")),
        stopped=tx.text_fact("stopped"),
    )


def _frees(tx: Transaction, config: Config, shards: Sequence[ShardView], batches: Sequence[BatchView]) -> bool:
    """Whether anything runs whose end may free money. Without a bound nobody asks."""
    if config.budget.max_usd <= 0 or batches or any(shard.state in INTENTS for shard in shards):
        return True
    return bool(tx.one("calls_running", since=tx.now - HOUR_S)[0])


def latest_wait_now(tx: Transaction, config: Config) -> float:
    """The latest time that a wait or a pause may have, by these settings."""
    return latest_wait(config.retry.rules(), config.pause.duration_hours * HOUR_S, tx.now)


def _outage_until(tx: Transaction, latest: float) -> float:
    return max(_until(tx, name, latest) for name in ("outage_until", "asked_until"))


def _until(tx: Transaction, name: str, latest: float) -> float:
    until = tx.fact(name)
    return until if until <= latest else 0.0


def room_now(tx: Transaction, config: Config, measured: Measured | None = None) -> Room:
    """The limit in force (what the service last said within a day, else the settings) and what we hold of it.

    measured: what the settled batches teach, where it was asked already.
    """
    named, half = tx.one(
        "learned", model=config.model.name, since=tx.now - LEARNED_FOR_S, now=tx.now, often=REFUSED_ALONE
    )
    limit = int(named) if named is not None else enqueued_limit(config)
    factor = (measured or measured_now(tx)).ratio * (1 + config.limits.margin)
    latest = latest_wait_now(tx, config)
    least = int(limit * config.limits.threshold / factor) // PIECES_AT_MOST
    return Room(
        limit=limit,
        threshold=config.limits.threshold,
        factor=factor,
        largest=None if half is None else max(1, least, int(half)),
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
    tokens = min(limits.tokens, int(room.ceiling / room.factor), room.largest or limits.tokens)
    if room.limit < enqueued_limit(config):  # less than was planned for: smaller shards, as many of them at once
        tokens = min(tokens, default_limits(room.limit, room.threshold, room.factor).tokens)
    return ShardLimits(limits.lines, limits.bytes, max(1, tokens))


def keep_prices(tx: Transaction, model: str, prices: Prices | None) -> None:
    """Keeps the prices, so that a look need not load the table of all models: that takes longer than the look."""
    kept = {lane: rates._asdict() for lane, rates in prices._asdict().items()} if prices else None
    tx.set_fact(f"{PRICES} {model}", text=orjson.dumps(kept).decode())


def prices_now(tx: Transaction, model: str) -> Prices | None:
    """The prices that were kept, else (of another model) those of today's table."""
    kept = tx.text_fact(f"{PRICES} {model}")
    if not kept:
        return resolve(model)
    found = orjson.loads(kept)
    return Prices(Rates(**found["batch"]), Rates(**found["standard"])) if found else None


def budget_now(tx: Transaction, config: Config, price_of: PriceOf, room: Room) -> Budget:
    """The dollars. A line costs what the version that it was planned with says, whatever the settings are now."""
    spent, in_flight = _spent(tx, config)
    return Budget(
        max_usd=config.budget.max_usd,
        spent_usd=spent,
        in_flight_usd=in_flight,
        charges={
            number: charge_of(version, prices, room)
            for number, version in load_versions(tx).items()
            if (prices := price_of(version.model)) is not None
        },
    )


def charge_of(version: JobVersion, prices: Prices, room: Room) -> Charge:
    """What lines of a version cost at most."""
    return Charge(prices.batch.input * room.factor, prices.batch.output * version.max_output_tokens)


def _spent(tx: Transaction, config: Config) -> tuple[float, float]:
    """Dollars spent and in flight. Without a bound nobody asks, and adding them up reads every attempt there was."""
    spent, in_flight = tx.one("money") if config.budget.max_usd > 0 else (0, 0)
    return float(spent), float(in_flight)
