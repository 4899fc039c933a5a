"""What happens while a lane works, as values. The lanes report them; the views put them into words.

Named tuples: a long run reports many, and nothing but their fields is of interest. `shard` is a shard's number,
`batch_id` OpenAI's id of a batch.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from batcher.core.pacing import RateHeaders


class UploadStarted(NamedTuple):
    """The file of a shard is about to be uploaded."""

    shard: int
    lines: int
    bytes: int


class BytesSent(NamedTuple):
    """A part of the file in progress was sent."""

    bytes: int


class UploadRepeated(NamedTuple):
    """The answer to an upload was lost, so the file is uploaded again."""

    shard: int


class BatchCreated(NamedTuple):
    """The service has created a batch."""

    shard: int
    batch_id: str


class BatchAdopted(NamedTuple):
    """A batch whose create had no answer was found, and is followed from here on."""

    shard: int
    batch_id: str


class StrayFound(NamedTuple):
    """A batch of ours was found that the state did not know, beside the one that it follows."""

    shard: int
    batch_id: str


class BatchSearched(NamedTuple):
    """The answer to a create was lost; the listing is searched for the batch before anything is repeated."""

    shard: int


class BatchAbsent(NamedTuple):
    """The search has shown that no batch was created."""

    shard: int


class CancelRequested(NamedTuple):
    """The service was asked to cancel a batch."""

    shard: int
    batch_id: str


class ShardRefused(NamedTuple):
    """The service refused a shard, at once or after its validation."""

    shard: int
    reason: str


class BatchSettled(NamedTuple):
    """The results of a batch are recorded. failures: lines by class; anomalies: oddities of the files, in words."""

    shard: int
    batch_id: str
    status: str
    bios: int
    failures: Mapping[str, int]
    anomalies: str


class RetryShardCut(NamedTuple):
    """Failed lines of one priority were cut into a new shard."""

    shard: int
    priority: int
    lines: int


class LinesParked(NamedTuple):
    """Planned lines stay in no shard, because today's job cannot render them."""

    reason: str


class CallFailed(NamedTuple):
    """A call of ours failed and will be retried. call: what was asked for, in one word."""

    call: str
    reason: str


class WaitStarted(NamedTuple):
    """Nothing can be done before `until` (epoch seconds)."""

    until: float
    reason: str


class LockHeld(NamedTuple):
    """Another process holds the lane's lock."""

    reason: str


class LinesProgressed(NamedTuple):
    """How far the released lines are, those that running batches have finished included."""

    done: int
    lines: int
    running: int
    """Batches that have not ended."""


class AnswersRecorded(NamedTuple):
    """Answers of the direct lane were recorded."""

    bios: int
    failures: int


class RateLimitsSeen(NamedTuple):
    """The rate-limit headers of an answer, reported every so many answers."""

    answers: int
    headers: "RateHeaders"


class RateLimitLow(NamedTuple):
    """A small share of a rate limit is left."""

    share: float


Event = (
    UploadStarted
    | BytesSent
    | UploadRepeated
    | BatchCreated
    | BatchAdopted
    | StrayFound
    | BatchSearched
    | BatchAbsent
    | CancelRequested
    | ShardRefused
    | BatchSettled
    | RetryShardCut
    | LinesParked
    | CallFailed
    | WaitStarted
    | LockHeld
    | LinesProgressed
    | AnswersRecorded
    | RateLimitsSeen
    | RateLimitLow
)
