"""What happens while a lane works, as values. The lanes report them; the views put them into words.

They are NamedTuples, because a long run reports many. `shard` is a shard's number, `batch_id` OpenAI's id of a batch.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from batcher.core.direct.pacing import RateHeaders


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
    """A batch whose create had no answer was found, and is followed from now on."""

    shard: int
    batch_id: str


class StrayFound(NamedTuple):
    """A second batch of a shard was found, which the state did not know."""

    shard: int
    batch_id: str


class BatchSearched(NamedTuple):
    """The answer to a create was lost; the listing is searched for the batch before anything is repeated."""

    shard: int


class ListingUnclear(NamedTuple):
    """A part of the listing of the batches could not be read, so that it does not show what is absent. reason: what."""

    reason: str


class CreateGivenUp(NamedTuple):
    """Nothing has shown for over a day whether a batch was created: the lines of its shard are held."""

    shard: int
    lines: int


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
    """The results of a batch are recorded. failures: lines by class; anomalies: faults of its files, in words."""

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
    """A call of ours failed and will be retried. call: what it was for, in one word."""

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
    """How many of the released lines are done, including those that running batches have finished."""

    done: int
    lines: int
    running: int
    """How many batches have not ended."""


class AnswersRecorded(NamedTuple):
    """Answers of the direct lane were recorded."""

    bios: int
    failures: int


class RateLimitsSeen(NamedTuple):
    """The rate-limit headers of an answer, reported once for every `[logging] quota_every` answers."""

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
    | CreateGivenUp
    | ListingUnclear
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
