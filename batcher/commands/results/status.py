"""`status` and `show`: looks at the state."""

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.json_lines import write_json_line
from batcher.commands.base.session import Session
from batcher.core.lifecycle import count_open_artists
from batcher.errors import ExitCode, compute_exit_code
from batcher.state.reports.status import read_artist, read_status
from batcher.state.snapshot import load_saved_prices
from batcher.views.next_steps import describe_next_steps
from batcher.views.progress import PLAIN_EVERY_S, Display, StdoutConsole
from batcher.views.status import draw_artist, draw_status

if TYPE_CHECKING:
    from batcher.contracts.results import ShowAnswer
    from batcher.contracts.status import StatusAnswer


def run_status(session: Session) -> "CommandAnswer[StatusAnswer]":
    """Return the job at this moment."""
    with session.store.read_transaction() as tx:
        status = read_status(tx, session.config, partial(load_saved_prices, tx))
        name = session.name_service(tx)

    def describe() -> "StatusAnswer":
        from batcher.contracts.status import StatusAnswer

        return StatusAnswer.model_validate(
            {**name.to_json(), **status._asdict(), "next_steps": describe_next_steps(status)}
        )

    return CommandAnswer(lambda: Group(Text(name.describe()), draw_status(status)), describe)


def watch_status(session: Session) -> ExitCode:
    """Show the job until nothing of it is in flight or waits to be sent, or until Ctrl-C; return as `poll --once` does.

    Away from a terminal it is a line every half a minute, and as JSON one object, the same as without --watch.
    """
    from batcher.commands.base.signals import interrupted_by_signals

    with suppress(KeyboardInterrupt), interrupted_by_signals():
        if session.json:
            return _watch_as_json(session)
        from batcher.commands.base.following import JobFollower

        on_stdout = session._replace(display=Display(StdoutConsole()))
        return JobFollower(on_stdout, time.sleep).watch_job()
    return ExitCode.DONE


def _watch_as_json(session: Session) -> ExitCode:
    while True:
        answer = run_status(session).describe()
        write_json_line(answer.to_json())
        if not count_open_artists(answer.states):
            return compute_exit_code(answer.states)
        time.sleep(PLAIN_EVERY_S)


def run_show(session: Session, artist_id: str) -> "CommandAnswer[ShowAnswer]":
    """Return one artist's history. Raises InputError, with similar artists, for an unknown id."""
    with session.store.read_transaction() as tx:
        artist = read_artist(tx, artist_id, partial(load_saved_prices, tx))
        if artist is None:
            from batcher.commands.base.choices import build_unknown_artist_error

            raise build_unknown_artist_error(tx, artist_id)

    def describe() -> "ShowAnswer":
        from batcher.contracts.results import ShowAnswer

        return ShowAnswer.model_validate(artist)

    return CommandAnswer(lambda: draw_artist(artist), describe)
