"""The start and the end of a command that acts, as the log has them; an end that the user must fix is notified, too."""

import logging
import shlex
import time
from collections.abc import Mapping, Sequence

from batcher.commands.base.answer import RUNNING
from batcher.commands.base.notices import NoticeWatcher
from batcher.commands.base.session import Session
from batcher.errors import ExitCode
from batcher.views.sheet import format_duration

END_REASONS: Mapping[int, str] = {
    ExitCode.WORK_REMAINS: "work remains",
    ExitCode.DEAD_LINES: "some lines are dead",
    130: "interrupted",
}
"""Why a command ended with an exit code, where no sentence says it."""

SENDING = frozenset({"submit", "poll", "run", "pilot", "direct"})
"""The commands that send a notice where they end for a reason that only the user can fix."""


def begin_command_log(session: Session, arguments: Sequence[str]) -> None:
    """Write that a command has started, and have its end written. arguments: as the user typed them."""
    started_at = time.monotonic()
    session.write_log(logging.INFO, f"started: batcher {shlex.join(arguments)}")

    def end(code: int, reason: str) -> None:
        after = format_duration(time.monotonic() - started_at)
        why = reason or END_REASONS.get(code, "")
        session.write_log(_choose_level(code), f"ended with {code} after {after}{f': {why}' if why else ''}")
        if code == ExitCode.USAGE and session.command in SENDING:
            NoticeWatcher(session).look(reason)

    RUNNING.begin(end)


def _choose_level(code: int) -> int:
    if code in {ExitCode.USAGE, ExitCode.UNEXPECTED}:
        return logging.ERROR
    return logging.WARNING if code in {ExitCode.WORK_REMAINS, ExitCode.DEAD_LINES} else logging.INFO
