"""The values that travel between the layers. Frozen, and documented with their units.

Times are seconds since the epoch (float, UTC). Tokens are input tokens unless the name says otherwise.

Tuples by name, here and in whatever else a look at the state loads: the class of a frozen dataclass takes six times as
long to make, and a short command makes fifty; a value of it takes five times as long, and there is one a line of some.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from batcher.core.lifecycle import ShardState
from batcher.core.retry import FailureClass, Trouble

FILE_LIFE_S = 30 * 24 * 3600
"""How long input and output files live at OpenAI (the longest that the API takes; official description,
FileExpirationAfter): what a dead client leaves goes away by itself."""


class Lane(StrEnum):
    """How a bio came to be: the Batch API, the synchronous endpoint, or an earlier run."""

    BATCH = "batch"
    DIRECT = "direct"
    EARLIER = "earlier"


class Endpoint(StrEnum):
    """The endpoints whose lines we can render and read."""

    CHAT = "/v1/chat/completions"
    RESPONSES = "/v1/responses"


class JobVersion(NamedTuple):
    """What is asked, whole: everything of a line but the artist. Two equal versions render equal lines."""

    name: str
    model: str
    endpoint: Endpoint
    max_output_tokens: int
    system: str
    template: str
    schema: Mapping[str, object]
    schema_name: str


class Usage(NamedTuple):
    """Tokens that one execution used."""

    input: int = 0
    cached: int = 0
    output: int = 0


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


class Room(NamedTuple):
    """The account's room for one model: the enqueued-token limit in force and what we hold of it."""

    limit: int
    threshold: float
    factor: float
    """Reserved tokens of one counted token: learned ratio x (1 + margin)."""
    reserved: int = 0
    largest: int | None = None
    """The counted tokens of the largest shard that others seem to leave room for; None: any that fits the limit."""
    blocked_until: float = 0.0
    """The service refused for its limit: nothing is sent before this time, or before a batch of ours ends."""

    @property
    def ceiling(self) -> int:
        """The most tokens that may be reserved at once: limit x threshold."""
        return int(self.limit * self.threshold)

    @property
    def headroom(self) -> int:
        """Tokens that may still be reserved. Negative when the limit has shrunk under what is in flight."""
        return self.ceiling - self.reserved

    def reserved_for(self, tokens: int) -> int:
        """Reserved tokens of `tokens` counted ones: x learned ratio x (1 + margin), rounded up.

        A thousandth is no token: 110 x 1.1 is 121.00000000000001, and a shard cut to fill 121 would never fit.
        """
        return math.ceil(round(tokens * self.factor, 3))


class Charge(NamedTuple):
    """What the lines of one job version cost at most, in dollars."""

    usd_per_token: float
    """Of one counted input token."""
    usd_per_line: float
    """Its max_output_tokens at the output price of its model."""


class Budget(NamedTuple):
    """Dollars: the user's bound (0: none), what is spent, what is in flight, and what lines cost."""

    max_usd: float = 0.0
    spent_usd: float = 0.0
    in_flight_usd: float = 0.0
    frees: bool = True
    """Whether anything runs whose end may free some of what is in flight; what was lost or given up never ends."""
    charges: Mapping[int, Charge] = MappingProxyType({})
    """By job version; the price of one that is not there is not known."""


FEWEST_MEASURED = 200
"""Executed lines below this teach nothing yet."""
RATIO_BOUNDS = (0.5, 10.0)
"""A measured ratio beyond these is taken at the bound. Below, because room that is not there is worse than room that is
not used: real counts of under half of ours are somebody's fault (usage told in part). Above, because hidden tokens
(instructions of the service's own, tools) may be several times a short prompt, and reserving less than is counted would
pass the limit; ten times is a fault, and would cut shards of single lines."""


class Measured(NamedTuple):
    """What the settled batches of the newest version teach; zeros before any has settled."""

    executed: int = 0
    """Lines whose usage was told."""
    counted: int = 0
    """Their counted tokens."""
    input: int = 0
    cached: int = 0
    output: int = 0
    again: int = 0
    """Lines that went again..."""
    decided: int = 0
    """...of so many."""
    paid_again: int = 0
    """Executed lines whose answer was paid for and could not be used."""

    @property
    def enough(self) -> bool:
        """Whether it is believed."""
        return self.executed >= FEWEST_MEASURED and self.counted > 0

    @property
    def ratio(self) -> float:
        """Input tokens that the service counts for one of ours; 1 before enough is measured."""
        low, high = RATIO_BOUNDS
        return min(max(self.input / self.counted, low), high) if self.enough else 1.0

    @property
    def again_share(self) -> float:
        """The share of lines that goes again."""
        return self.again / self.decided if self.decided else 0.0

    @property
    def paid_again_share(self) -> float:
        """The share of paid answers for which another is bought."""
        return self.paid_again / self.executed if self.executed else 0.0


class ShardLimits(NamedTuple):
    """How large a shard may become: whichever bound is reached first."""

    lines: int
    bytes: int
    tokens: int


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
    """A setup failure: nothing is sent until the user has mended it."""


class Failure(NamedTuple):
    """Why a line has no bio."""

    failure: FailureClass
    code: str
    message: str


class LineResult(NamedTuple):
    """One line of a result file, read. `custom_id` is "" where it has none; exactly one of text, failure is set."""

    custom_id: str
    text: str | None = None
    failure: Failure | None = None
    status: int | None = None
    model: str = ""
    finish_reason: str = ""
    usage: Usage = Usage()
    completed_at: float | None = None


class WrittenShard(NamedTuple):
    """A shard file in place: what the state records of it."""

    shard: int
    priority: int
    lines: int
    tokens: int
    bytes: int
    sha256: str


class RemoteFile(NamedTuple):
    """A file at OpenAI; `created_at` in the service's clock."""

    file_id: str
    name: str
    created_at: float


class RemoteBatch(NamedTuple):
    """A batch as the service tells it. Unset ids are None (an empty id counts as unset)."""

    batch_id: str
    status: str
    created_at: float
    input_file_id: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    expires_at: float | None = None
    finished_at: float | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    usage: tuple[int, int, int] | None = None
    errors: tuple[Trouble, ...] = ()
    metadata: Mapping[str, str] = MappingProxyType({})


class Listing(NamedTuple):
    """Batches, newest first, back to a time; `server_time` is the Date header of its first page."""

    batches: tuple[RemoteBatch, ...]
    server_time: float
