"""Reading the state as a decision sees it."""

import math
from collections.abc import Collection
from typing import NamedTuple

from batcher.catalog.prices import ModelPrices, PriceOf, resolve_prices
from batcher.config.derived import enqueued_token_limit, shard_limits
from batcher.config.sections import Config
from batcher.core.brake import (
    NO_PROMPTS,
    AnswerReason,
    Braked,
    BrakeRule,
    JudgedAnswers,
    Prompts,
    PromptView,
    bound_first_wave,
    decide_brake,
)
from batcher.core.cutting import default_shard_limits
from batcher.core.lifecycle import ShardState
from batcher.core.model import JobVersion, ShardLimits
from batcher.core.retry import latest_wait_time
from batcher.core.room import Budget, Charge, MeasuredUsage, Room
from batcher.core.snapshot import BatchView, LooseLines, SendGate, ShardView, Snapshot
from batcher.state import facts, quota_pauses, remote_files
from batcher.state.batches import load_unread_batches
from batcher.state.costs import load_budget_spending
from batcher.state.db.transaction import Transaction
from batcher.state.shards import load_open_wishes
from batcher.state.strays import load_unproven_creates
from batcher.state.versions import load_open_lines, load_versions

LEARNED_FOR_S = 24 * 3600.0
"""How long (seconds) a limit that a refusal named is believed."""
REFUSED_ALONE = 3
"""Refusals of a shard for the limit, with nothing of ours in flight before it, after which it is halved."""
PIECES_AT_MOST = 32
"""The smallest part of the limit to which a shard is halved is one in this many.

Where others leave less than that there is no room, and halving further would end in shards of single lines.
"""
HOUR_S = 3600.0
NEWEST_WINDOWS = 40
"""The newest executions of the job among which the judged answers of a prompt are looked for, in windows of the brake:
20,000 at the default window. A prompt of which none is among them is as one of which nothing was judged yet."""


class ActiveWork(NamedTuple):
    """What is under way: shards, batches that are not settled, and lines that belong to no shard."""

    shards: tuple[ShardView, ...]
    batches: tuple[BatchView, ...]
    loose: tuple[LooseLines, ...]


def load_snapshot(tx: Transaction, config: Config, price_of: PriceOf) -> Snapshot:
    """Return the snapshot of this moment."""
    latest = latest_valid_wait(tx, config)
    work = load_active_work(tx, latest)
    room = load_room(tx, config)
    gate = load_send_gate(tx, config, {s.version for s in work.shards} | {g.version for g in work.loose})
    quota_pauses_open = [p for p in gate.pauses if p.reason == "quota"]
    return Snapshot(
        room=room,
        shards=work.shards,
        batches=work.batches,
        loose=work.loose,
        pauses=gate.pauses,
        budget=load_budget(tx, config, price_of, room)._replace(frees=can_free_budget(tx, config.budget.max_usd)),
        shard_limits=current_shard_limits(config, room),
        polled_at=facts.read_poll_time(tx),
        poll_interval_s=config.poll.interval_s,
        outage_until=gate.outage_until,
        created_last_hour=int(tx.fetch_one("created_since", since=tx.now - HOUR_S, now=tx.now)[0]),
        unread=len(load_unread_batches(tx)) + load_unproven_creates(tx).creates,
        files_due=remote_files.count_due_files(tx),
        lapsed_ceiling=load_lapsed_ceiling(tx, config),
        probing=any(p.until is not None and p.until <= tx.now for p in quota_pauses_open),
        probe_since=max((p.until or 0.0 for p in quota_pauses_open), default=0.0),
        cancelled=gate.cancelled,
        stopped=gate.stopped,
        prompts=gate.prompts,
    )


def load_send_gate(tx: Transaction, config: Config, versions: Collection[int] = ()) -> SendGate:
    """Return what keeps shards of any size from being sent at this moment. versions: those of the shards."""
    latest = latest_valid_wait(tx, config)
    return SendGate(
        pauses=quota_pauses.load_open_pauses(tx, latest),
        outage_until=read_outage_until(tx, latest),
        blocked_until=_read_blocked_until(tx, latest),
        stopped=facts.read_stop_reason(tx),
        cancelled=frozenset(load_open_wishes(tx)),
        prompts=load_prompts(tx, config, versions),
    )


def load_user_gate(tx: Transaction, config: Config, version: int) -> SendGate:
    """Return the part of the gate that is checked right before a create: pauses, cancelled shards and the prompt.

    version: that of the shard.
    """
    return SendGate(
        pauses=quota_pauses.load_open_pauses(tx, latest_valid_wait(tx, config)),
        cancelled=frozenset(load_open_wishes(tx)),
        prompts=load_prompts(tx, config, [version]),
    )


