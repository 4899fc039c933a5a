"""The commands. Each is: options -> configuration -> one call -> report -> exit code."""

import dataclasses
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from batcher import __version__
from batcher.errors import BatcherError, ExitCode, describe_disk_error

if TYPE_CHECKING:  # what a command needs is imported when it runs: `--help` and a mistake wait for none of it
    from rich.console import RenderableType

    from batcher.cli.session import Session

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
CONFIG = Path("batcher.toml")
INTERRUPTED = 130
"""What Typer gives back where Ctrl-C ended a command, as shells have it."""


def main() -> None:
    """A command: a user's mistake is one sentence and exit code 2, never a traceback."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        gc.freeze()  # Python's last look for cycles has nothing to go through
        if code == INTERRUPTED:
            _print_error_line("interrupted; run the same command again to go on")
        sys.exit(code if isinstance(code, int) else int(ExitCode.DONE))
    except BatcherError as error:
        _print_error_line(str(error))
        sys.exit(int(error.exit_code))
    except BrokenPipeError:  # `batcher status | head`: who read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(int(ExitCode.DONE))
    except OSError as error:
        told = describe_disk_error(error)
        if not told:
            raise
        _print_error_line(told)
        sys.exit(int(ExitCode.USAGE))
    except typer._click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(int(ExitCode.USAGE))
    except typer._click.exceptions.ClickException as error:
        _print_error_line(_format_usage_error(error))
        sys.exit(int(ExitCode.USAGE))


def _format_usage_error(error: Any) -> str:
    """A wrong command line in one sentence."""
    text = error.format_message().replace("Value error, ", "").rstrip(".").replace(". Did you", "; did you")
    text += " " if text.endswith("?") else "; "
    context = getattr(error, "ctx", None)
    command = f"batcher {context.info_name}" if context is not None and context.parent is not None else "batcher"
    return f"{text[:1].lower()}{text[1:]}`{command} --help` shows what it takes"


def _print_error_line(sentence: str) -> None:
    """One sentence on one line, whatever a file or a service has put into it."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(sentence.split()))
    if "--json" in sys.argv:
        _write_json({"error": line})
    typer.echo(f"batcher: {line}", err=True)


def _open_session(config: Path, json: bool) -> "Session":
    """What every command has. Raises ConfigError."""
    from batcher.cli.session import open_session  # noqa: PLC0415 - keeps --help quick, as every import in a command

    return open_session(config, json)


def _print_answer(as_json: bool, drawn: "RenderableType | str", data: Any) -> None:
    """The command's answer on stdout: for people, or for machines."""
    if as_json:
        _write_json(data)
    elif isinstance(drawn, str):
        typer.echo(drawn)
    else:
        from batcher.views.progress import StdoutConsole  # noqa: PLC0415

        StdoutConsole().print(drawn)


def _write_json(data: Any) -> None:
    """One object on one line."""
    import orjson  # noqa: PLC0415

    sys.stdout.write(orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS, default=str).decode() + "\n")


