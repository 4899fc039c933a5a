"""The state as a decision sees it: shards, batches and counts, never a row for each line."""

from typing import NamedTuple

from batcher.core.brake import NO_PROMPTS, Braked, Prompts, find_braked
from batcher.core.lifecycle import SENDABLE_STATES, ShardState
from batcher.core.model import ShardLimits
from batcher.core.room import Budget, Room


class ShardView(NamedTuple):
    """A shard as a decision sees it. There are thousands of them at most."""

    shard: int
    priority: int
    state: ShardState
    lines: int
    tokens: int
    wait_until: float = 0.0
    submission: int | None = None
    version: int = 1
    """The job version of its lines."""
    longest: int = 0
    """Counted tokens of its longest line."""
    is_pilot: bool = False
    """Whether its lines are the first of a pilot to be asked."""


class BatchView(NamedTuple):
    """A batch that is not settled. Its `reserved` tokens count against the limit until its end is recorded."""

    batch_id: str
    shard: int | None
    status: str
    reserved: int
    retry_at: float = 0.0
    """Its results are not requested before this time (epoch seconds)."""
    cancels: bool = False
    """Whether it is to be cancelled and the service was not asked yet."""
    recorded_at: float = 0.0
    """When we first recorded it (epoch seconds)."""
    held_back: bool = False
    """Whether another batch of its shard is read first, because this one decides the lines."""


class LooseLines(NamedTuple):
    """Lines of one priority and job version that belong to no shard: they failed, or were left over.

    They may be sent from `due` on (epoch seconds).
    """

    priority: int
    lines: int
    tokens: int
    due: float
    version: int = 1


class Pause(NamedTuple):
    """A pause: nothing new is sent in `scope` (direct, all) until `until` (None: until the user resumes).

    tries: how many pauses for the same reason preceded it.
    """

    scope: str
    reason: str
    since: float
    until: float | None
    tries: int = 0

    def is_active(self, now: float) -> bool:
        """Return whether the pause still lasts."""
        return self.until is None or self.until > now


class SendGate(NamedTuple):
    """What keeps shards of any size from being sent, as read at one moment. Times are epoch seconds."""

    pauses: tuple[Pause, ...] = ()
    outage_until: float = 0.0
    """No call before this time: the service does not answer, or asked for it by a Retry-After."""
    blocked_until: float = 0.0
    """No shard before this time: the service refused one, for its enqueued-token limit or for its rate."""
    stopped: str = ""
    """Why nothing is sent until the user has acted; "" where sending goes on."""
    cancelled: frozenset[int] = frozenset()
    """Shards that the user asked to cancel, and that have not come to their end."""
    prompts: Prompts = NO_PROMPTS
    """What the answers so far say about sending more, by job version."""


class Snapshot(NamedTuple):
    """Everything that a decision may use. It holds shards and counts, never a row for each line."""

    room: Room
    shards: tuple[ShardView, ...] = ()
    batches: tuple[BatchView, ...] = ()
    loose: tuple[LooseLines, ...] = ()
    pauses: tuple[Pause, ...] = ()
    budget: Budget = Budget()
    shard_limits: ShardLimits = ShardLimits(50_000, 209_715_200, 1 << 62)
    polled_at: float = 0.0
    poll_interval_s: float = 30.0
    outage_until: float = 0.0
    created_last_hour: int = 0
    unread: int = 0
    """How many batches, and creates without a batch, that were given up are to be looked for again now."""
    files_due: int = 0
    """How many files at OpenAI are to be deleted or searched for now."""
    lapsed_ceiling: int | None = None
    """The most tokens that could be reserved under a limit that a refusal named and that has lapsed.

    One shard at a time tests whether more may be reserved by now. None: nothing is to be tested.
    """
    probing: bool = False
    """Whether a quota pause has ended and nothing has succeeded since: one shard is sent at a time until one does."""
    probe_since: float = 0.0
    """When the quota pause ended (epoch seconds): only what was sent since then is a probe."""
    cancelled: frozenset[int] = frozenset()
    """Shards that the user asked to cancel, and that have not come to their end."""
    stopped: str = ""
    """A setup failure: nothing is sent until the user has corrected it."""
    prompts: Prompts = NO_PROMPTS
    """What the answers so far say about sending more, by job version."""

    @property
    def gate(self) -> SendGate:
        """What keeps shards of any size from being sent."""
        return SendGate(
            self.pauses, self.outage_until, self.room.blocked_until, self.stopped, self.cancelled, self.prompts
        )

    @property
    def braked(self) -> tuple[Braked, ...]:
        """The prompts of which lines wait and nothing is sent, because too many of their answers were of no use."""
        waiting = {s.version for s in self.shards if s.state in SENDABLE_STATES} | {g.version for g in self.loose}
        found = {b.prompt: b for version in sorted(waiting) if (b := find_braked(self.prompts, version)) is not None}
        return tuple(found.values())

    def without_braked_work(self) -> "Snapshot":
        """Return the snapshot without the shards and lines that the brake keeps back."""
        return self._replace(
            shards=tuple(
                s for s in self.shards if s.state not in SENDABLE_STATES or not find_braked(self.prompts, s.version)
            ),
            loose=tuple(g for g in self.loose if not find_braked(self.prompts, g.version)),
        )
