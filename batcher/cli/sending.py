"""The commands that send, or decide what is sent: their options and help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from batcher.cli.declaration import (
    CONFIG,
    AddOption,
    AllOption,
    ConfigOption,
    DoneOption,
    InputOption,
    JsonOption,
    LimitOption,
    MovedOption,
    NoWaitOption,
    OverwriteOption,
    QuietOption,
    SkipOption,
    StreamOption,
    YesOption,
    finish_command,
    start_session,
)
from batcher.commands.base.bounds import LARGEST

PANEL = "Send"
"""The heading of these commands in `batcher --help`."""

SamePromptOption = Annotated[
    bool, typer.Option("--same-prompt", help="Ask with the prompt that each line had, not with today's.")
]

sending = typer.Typer()


@sending.command(rich_help_panel=PANEL)
def submit(
    config: ConfigOption = CONFIG,
    shards: Annotated[
        int | None, typer.Option("--shards", min=1, max=LARGEST, help="Release only the N most urgent shards.")
    ] = None,
    service_moved: MovedOption = False,
    no_wait: NoWaitOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Release the most urgent planned shards and start what fits into the headroom."""
    from batcher.commands.sending.submit import run_submit

    finish_command(run_submit(start_session(config, json, service_moved, quiet, no_wait), shards), json)


@sending.command(rich_help_panel=PANEL)
def poll(
    config: ConfigOption = CONFIG,
    once: Annotated[bool, typer.Option("--once", help="One round, without waiting.")] = False,
    service_moved: MovedOption = False,
    no_wait: NoWaitOption = False,
    quiet: QuietOption = False,
    json: StreamOption = False,
) -> None:
    """Follow everything released to its end: start what room allows, wait out delays and pauses, store results."""
    from batcher.commands.sending.poll import run_poll

    session = start_session(config, json, service_moved, quiet, no_wait)._replace(streams=json and not once)
    finish_command(run_poll(session, once), json)


@sending.command(rich_help_panel=PANEL)
def run(
    config: ConfigOption = CONFIG,
    out: Annotated[Path | None, typer.Option("--out", help="Collect to this file at the end.")] = None,
    failed: Annotated[
        Path | None, typer.Option("--failed", help="And the rows without an accepted answer to this one.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Write the job as a page to this file, every 5 minutes and at the end."),
    ] = None,
    overwrite: OverwriteOption = False,
    tail: Annotated[
        Literal["batch", "direct"],
        typer.Option("--tail", help="direct: the last lines at once, at the direct lane's price."),
    ] = "batch",
    input: InputOption = None,
    done: DoneOption = None,
    limit: LimitOption = None,
    everything: AllOption = False,
    skip_bad_rows: SkipOption = False,
    add: AddOption = False,
    service_moved: MovedOption = False,
    no_wait: NoWaitOption = False,
    quiet: QuietOption = False,
    json: StreamOption = False,
) -> None:
    """Plan, release all, poll until every line is done, dead or held, and collect: the unattended mode.

    Without options for the plan it goes on with what was planned last.
    """
    from batcher.commands.planning.plan import choose_run_options
    from batcher.commands.sending.run import RunFiles, run_all
    from batcher.plan.options import PlanWish

    session = start_session(config, json, service_moved, quiet, no_wait)._replace(streams=json)
    options = choose_run_options(session, PlanWish(input, done, limit, everything, skip_bad_rows), add)
    files = RunFiles(out, failed, report, overwrite)
    finish_command(run_all(session, options, files, tail == "direct"), json)


