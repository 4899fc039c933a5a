"""The state as a decision sees it: shards, batches and counts, never a row per line."""

from typing import NamedTuple

from batcher.core.lifecycle import ShardState
from batcher.core.model import ShardLimits
from batcher.core.room import Budget, Room


class ShardView(NamedTuple):
    """A shard as the decision sees it; one of at most thousands, never one a line."""

    shard: int
    priority: int
    state: ShardState
    lines: int
    tokens: int
    wait_until: float = 0.0
    submission: int | None = None
    version: int = 1
    """The job version of its lines."""


class BatchView(NamedTuple):
    """A batch that is not settled. `reserved` counts against the limit until its end is recorded."""

    batch_id: str
    shard: int | None
    status: str
    reserved: int
    retry_at: float = 0.0
    """Not before this time are its results asked for again."""
    cancels: bool = False
    """It is to be cancelled, and the service was not asked yet."""
    recorded_at: float = 0.0
    """When we came to know of it."""
    held_back: bool = False
    """Another batch of its shard is read first: this one has the last word on the lines."""


class LooseLines(NamedTuple):
    """Lines of one priority that belong to no shard: they failed, or were left over, and go again at `due`."""

    priority: int
    lines: int
    tokens: int
    due: float


class Pause(NamedTuple):
    """Nothing new is sent in `scope` (direct, all) until `until` (None: until the user resumes)."""

    scope: str
    reason: str
    since: float
    until: float | None
    tries: int = 0

    def is_active(self, now: float) -> bool:
        """Return whether the pause still lasts."""
        return self.until is None or self.until > now


class SendGate(NamedTuple):
    """What keeps shards from being sent, whatever their size, as read at one moment. Times are epoch seconds."""

    pauses: tuple[Pause, ...] = ()
    outage_until: float = 0.0
    """No call before this time: the service does not answer, or asked for it by a Retry-After."""
    blocked_until: float = 0.0
    """No shard before this time: the service refused one, for its enqueued-token limit or for its rate."""
    stopped: str = ""
    """Why nothing is sent until the user has acted; "" where sending goes on."""
    cancelled: frozenset[int] = frozenset()
    """Shards that the user asked to cancel, and that have not come to their end."""


class Snapshot(NamedTuple):
    """All that a decision may know. It holds shards and counts, never a row per line."""

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
    """Batches that were given up, and are to be asked for again now."""
    files_due: int = 0
    """Files at OpenAI that are to be deleted now."""
    lapsed_ceiling: int | None = None
    """The most that may be reserved under a limit that a refusal named and that has lapsed, until one shard has
    passed it; None: nothing is to be tested."""
    probing: bool = False
    """A quota pause has ended and nothing has succeeded since: one shard at a time, until one does."""
    probe_since: float = 0.0
    """When the quota pause ended: only what was sent since then is a probe."""
    cancelled: frozenset[int] = frozenset()
    """Shards that the user asked to cancel, and that have not come to their end."""
    stopped: str = ""
    """A setup failure: nothing is sent until the user has corrected it."""

    @property
    def gate(self) -> SendGate:
        """What keeps shards from being sent, whatever their size."""
        return SendGate(self.pauses, self.outage_until, self.room.blocked_until, self.stopped, self.cancelled)
