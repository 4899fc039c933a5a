"""What a command returns: something to draw, the same as data for `--json`, and an exit code."""

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from batcher.catalog.prices import resolve
from batcher.cli.session import Session
from batcher.core.actions import INTERRUPTED, Finish, Wait
from batcher.errors import SetupError
from batcher.state.status import Status, read_status

Answer = tuple[RenderableType, dict[str, Any]]


def _status(session: Session) -> Status:
    with session.store.reading() as tx:
        return read_status(tx, session.config, resolve)


def _is_interrupted(ended: Finish | Wait) -> bool:
    return isinstance(ended, Finish) and ended.problem == INTERRUPTED


def _interrupted(ended: Finish | Wait) -> list[Text]:
    """How to go on after Ctrl-C."""
    if not _is_interrupted(ended):
        return []
    return [Text("Ended by Ctrl-C. What is in flight goes on at the service; the same command goes on from here.")]


def _raise_problem(ended: Finish | Wait) -> None:
    """What only the user can mend ends the command with exit code 2."""
    if isinstance(ended, Finish) and ended.problem and not _is_interrupted(ended):
        raise SetupError(ended.problem)
