"""How much may be in flight, and which shard comes next.

The reserved tokens never pass limit x threshold (promise 3). Room is kept for the most urgent ready shard:
none overtakes it unless it cannot fit the empty queue, or beside what others hold, and then it is split (promise 4).
"""

import math
from collections.abc import Iterable

from batcher.core.actions import Admission, Hold, Refuse, Send, Split
from batcher.core.room import Budget, Room
from batcher.core.snapshot import ShardView

BATCHES_PER_HOUR = 2_000
"""Batch creation rate limit (OpenAI, guides/batch, 2026-07)."""


def max_shard_cost(shard: ShardView, budget: Budget) -> float | None:
    """Dollars that a shard may cost at most: its input, and max_output_tokens for each line. None: not known."""
    charge = budget.charges.get(shard.version)
    return None if charge is None else shard.tokens * charge.usd_per_token + shard.lines * charge.usd_per_line


def admit_shards(
    queue: Iterable[ShardView], room: Room, budget: Budget, most: int = BATCHES_PER_HOUR
) -> list[Admission]:
    """What to do with the ready shards, most urgent first, up to the first that must wait.

    queue: shards that are released and due, in any order; most: batches that may be created now.
    """
    decided: list[Admission] = []
    free, money = room.headroom, _remaining_budget(budget)
    for shard in sorted(queue, key=lambda s: (s.priority, s.shard)):
        step = _admit_shard(shard, room, budget, free, money)
        if isinstance(step, Send) and len(decided) >= most:
            step = Hold(shard.shard, f"{BATCHES_PER_HOUR:,} batches were created within the hour")
        decided.append(step)
        if not isinstance(step, Send):
            return decided
        free = step.headroom_after
        money -= max_shard_cost(shard, budget) or 0.0
    return decided


def _remaining_budget(budget: Budget) -> float:
    if budget.max_usd <= 0:
        return math.inf
    return budget.max_usd - budget.spent_usd - budget.in_flight_usd


def _admit_shard(shard: ShardView, room: Room, budget: Budget, free: int, money: float) -> Admission:
    own = room.reserved_tokens(shard.tokens)
    if own > room.ceiling:
        return _split_or_refuse(shard, room)
    if room.largest is not None and shard.tokens > room.largest and shard.lines > 1:
        return Split(shard.shard, room.largest)
    cost = max_shard_cost(shard, budget)
    if cost is None and budget.max_usd > 0:
        return Refuse(shard.shard, "its price is not known, and a budget is set")
    if cost is not None and cost > money:
        return _hold_or_refuse(shard, budget, cost, money)
    if own > free:
        return Hold(shard.shard, f"needs {own:,} tokens, {max(free, 0):,} are free")
    return Send(shard.shard, own, free - own)


def _split_or_refuse(shard: ShardView, room: Room) -> Admission:
    if shard.lines > 1:
        return Split(shard.shard, max(1, int(room.ceiling / room.factor)))
    return Refuse(shard.shard, f"one line of {shard.tokens:,} tokens is over the limit of {room.ceiling:,}")


def _hold_or_refuse(shard: ShardView, budget: Budget, cost: float, money: float) -> Admission:
    left = max(money, 0.0)
    text = f"may cost {_format_usd(cost)}, {_format_usd(left)} of the budget of {_format_usd(budget.max_usd)} is left"
    return Hold(shard.shard, text) if budget.in_flight_usd > 0 and budget.frees else Refuse(shard.shard, text)


def _format_usd(amount: float) -> str:
    """Dollars, finer where it is little."""
    return f"${amount:,.2f}" if amount >= 0.01 or amount == 0 else f"${amount:.6f}"
