"""The answer of `status`: the whole job at one moment."""

from pydantic import Field

from batcher.contracts.base import MaybeText, MaybeTime, Part, ServedAnswer, Time
from batcher.contracts.job import CostsPart, ExpectationPart, FailureTotalPart


class PriorityProgressPart(Part):
    """The artists of one priority, by how far they are."""

    priority: int
    artists: int
    """All but skipped rows."""
    done_before: int
    done: int
    in_flight: int
    open: int
    """Neither sent nor over."""
    held: int
    dead: int


class ShardCountPart(Part):
    """The shards in one state, with the sums of their lines and counted tokens."""

    state: str
    shards: int
    lines: int
    tokens: int


class UnsettledBatchPart(Part):
    """A batch that runs, or whose results are to be read once more."""

    batch_id: str
    shard: int
    priority: int
    status: str
    total: int
    completed: int
    failed: int
    stray: bool
    created_at: MaybeTime
    """By the service's clock."""
    recorded_at: MaybeTime
    lines: int
    retry_at: MaybeTime
    """When its results are read the next time, where that was put off."""


class LostCountPart(Part):
    """The dead, held or skipped artists with one class and code."""

    state: str
    class_: str | None = Field(alias="class")
    code: str | None
    artists: int


class WaitingLinesPart(Part):
    """The lines that wait after one class of failure, and when the first and the last of them are due."""

    class_: str = Field(alias="class")
    lines: int
    first_at: MaybeTime
    last_at: MaybeTime


class WaitingShardPart(Part):
    """A shard that is not handled before a time."""

    shard: int
    state: str
    until: MaybeTime


class OpenPausePart(Part):
    """A pause that has not been ended."""

    scope: str
    reason: str
    until: MaybeTime
    """Null: until the user resumes."""


class AnswerReasonPart(Part):
    """Answers that were of no use for one reason."""

    code: str
    answers: int


class OpenBrakePart(Part):
    """A prompt of which nothing more is sent."""

    prompt: int
    share: float
    """The share of its newest judged answers that was of no use."""
    answers: int
    unusable: int
    reasons: list[AnswerReasonPart]
    text: str
    """The same in words, with what to do."""


class QuotaSamplePart(Part):
    """The account's room at one moment. Tokens are null where the source did not name them."""

    happened_at: Time
    source: str
    """submission, refusal or header."""
    model: str
    limit_tokens: int | None
    reserved: int | None
    own: int | None
    headroom: int | None
    shard: int | None
    detail: str | None


class RoomRefusalsPart(Part):
    """The refusals for the enqueued-token limit."""

    times: int
    last_at: MaybeTime
    in_flight: int | None
    """Tokens in flight at the last one."""
    named_limit: int | None


class OpenPilotPart(Part):
    """A pilot that is under way, or that waits for the user as too few of its answers were accepted."""

    pilot: int
    prompt: int
    lines: int
    judged: int
    accepted: int
    failed: bool
    text: str
    """How far it is, or the question and what may be done."""


class NextStepPart(Part):
    """One thing that waits for a person."""

    kind: str
    """stopped, quota, paused, refused, brake, pilot, perhaps_paid, revoked, held, dead, unreleased or collect."""
    sentence: str
    """What it is and what to do."""
    command: MaybeText
    """The command to type first."""


class StatusAnswer(ServedAnswer):
    """The answer of `status`: the whole job at one moment."""

    now: Time
    states: dict[str, int]
    """Artists by state."""
    priorities: list[PriorityProgressPart]
    shards: list[ShardCountPart]
    batches: list[UnsettledBatchPart]
    failures: list[FailureTotalPart]
    lost: list[LostCountPart]
    waiting_lines: list[WaitingLinesPart]
    waiting_shards: list[WaitingShardPart]
    pauses: list[OpenPausePart]
    limit: int
    """The enqueued-token limit; `ceiling`, `reserved` and `headroom` are tokens of it."""
    ceiling: int
    """Tokens that may be used."""
    reserved: int
    headroom: int
    blocked_until: MaybeTime
    """When the limit is tried again, after a refusal."""
    outage_until: MaybeTime
    """When the service is called again, after an outage."""
    direct_until: MaybeTime
    """When the direct lane calls again."""
    stopped: MaybeText
    """Why the last process ended, where only the user can remove that."""
    quota_said: MaybeText
    """What the service last said when the quota was used up."""
    costs: CostsPart
    expectation: ExpectationPart
    shard_costs: list[CostsPart]
    quota: list[QuotaSamplePart]
    """The newest samples of the account's room, at most 500."""
    refusals: RoomRefusalsPart
    files_left: int
    """Files at the service that are still to be deleted."""
    brakes: list[OpenBrakePart]
    """The prompts of which lines wait and nothing is sent, as too many of their answers were of no use."""
    pilot: OpenPilotPart | None
    first_wave: int | None
    """Lines that may be in flight until an answer was judged; null: any number."""
    asked_again: dict[str, int]
    """The artists whose bio was asked for again, by state."""
    following: int
    """The open artists that wait for the answer to another line, which asks the same."""
    next_steps: list[NextStepPart]
    """What waits for a person, what keeps everything back first."""
