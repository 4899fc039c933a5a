"""What a command returns to the command line, and the signal that ended it."""

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from batcher.errors import ExitCode

if TYPE_CHECKING:  # `version` draws nothing
    from rich.console import RenderableType


class CommandAnswer(NamedTuple):
    """The answer of a command: how it is drawn, how it is described as data, and the exit code.

    Neither is done before it is asked for: a terminal calls `draw`, `--json` and the Python API call `describe`. The
    call behind a command therefore gathers named tuples, and ends with

        return CommandAnswer(lambda: draw_it(found), lambda: describe_it(found), code)

    where both are pure functions of what was found: at that time the state is closed.
    """

    draw: Callable[[], "RenderableType"]
    """Returns what a terminal shows."""
    describe: Callable[[], Any]
    """Returns the same as data."""
    code: ExitCode = ExitCode.DONE


class EndingSignal:
    """The signal that asked this process to end, for its last words and its exit code."""

    def __init__(self) -> None:
        self._number = 0

    def record_signal(self, number: int) -> None:
        """Record a signal; the first one counts."""
        self._number = self._number or number

    def describe(self) -> str:
        """Return what the user calls it."""
        return "Ctrl-C" if self._number in {0, signal.SIGINT} else signal.Signals(self._number).name

    def compute_exit_code(self, code: int) -> int:
        """Return the exit code of a process that would end with `code`: 128 and the number of the signal, as in shells.

        Ctrl-C is the user's own, who wants to see whether work remains: it leaves the code as it is.
        """
        return code if self._number in {0, signal.SIGINT} else 128 + self._number


ENDING = EndingSignal()
"""Of this process: a signal is sent to a process, not to one of its objects."""
