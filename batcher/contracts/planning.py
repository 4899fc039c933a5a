"""The answers of the commands before anything is sent."""

from typing import Any

from batcher.contracts.base import Answer, MaybeText, Part, ServedAnswer, Usd
from batcher.contracts.job import ExpectationPart


class InitAnswer(Answer):
    """The answer of `init`."""

    told: list[str]
    """A sentence for each file, written or left, and one on what to do next."""


class PriorityTotalsPart(Part):
    """What the state holds of one priority; lines, tokens and bytes are of what is still to be sent."""

    priority: int
    artists: int
    done_before: int
    lines: int
    tokens: int
    bytes: int


class OpenShardPart(Part):
    """A shard whose results are still to come."""

    shard: int
    priority: int
    retry: bool
    state: str
    lines: int
    tokens: int
    bytes: int


class PlanAnswer(ServedAnswer):
    """The answer of `plan`: what this plan did, and the whole plan as it stands then."""

    lines_planned: int
    artists_new: int
    rows_read: int
    changed_rows: int
    """Rows that differ from what was planned."""
    skipped_rows: list[str]
    """What is wrong with each bad row that was left out."""
    left_out: int
    """New artists of the table that --limit left out."""
    shared_rows: int
    """Rows of this plan that ask the same as another one, and have no line of their own."""
    answered_rows: int
    """Those of them whose answer was there already."""
    reused_rows: int
    """Rows of this plan that took an answer of the state that `--reuse` named."""
    reuse_refused: int
    """Rows for which such an answer was refused; they are asked for."""
    done_unknown: int
    """Bios of --done that belong to no artist."""
    states: dict[str, int]
    """Artists by state."""
    priorities: list[PriorityTotalsPart]
    shards: list[OpenShardPart]
    limit: int
    """The enqueued-token limit."""
    ceiling: int
    """Enqueued tokens that may be used."""
    lines: int
    """Lines that are still to be sent; `tokens` and `bytes` are theirs."""
    tokens: int
    bytes: int
    budget_usd: Usd
    """Dollars that are left of the budget; 0 where none are, or where it has no bound."""
    expectation: ExpectationPart
    per_worker_s: float
    """Lines that one worker of the direct lane does in a second."""
    workers: int
    """Workers of the direct lane that would do all lines by the deadline."""
    warnings: list[str]
    """What the settings may not have meant."""
    direct_tier: str
    """The service tier that the direct lane asks for: auto or flex."""
    direct_falls_back: bool
    """Whether the direct lane asks at the standard price for what flex refuses for too long."""
    cache_prefix: int
    """Counted tokens before the cache breakpoint of a line, the most of all; 0: no line has one."""
    unused_columns: list[str]
    """Columns of the table that the job does not read."""
    first_wave: int | None
    """Lines that may be in flight until an answer was judged, at least one shard; null: any number."""
    pilot_lines: int
    """Lines of the pilot that `run` sends first; 0: none."""
    saved_lines: int
    """Lines that are not asked because others ask the same; all of the plan."""
    saved_usd: Usd | None
    """What they would cost at batch rates; null where a price is not known."""
    reused_usd: Usd | None
    """What the lines of `reused_rows` would cost at batch rates; null where a price is not known."""


class PreviewedLinePart(Part):
    """A line as it will be sent, with its price in the batch lane."""

    artist_id: str
    artist_name: str
    priority: int
    source: str
    """Where its row is from: "plan" or "table"."""
    state: MaybeText
    """The state of its artist; null where the plan does not have it."""
    tokens: int
    constant_tokens: int
    """Those of the tokens that every line repeats."""
    artist_tokens: int
    cache: MaybeText
    """What it says of the prompt cache: "explicit" (nothing is written), "breakpoint"; null: nothing."""
    cache_prefix: int
    """Those of the tokens before its cache breakpoint; 0: it has none."""
    cache_write_usd: Usd | None
    """`expected_usd` of a line that writes them to the cache; null where it has no breakpoint."""
    uncached_usd: Usd | None
    """`expected_usd` of a line without the cache; null where it has no breakpoint."""
    expected_usd: Usd | None
    most_usd: Usd | None
    request: dict[str, Any]
    line: str
    """The text of the line in the batch input file."""


class PreviewAnswer(ServedAnswer):
    """The answer of `preview`."""

    table: str
    unused_columns: list[str]
    """Columns of the table that the job does not read."""
    notes: list[str]
    artists: list[PreviewedLinePart]


class ForgetAnswer(Answer):
    """The answer of `forget`."""

    forgotten: int
    """Artists that left the plan."""
    planned_shards: int
    """Planned shards that they were in."""
    released_shards: int
    sent: int
    """Artists that were sent, and stay."""
    note: MaybeText
