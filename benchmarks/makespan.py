"""How long a job takes under the enqueued-token limit: Batcher's decisions beside an oracle and two baselines.

A simulation of the queue with a clock of its own; the decisions are the real ones (`batcher.decide`). The oracle
schedules the same reserved tokens under limit x threshold as if they were a fluid: no schedule can be shorter than the
token-hours divided by the room, nor than the longest batch. The baselines are what scripts do: one batch at a time, and
everything at once with a resubmission of what was refused every minute.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from batcher.admission import Send, reserved_for
from batcher.config import table_limit
from batcher.decide import Action, Finish, Refresh, Wait, decide
from batcher.lifecycle import ShardState
from batcher.model import BatchView, Room, ShardView, Snapshot
from batcher.planning import default_limits
from batcher.retry import DEFAULT_POLICIES, FailureClass, delay_s

HOUR = 3600.0
LINE_TOKENS = 640
PRIORITIES = ((1, 1_781), (2, 1_872), (3, 5_387), (4, 8_671), (5, 25_177))
"""Lines of each priority in the real table."""
MODEL = "gpt-6-luna"
THRESHOLD, MARGIN = 0.8, 0.10
VALIDATING_S = 30.0
POLL_S = 30.0

Law = Callable[[random.Random], float]
LAWS: dict[str, Law] = {
    "one hour": lambda _dice: HOUR,
    "log-normal": lambda dice: min(23 * HOUR, HOUR * dice.lognormvariate(0, 0.6)),
    "mostly quick": lambda dice: HOUR * (0.5 if dice.random() < 0.8 else 4.0),
}


def cut(limit: int) -> list[ShardView]:
    """The shards that Batcher cuts for a limit, of whole lines, one priority each."""
    size = max(1, default_limits(limit, THRESHOLD, 1 + MARGIN).tokens // LINE_TOKENS)
    shards: list[ShardView] = []
    for priority, lines in PRIORITIES:
        for start in range(0, lines, min(size, 50_000)):
            count = min(size, 50_000, lines - start)
            shard = len(shards) + 1
            shards.append(ShardView(shard, priority, ShardState.RELEASED, count, count * LINE_TOKENS))
    return shards


@dataclass(slots=True)
class Queue:
    """The service's queue: what it holds, and when each batch ends."""

    limit: int
    phantom: int
    times: dict[int, float]
    held: int = 0
    ends: list[tuple[float, int, int]] = field(default_factory=list)
    refused: int = 0
    ended: list[int] = field(default_factory=list)

    def offer(self, shard: int, tokens: int, now: float) -> bool:
        """Takes a batch in, or refuses it for the limit."""
        self.pass_time(now)
        if self.held + tokens > self.limit - self.phantom:
            self.refused += 1
            return False
        self.held += tokens
        heapq.heappush(self.ends, (now + self.times[shard], shard, tokens))
        return True

    def pass_time(self, now: float) -> None:
        """Ends what has ended by now."""
        while self.ends and self.ends[0][0] <= now:
            _, shard, tokens = heapq.heappop(self.ends)
            self.held -= tokens
            self.ended.append(shard)

    def seen(self, now: float) -> list[int]:
        """What has ended since the last look."""
        self.pass_time(now)
        ended, self.ended = self.ended, []
        return ended


def batcher_makespan(shards: Sequence[ShardView], queue: Queue, dice: random.Random) -> float:
    """The time at which the last batch's end was seen, by the real decisions."""
    run = Simulated(shards, queue, dice)
    while not run.finished:
        for action in decide(run.snapshot, run.now):
            if not run.do(action):
                break
    return run.last


class Simulated:
    """The acting process: does what is decided, to a queue instead of a service."""

    def __init__(self, shards: Sequence[ShardView], queue: Queue, dice: random.Random) -> None:
        room = Room(queue.limit, THRESHOLD, 1 + MARGIN)
        self.snapshot = Snapshot(room=room, shards=tuple(shards), poll_interval_s=POLL_S)
        self.now = self.last = 0.0
        self.finished = False
        self._shards, self._queue, self._dice = shards, queue, dice
        self._running: dict[int, int] = {}
        self._refusals = 0

    def do(self, action: Action) -> bool:
        """Does one thing; whether the rest of what was decided still stands."""
        if isinstance(action, Finish):
            self.finished = True
        elif isinstance(action, Wait):
            self.now = max(action.until, self.now + 0.001)
        elif isinstance(action, Refresh):
            self._refresh()
        elif isinstance(action, Send):
            return self._send(action)
        return True

    def _send(self, action: Send) -> bool:
        if self._queue.offer(action.shard, _tokens_of(self._shards, action.shard), self.now):
            self._running[action.shard] = action.reserved
            self._refusals = 0
            self.snapshot = _sent(self.snapshot, action.shard, self._running)
            return True
        delay = delay_s(DEFAULT_POLICIES[FailureClass.ENQUEUED_LIMIT], self._refusals, self._dice.random())
        self._refusals += 1
        self.snapshot = replace(self.snapshot, room=replace(self.snapshot.room, blocked_until=self.now + delay))
        return False

    def _refresh(self) -> None:
        ended = self._queue.seen(self.now)
        for shard in ended:
            self._running.pop(shard)
        self.last = self.now if ended else self.last
        self.snapshot = _polled(self.snapshot, self._running, self.now, bool(ended))


