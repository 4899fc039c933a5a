"""What the direct lane does next: `decide_direct(view, now)`. Pure; the lane does what it says and asks again."""

from dataclasses import dataclass

from batcher.core.actions import Finish, Wait
from batcher.core.snapshot import Pause

LOOK_S = 1.0
"""While calls are under way, the state is looked at this often for what other commands wish."""
UNDER_WAY = "calls are under way"


@dataclass(frozen=True, slots=True)
class Claim:
    """Take on up to so many lines, and ask for each."""

    most: int


@dataclass(frozen=True, slots=True)
class DirectLaneView:
    """All that the decision may know; counts, never a row per line."""

    ready: int
    """Lines that may be asked for."""
    next_due: float | None = None
    """When the next of those that wait is due; None: none waits."""
    running: int = 0
    """Calls under way."""
    workers: int = 2
    """Calls that may be under way at once."""
    blocked_until: float = 0.0
    """Before this time nothing is asked for: refused for its rate, or the window of a minute is used."""
    blocked_by: str = ""
    """Why, in words."""
    pauses: tuple[Pause, ...] = ()
    probing: bool = False
    """A quota pause has ended and nothing has succeeded since: one call at a time."""
    daily_left: int | None = None
    """Requests that today's limit leaves; None: no such limit is known."""
    stopped: str = ""
    """Why nothing is asked for until the user has mended it."""
    ending: bool = False
    """The user asked to end: what is under way is waited for."""


def decide_direct_action(view: DirectLaneView, now: float) -> Claim | Wait | Finish:
    """The next step. It finishes only when nothing is under way."""
    if view.stopped or view.ending or (not view.ready and view.next_due is None):
        return Wait(now + LOOK_S, UNDER_WAY) if view.running else Finish(view.stopped)
    waits = _blocking_waits(view, now)
    if waits:
        until = max(waits, key=lambda wait: wait.until)
        return Wait(min(until.until, now + LOOK_S) if view.running else until.until, until.reason)
    most = min(view.workers - view.running, view.ready)
    if view.probing:
        most = min(most, 1 - view.running)
    if view.daily_left is not None:
        most = min(most, view.daily_left)
    if most > 0:
        return Claim(most)
    if view.running:
        return Wait(now + LOOK_S, UNDER_WAY)
    return Wait(view.next_due if view.next_due is not None else now + LOOK_S, "failed lines wait to be tried again")


def _blocking_waits(view: DirectLaneView, now: float) -> list[Wait]:
    """Everything that keeps the lane closed now; it opens when the last of them is over."""
    waits = [
        Wait(now + LOOK_S, f"paused: {p.reason}; `batcher resume` goes on")
        if p.until is None
        else Wait(p.until, f"paused: {p.reason}")
        for p in view.pauses
        if p.until is None or p.until > now
    ]
    if view.blocked_until > now:
        waits.append(Wait(view.blocked_until, view.blocked_by))
    return waits
