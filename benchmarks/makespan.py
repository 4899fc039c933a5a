"""How long a job takes under the enqueued-token limit: Batcher's decisions compared with an oracle and two baselines.

A simulation of the queue with a clock of its own; the decisions are the real ones (`batcher.core.decide`). The oracle
schedules the same shards in the same order under limit x threshold; it knows beforehand what others hold of the limit
and sees each end at once. Two more bounds cannot be reached by any scheduler: a fluid, of the token-hours divided by
the room (never less than the longest batch), and the future known, with the longest batches first regardless of
priority. The baselines are what scripts do: one batch at a time, and everything at once with a resubmission of what was
refused every minute.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from batcher.catalog.limits import lookup_tier_limit
from batcher.config.sections import BrakeSection
from batcher.core.actions import Action, Finish, Gather, Refresh, Send, Wait
from batcher.core.brake import BrakeRule, PromptView, bound_first_wave
from batcher.core.cutting import default_shard_limits
from batcher.core.decide import decide_actions
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import ShardState
from batcher.core.retry import DEFAULT_POLICIES, retry_delay_seconds
from batcher.core.room import Room
from batcher.core.snapshot import BatchView, LooseLines, ShardView, Snapshot

HOUR = 3600.0
LINE_TOKENS = 640
PRIORITIES = ((1, 1_781), (2, 1_872), (3, 5_387), (4, 8_671), (5, 25_177))
"""Lines of each priority in the real table."""
PILOT = {1: 18, 2: 18, 3: 30, 4: 40, 5: 94}
"""Lines of each priority in a pilot of 200 of the real table; each is a shard of its own."""
LEAST_SHARE = 0.1
"""The share of the time of a full shard that a small one takes at least. Real batches of one to three lines ended 3 to
20 seconds after they were created (six recorded in 2025, ../shared/recordings), so this is on the long side."""
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
    """Return the shards that Batcher cuts for a limit, of whole lines, one priority each."""
    size = max(1, default_shard_limits(limit, THRESHOLD, 1 + MARGIN).tokens // LINE_TOKENS)
    shards: list[ShardView] = []
    for priority, lines in PRIORITIES:
        for start in range(0, lines, min(size, 50_000)):
            count = min(size, 50_000, lines - start)
            shard = len(shards) + 1
            shards.append(ShardView(shard, priority, ShardState.RELEASED, count, count * LINE_TOKENS))
    return shards


@dataclass(slots=True)
class Queue:
    """The service's queue: the tokens in it, and when each batch ends."""

    limit: int
    phantom: int
    times: dict[int, float]
    held: int = 0
    ends: list[tuple[float, int, int]] = field(default_factory=list)
    refused: int = 0
    ended: list[int] = field(default_factory=list)

    def offer(self, shard: int, tokens: int, now: float) -> bool:
        """Accept a batch, or refuse it because of the limit."""
        self.pass_time(now)
        if self.held + tokens > self.limit - self.phantom:
            self.refused += 1
            return False
        self.held += tokens
        heapq.heappush(self.ends, (now + self.times[shard], shard, tokens))
        return True

    def pass_time(self, now: float) -> None:
        """Remove the batches that have ended by now."""
        while self.ends and self.ends[0][0] <= now:
            _, shard, tokens = heapq.heappop(self.ends)
            self.held -= tokens
            self.ended.append(shard)

    def seen(self, now: float) -> list[int]:
        """Return the batches that have ended since the last call."""
        self.pass_time(now)
        ended, self.ended = self.ended, []
        return ended


def batcher_makespan(shards: Sequence[ShardView], queue: Queue, dice: random.Random) -> float:
    """Return the time at which the real decisions saw the last batch's end, with the first wave of the settings."""
    run = Simulated(shards, queue, dice, first_wave=BrakeSection().first_wave)
    run.to_its_end()
    return run.last


def without_first_wave(shards: Sequence[ShardView], queue: Queue, dice: random.Random) -> float:
    """Return the same where all is sent that fits, before an answer was judged."""
    run = Simulated(shards, queue, dice)
    run.to_its_end()
    return run.last


def after_pilot(shards: Sequence[ShardView], queue: Queue, dice: random.Random, least_share: float) -> float:
    """Return the time at which the real decisions saw the last batch's end, a pilot first.

    The rest follows once each batch of the pilot has ended; it is sent without a first wave, as answers were judged.
    least_share: the share of a full shard's time that a small one takes at least; 1: all of it.
    """
    fullest = max(shard.lines for shard in shards)
    times = list(queue.times.values())
    pilot = max(dice.choice(times) * max(least_share, min(1.0, lines / fullest)) for lines in PILOT.values())
    return pilot + POLL_S + without_first_wave(shards, queue, dice)


