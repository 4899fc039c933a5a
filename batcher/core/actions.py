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
    """Take a shard that the user cancels, and that turned out not to be sent, back to planned."""

    shard: int


@dataclass(frozen=True, slots=True)
class Refresh:
    """Ask the service how our batches stand."""


@dataclass(frozen=True, slots=True)
class Clean:
    """Delete files at OpenAI that are needed no more."""


@dataclass(frozen=True, slots=True)
class Gather:
    """Cut a retry shard from the loose lines of a priority that are due."""

    priority: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done before `until` (epoch seconds); why, in words for the user."""

    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to do here. `problem` is "" unless something of the user's is needed."""

    problem: str = ""


INTERRUPTED = "interrupted"
"""What a process finishes with when the user asked it to end."""


@dataclass(frozen=True, slots=True)
class Send:
    """Start this shard now."""

    shard: int
    reserved: int
    headroom_after: int


@dataclass(frozen=True, slots=True)
class Split:
    """This shard can never fit, or others leave too little room: cut it to at most `tokens` counted tokens."""

    shard: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """This shard cannot be sent whatever ends: a single line is over the limit, or the budget is too small."""

    shard: int
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing more is sent now; why, in words for the user."""

    shard: int
    reason: str


Admission = Send | Split | Refuse | Hold


Action = Reconcile | Cancel | Withdraw | Ingest | Refresh | Clean | Gather | Send | Split | Wait | Finish
