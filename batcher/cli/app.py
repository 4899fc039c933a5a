"""The commands. Each is: options -> session -> one call -> the answer on stdout -> exit code."""

import gc
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from batcher import __version__
from batcher.cli.base.answer import ENDING, CommandAnswer
from batcher.errors import BatcherError, ExitCode, describe_disk_error

if TYPE_CHECKING:  # what a command needs is imported when it runs, so that `--help` and a mistake do not wait for it
    from batcher.cli.base.session import Session

click_errors = typer._click.exceptions
"""The errors of a wrong command line. Typer carries a copy of click, and gives these classes no public name."""

app = typer.Typer(
    help="Plans, submits, polls and collects batches at OpenAI, within the quota, paying for nothing twice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigOption = Annotated[
    Path, typer.Option("--config", help="The configuration file; its relative paths start at its folder.")
]
InputOption = Annotated[
    Path | None,
    typer.Option("--input", help="The table: .csv, .jsonl or .parquet. Default: what batcher.toml names."),
]
DoneOption = Annotated[
    Path | None, typer.Option("--done", help="A table of bios that exist (artist_id, bio): not asked for again.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Take in only the N most urgent new artists.")]
SkipOption = Annotated[bool, typer.Option("--skip-bad-rows", help="Leave bad rows out, and list them as skipped.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]
MovedOption = Annotated[
    bool, typer.Option("--service-moved", help="The service of this job has a new address; go on there.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that `collect` did not write, or that hold more.")
]
CONFIG = Path("batcher.toml")
"""The configuration file where --config names no other."""
INTERRUPTED = 130
"""The code that Typer returns where Ctrl-C ended a command: 128 and the number of the signal, as in shells."""


def main() -> None:
    """Run the command of the command line. A mistake of the user is one sentence and exit code 2, never a traceback."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        gc.freeze()  # the last garbage collection, at the end of the process, then has nothing to go through
        if code == INTERRUPTED:
            _print_error_line("interrupted; run the same command again to go on")
        sys.exit(ENDING.compute_exit_code(code if isinstance(code, int) else int(ExitCode.DONE)))
    except BatcherError as error:
        _print_error_line(str(error))
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


def _format_usage_error(error: click_errors.ClickException) -> str:
    """Return a wrong command line in one sentence."""
    text = error.format_message().replace("Value error, ", "").rstrip(".").replace(". Did you", "; did you")
    text += " " if text.endswith("?") else "; "
    context = getattr(error, "ctx", None)
    command = f"batcher {context.info_name}" if context is not None and context.parent is not None else "batcher"
    return f"{text[:1].lower()}{text[1:]}`{command} --help` shows what it takes"


def _print_error_line(sentence: str) -> None:
    """Print a sentence on one line of stderr, with escapes for what a file or a service may have put into it."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(sentence.split()))
    if "--json" in sys.argv:
        _write_json({"error": line})
    typer.echo(f"batcher: {line}", err=True)


def _open_session(config: Path, json: bool, service_moved: bool = False) -> "Session":
    from batcher.cli.base.session import open_session

    return open_session(config, json, service_moved)


def _finish(answer: CommandAnswer, as_json: bool) -> NoReturn:
    """Print the answer of a command on stdout, and end the command with its exit code."""
    if as_json:
        _write_json(answer.data)
    elif isinstance(answer.drawn, str):
        from batcher.views.clean import clean_text

        typer.echo(clean_text(answer.drawn))
    else:
        from batcher.views.progress import StdoutConsole

        StdoutConsole().print(answer.drawn)
    raise typer.Exit(int(answer.code))


def _write_json(data: object) -> None:
    """Write one object on one line of stdout."""
    import orjson

    from batcher.views.clean import clean_json

    sys.stdout.write(clean_json(orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS, default=str).decode()) + "\n")


@app.command()
def plan(
    config: ConfigOption = CONFIG,
    input: InputOption = None,
    done: DoneOption = None,
    limit: LimitOption = None,
    skip_bad_rows: SkipOption = False,
    replan: Annotated[
        bool, typer.Option("--replan", help="Cut everything unsent again, from the table and the job as they are now.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Read the table, render and count every line, cut shards; print lines, tokens, price and forecast."""
    from batcher.cli.planning.plan import configured_options, run_plan

    session = _open_session(config, json)
    options = configured_options(session).with_overrides(input, done, limit, skip_bad_rows)
    _finish(run_plan(session, replace(options, replan=replan, dry_run=dry_run)), json)


@app.command()
def submit(
    config: ConfigOption = CONFIG,
    shards: Annotated[
        int | None, typer.Option("--shards", min=1, help="Release only the N most urgent shards.")
    ] = None,
    service_moved: MovedOption = False,
    json: JsonOption = False,
) -> None:
    """Release the most urgent planned shards and start what fits into the headroom."""
    from batcher.cli.sending.submit import run_submit

    _finish(run_submit(_open_session(config, json, service_moved), shards), json)


@app.command()
def poll(
    config: ConfigOption = CONFIG,
    once: Annotated[bool, typer.Option("--once", help="One round, without waiting.")] = False,
    service_moved: MovedOption = False,
    json: JsonOption = False,
) -> None:
    """Follow everything released to its end: start what room allows, wait out delays and pauses, ingest."""
    from batcher.cli.sending.poll import run_poll

    _finish(run_poll(_open_session(config, json, service_moved), once), json)


@app.command()
def run(
    config: ConfigOption = CONFIG,
    out: Annotated[Path | None, typer.Option("--out", help="Collect to this file at the end.")] = None,
    failed: Annotated[Path | None, typer.Option("--failed", help="And what has no bio to this one.")] = None,
    overwrite: OverwriteOption = False,
    tail: Annotated[
        Literal["batch", "direct"],
        typer.Option("--tail", help="direct: the last lines at once, at the standard price."),
    ] = "batch",
    input: InputOption = None,
    done: DoneOption = None,
    limit: LimitOption = None,
    skip_bad_rows: SkipOption = False,
    service_moved: MovedOption = False,
    json: JsonOption = False,
) -> None:
    """Plan, release all, poll until every line is done, dead or held, and collect: the unattended mode.

    Without options for the plan it goes on with what was planned last.
    """
    from batcher.cli.planning.plan import configured_options
    from batcher.cli.sending.run import run_all

    session = _open_session(config, json, service_moved)
    options = None
    if input or done or limit or skip_bad_rows:
        options = configured_options(session).with_overrides(input, done, limit, skip_bad_rows)
    _finish(run_all(session, options, out, failed, overwrite, tail == "direct"), json)


@app.command()
def direct(
    config: ConfigOption = CONFIG,
    workers: Annotated[
        str | None,
        typer.Option("--workers", help="Calls at once: conservative (2), moderate (4), aggressive (8), auto, or 1-16."),
    ] = None,
    priority: Annotated[int | None, typer.Option("--priority", min=1, help="Only lines of this priority.")] = None,
    failure: Annotated[
        str | None,
        typer.Option("--class", help="Only lines that failed with this class; dead and held ones come back."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many lines.")] = None,
    unreleased: Annotated[
        bool,
        typer.Option("--unreleased", help="Also what was planned and not released, as with a filter."),
    ] = False,
    service_moved: MovedOption = False,
    json: JsonOption = False,
) -> None:
    """Ask for what is not in flight now, one call a line, at the standard price: the urgent, and the last few."""
    from batcher.cli.sending.direct import DirectOptions, run_direct

    options = DirectOptions(priority, failure, limit, unreleased)
    _finish(run_direct(_open_session(config, json, service_moved), workers, options), json)


@app.command()
def collect(
    out: Annotated[Path, typer.Option("--out", help="Where to: .parquet, .csv or .jsonl.")],
    config: ConfigOption = CONFIG,
    failed: Annotated[Path | None, typer.Option("--failed", help="Write what has no bio to this file.")] = None,
    only_new: Annotated[bool, typer.Option("--only-new", help="Only bios that were not collected before.")] = False,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Write the bios, earlier ones included, to one file."""
    from batcher.cli.results.collect import run_collect

    _finish(run_collect(_open_session(config, json), out, failed, only_new, overwrite), json)


@app.command()
def status(
    config: ConfigOption = CONFIG,
    watch: Annotated[bool, typer.Option("--watch", help="Again every few seconds, until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """Tell how far it is: counts, batches in flight, room, who waits until when, cost."""
    from batcher.cli.results.status import run_status, watch_status

    session = _open_session(config, json)
    if watch:
        watch_status(session)
        return
    _finish(run_status(session), json)


@app.command()
def show(
    artist_id: Annotated[str, typer.Argument(help="As in the table; an unknown one is told with those like it.")],
    config: ConfigOption = CONFIG,
    json: JsonOption = False,
) -> None:
    """Tell one artist's whole history."""
    from batcher.cli.results.status import run_show

    _finish(run_show(_open_session(config, json), artist_id), json)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to; made if it does not exist.")] = Path(),
    json: JsonOption = False,
) -> None:
    """Write a commented batcher.toml and an example job; overwrites nothing."""
    from batcher.cli.planning.init import run_init

    _finish(run_init(folder), json)


@app.command()
def pause(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Send nothing new until `batcher resume`; what is in flight is still followed."""
    from batcher.cli.sending.pause import run_pause

    _finish(run_pause(_open_session(config, json)), json)


@app.command()
def resume(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """End every pause."""
    from batcher.cli.sending.pause import run_resume

    _finish(run_resume(_open_session(config, json)), json)


@app.command()
def cancel(
    config: ConfigOption = CONFIG,
    shard: Annotated[
        list[int] | None, typer.Option("--shard", help="Only this shard; may be given more than once.")
    ] = None,
    service_moved: MovedOption = False,
    json: JsonOption = False,
) -> None:
    """Cancel at OpenAI what is in flight, follow it to its end, take in what was done, and hold the rest."""
    from batcher.cli.sending.cancel import run_cancel

    _finish(run_cancel(_open_session(config, json, service_moved), shard or []), json)


@app.command()
def retry(
    config: ConfigOption = CONFIG,
    failure: Annotated[
        str | None, typer.Option("--class", help="Only lines that ended with this class of failure.")
    ] = None,
    artist: Annotated[str | None, typer.Option("--artist", help="Only the line of this artist.")] = None,
    held: Annotated[bool, typer.Option("--held", help="Only held lines.")] = False,
    dead: Annotated[bool, typer.Option("--dead", help="Only dead lines.")] = False,
    json: JsonOption = False,
) -> None:
    """Bring dead and held lines back; perhaps paid ones only with --class missing."""
    from batcher.cli.sending.retry import run_retry

    _finish(run_retry(_open_session(config, json), failure, artist, held, dead), json)


@app.command()
def doctor(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Check key, endpoint, model, limits, state and disk, and say what to do about each."""
    from batcher.cli.tools.doctor import run_doctor

    _finish(run_doctor(_open_session(config, json)), json)


@app.command()
def sandbox(
    port: Annotated[int, typer.Option("--port", help="Where it listens; 0: any free port.", min=0, max=65535)] = 8080,
    speed: Annotated[float, typer.Option("--speed", help="Sandbox seconds in one real second.", min=0.001)] = 1.0,
    tier: Annotated[int, typer.Option("--tier", help="The usage tier whose limits it keeps.", min=1, max=5)] = 3,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same answers and faults.")] = 0,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where its files go; default: a temporary one.")
    ] = None,
) -> None:
    """Serve a local Batch API on the loopback interface: for trying things out, for nothing."""
    from batcher.cli.tools.sandbox import run_sandbox

    run_sandbox(port, speed, tier, seed, folder)


@app.command()
def demo(
    config: ConfigOption = CONFIG,
    input: Annotated[Path | None, typer.Option("--input", help="Another table than the configured one.")] = None,
    speed: Annotated[float, typer.Option("--speed", help="Sandbox seconds in one real second.", min=1)] = 1800.0,
    svg: Annotated[Path | None, typer.Option("--svg", help="Save what was seen as a picture.")] = None,
) -> None:
    """Run the real commands on the configured job against the sandbox, over HTTP, for nothing."""
    from batcher.cli.tools.demo import run_demo

    run_demo(config, input, speed, svg)


@app.command()
def version(json: JsonOption = False) -> None:
    """Print the version."""
    _finish(CommandAnswer(f"batcher {__version__}", {"version": __version__}), json)
