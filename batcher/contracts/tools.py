"""The answers of the commands beside the job."""

from batcher.contracts.base import Answer, MaybeText, Part


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


class VersionAnswer(Answer):
    """The answer of `version`."""

    batcher: str
    """The version of the package."""
