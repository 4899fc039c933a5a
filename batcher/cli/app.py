"""The command line: runs the command, and turns what is raised into one sentence and an exit code.

Each command is: options -> session -> one call -> the answer on stdout -> exit code.
"""

import gc
import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.main import get_command_name
from typer.models import CommandInfo

from batcher import __version__
from batcher.cli.interrupts import INTERRUPTED, INTERRUPTED_SENTENCE
from batcher.cli.planning import planning
from batcher.cli.results import results
from batcher.cli.sending import sending
from batcher.cli.tools import tools
from batcher.commands.base.answer import ENDING, RUNNING
from batcher.commands.base.json_lines import write_json_line
from batcher.errors import BatcherError, ExitCode, InputError, describe_disk_error

click_errors = typer._click.exceptions
"""The errors of a wrong command line. Typer carries a copy of click, and gives these classes no public name."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"batcher {__version__}")
        raise typer.Exit


@app.callback()
def declare_options(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", help="Print the version.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Plans, submits, polls and collects batches at OpenAI, within the quota, paying for nothing twice."""


for group in (planning, sending, results, tools):
    app.add_typer(group)


def main() -> None:
    """Run the command of the command line, and have its end written into the log of the job where it acts."""
    try:
        _run_command()
    except SystemExit as ended:
        RUNNING.end(ended.code if isinstance(ended.code, int) else int(ExitCode.DONE))
        raise
    except KeyboardInterrupt:
        RUNNING.end(INTERRUPTED)
        raise
    except Exception as error:
        RUNNING.explain(f"{type(error).__name__}, an error in Batcher; its traceback was printed")
        RUNNING.end(int(ExitCode.UNEXPECTED))
        raise


def _run_command() -> NoReturn:
    """Run the command and end the process. A mistake of the user is one sentence and exit code 2, never a traceback."""
    try:
        _check_arguments(sys.argv[1:])
        _leave_options_out(sys.argv[1] if len(sys.argv) > 1 else "")
        code = app(standalone_mode=False)
        sys.stdout.flush()
        gc.freeze()  # the last garbage collection, at the end of the process, then has nothing to go through
        if code == INTERRUPTED:  # what Typer returns where Ctrl-C ended a command
            _print_error_line(INTERRUPTED_SENTENCE)
        sys.exit(ENDING.compute_exit_code(code if isinstance(code, int) else int(ExitCode.DONE)))
    except BatcherError as error:
        _print_error_line(str(error), error.logged)
        sys.exit(int(error.exit_code))
    except BrokenPipeError:  # `batcher status | head`: the reader has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(int(ExitCode.DONE))
    except OSError as error:
        sentence = describe_disk_error(error)
        if not sentence:
            raise
        _print_error_line(sentence)
        sys.exit(int(ExitCode.USAGE))
    except click_errors.NoArgsIsHelpError as error:
        error.show()
        sys.exit(int(ExitCode.USAGE))
    except click_errors.ClickException as error:
        _print_error_line(_format_usage_error(error))
        sys.exit(int(ExitCode.USAGE))


def _check_arguments(words: Sequence[str]) -> None:
    """Raise InputError for an argument that is not UTF-8: neither the state nor JSON can hold it."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            what = f"the argument {word} is not UTF-8"
            raise InputError(f"{what}; write it in UTF-8, and rename a file whose name is not") from error


def _leave_options_out(named: str) -> None:
    """Have Typer build the options of the named command alone: it builds those of all commands at each start.

    The list of commands needs their names and help only.
    """
    for group in (planning, sending, results, tools):
        group.registered_commands[:] = [_list_only(info, named) for info in group.registered_commands]


def _list_only(info: CommandInfo, named: str) -> CommandInfo:
    """Return a command without what it takes and does, unless it is the named one."""
    if info.callback is None or get_command_name(info.callback.__name__) == named:
        return info
    listed = {"name": get_command_name(info.callback.__name__), "help": info.callback.__doc__, "callback": lambda: None}
    return CommandInfo(**{**vars(info), **listed})


def _format_usage_error(error: click_errors.ClickException) -> str:
    """Return a wrong command line in one sentence."""
    text = error.format_message().replace("Value error, ", "").rstrip(".").replace(". Did you", "; did you")
    text += " " if text.endswith("?") else "; "
    context = getattr(error, "ctx", None)
    command = f"batcher {context.info_name}" if context is not None and context.parent is not None else "batcher"
    return f"{text[:1].lower()}{text[1:]}`{command} --help` shows what it takes"


def _print_error_line(sentence: str, logged: str = "") -> None:
    """Print a sentence on one line of stderr, with escapes for what a file or a service may have put into it.

    logged: the sentence for the log, where it is another one.
    """
    from batcher.views.clean import escape_line
    from batcher.views.folding import fold_for_terminal

    line = escape_line(sentence)
    RUNNING.explain(escape_line(logged or sentence))
    if "--json" in sys.argv:
        import orjson

        write_json_line(orjson.dumps({"version": 1, "error": line}).decode())  # an ErrorAnswer, without its import
    typer.echo(fold_for_terminal(f"batcher: {line}", sys.stderr), err=True)
