"""What a command returns to the command line, and the signal that ended it."""

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from batcher.errors import ExitCode

if TYPE_CHECKING:  # `version` draws nothing, and a terminal needs no contract
    from rich.console import RenderableType

    from batcher.contracts.base import Answer

Told_co = TypeVar("Told_co", bound="Answer", covariant=True)


class CommandAnswer(NamedTuple, Generic[Told_co]):
    """The answer of a command: how it is drawn, how it is described as data, and the exit code.

    Neither is done before it is asked for: a terminal calls `draw`, `--json` and the Python API call `describe`. The
    call behind a command therefore gathers named tuples, and ends with

        def describe() -> "SubmitAnswer":
            from batcher.contracts.sending import SubmitAnswer

            return SubmitAnswer.model_validate({**name.to_json(), "submitted": sent})

        return CommandAnswer(lambda: draw_submissions(sent), describe, code)

    where both are pure functions of what was found: at that time the state is closed. A contract takes named tuples as
    they are. A new command has one in `contracts/`, and a line in `contracts/registry.py`; then
    `BATCHER_WRITE_DOCS=1 pytest tests/docs` writes its schema.
    """

    draw: Callable[[], "RenderableType"]
    """Returns what a terminal shows."""
    describe: Callable[[], Told_co]
    """Returns the same by its contract."""
    code: ExitCode = ExitCode.DONE


class RunningCommand:
    """The acting command that this process runs, for the line about its end in the log."""

    def __init__(self) -> None:
        self._end: Callable[[int, str], None] | None = None
        self._reason = ""

    def begin(self, end: Callable[[int, str], None]) -> None:
        """Record that a command has started. end: is called with its exit code and the reason, "" without one."""
        self._end = end

    def explain(self, reason: str) -> None:
        """Record the sentence that the user was given for an end that is not the usual one."""
        self._reason = reason

    def end(self, code: int) -> None:
        """Report the end of the command, where one has started that acts, and only once."""
        end, self._end = self._end, None
        if end is not None:
            end(code, self._reason)


RUNNING = RunningCommand()
"""Of this process: one process runs one command."""


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
