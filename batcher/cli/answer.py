"""What a command returns: something to draw, the same as data for `--json`, and an exit code."""

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from batcher.catalog.prices import resolve_prices
from batcher.cli.session import Session
from batcher.core.actions import INTERRUPTED, Finish, Wait
from batcher.errors import SetupError
from batcher.state.status import Status, read_status

CommandAnswer = tuple[RenderableType, dict[str, Any]]


def read_job_status(session: Session) -> Status:
    with session.store.read_transaction() as tx:
        return read_status(tx, session.config, resolve_prices)


def is_interrupted(ended: Finish | Wait) -> bool:
    return isinstance(ended, Finish) and ended.problem == INTERRUPTED


def interruption_note(ended: Finish | Wait) -> list[Text]:
    """How to go on after Ctrl-C."""
    if not is_interrupted(ended):
        return []
    return [Text("Ended by Ctrl-C. What is in flight goes on at the service; the same command goes on from here.")]


def raise_problem(ended: Finish | Wait) -> None:
    """What only the user can mend ends the command with exit code 2."""
    if isinstance(ended, Finish) and ended.problem and not is_interrupted(ended):
        raise SetupError(ended.problem)