class Simulated:
    """The acting process: performs the decisions on a queue instead of a service.

    again: the share of a batch's lines that fails and is retried; law: the service times of the batches of retries;
    first_wave: the share of the lines that is in flight at most until the end of a batch was seen.
    """

    def __init__(
        self,
        shards: Sequence[ShardView],
        queue: Queue,
        dice: random.Random,
        again: float = 0.0,
        law: Law | None = None,
        first_wave: float = 1.0,
    ) -> None:
        room = Room(queue.limit, THRESHOLD, 1 + MARGIN)
        self._rule = BrakeRule(first_wave=first_wave)
        self._lines = sum(shard.lines for shard in shards)
        prompts = {1: PromptView(1, None, bound_first_wave(self._rule, self._lines, is_judged=False))}
        self.snapshot = Snapshot(room=room, shards=tuple(shards), poll_interval_s=POLL_S, prompts=prompts)
        self.now = self.last = 0.0
        self.finished = False
        self.started: dict[int, float] = {}
        """When each shard in flight was sent."""
        self.times: list[float] = []
        """The service times of the batches whose end was seen."""
        self.lines_done = 0
        self.reserved: dict[int, int] = {}
        self.shards = {s.shard: s for s in shards}
        self._queue, self._dice, self._again, self._law = queue, dice, again, law
        self._loose: dict[int, int] = {}
        self._refusals = 0

    def to_its_end(self, look: Callable[[], None] = lambda: None) -> None:
        """Act until nothing is left. look: called after each poll of the service."""
        while not self.finished:
            for action in decide_actions(self.snapshot, self.now):
                if not self.do(action):
                    break
                if isinstance(action, Refresh):
                    look()

    def do(self, action: Action) -> bool:
        """Perform one action, and return whether the other decided actions are still valid."""
        if isinstance(action, Finish):
            self.finished = True
        elif isinstance(action, Wait):
            self.now = max(action.until, self.now + 0.001)
        elif isinstance(action, Refresh):
            self._refresh()
        elif isinstance(action, Gather):
            self._gather(action.priority)
        elif isinstance(action, Send):
            return self._send(action)
        return True

    def _send(self, action: Send) -> bool:
        if self._queue.offer(action.shard, self.shards[action.shard].tokens, self.now):
            self.reserved[action.shard] = action.reserved
            self.started[action.shard] = self.now
            self._refusals = 0
            left = tuple(s for s in self.snapshot.shards if s.shard != action.shard)
            self._see(self.snapshot._replace(shards=left))
            return True
        delay = retry_delay_seconds(DEFAULT_POLICIES[FailureClass.ENQUEUED_LIMIT], self._refusals, self._dice.random())
        self._refusals += 1
        self.snapshot = self.snapshot._replace(room=self.snapshot.room._replace(blocked_until=self.now + delay))
        return False

    def _gather(self, priority: int) -> None:
        shard, lines = len(self.shards) + 1, self._loose.pop(priority)
        cut = ShardView(shard, priority, ShardState.RELEASED, lines, lines * LINE_TOKENS)
        self.shards[shard] = cut
        if self._law is not None:
            self._queue.times[shard] = VALIDATING_S + self._law(self._dice)
        self._see(self.snapshot._replace(shards=(*self.snapshot.shards, cut)))

    def _refresh(self) -> None:
        ended = self._queue.seen(self.now)
        for shard in ended:
            self._end(self.shards[shard])
        self.last = self.now if ended else self.last
        blocked = 0.0 if ended else self.snapshot.room.blocked_until
        room = self.snapshot.room._replace(blocked_until=blocked)
        self._see(self.snapshot._replace(polled_at=self.now, room=room))

    def _end(self, shard: ShardView) -> None:
        del self.reserved[shard.shard], self.started[shard.shard]
        self.times.append(self._queue.times[shard.shard])
        failed = sum(self._dice.random() < self._again for _ in range(shard.lines)) if self._again else 0
        self.lines_done += shard.lines - failed
        if failed:
            self._loose[shard.priority] = self._loose.get(shard.priority, 0) + failed

    def _see(self, snapshot: Snapshot) -> None:
        batches = tuple(BatchView(str(shard), shard, "in_progress", held) for shard, held in self.reserved.items())
        loose = tuple(LooseLines(p, n, n * LINE_TOKENS, 0.0) for p, n in sorted(self._loose.items()))
        room = snapshot.room._replace(reserved=sum(self.reserved.values()))
        most_lines = bound_first_wave(self._rule, self._lines, is_judged=bool(self.times))
        in_flight = sum(self.shards[shard].lines for shard in self.reserved)
        prompts = {1: PromptView(1, None, most_lines, in_flight)}
        self.snapshot = snapshot._replace(batches=batches, loose=loose, room=room, prompts=prompts)


