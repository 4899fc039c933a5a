"""Parts that several answers have: counts, costs, and the expected end of a job."""

from pydantic import Field

from batcher.contracts.base import Answer, MaybeText, MaybeTime, Part, Time, Usd


class CostsPart(Part):
    """Dollars; null where a price is not known."""

    shard: int | None
    """Null: of more than one shard, or of the direct lane."""
    bios: int
    reserved: Usd | None
    """The most that what is in flight may cost, or was given up and may have been paid."""
    spent: Usd | None
    wasted: Usd | None
    """The part of `spent` that was paid for answers that gave no bio, or a second one."""
    saved: Usd | None
    """The difference from the standard price of the same tokens."""


class JobAnswer(Answer):
    """The answer of a command that has followed the job: how it stands now."""

    states: dict[str, int]
    """Artists by state."""
    dead: int
    """Artists that were given up after all their tries."""
    held: int
    """Artists that wait for the user."""
    costs: CostsPart


class ForecastPart(Part):
    """Seconds from now to the end, and what they rest on."""

    waves: int
    """How many times the headroom must be filled to send what is not sent."""
    best_s: float
    expected_s: float
    worst_s: float
    measured: int
    """Ended batches that the forecast rests on; 0: it rests on assumptions."""


class CostForecastPart(Part):
    """Dollars that the lines that are still to be sent may cost; null where the price is not known."""

    best: Usd | None
    expected: Usd | None
    most: Usd | None
    standard: Usd | None
    """The expected amount at the standard price."""
    input: Usd | None
    """The part of the expected amount that is paid for input."""
    cache_saved: Usd | None
    """How much more the input would cost without the prompt cache; negative where writing costs more than it saves."""


class MeasuredUsagePart(Part):
    """What the settled batches of the newest version show; zeros before any has settled."""

    executed: int
    """Lines whose usage the service reported."""
    counted: int
    """Their counted tokens."""
    input: int
    cached: int
    output: int
    again: int
    """Lines that failed and were retried."""
    decided: int
    """Lines that got a verdict, the retried ones included."""
    written: int
    """Of the input, written to the prompt cache."""
    reasoning: int
    """Of the output, thought before the answers."""
    paid_again: int
    """Executed lines whose answer was paid for and could not be used."""


class ExpectationPart(Part):
    """When the job is expected to end and what it is expected to cost from now on, against the deadline."""

    now: Time
    """From when on the seconds count."""
    forecast: ForecastPart
    dollars: CostForecastPart
    deadline_s: float
    """Seconds until the deadline; negative when it is past."""
    advice: list[str]
    """What would help, where the expected end is past the deadline."""
    measured: MeasuredUsagePart
    waits_for: MaybeText
    """What a person has to do before anything is sent, from which on the forecast counts."""
    refusal: MaybeText
    """Which shard is refused until a person acts, why, and what to do."""


class PromptLinesPart(Part):
    """Lines that are asked for again with one prompt."""

    prompt: int | None
    lines: int
    changed: int
    """Those that had another prompt before."""


class FailureTotalPart(Part):
    """The tries that failed with one class and code."""

    class_: str = Field(alias="class")
    code: str | None
    times: int
    counted: int
    """Those that count against the tries of their line."""
    last_at: MaybeTime