class _PromptLines(NamedTuple):
    """The lines of a prompt, those that are under way, those of a pilot that is not settled, and executions.

    unanswered: those that were recorded since the user last went on; read where none of them was judged.
    """

    lines: int = 0
    in_flight: int = 0
    pilot: int = 0
    unanswered: int = 0


class _JudgedPrompt(NamedTuple):
    """A prompt, whether an answer to it was judged, and those answers that count for the brake.

    After `resume` only an answer that counts makes it a judged one: else all of it went out before the brake could trip
    again.
    """

    prompt: int
    is_judged: bool = False
    judged: JudgedAnswers = JudgedAnswers()


def load_prompts(tx: Transaction, config: Config, versions: Collection[int]) -> Prompts:
    """Return what the answers so far say about sending more of these versions of the job."""
    rule = _read_brake_rule(config)
    if not versions or (rule.max_unusable >= 1 and rule.first_wave >= 1):
        return NO_PROMPTS
    of_version = _load_judged_prompts(tx, rule)
    found = {version: of_version[version] for version in versions}
    lines: dict[int, _PromptLines] = {}
    if rule.first_wave < 1 and not all(each.is_judged for each in found.values()):
        passed = facts.read_brake_resumed(tx)
        lines = {int(row[0]): _PromptLines(*row[1:]) for row in tx.fetch_all("prompt_lines", passed=passed)}
    return {
        version: PromptView(
            each.prompt,
            decide_brake(rule, each.prompt, each.judged),
            bound_first_wave(rule, of_prompt.lines, each.is_judged, of_prompt.pilot, of_prompt.unanswered),
            of_prompt.in_flight,
        )
        for version, each in found.items()
        for of_prompt in (lines.get(each.prompt, _PromptLines()),)
    }


def _load_judged_prompts(tx: Transaction, rule: BrakeRule) -> dict[int, _JudgedPrompt]:
    """Return the prompt of every version with its newest judged answers."""
    found: dict[int, _JudgedPrompt] = {}
    passed, newest = facts.read_brake_resumed(tx), NEWEST_WINDOWS * rule.window
    rows = tx.fetch_all("judged_answers", passed=passed, newest=newest, window=rule.window)
    for version, prompt, is_past, outcome, code, answers in rows:
        each = found.get(version, _JudgedPrompt(prompt))
        if outcome is not None and not (is_past and passed):
            each = each._replace(is_judged=True)
        judged = each.judged
        if outcome == "bio" and not is_past:
            judged = judged._replace(bios=answers)
        elif outcome is not None and not is_past:
            judged = judged._replace(reasons=(*judged.reasons, AnswerReason(code, answers)))
        found[version] = each._replace(judged=judged)
    return found


def load_braked(tx: Transaction, config: Config) -> dict[int, Braked]:
    """Return the versions of the job of which the brake keeps all lines back, with its verdict."""
    rule = _read_brake_rule(config)
    if rule.max_unusable >= 1:
        return {}
    verdicts = {
        version: decide_brake(rule, each.prompt, each.judged)
        for version, each in _load_judged_prompts(tx, rule).items()
    }
    return {version: braked for version, braked in verdicts.items() if braked}


def load_open_brakes(tx: Transaction, config: Config) -> list[Braked]:
    """Return the verdicts by which lines wait that would be sent otherwise, one for each prompt."""
    verdicts = load_braked(tx, config)
    waiting = {part.version for part in load_open_lines(tx)} if verdicts else set()
    found = {verdict.prompt: verdict for version, verdict in verdicts.items() if version in waiting}
    return [found[prompt] for prompt in sorted(found)]


def _read_brake_rule(config: Config) -> BrakeRule:
    return BrakeRule(config.brake.max_unusable, config.brake.window, config.brake.first_wave)


def release_brake(tx: Transaction) -> None:
    """Have the answers that were recorded so far count no more for the brake."""
    facts.record_brake_resumed(tx, int(tx.fetch_one("count_attempts")[0]))


def can_free_budget(tx: Transaction, max_usd: float) -> bool:
    """Return whether anything runs whose end may free money; True where no bound is set, as it is not needed then."""
    return max_usd <= 0 or bool(tx.fetch_one("runs_anything", since=tx.now - HOUR_S)[0])


def latest_valid_wait(tx: Transaction, config: Config) -> float:
    """Return the latest time (epoch seconds) that a wait or a pause may have, by these settings."""
    return latest_wait_time(config.retry.to_rules(), config.pause.duration_hours * HOUR_S, tx.now)


def read_outage_until(tx: Transaction, latest: float) -> float:
    """Return the time (epoch seconds) before which no call is made: an outage, or a Retry-After; 0: none."""
    return max(facts.read_wait(tx, wait, latest) for wait in (facts.WaitFact.OUTAGE, facts.WaitFact.ASKED))


def _read_blocked_until(tx: Transaction, latest: float) -> float:
    return max(facts.read_wait(tx, wait, latest) for wait in (facts.WaitFact.ROOM, facts.WaitFact.RATE))


