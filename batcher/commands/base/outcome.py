"""How an acting process has ended, as its command reports it."""

import sys
from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from batcher.catalog.prices import resolve_prices
from batcher.commands.base.answer import ENDING
from batcher.commands.base.session import Session
from batcher.core.actions import INTERRUPTED, Finish, Wait
from batcher.errors import DecisionError, SetupError
from batcher.state.reports.span import read_job_span
from batcher.state.reports.status import Status, read_status
from batcher.views.live.counts import is_job_open
from batcher.views.live.sentences import describe_closing
from batcher.views.status import draw_status


def read_job_status(session: Session) -> Status:
    """Return the status of the job, with the prices of today."""
    with session.store.read_transaction() as tx:
        return read_status(tx, session.config, resolve_prices)


def describe_job(status: Status) -> Mapping[str, object]:
    """Return how the job stands: the fields of a contract `JobAnswer`."""
    states = status.states
    return {"states": states, "dead": states.get("dead", 0), "held": states.get("held", 0), "costs": status.costs}


def draw_job_state(session: Session, status: Status) -> list[RenderableType]:
    """Return the tables of a job; nothing where its last screen stands on the same terminal."""
    is_shown = session.display.has_left_screen and sys.stdout.isatty()
    return [] if is_shown else [draw_status(status)]


def draw_closing_line(session: Session, status: Status, files: Sequence[str] = ()) -> Text:
    """Return what has become of a job in one line. files: what was written."""
    with session.store.read_transaction() as tx:
        span = read_job_span(tx)
    elapsed_s = span.elapsed_s
    if is_job_open(status) and span.started_at is not None:
        elapsed_s = max(0.0, status.now - span.started_at)
    return Text(describe_closing(status, elapsed_s, files))


def is_interrupted(end: Finish | Wait) -> bool:
    """Return whether the process ended because it was asked to, by Ctrl-C or another signal."""
    return isinstance(end, Finish) and end.problem == INTERRUPTED


def interruption_note(end: Finish | Wait) -> list[Text]:
    """Return how to go on after Ctrl-C or another signal; empty where the process ended otherwise."""
    if not is_interrupted(end):
        return []
    asked = ENDING.describe()
    return [Text(f"Ended by {asked}. What is in flight goes on at the service; the same command goes on from here.")]


def raise_problem(end: Finish | Wait) -> None:
    """Raise where the process ended for a reason that only the user can remove: SetupError (exit code 2), or
    DecisionError (exit code 3) where the user is asked."""
    if isinstance(end, Finish) and end.problem and not is_interrupted(end):
        if end.asks:
            raise DecisionError(end.problem)
        has_remedy = "`batcher " in end.problem or "[budget]" in end.problem
        raise SetupError(end.problem if has_remedy else f"{end.problem}; `batcher status` says what to do")
