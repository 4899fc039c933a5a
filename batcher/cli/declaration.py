"""What commands are declared with: the options that several have, their session, and their end."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from batcher.cli.interrupts import begin_command
from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.bounds import LARGEST
from batcher.commands.base.json_lines import write_json_line

if TYPE_CHECKING:  # what a command needs is imported when it runs, so that `--help` and a mistake do not wait for it
    from rich.console import RenderableType

    from batcher.commands.base.session import Session
    from batcher.contracts.base import Answer

ConfigOption = Annotated[
    Path, typer.Option("--config", help="The configuration file; its relative paths start at its folder.")
]
InputOption = Annotated[
    Path | None,
    typer.Option(
        "--input",
        help="The table: .csv, .jsonl or .parquet. Default: that of the last plan, else of batcher.toml.",
    ),
]
DoneOption = Annotated[
    Path | None, typer.Option("--done", help="A table of answers that exist, by id: not asked for again.")
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, max=LARGEST, help="Plan only the N most urgent new rows.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Plan all rows of the table, after a plan with --limit.")]
AddOption = Annotated[
    bool, typer.Option("--add", help="Add the rows of another table than that of the last plan, without a question.")
]
SkipOption = Annotated[bool, typer.Option("--skip-bad-rows", help="Leave bad rows out, and list them as skipped.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]
StreamOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="One JSON object a line on stdout: events and progress as they come, the answer last; all else on stderr.",
    ),
]
MovedOption = Annotated[
    bool, typer.Option("--service-moved", help="The service of this job has a new address; go on there.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that `collect` did not write, or that hold more.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Agree beforehand; nothing is asked.")]
ACTING = {
    "plan",
    "forget",
    "submit",
    "poll",
    "run",
    "pilot",
    "direct",
    "pause",
    "resume",
    "cancel",
    "retry",
    "redo",
    "judge",
    "collect",
}
"""The commands that change something: their start and end stand in the log."""
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Neither progress nor notes on stderr; errors stay.")]
NoWaitOption = Annotated[
    bool,
    typer.Option("--no-wait", help="Where another process is at work on this state, end at once with exit code 3."),
]
CONFIG = Path("batcher.toml")
"""The configuration file where --config names no other."""


def start_session(
    config: Path, json: bool, service_moved: bool = False, quiet: bool = False, no_wait: bool = False
) -> "Session":
    """Read the configuration and return the session of a command. Raises ConfigError."""
    from batcher.commands.base.session import open_session

    command = typer._click.globals.get_current_context().info_name or ""
    begin_command()
    session = open_session(config, json, service_moved, command, quiet, waits=not no_wait)
    if command in ACTING:
        from batcher.commands.base.command_log import begin_command_log

        begin_command_log(session, sys.argv[1:])
    return session


def finish_command(answer: "CommandAnswer[Answer]", as_json: bool, is_data: bool = False) -> NoReturn:
    """Print the answer of a command on stdout, and end the command with its exit code.

    is_data: what is drawn is a text for another program, which gets it as it is; a terminal never does.
    """
    if as_json:
        write_json_line(answer.describe().to_json())
    elif is_data and not sys.stdout.isatty():
        typer.echo(answer.draw())
    else:
        print_drawing(answer.draw())
    raise typer.Exit(int(answer.code))


def print_drawing(drawn: "RenderableType") -> None:
    """Print what a command has to say on stdout; a plain text without rich, which takes long to import."""
    if isinstance(drawn, str):
        from batcher.views.clean import clean_text
        from batcher.views.folding import fold_for_terminal

        typer.echo(fold_for_terminal(clean_text(drawn), sys.stdout))
    else:
        from batcher.views.progress import StdoutConsole

        StdoutConsole().print(drawn)
