"""What the live view shows beside the status: the size of its screen, the time, and what has happened last."""

from collections.abc import Sequence
from datetime import tzinfo
from typing import NamedTuple


class RecentEvent(NamedTuple):
    """Something that has happened, in words. at: epoch seconds."""

    at: float
    text: str


class JobName(NamedTuple):
    """Which job a view is about."""

    job: str
    model: str
    service: str
    budget_usd: float
    """The bound of `[budget] max_usd`; 0: none."""
    started_at: float | None
    """When its first line was sent (epoch seconds); None: none was."""


class Frame(NamedTuple):
    """One moment of the live view. Times are epoch seconds."""

    width: int
    """Columns of the screen."""
    height: int
    """Rows of the screen, all of which may be used."""
    now: float
    name: JobName
    events: Sequence[RecentEvent] = ()
    """The newest stands last."""
    note: str = ""
    """What the process does at this moment; "" where none acts."""
    note_until: float = 0.0
    """When that is over; 0 where it is not known."""
    zone: tzinfo | None = None
    """The zone of all clock times; None: that of this machine."""
    ascii: bool = False
    """Whether the terminal shows nothing but ASCII."""
