"""The answers of the commands beside the job."""

from batcher.contracts.base import Answer, MaybeText, Part, Time, Usd


class FindingPart(Part):
    """The result of one check."""

    what: str
    level: str
    """ok, note or wrong."""
    found: str
    do: MaybeText
    """What to do about it."""


class ProbedPart(Part):
    """What was found of one ability of a service that is neither OpenAI nor described by a profile."""

    ability: str
    """As in `[service] lacks`."""
    has: bool | None
    """Whether the service has it; null where it could not be tried."""
    found: str
    """What the service answered."""
    follows: str
    """What Batcher can promise there."""


class DoctorAnswer(Answer):
    """The answer of `doctor`."""

    findings: list[FindingPart]
    ok: bool
    """Whether nothing is wrong."""
    probed: list[ProbedPart]
    """What an unknown service can do; empty for a known one."""
    settings: MaybeText
    """The lines of `[service]` that fit an unknown service, where any are needed."""


class LogAnswer(Answer):
    """One line of the log: `log` prints an object for each."""

    time: Time
    level: str
    """info, warning or error."""
    command: str
    """The command that wrote it; notify: a process that sends a notice."""
    pid: int
    """The number of its process."""
    shard: int | None
    """The shard that the sentence names, where it names one."""
    sentence: str


class CountedUsagePart(Part):
    """What the job has used of one model in one lane, by the usage that the answers told."""

    model: str
    lane: str
    requests: int
    """Answers that were paid for."""
    input: int
    cached: int
    written: int
    output: int
    usd: Usd | None


class UsagePart(Part):
    """What the project has used of one model, as OpenAI says, by batches or not."""

    model: str
    is_batch: bool
    requests: int
    input: int
    cached: int
    written: int
    output: int


class CostPart(Part):
    """What OpenAI bills of one line item."""

    item: str
    usd: Usd
    is_of_job: bool
    """Whether it is of a model that the job has used."""


class BillAnswer(Answer):
    """The answer of `bill`: what was counted beside what OpenAI says was used and billed in the time of the job."""

    project: str
    start: Time
    end: Time
    models: list[str]
    counted: list[CountedUsagePart]
    usage: list[UsagePart]
    """Of whole hours, or days where the job took longer than a week; of all work of the project with these models."""
    costs: list[CostPart]
    """Of whole days (UTC), of all work of the project."""
    counted_usd: Usd | None
    billed_usd: Usd
    """The costs of the models of the job."""
    difference_usd: Usd | None
    """`billed_usd` less `counted_usd`."""


class VersionAnswer(Answer):
    """The answer of `version`."""

    batcher: str
    """The version of the package."""