def load_room(tx: Transaction, config: Config, measured: MeasuredUsage | None = None) -> Room:
    """Return the limit in force and what we hold of it.

    That is what the service last said within a day, else the user's setting, else what it names to an admin key, else
    that of the table.

    measured: what the settled batches show, where the caller has loaded it already.
    """
    named, half = tx.fetch_one(
        "learned", model=config.model.name, since=tx.now - LEARNED_FOR_S, now=tx.now, often=REFUSED_ALONE
    )
    hint = facts.read_limit_hint(tx, config.model.name)
    limit = int(named) if named is not None else enqueued_token_limit(config, hint)
    factor = (measured or load_measured(tx)).token_ratio * (1 + config.limits.margin)
    least = int(limit * config.limits.threshold / factor) // PIECES_AT_MOST
    return Room(
        limit=limit,
        threshold=config.limits.threshold,
        factor=factor,
        largest=None if half is None else max(1, least, int(half)),
        reserved=int(tx.fetch_one("reserved", factor=factor)[0]),
        blocked_until=_read_blocked_until(tx, latest_valid_wait(tx, config)),
    )


def load_measured(tx: Transaction) -> MeasuredUsage:
    """Return what the settled batches show."""
    return MeasuredUsage(*tx.fetch_one("measured"))


def load_lapsed_ceiling(tx: Transaction, config: Config) -> int | None:
    """Return what a limit that was named over a day ago allowed, while no shard has passed it since.

    None where a shard has, or where the settings allow no more.
    """
    named = tx.fetch_all("newest_limit", model=config.model.name, now=tx.now)
    if not named:
        return None
    ((limit, named_at),) = named
    lapses_at = float(named_at) + LEARNED_FOR_S
    ceiling_then = int(limit * config.limits.threshold)
    hint = facts.read_limit_hint(tx, config.model.name)
    if tx.now < lapses_at or limit >= enqueued_token_limit(config, hint):
        return None
    passed = tx.fetch_one("ceiling_passed", since=lapses_at, ceiling=ceiling_then)[0]
    return None if passed else ceiling_then


def current_shard_limits(config: Config, room: Room) -> ShardLimits:
    """Return the size of shards that are cut now: never one that could not fit the empty queue."""
    limits = shard_limits(config)
    tokens = min(limits.tokens, int(room.ceiling / room.factor), room.largest or limits.tokens)
    if room.limit < enqueued_token_limit(config):  # less than was planned for: smaller shards, as many of them at once
        tokens = min(tokens, default_shard_limits(room.limit, room.threshold, room.factor).tokens)
    return ShardLimits(limits.lines, limits.bytes, max(1, tokens))


def load_saved_prices(tx: Transaction, model: str) -> ModelPrices | None:
    """Return the prices that were saved; of another model those of today's table. None where they are unknown."""
    try:
        return facts.load_prices(tx, model)
    except KeyError:
        return resolve_prices(model)


def load_budget(tx: Transaction, config: Config, price_of: PriceOf, room: Room) -> Budget:
    """Return the dollars. A line costs what the version that it was planned with says, not today's settings."""
    spending = load_budget_spending(tx, config.budget.max_usd, room.factor)
    return Budget(
        max_usd=config.budget.max_usd,
        spent_usd=spending.spent_usd,
        in_flight_usd=spending.in_flight_usd,
        charges={
            number: compute_charge(version, prices, room)
            for number, version in load_versions(tx).items()
            if (prices := price_of(version.model)) is not None
        },
    )


def compute_charge(version: JobVersion, prices: ModelPrices, room: Room) -> Charge:
    """Return the most dollars that lines of a version cost."""
    rates = prices.for_cache(version.cache).batch
    return Charge(
        rates.dearest_input * room.factor,
        rates.output * version.max_output_tokens,
        rates.long_from / room.factor if rates.long_from else math.inf,
        rates.long_input,
        rates.long_output,
    )


def load_active_work(tx: Transaction, latest: float) -> ActiveWork:
    """Return what is under way.

    latest: a time to wait for that is later was written by a clock that was ahead, and counts as past.
    """
    views = (ShardView(*row) for row in tx.fetch_all("active_shards", latest=latest))
    return ActiveWork(
        shards=tuple(view._replace(state=ShardState(view.state)) for view in views),
        batches=tuple(BatchView(*row) for row in tx.fetch_all("open_batches", now=tx.now, latest=latest)),
        loose=load_loose_lines(tx, latest),
    )


def load_loose_lines(tx: Transaction, latest: float) -> tuple[LooseLines, ...]:
    """Return the lines that belong to no shard, counted. latest: as for `load_active_work`."""
    return tuple(LooseLines(*row) for row in tx.fetch_all("loose_lines", now=tx.now, latest=latest))
