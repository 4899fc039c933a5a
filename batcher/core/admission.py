"""How much may be in flight, and which shard comes next.

The reserved tokens never pass limit x threshold (promise 3). Room is kept for the most urgent ready shard:
none overtakes it unless it cannot fit the empty queue, or beside what others hold, and then it is split (promise 4).

Whether a shard may be sent is decided here and nowhere else, from values that are read at three moments: by the
decision, in the transaction that writes the intent to send, and right before the batch is created.
"""

import math
from collections import Counter
from collections.abc import Iterable

from batcher.core.actions import Admission, Hold, Refuse, Send, Split
from batcher.core.brake import NO_PROMPTS, Prompts, find_prompt_obstacle
from batcher.core.lifecycle import SENDABLE_STATES
from batcher.core.room import Budget, Room
from batcher.core.snapshot import SendGate, ShardView

BATCHES_PER_HOUR = 2_000
"""Batch creation rate limit (OpenAI, guides/batch, 2026-07)."""

NO_ANSWER = "the service does not answer"
NO_ROOM = "the service has no room for more"


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
        return "its price is not known, and a budget is set" if budget.max_usd > 0 else ""
    if cost <= left_usd:
        return ""
    left = max(left_usd, 0.0)
    return (
        f"may cost {format_usd(cost)}; {format_usd(left)} of the budget of {format_usd(budget.max_usd)} is left; "
        "raise [budget] max_usd"
    )


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
        )
    if room.largest is not None and shard.tokens > room.largest and shard.lines > 1:
        return Split(shard.shard, room.largest)
    if too_dear := find_budget_obstacle(shard, budget, left_usd):
        may_become_free = max_shard_cost(shard, budget) is not None and budget.in_flight_usd > 0 and budget.frees
        return Hold(shard.shard, too_dear) if may_become_free else Refuse(shard.shard, too_dear)
    if too_large := find_room_obstacle(own, free):
        return Hold(shard.shard, too_large)
    return Send(shard.shard, own, free - own)


def format_usd(amount: float) -> str:
    """Return an amount of dollars: in cents from $1 on, else as fine as it has to be; nothing is "$0"."""
    if amount == 0 or amount >= 1:
        return f"${amount:,.2f}" if amount else "$0"
    return f"${amount:.4f}" if amount >= 0.001 else f"${amount:.6f}"
