"""The answers of the commands that send, or decide what is sent."""

from pydantic import Field

from batcher.contracts.base import Answer, JsonObject, MaybeText, Part, ServedAnswer, Usd
from batcher.contracts.job import JobAnswer, PromptLinesPart
from batcher.contracts.results import CollectAnswer


class ShardSubmissionPart(Part):
    """A shard that was sent, and the tokens that it was weighed with."""

    shard: int
    priority: int
    batch_id: str | None
    lines: int
    tokens: int
    reserved: int
    headroom_after: int
    limit_tokens: int
    reserved_before: int


class SubmitAnswer(ServedAnswer):
    """The answer of `submit`."""

    released: int
    released_before: int
    """Shards that the same command had released before it was interrupted."""
    submitted: list[ShardSubmissionPart]
    waiting: list[int]
    """Released shards that wait."""
    why: MaybeText
    """What they wait for."""
    planned: int
    """Shards that are not released."""


class PollAnswer(JobAnswer):
    """The answer of `poll`."""

    interrupted: bool
    """Whether it was asked to end before it was done."""


class RunAnswer(JobAnswer):
    """The answer of `run`."""

    interrupted: bool
    """Whether it was asked to end before it was done."""
    elapsed_s: float
    """Seconds that this command took."""
    collected: CollectAnswer | None
    """What was written at the end; null: nothing was."""
    problem: str | None
    """Why nothing was written, where --out was given."""
    report: str | None
    """The page that was written; null: none was asked for."""


class DirectAnswer(JobAnswer):
    """The answer of `direct`."""

    calls: dict[str, int]
    """Calls of this command by outcome: "bio", or a class of failure."""


class RefusedForPart(Part):
    """A reason for which first answers were refused."""

    code: str
    reason: str
    lines: int


class EstimatePart(Part):
    """Dollars, and their standard error."""

    amount: Usd
    error: Usd


class SampleBioPart(Part):
    """A bio of the pilot."""

    artist_id: str
    artist_name: str
    bio: JsonObject


class RefusedAnswerPart(Part):
    """An answer of the pilot that was refused."""

    artist_id: str
    code: str | None
    reason: str | None
    text: MaybeText
    lack: MaybeText
    """Why there is no text."""


class PilotAnswer(Answer):
    """The answer of `pilot`. Of the lines, first answers are counted; dollars are null where a price is not known."""

    pilot: int
    prompt: int
    seed: int
    stage: str
    """asked, repeated, passed or failed."""
    min_accepted: float
    """The share of accepted answers from which on the rest may follow."""
    lines: int
    judged: int
    accepted: int
    refused: list[RefusedForPart]
    """The most frequent reason first; cut off and invalid answers are among them."""
    cut_off: int
    invalid: int
    dead: int
    """Lines that were given up, after all their tries."""
    bios: int
    """Lines that have a bio by now, retries included."""
    held: int
    """Lines that wait for the user."""
    executed: int
    """Executions, retries included."""
    tokens_counted: float
    """Of the input of an execution, by our count."""
    tokens_input: float
    """The same by the service's count."""
    tokens_output: float
    """Of an answer."""
    spent_usd: Usd | None
    usd_per_bio: Usd | None
    usd_per_line: Usd | None
    """What was assumed of a line of the pilot before it was sent."""
    rest_lines: int
    """Lines that are neither sent nor ended, those of the pilot apart."""
    rest_assumed: Usd | None
    """What the rest was assumed to cost before anything was measured."""
    rest: EstimatePart | None
    """What the rest will cost by what the pilot has cost."""
    samples: list[SampleBioPart]
    refused_answers: list[RefusedAnswerPart]


class PauseAnswer(Answer):
    """The answer of `pause`."""

    told: str


class ResumeAnswer(Answer):
    """The answer of `resume`."""

    told: str
    pauses_ended: int
    brake_released: list[int]
    """The prompts whose brake was released."""
    pilots_passed: list[int]
    """The prompts whose failed pilot counts as passed now."""


class CancelledShardPart(Part):
    """A shard that was asked to be cancelled."""

    shard: int
    outcome: str | None
    """Null: it is still in flight."""
    bios: int
    held: int


class CancelAnswer(Answer):
    """The answer of `cancel`."""

    cancelled: list[CancelledShardPart]
    not_sent: list[int]
    """Shards that were not sent, and are planned again."""
    retries_held: int
    """Lines that waited to be retried, and are held."""
    still_in_flight: list[int]


class RetriedLinesPart(Part):
    """Lines that came back, by the state and the class of failure that they had."""

    state: str
    class_: str = Field(alias="class")
    lines: int


class RetryAnswer(Answer):
    """The answer of `retry`."""

    lines: list[RetriedLinesPart]
    perhaps_paid: int
    """Lines that stay held because they may be paid for."""
    prompts: list[PromptLinesPart]


class RedoAnswer(Answer):
    """The answer of `redo`."""

    lines: int
    """Lines that are asked for again."""
    prompts: list[PromptLinesPart]
    most_usd: Usd | None
    """The most that they may cost, each asked once."""
    bios: int
    """Bios that exist of these lines."""
    bios_usd: Usd | None
    """What those have cost."""