def _tokens_of(shards: Sequence[ShardView], shard: int) -> int:
    return shards[shard - 1].tokens


def _sent(snapshot: Snapshot, shard: int, running: dict[int, int]) -> Snapshot:
    return _with_running(replace(snapshot, shards=tuple(s for s in snapshot.shards if s.shard != shard)), running)


def _polled(snapshot: Snapshot, running: dict[int, int], now: float, ended: bool) -> Snapshot:
    blocked = 0.0 if ended else snapshot.room.blocked_until
    snapshot = replace(snapshot, polled_at=now, room=replace(snapshot.room, blocked_until=blocked))
    return _with_running(snapshot, running)


def _with_running(snapshot: Snapshot, running: dict[int, int]) -> Snapshot:
    batches = tuple(BatchView(str(shard), shard, "in_progress", reserved) for shard, reserved in running.items())
    return replace(snapshot, batches=batches, room=replace(snapshot.room, reserved=sum(running.values())))


def oracle(shards: Sequence[ShardView], queue: Queue) -> float:
    """The least time for the same reserved tokens: fluid under limit x threshold, never less than the longest batch."""
    room = Room(queue.limit, THRESHOLD, 1 + MARGIN)
    capacity = min(int(queue.limit * THRESHOLD), int((queue.limit - queue.phantom) * (1 + MARGIN)))
    area = sum(reserved_for(s.tokens, room) * queue.times[s.shard] for s in shards)
    return max(area / capacity, *queue.times.values())


def one_at_a_time(shards: Sequence[ShardView], queue: Queue) -> float:
    """The whole limit in one batch, then the next."""
    return sum(queue.times[s.shard] + POLL_S for s in shards)


def as_many_as_possible(shards: Sequence[ShardView], queue: Queue) -> float:
    """Everything at once, and what was refused again every minute."""
    now, waiting, last = 0.0, list(shards), 0.0
    while waiting or queue.ends:
        queue.pass_time(now)
        waiting = [s for s in waiting if not queue.offer(s.shard, s.tokens, now)]
        last = now
        now += 60.0
    return last


def rows(seeds: int = 5) -> list[tuple[str, ...]]:
    """The table: tier, law, phantom, hours of the oracle, and the others' ratios to it with their refusals."""
    return [
        _row(tier, table_limit(MODEL, tier) or 0, law, share, seeds)
        for tier in range(1, 6)
        for law in LAWS
        for share in (0.0, 0.3)
    ]


def _row(tier: int, limit: int, law: str, share: float, seeds: int) -> tuple[str, ...]:
    shards = cut(limit)
    totals = [0.0, 0.0, 0.0, 0.0]
    refused = [0, 0]
    for seed in range(seeds):
        dice = random.Random(seed)
        times = {s.shard: VALIDATING_S + LAWS[law](dice) for s in shards}

        def queue(times: dict[int, float] = times) -> Queue:
            return Queue(limit, int(limit * share), times)

        mine, flood = queue(), queue()
        totals[0] += oracle(shards, mine)
        totals[1] += batcher_makespan(shards, mine, dice)
        totals[2] += one_at_a_time(shards, mine)
        totals[3] += as_many_as_possible(shards, flood)
        refused[0] += mine.refused
        refused[1] += flood.refused
    best = totals[0]
    ratios = [f"{total / best:.2f}" for total in totals[1:]]
    hours = f"{best / seeds / HOUR:.1f}"
    counts = [f"{n / seeds:.0f}" for n in refused]
    return (
        str(tier),
        law,
        f"{share:.0%}",
        str(len(shards)),
        hours,
        ratios[0],
        counts[0],
        ratios[1],
        ratios[2],
        counts[1],
    )


HEADER = ("tier", "law", "phantom", "shards", "oracle h", "batcher", "refused", "one by one", "flood", "refused")


if __name__ == "__main__":
    print(" | ".join(HEADER))
    for row in rows():
        print(" | ".join(row))
