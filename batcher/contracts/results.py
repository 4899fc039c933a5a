"""The answers of the commands that look at what came."""

from typing import Any

from pydantic import Field

from batcher.contracts.base import Answer, JsonObject, MaybeText, MaybeTime, Part, Time, Usd
from batcher.contracts.job import CostsPart


class WrittenFilePart(Part):
    """A file that was written."""

    path: str
    rows: int


class CollectAnswer(Answer):
    """The answer of `collect`: what was written, and how many artists have no bio yet."""

    bios: int
    failed: int
    """Artists without a bio that were written to --failed."""
    dead: int
    held: int
    open: int
    skipped: int
    kept: bool
    """Nothing was new, and the file that exists was left as it is."""
    notes: list[str]
    """Sentences that the user should read."""
    redone_dead: int
    """Artists with an earlier bio whose new one is dead; as the next two, in none of the other counts."""
    redone_held: int
    redone_open: int
    files: list[WrittenFilePart]


class ReportAnswer(Answer):
    """The answer of `report`: the page that was written, and its headline numbers."""

    path: str
    bytes: int
    bios: int
    """Bios that exist, earlier ones included: what `collect` writes."""
    dead: int
    held: int
    spent: Usd | None
    """Null: the price is not known."""


class ArtistBioPart(Part):
    """An artist's bio. What is not known of an earlier bio is null."""

    data: JsonObject
    model: str | None
    finish_reason: str | None
    lane: str
    shard: int | None
    batch_id: str | None
    attempts: int | None
    completed_at: MaybeTime
    cost_usd: Usd | None


class ArtistAttemptPart(Part):
    """One try of an artist's line."""

    happened_at: Time
    lane: str
    shard: int | None
    batch_id: str | None
    outcome: str
    code: str | None
    message: str | None
    counted: bool
    tokens_input: int
    tokens_output: int
    cost_usd: Usd | None


class ArtistEventPart(Part):
    """One event in the history of an artist's line or of its shards."""

    happened_at: Time
    kind: str
    shard: int | None
    batch_id: str | None
    detail: str | None


class ShowAnswer(Answer):
    """The answer of `show`: one artist's whole history."""

    artist_id: str
    artist_name: str
    priority: int
    state: str
    custom_id: str
    shard: int | None
    submission: int | None
    wait_until: MaybeTime
    attempts: int
    """Tries that count."""
    failure: str | None
    code: str | None
    message: str | None
    tokens: int
    data: JsonObject
    """The row of the table."""
    asked_again: bool
    """Whether the bio was asked for again, and is the earlier one."""
    same_as: str | None
    """The artist whose line asks the same, and whose answer this one takes; null: it has a line of its own."""
    bio: ArtistBioPart | None
    costs: CostsPart
    attempts_made: list[ArtistAttemptPart]
    """All tries, also those that do not count."""
    events: list[ArtistEventPart]


class KeptAnswerPart(Part):
    """An answer as it came."""

    artist_id: str
    artist_name: str
    custom_id: str
    happened_at: Time
    """When it was recorded."""
    lane: str
    version: int | None
    """Of the job, as the line was asked; null: not known."""
    prompt: int | None
    outcome: str
    """bio, repeated, or a class of failure."""
    code: str | None
    message: str | None
    shard: int | None
    batch_id: str | None
    call: int | None
    text: MaybeText
    """All that the model has written."""
    lack: MaybeText
    """Why there is no text."""


class AnswersAnswer(Answer):
    """The answer of `answers`."""

    answers: list[KeptAnswerPart]
    """The newest first."""
    total: int
    """Of the same choice, also those that --limit leaves out."""


class RefusalCountPart(Part):
    """Bios that are refused now for one reason."""

    code: str
    message: str
    bios: int


class RefusedArtistPart(Part):
    """An artist whose bio is refused now."""

    artist_id: str
    message: str


class RefusedBiosPart(Part):
    """The bios that are refused now."""

    bios: int
    reasons: list[RefusalCountPart]
    """The most frequent reasons."""
    first: list[RefusedArtistPart]


class JudgeAnswer(Answer):
    """The answer of `judge`."""

    dry_run: bool
    judged: int
    accepted: dict[str, int]
    """Lines that take a bio, by the state that they had."""
    refused: RefusedBiosPart
    revoked: int
    """Bios that were taken from their lines."""
    put_back: int
    """Lines that have their bio of an earlier run again."""
    changed_meanwhile: int
    not_kept: int
    """Answers that could not be judged: none was kept, or its file is gone or damaged."""
    damaged: list[str]
    """The files that cannot be read, each with the reason."""
    notes: list[str]


class PromptTotalsPart(Part):
    """One prompt: versions of the job that ask the same."""

    prompt: int
    planned_at: Time
    """When lines were first planned with it."""
    lines: int
    """Lines that have it now."""
    judged: int
    accepted: int
    accepted_share: float | None
    cost_usd: Usd | None
    bios: int
    model: str
    effort: str | None
    is_today: bool


class VersionsAnswer(Answer):
    """The answer of `versions`."""

    prompts: list[PromptTotalsPart]
    today: int | None
    """The prompt of today's job; null: no line was planned with it, or the job cannot be loaded."""


class DifferenceAnswer(Answer):
    """The answer of `versions A` and `versions A B`."""

    from_: int = Field(alias="from")
    to: int | None
    """Null: today's, with which no line was planned."""
    diff: str
    """A unified diff; "" where nothing differs."""


class ResultColumnPart(Part):
    """A column of an answer in SQL."""

    name: str
    type: str
    """As DuckDB writes it."""


class SqlAnswer(Answer):
    """The answer of `sql` to a question."""

    columns: list[ResultColumnPart]
    rows: list[list[Any]]
    """Each with a value for each column: times in ISO 8601, decimals as numbers, bytes in hexadecimal; whole numbers of
    more than 64 bits, and types that JSON does not have, as texts."""
    is_cut: bool
    """There are more rows than these."""


class ViewColumnPart(ResultColumnPart):
    """A column of a view."""

    comment: str
    """What it holds."""


class ViewPart(Part):
    """A documented view over the state."""

    name: str
    comment: str
    """What one of its rows is."""
    columns: list[ViewColumnPart]


class ViewsAnswer(Answer):
    """The answer of `sql` without a question, and of `sql --describe VIEW`: the views, or the one."""

    views: list[ViewPart]
