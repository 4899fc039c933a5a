"""The look at the state that a decision is made from."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import orjson

from batcher.catalog.prices import PriceOf, Prices, Rates, resolve
from batcher.config import Config, enqueued_limit, shard_limits
from batcher.core.forecast import Flight, Load
from batcher.core.lifecycle import INTENTS
from batcher.core.model import (
    FILE_LIFE_S,
    BatchView,
    Budget,
    Charge,
    JobVersion,
    LooseLines,
    Measured,
    Pause,
    Room,
    ShardLimits,
    ShardView,
    Snapshot,
)
from batcher.core.rendering import default_limits
from batcher.core.retry import latest_wait
from batcher.core.workers import LINES_PER_WORKER_S
from batcher.errors import ConfigError
from batcher.state import intents
from batcher.state.db.transaction import Transaction
from batcher.state.plan import load_versions

LEARNED_FOR_S = 24 * 3600.0
"""How long a limit that a refusal named is believed."""
REFUSED_ALONE = 3
"""How often a shard is refused for the limit, with nothing of ours in flight before it, until it is halved."""
PIECES_AT_MOST = 32
"""A shard is halved no further than to this part of the limit: where others leave less there is no room, and cutting
on would end in shards of single lines."""
HOUR_S = 3600.0
REFUSED_FOR_S = 2 * 3600.0
"""How long a refusal tells how much room others leave, for the forecast."""
PRICES = "prices"
"""The facts that hold the prices that the last command to plan or act has found, one for each model."""


def look(tx: Transaction, config: Config, price_of: PriceOf) -> Snapshot:
    """The snapshot of this moment."""
    latest = latest_wait_now(tx, config)
    shards, batches, loose = intents.views(tx, latest)
    room = room_now(tx, config)
    pauses = intents.pauses(tx, latest)
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


class OpenLines(NamedTuple):
    """The lines of one job version that are neither sent nor ended, and their counted tokens."""

    version: JobVersion
    lines: int
    tokens: int


class Outlook(NamedTuple):
    """What a forecast is made from."""

    room: Room
    load: Load
    ended_s: tuple[float, ...]
    """Service times of the batches that ended, in seconds."""
    measured: Measured
    open: Sequence[OpenLines]
    spent_usd: float
    in_flight_usd: float
    """The most that what is in flight may cost; both are 0 without a bound."""
    waits_for_user: bool
    """Paused by hand: the forecast counts from `resume`."""
    planned_at: float
    versions: Mapping[int, JobVersion] = MappingProxyType({})
    pauses: Sequence[Pause] = ()
    outage_until: float = 0.0
    direct_until: float = 0.0
    """The direct lane makes no calls before this time."""
    per_worker_s: float = LINES_PER_WORKER_S
    """Lines that one worker of the direct lane does in a second: as measured here, else assumed."""

    @property
    def lines(self) -> int:
        """The lines that are neither sent nor ended."""
        return sum(part.lines for part in self.open)

    @property
    def tokens(self) -> int:
        """Their counted tokens."""
        return sum(part.tokens for part in self.open)


def outlook_now(tx: Transaction, config: Config) -> Outlook:
    """The outlook of this moment. It asks for less than `look`: nothing is decided from it."""
    latest = latest_wait_now(tx, config)
    measured = measured_now(tx)._replace(paid_again=int(tx.one("paid_again")[0]))
    room, pauses = room_now(tx, config, measured), intents.pauses(tx, latest)
    outage_until = _outage_until(tx, latest)
    until = [p.until for p in pauses if p.scope == "all" and p.until is not None]
    versions = load_versions(tx)
    spent, in_flight = _spent(tx, config)
    return Outlook(
        room=room,
        load=Load(
            ceiling=_attainable(tx, config, room),
            shards=[(room.reserved_for(int(tokens)), int(lines)) for tokens, lines in tx.run("unsent")],
            flights=[Flight(*row) for row in tx.run("flights", now=tx.now)],
            loose=_loose(intents.loose_lines(tx, latest), room),
            again=measured.again_share,
            free_in_s=max(0.0, *(at - tx.now for at in [*until, outage_until, room.blocked_until])),
        ),
        ended_s=tuple(float(row[0]) for row in tx.run("service_times")),
        measured=measured,
        open=[OpenLines(versions[number], *rest) for number, *rest in tx.run("open_by_version")],
        spent_usd=spent,
        in_flight_usd=in_flight,
        waits_for_user=any(p.scope == "all" and p.until is None for p in pauses),
        planned_at=float(tx.one("run")[1]),
        versions=versions,
        pauses=pauses,
        outage_until=outage_until,
        direct_until=_until(tx, "direct_until", latest),
        per_worker_s=tx.fact("direct_per_worker_s") or LINES_PER_WORKER_S,
    )


def _loose(groups: Sequence[LooseLines], room: Room) -> tuple[int, int]:
    """Their reserved tokens, and the lines."""
    return room.reserved_for(sum(g.tokens for g in groups)), sum(g.lines for g in groups)


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


def _attainable(tx: Transaction, config: Config, room: Room) -> int:
    """The room that a forecast may count on: where others hold the rest, what was in flight at the last refusal."""
    refused = tx.run("refused_at", model=config.model.name, since=tx.now - REFUSED_FOR_S, now=tx.now)
    most = room.ceiling
    return min(most, max(int(refused[0][0]), room.reserved)) if refused and refused[0][0] else most


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


def check_unsent(tx: Transaction, config: Config, price_of: PriceOf) -> None:
    """Raises ConfigError where what waits to be sent was planned for another model than today's (its limit and its
    price are others), or has no known price while a budget is set."""
    versions, today = load_versions(tx), config.model.name
    for number, lines, shards in tx.run("unsent_by_version"):
        model = versions[number].model
        if model != today:
            raise ConfigError(
                f"{lines:,} unsent lines in {shards} shards are planned for {model}, and [model] name is {today}; "
                "`batcher plan --replan` cuts them again (what was submitted stays as it is)"
            )
    for model in {today, *(versions[number].model for number, _, _ in tx.run("open_by_version"))}:
        check_price(config, model, price_of)


def check_price(config: Config, model: str, price_of: PriceOf) -> None:
    """Raises ConfigError where a budget is set and the model's price is not known."""
    if config.budget.max_usd > 0 and price_of(model) is None:
        raise ConfigError(
            f"[budget] max_usd is set, but the price of {model} is not known; set it to 0 to go on without a bound"
        )
