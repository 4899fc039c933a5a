"""The answers of the commands beside the job."""

from batcher.contracts.base import Answer, MaybeText, Part, Time


class FindingPart(Part):
    """The result of one check."""

    what: str
    level: str
    """ok, note or wrong."""
    found: str
    do: MaybeText
    """What to do about it."""


class DoctorAnswer(Answer):
    """The answer of `doctor`."""

    findings: list[FindingPart]
    ok: bool
    """Whether nothing is wrong."""


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


class VersionAnswer(Answer):
    """The answer of `version`."""

    batcher: str
    """The version of the package."""
