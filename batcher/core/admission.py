"""How much may be in flight, and which shard comes next.

The reserved tokens never pass limit x threshold (promise 3). Room is kept for the most urgent ready shard:
none overtakes it unless it cannot fit the empty queue, or beside what others hold, and then it is split (promise 4).

Whether a shard may be sent is decided here and nowhere else, from values that are read at three moments: by the
decision, in the transaction that writes the intent to send, and right before the batch is created.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from batcher.core.actions import Admission, Hold, Refuse, Send, Split
from batcher.core.brake import NO_PROMPTS, Prompts, find_prompt_obstacle
from batcher.core.lifecycle import SENDABLE_STATES
from batcher.core.room import Budget, Room
from batcher.core.snapshot import LooseLines, SendGate, ShardView
from batcher.errors import count_usd_digits, format_usd

BATCHES_PER_HOUR = 2_000
"""Batch creation rate limit (OpenAI, guides/batch, 2026-07)."""

NO_ANSWER = "the service does not answer"
NO_ROOM = "the service has no room for more"
UNPRICED = "its price is not known, and a budget is set; set [budget] max_usd to 0 to go on without a bound"


def find_send_obstacle(
    gate: SendGate,
    shard: ShardView,
    now: float,
    *,
    reserved: int = 0,
    room: Room | None = None,
    budget: Budget | None = None,
) -> str:
    """Return "" where a shard may be sent now, else what keeps it back, in words.

    reserved: the tokens that it would reserve. room, budget: None where its tokens and dollars are reserved already.

    The decision, the transaction of the intent and the check before the create do not check all of the same:

    - The decision goes by the parts of this function (`find_gate_obstacle`, `find_prompt_obstacle`,
      `find_room_obstacle`, `find_budget_obstacle`). It alone splits shards, and checks the time until which a shard
      waits, the batches of the last hour, and the probe after a quota pause or past a lapsed limit. Waits and creates
      are changed only by the process that decides, and the decision counts the batches that it admits. A quota
      pause that begins and ends before the intent makes the next decision probe. Cancelled shards were withdrawn before
      it sends anything.
    - The intent is written after earlier shards of the same decision were sent, and while other commands write. They
      may have paused, cancelled, stopped, cut the shard again or used the budget; and where an earlier shard was
      refused, none may overtake it. So everything is checked again, cancelled shards as well, with the values of that
      very transaction.
    - Before the create the submission has reserved its tokens and dollars, and counting them twice would keep it back.
      Only pauses, cancelled shards and the prompt are checked: the upload takes its time, and the user, a quota failure
      or answers that the other lane has judged may have stopped the sending meanwhile. A stop that the direct lane has
      recorded meanwhile does not keep an uploaded shard back: the create shows whether the service refuses this lane
      too.
    """
    if shard.state not in SENDABLE_STATES:
        return f"it is {shard.state}"
    if shard.shard in gate.cancelled:
        return "it is to be cancelled"
    obstacle = find_gate_obstacle(gate, now) or find_prompt_obstacle(gate.prompts.get(shard.version), shard.lines)
    if not obstacle and room is not None:
        obstacle = find_room_obstacle(reserved, room.headroom)
    if not obstacle and budget is not None:
        obstacle = find_budget_obstacle(shard, budget, remaining_budget(budget))
    return obstacle


def find_gate_obstacle(gate: SendGate, now: float) -> str:
    """Return what keeps every shard from being sent now, in words; "" where nothing does."""
    if gate.stopped:
        return gate.stopped
    if gate.outage_until > now:
        return NO_ANSWER
    for pause in gate.pauses:
        if pause.scope == "all" and pause.is_active(now):
            return f"paused: {pause.reason}"
    return NO_ROOM if gate.blocked_until > now else ""


def find_room_obstacle(reserved: int, free: int) -> str:
    """Return why a shard that reserves these tokens does not fit into the free ones; "" where it does."""
    return f"needs {reserved:,} tokens, {max(free, 0):,} are free" if reserved > free else ""


def find_budget_obstacle(shard: ShardView, budget: Budget, left_usd: float) -> str:
    """Return why a shard may cost more than the dollars that are left of the budget; "" where it may not."""
    cost = max_shard_cost(shard, budget)
    if cost is None:
        return UNPRICED if budget.max_usd > 0 else ""
    if cost <= left_usd:
        return ""
    left, enough = max(left_usd, 0.0), budget.max_usd - left_usd + cost
    return (
        f"may cost {format_usd(cost)}; {format_usd(left)} of the budget of {format_usd(budget.max_usd)} is left; "
        f"raise [budget] max_usd to at least {format_usd(_round_up(enough))}"
    )


def _round_up(amount: float) -> float:
    """Return the least amount of dollars that is as much, of those that `format_usd` shows with all their digits."""
    scale = 10.0 ** count_usd_digits(amount)
    return math.ceil(round(amount * scale, 6)) / scale


def max_shard_cost(shard: ShardView, budget: Budget) -> float | None:
    """Return the most dollars that a shard may cost; None where its price is not known.

    That is its input, written to the cache where that costs more, and `max_output_tokens` for each line.
    """
    charge = budget.charges.get(shard.version)
    return None if charge is None else charge.most_usd(shard.tokens, shard.lines, shard.longest)


def admit_shards(
    queue: Iterable[ShardView],
    room: Room,
    budget: Budget,
    most: int = BATCHES_PER_HOUR,
    prompts: Prompts = NO_PROMPTS,
) -> list[Admission]:
    """Decide what to do with the ready shards, most urgent first, up to the first that must wait for room or money.

    A shard that its prompt keeps back waits for no room: those of other prompts overtake it, and it is reported last.
    queue: shards that are released and due, in any order; most: batches that may be created now.
    """
    decided: list[Admission] = []
    free, left_usd = room.headroom, remaining_budget(budget)
    sent, kept_back = Counter[int](), list[Hold]()
    for shard in sorted(queue, key=lambda s: (s.priority, s.shard)):
        view = prompts.get(shard.version)
        if obstacle := find_prompt_obstacle(view, shard.lines, sent[view.prompt] if view else 0):
            kept_back.append(Hold(shard.shard, obstacle))
            continue
        step = _admit_shard(shard, room, budget, free, left_usd)
        if isinstance(step, Send) and len(decided) >= most:
            step = Hold(shard.shard, f"{BATCHES_PER_HOUR:,} batches were created within the hour")
        decided.append(step)
        if not isinstance(step, Send):
            return decided
        free = step.headroom_after
        left_usd -= max_shard_cost(shard, budget) or 0.0
        if view:
            sent[view.prompt] += shard.lines
    return [*decided, *kept_back[:1]]


def find_lasting_refusal(
    queue: Sequence[ShardView],
    loose: Iterable[LooseLines],
    room: Room,
    budget: Budget,
    prompts: Prompts = NO_PROMPTS,
    *,
    now: float,
) -> Refuse | None:
    """Return the refusal that keeps everything back until a person acts; None where something may yet be sent.

    What is in flight may free all that it holds, and what goes before the refused shard may go out: neither is refused.
    queue: all shards that are released and not sent, in any order; loose: the lines that belong to no shard.
    """
    freed = budget._replace(in_flight_usd=0.0) if budget.frees else budget
    due = [shard for shard in queue if shard.wait_until <= now]
    refusal = _find_first_refusal(due, room, freed, prompts)
    # A shard that still waits to be sent again, or failed lines, may be more urgent than the refused shard.
    if refusal is None or _find_first_refusal(queue, room, freed, prompts) is None:
        return None
    priority = next(shard.priority for shard in due if shard.shard == refusal.shard)
    if any(group.priority < priority for group in loose):
        return None
    held = admit_shards(due, room, budget, prompts=prompts)[0]  # its words count what is in flight
    return replace(refusal, reason=held.reason) if isinstance(held, Hold) else refusal


def _find_first_refusal(queue: Sequence[ShardView], room: Room, budget: Budget, prompts: Prompts) -> Refuse | None:
    """Return the refusal of the shard that comes next; None where it is not refused."""
    decided = admit_shards(queue, room, budget, prompts=prompts)
    return decided[0] if decided and isinstance(decided[0], Refuse) else None


def remaining_budget(budget: Budget) -> float:
    """Return the dollars of the budget that are neither spent nor in flight; infinite where no bound is set."""
    if budget.max_usd <= 0:
        return math.inf
    return budget.max_usd - budget.spent_usd - budget.in_flight_usd


def _admit_shard(shard: ShardView, room: Room, budget: Budget, free: int, left_usd: float) -> Admission:
    own = room.reserved_tokens(shard.tokens)
    if own > room.ceiling:
        if shard.lines > 1:
            return Split(shard.shard, max(1, int(room.ceiling / room.factor)))
        return Refuse(
            shard.shard,
            f"cannot be sent: one line of {shard.tokens:,} tokens is over the limit of {room.ceiling:,}",
            "the enqueued-token limit is raised",
        )
    if room.largest is not None and shard.tokens > room.largest and shard.lines > 1:
        return Split(shard.shard, room.largest)
    if too_dear := find_budget_obstacle(shard, budget, left_usd):
        return _keep_back(shard, too_dear, budget)
    if too_large := find_room_obstacle(own, free):
        return Hold(shard.shard, too_large)
    return Send(shard.shard, own, free - own)


def _keep_back(shard: ShardView, too_dear: str, budget: Budget) -> Hold | Refuse:
    """Return a wait for the dollars in flight where their end may free some, else the refusal."""
    if max_shard_cost(shard, budget) is None:
        return Refuse(shard.shard, too_dear, "[budget] max_usd is 0")
    if budget.in_flight_usd > 0 and budget.frees:
        return Hold(shard.shard, too_dear)
    return Refuse(shard.shard, too_dear, "the budget is raised")