@sending.command(rich_help_panel=PANEL)
def pilot(
    config: ConfigOption = CONFIG,
    lines: Annotated[
        int | None,
        typer.Option("--lines", min=1, max=LARGEST, help="How many lines. Default: what batcher.toml names, else 200."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, max=LARGEST, help="Another seed draws other lines, the same one the same."),
    ] = None,
    service_moved: MovedOption = False,
    no_wait: NoWaitOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Send a sample of the unsent lines first and show what came: answers, refusals with reasons, cost of the rest.

    Rows with few facts and rows with many, of each priority, are in it. The same command goes on with a pilot that is
    not over.
    """
    from batcher.commands.sending.pilot import run_pilot

    finish_command(run_pilot(start_session(config, json, service_moved, quiet, no_wait), lines, seed), json)


@sending.command(rich_help_panel=PANEL)
def direct(
    config: ConfigOption = CONFIG,
    workers: Annotated[
        str | None,
        typer.Option("--workers", help="Calls at once: conservative (2), moderate (4), aggressive (8), auto, or 1-16."),
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", min=1, max=LARGEST, help="Only lines of this priority.")
    ] = None,
    failure: Annotated[
        str | None,
        typer.Option("--class", help="Only lines that failed with this class; dead and held ones come back."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, max=LARGEST, help="At most N lines.")] = None,
    unreleased: Annotated[
        bool,
        typer.Option("--unreleased", help="Also what was planned and not released, as with a filter."),
    ] = False,
    same_prompt: SamePromptOption = False,
    service_moved: MovedOption = False,
    no_wait: NoWaitOption = False,
    yes: YesOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Ask for what is not in flight now, one call a line, at the standard or flex price: the urgent, the last few."""
    from batcher.commands.sending.direct import DirectOptions, run_direct

    options = DirectOptions(priority, failure, limit, unreleased, same_prompt)
    finish_command(run_direct(start_session(config, json, service_moved, quiet, no_wait), workers, options, yes), json)


@sending.command(rich_help_panel=PANEL)
def pause(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Send nothing new until `batcher resume`; what is in flight is still followed."""
    from batcher.commands.sending.pause import run_pause

    finish_command(run_pause(start_session(config, json)), json)


@sending.command(rich_help_panel=PANEL)
def resume(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """End every pause, release the brake, and go on although too few answers of the pilot were accepted."""
    from batcher.commands.sending.pause import run_resume

    finish_command(run_resume(start_session(config, json)), json)


@sending.command(rich_help_panel=PANEL)
def cancel(
    config: ConfigOption = CONFIG,
    shard: Annotated[
        list[int] | None, typer.Option("--shard", help="Only this shard; may be given more than once.")
    ] = None,
    service_moved: MovedOption = False,
    yes: YesOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Cancel at OpenAI what is in flight, follow it to its end, store what was answered, and hold the rest."""
    from batcher.commands.sending.cancel import run_cancel

    finish_command(run_cancel(start_session(config, json, service_moved, quiet), shard or [], yes), json)


@sending.command(rich_help_panel=PANEL)
def retry(
    config: ConfigOption = CONFIG,
    failure: Annotated[
        str | None, typer.Option("--class", help="Only lines that ended with this class of failure.")
    ] = None,
    row: Annotated[str | None, typer.Option("--row", "--artist", help="Only the line of the row with this id.")] = None,
    held: Annotated[bool, typer.Option("--held", help="Only held lines.")] = False,
    dead: Annotated[bool, typer.Option("--dead", help="Only dead lines.")] = False,
    same_prompt: SamePromptOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Bring dead and held lines back, with today's prompt.

    Lines whose answer was lost and that may already be paid stay held: `--class missing` buys them again.
    """
    from batcher.commands.sending.retry import run_retry

    finish_command(run_retry(start_session(config, json, quiet=quiet), failure, row, held, dead, same_prompt), json)


@sending.command(rich_help_panel=PANEL)
def redo(
    config: ConfigOption = CONFIG,
    row: Annotated[
        list[str] | None,
        typer.Option("--row", "--artist", help="Only the answer to the row with this id; may be given more than once."),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option("--version", min=1, max=LARGEST, help="Only answers to the prompt of this number."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            "--where", help='Only answers whose collected row fulfils a SQL condition, as "length(text) < 80".'
        ),
    ] = None,
    yes: YesOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Ask again for answers that exist, with today's prompt; each stays until its new one is accepted.

    Without options it takes the answers that `batcher judge --revoke` has revoked.
    """
    from batcher.commands.sending.redo import RedoOptions, run_redo

    finish_command(
        run_redo(start_session(config, json, quiet=quiet), RedoOptions(row or None, version, where), yes), json
    )