@app.command()
def plan(  # noqa: PLR0913, PLR0917 - one parameter an option: that is how Typer reads them
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
    from batcher.cli.plan import configured_options, run_plan  # noqa: PLC0415
    from batcher.views.plan import draw_plan, plan_to_json  # noqa: PLC0415

    session = _open_session(config, json)
    options = configured_options(session).with_overrides(input, done, limit, skip_bad_rows)
    options = dataclasses.replace(options, replan=replan, dry_run=dry_run)
    result, report, summary = run_plan(session, options)
    _print_answer(json, draw_plan(result, report, summary), plan_to_json(result, report, summary))


@app.command()
def submit(
    config: ConfigOption = CONFIG,
    shards: Annotated[
        int | None, typer.Option("--shards", min=1, help="Release only the N most urgent shards.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Release the most urgent planned shards and start what fits into the headroom."""
    from batcher.cli.submit import run_submit  # noqa: PLC0415

    session = _open_session(config, json)
    drawn, data = run_submit(session, shards)
    _print_answer(json, drawn, data)


@app.command()
def poll(
    config: ConfigOption = CONFIG,
    once: Annotated[bool, typer.Option("--once", help="One round, without waiting.")] = False,
    json: JsonOption = False,
) -> None:
    """Follow everything released to its end: start what room allows, wait out delays and pauses, ingest."""
    from batcher.cli.poll import run_poll  # noqa: PLC0415

    session = _open_session(config, json)
    drawn, data, code = run_poll(session, once)
    _print_answer(json, drawn, data)
    raise typer.Exit(int(code))


@app.command()
def run(  # noqa: PLR0913, PLR0917 - as for plan
    config: ConfigOption = CONFIG,
    out: Annotated[Path | None, typer.Option("--out", help="Collect to this file at the end.")] = None,
    failed: Annotated[Path | None, typer.Option("--failed", help="And what has no bio to this one.")] = None,
    tail: Annotated[
        Literal["batch", "direct"],
        typer.Option("--tail", help="direct: the last lines at once, at the standard price."),
    ] = "batch",
    input: InputOption = None,
    done: DoneOption = None,
    limit: LimitOption = None,
    skip_bad_rows: SkipOption = False,
    json: JsonOption = False,
) -> None:
    """Plan, release all, poll until every line is done, dead or held, and collect: the unattended mode.

    Without options for the plan it goes on with what was planned last.
    """
    from batcher.cli.plan import configured_options  # noqa: PLC0415
    from batcher.cli.run import run_all  # noqa: PLC0415

    session = _open_session(config, json)
    options = None
    if input or done or limit or skip_bad_rows:
        options = configured_options(session).with_overrides(input, done, limit, skip_bad_rows)
    drawn, data, code = run_all(session, options, out, failed, tail == "direct")
    _print_answer(json, drawn, data)
    raise typer.Exit(int(code))


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
    json: JsonOption = False,
) -> None:
    """Ask for what is not in flight now, one call a line, at the standard price: the urgent, and the last few."""
    from batcher.cli.direct import run_direct  # noqa: PLC0415

    session = _open_session(config, json)
    drawn, data, code = run_direct(session, workers, priority, failure, limit)
    _print_answer(json, drawn, data)
    raise typer.Exit(int(code))


@app.command()
def collect(
    out: Annotated[Path, typer.Option("--out", help="Where to: .parquet, .csv or .jsonl.")],
    config: ConfigOption = CONFIG,
    failed: Annotated[Path | None, typer.Option("--failed", help="Write what has no bio to this file.")] = None,
    only_new: Annotated[bool, typer.Option("--only-new", help="Only bios that were not collected before.")] = False,
    json: JsonOption = False,
) -> None:
    """Write the bios, earlier ones included, to one file."""
    from batcher.cli.collect import run_collect  # noqa: PLC0415

    session = _open_session(config, json)
    drawn, data, code = run_collect(session, out, failed, only_new)
    _print_answer(json, drawn, data)
    raise typer.Exit(int(code))


@app.command()
def status(
    config: ConfigOption = CONFIG,
    watch: Annotated[bool, typer.Option("--watch", help="Again every few seconds, until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """Tell how far it is: counts, batches in flight, room, who waits until when, cost."""
    from batcher.cli.status import run_status, watch_status  # noqa: PLC0415

    session = _open_session(config, json)
    if watch:
        watch_status(session)
        return
    drawn, data = run_status(session)
    _print_answer(json, drawn, data)


@app.command()
def show(
    artist_id: Annotated[str, typer.Argument(help="As in the table; an unknown one is told with those like it.")],
    config: ConfigOption = CONFIG,
    json: JsonOption = False,
) -> None:
    """Tell one artist's whole history."""
    from batcher.cli.status import run_show  # noqa: PLC0415

    session = _open_session(config, json)
    drawn, data = run_show(session, artist_id)
    _print_answer(json, drawn, data)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to; made if it does not exist.")] = Path(),
    json: JsonOption = False,
) -> None:
    """Write a commented batcher.toml and an example job; overwrites nothing."""
    from batcher.cli.init import scaffold_job  # noqa: PLC0415

    told = scaffold_job(folder)
    _print_answer(json, "\n".join(told), {"told": told})


@app.command()
def pause(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Send nothing new until `batcher resume`; what is in flight is still followed."""
    from batcher.cli.pause import run_pause  # noqa: PLC0415

    session = _open_session(config, json)
    told = run_pause(session)
    _print_answer(json, told, {"told": told})


@app.command()
def resume(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """End every pause."""
    from batcher.cli.pause import run_resume  # noqa: PLC0415

    session = _open_session(config, json)
    told = run_resume(session)
    _print_answer(json, told, {"told": told})


@app.command()
def cancel(
    config: ConfigOption = CONFIG,
    shard: Annotated[
        list[int] | None, typer.Option("--shard", help="Only this shard; may be given more than once.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Cancel at OpenAI what is in flight, follow it to its end, take in what was done, and hold the rest."""
    from batcher.cli.cancel import run_cancel  # noqa: PLC0415

    session = _open_session(config, json)
    drawn, data = run_cancel(session, shard or [])
    _print_answer(json, drawn, data)


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
    from batcher.cli.retry import run_retry  # noqa: PLC0415

    session = _open_session(config, json)
    drawn, data = run_retry(session, failure, artist, held, dead)
    _print_answer(json, drawn, data)


@app.command()
def doctor(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Check key, endpoint, model, limits, state and disk, and say what to do about each."""
    from batcher.cli.doctor import run_doctor  # noqa: PLC0415

    session = _open_session(config, json)
    drawn, data, code = run_doctor(session)
    _print_answer(json, drawn, data)
    raise typer.Exit(int(code))


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
    from batcher.cli.sandbox import run_sandbox  # noqa: PLC0415

    run_sandbox(port, speed, tier, seed, folder)


@app.command()
def demo(
    config: ConfigOption = CONFIG,
    input: Annotated[Path | None, typer.Option("--input", help="Another table than the configured one.")] = None,
    speed: Annotated[float, typer.Option("--speed", help="Sandbox seconds in one real second.", min=1)] = 1800.0,
    svg: Annotated[Path | None, typer.Option("--svg", help="Save what was seen as a picture.")] = None,
) -> None:
    """Run the real commands on the configured job against the sandbox, over HTTP, for nothing."""
    from batcher.cli.demo import run_demo  # noqa: PLC0415

    run_demo(config, input, speed, svg)


@app.command()
def version(json: JsonOption = False) -> None:
    """Print the version."""
    _print_answer(json, f"batcher {__version__}", {"version": __version__})
