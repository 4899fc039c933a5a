"""What a command returns to the command line."""

from typing import TYPE_CHECKING, NamedTuple

from batcher.errors import ExitCode

if TYPE_CHECKING:  # `version` draws nothing
    from rich.console import RenderableType


class CommandAnswer(NamedTuple):
    """The answer of a command: `drawn` for a terminal, the same as `data` for --json, and the exit code."""

    drawn: "RenderableType"
    data: object
    code: ExitCode = ExitCode.DONE