def _capacity(queue: Queue) -> int:
    """Return the reserved tokens that fit: limit x threshold, or what others leave of the limit."""
    return min(int(queue.limit * THRESHOLD), int((queue.limit - queue.phantom) * (1 + MARGIN)))


def fluid(shards: Sequence[ShardView], queue: Queue) -> float:
    """Return a bound below any schedule: token-hours divided by the room, never less than the longest batch."""
    room = Room(queue.limit, THRESHOLD, 1 + MARGIN)
    area = sum(room.reserved_tokens(s.tokens) * queue.times[s.shard] for s in shards)
    return max(area / _capacity(queue), *queue.times.values())


def oracle(shards: Sequence[ShardView], queue: Queue) -> float:
    """Return the time of the same shards in this order, each sent as soon as it fits."""
    room, now, free = Room(queue.limit, THRESHOLD, 1 + MARGIN), 0.0, _capacity(queue)
    ends: list[tuple[float, int]] = []
    for shard in shards:
        own = room.reserved_tokens(shard.tokens)
        while own > free:
            now, freed = heapq.heappop(ends)
            free += freed
        free -= own
        heapq.heappush(ends, (now + queue.times[shard.shard], own))
    return max(end for end, _ in ends)


def longest_first(shards: Sequence[ShardView], queue: Queue) -> float:
    """Return the time with the future known, and priorities ignored."""
    return oracle(sorted(shards, key=lambda s: -queue.times[s.shard]), queue)


def one_at_a_time(shards: Sequence[ShardView], queue: Queue) -> float:
    """Return the time of one batch after the other, each as large as the limit allows."""
    total, used = 0.0, queue.limit + 1
    for shard in shards:
        if used + shard.tokens > queue.limit - queue.phantom:
            total, used = total + queue.times[shard.shard] + POLL_S, 0
        used += shard.tokens
    return total


def as_many_as_possible(shards: Sequence[ShardView], queue: Queue) -> float:
    """Return the time when everything is sent at once, and what was refused is sent again every minute."""
    now, waiting, last = 0.0, list(shards), 0.0
    while waiting or queue.ends:
        queue.pass_time(now)
        waiting = [s for s in waiting if not queue.offer(s.shard, s.tokens, now)]
        last = now
        now += 60.0
    return last


def rows(seeds: int = 5) -> list[tuple[str, ...]]:
    """Return the table: tier, law, phantom, hours of the oracle, and the others' ratios to it with their refusals."""
    return [
        _row(tier, lookup_tier_limit(MODEL, tier) or 0, law, share, seeds)
        for tier in range(1, 6)
        for law in LAWS
        for share in (0.0, 0.3)
    ]


def _row(tier: int, limit: int, law: str, share: float, seeds: int) -> tuple[str, ...]:
    shards = cut(limit)
    totals, refused = [0.0] * len(SCHEDULES), [0] * len(SCHEDULES)
    for seed in range(seeds):
        dice = random.Random(seed)
        times = {s.shard: VALIDATING_S + LAWS[law](dice) for s in shards}
        for place, schedule in enumerate(SCHEDULES.values()):
            queue = Queue(limit, int(limit * share), times)
            totals[place] += schedule(shards, queue)
            refused[place] += queue.refused
    best = totals[0]
    ratios = [f"{total / best:.2f}" for total in totals[1:]]
    counts = [f"{n / seeds:.0f}" for n in refused]
    hours = f"{best / seeds / HOUR:.1f}"
    return (str(tier), law, f"{share:.0%}", str(len(shards)), hours, *ratios, counts[1], counts[-1])


SCHEDULES: dict[str, Callable[[Sequence[ShardView], Queue], float]] = {
    "oracle": oracle,
    "batcher": lambda shards, queue: batcher_makespan(shards, queue, random.Random(0)),
    "pilot": lambda shards, queue: after_pilot(shards, queue, random.Random(0), LEAST_SHARE),
    "pilot, slow": lambda shards, queue: after_pilot(shards, queue, random.Random(0), 1.0),
    "no first wave": lambda shards, queue: without_first_wave(shards, queue, random.Random(0)),
    "fluid": fluid,
    "longest first": longest_first,
    "one by one": one_at_a_time,
    "flood": as_many_as_possible,
}
HEADER = (
    "tier", "service time", "others hold", "shards", "oracle h", *list(SCHEDULES)[1:], "refused: batcher", "flood"
)  # fmt: skip


def show() -> None:
    """Print the table."""
    print("Makespan as a ratio to the oracle (mean of 5 seeds; 42,888 lines). batcher: with a first wave and no pilot;")
    print("pilot: as `run` does it, a small batch in the share of its lines; slow: in the time of a full one:\n")
    print("| " + " | ".join(HEADER) + " |")
    print("|" + "---|" * len(HEADER))
    for row in rows():
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    show()
