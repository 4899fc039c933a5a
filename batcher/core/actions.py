"""The instructions that a decision returns. Frozen values; the lanes carry them out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Find out what became of an open intent."""

    shard: int


@dataclass(frozen=True, slots=True)
class Ingest:
    """Read the results of an ended batch."""

    batch_id: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask the service to cancel a batch."""

    batch_id: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Make a shard that the user cancels, and that turned out not to be sent, planned again."""

    shard: int


@dataclass(frozen=True, slots=True)
class Refresh:
    """Ask the service for the status of our batches."""


@dataclass(frozen=True, slots=True)
class Clean:
    """Delete files at OpenAI that are no longer needed."""


@dataclass(frozen=True, slots=True)
class Gather:
    """Cut a retry shard from the loose lines of a priority and job version that are due.

    most: how many lines at most, as none of their prompt was judged yet; None: as many as fit into a shard.
    """

    priority: int
    version: int = 1
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until `until` (epoch seconds), as nothing can be done before. reason: words for the user."""

    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """End the run: nothing is left to do. `problem` is "" unless the user has to act.

    asks: the problem is a question that the user answers by a command, and no fault of the setup.
    """

    problem: str = ""
    asks: bool = False


INTERRUPTED = "interrupted"
"""The problem that a process finishes with when the user asked it to end."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this shard now. Tokens that it reserves, and that are free after it."""

    shard: int
    reserved: int
    headroom_after: int


@dataclass(frozen=True, slots=True)
class Split:
    """Cut this shard to at most `tokens` counted tokens: it can never fit, or others leave too little room."""

    shard: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Send nothing more: this shard can never be sent. A single line is over the limit, or the budget is too small.

    waits_for: what a person has to do, as the end of "not before ...".
    """

    shard: int
    reason: str
    waits_for: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Send nothing more for now. reason: words for the user."""

    shard: int
    reason: str


Admission = Send | Split | Refuse | Hold


Action = Reconcile | Cancel | Withdraw | Ingest | Refresh | Clean | Gather | Send | Split | Wait | Finish
