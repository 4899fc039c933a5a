"""The commands that look at what came: their options and help."""

from pathlib import Path
from typing import Annotated

import typer

from batcher.cli.declaration import (
    CONFIG,
    ConfigOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    finish_command,
    start_session,
)
from batcher.commands.base.bounds import LARGEST

PANEL = "Results"
"""The heading of these commands in `batcher --help`."""

results = typer.Typer()


@results.command(rich_help_panel=PANEL)
def collect(
    out: Annotated[Path, typer.Option("--out", help="Where to: .parquet, .csv or .jsonl.")],
    config: ConfigOption = CONFIG,
    failed: Annotated[
        Path | None, typer.Option("--failed", help="Write the rows without an accepted answer to this file.")
    ] = None,
    only_new: Annotated[bool, typer.Option("--only-new", help="Only answers that were not collected before.")] = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Write the accepted answers, earlier ones included, to one file."""
    from batcher.commands.results.collect import run_collect

    finish_command(run_collect(start_session(config, json, quiet=quiet), out, failed, only_new, overwrite), json)


@results.command(rich_help_panel=PANEL)
def status(
    config: ConfigOption = CONFIG,
    watch: Annotated[bool, typer.Option("--watch", help="Again every few seconds, until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """Show progress, batches in flight, cost and when it will end."""
    from batcher.commands.results.status import run_status, watch_status

    session = start_session(config, json)
    if watch:
        raise typer.Exit(int(watch_status(session)))
    finish_command(run_status(session), json)


@results.command(rich_help_panel=PANEL)
def report(
    out: Annotated[Path, typer.Option("--out", help="Where to: a file that ends in .html.")],
    config: ConfigOption = CONFIG,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that `report` did not write.")] = False,
    json: JsonOption = False,
) -> None:
    """Write the job as one page for any browser: progress, shards, failures, money, prompts, dead lines, answers."""
    from batcher.commands.results.report import run_report

    finish_command(run_report(start_session(config, json), out, overwrite), json)


@results.command(rich_help_panel=PANEL)
def show(
    artist_id: Annotated[
        str, typer.Argument(metavar="ROW_ID", help="The row's id. If it is unknown, similar ones are listed.")
    ],
    config: ConfigOption = CONFIG,
    json: JsonOption = False,
) -> None:
    """Show one row's whole history."""
    from batcher.commands.results.status import run_show

    finish_command(run_show(start_session(config, json), artist_id), json)


@results.command(rich_help_panel=PANEL)
def answers(
    artist_id: Annotated[
        str | None, typer.Argument(metavar="[ROW_ID]", help="The row's id. None with --refused: of all.")
    ] = None,
    config: ConfigOption = CONFIG,
    refused: Annotated[bool, typer.Option("--refused", help="Only answers that were refused.")] = False,
    failure: Annotated[
        str | None, typer.Option("--class", help="Only answers that were refused with this class of failure.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=LARGEST, help="The newest N.")] = 20,
    json: JsonOption = False,
) -> None:
    """Show answers as they came, each with the reason it was refused for."""
    from batcher.commands.results.answers import run_answers

    finish_command(run_answers(start_session(config, json), artist_id, refused, failure, limit), json)


@results.command(rich_help_panel=PANEL)
def judge(
    config: ConfigOption = CONFIG,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Take answers that are refused now from their lines, and hold these.")
    ] = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Judge kept answers again with today's `accept` and output model; nothing is asked or paid.

    An answer of an earlier run (`plan --done`) is not judged: it comes back where the one that has replaced it is
    revoked.
    """
    from batcher.commands.results.judge import run_judge

    finish_command(run_judge(start_session(config, json, quiet=quiet), dry_run, revoke), json)


@results.command(rich_help_panel=PANEL)
def versions(
    first: Annotated[int | None, typer.Argument(metavar="[A]", help="The number of a prompt.")] = None,
    second: Annotated[int | None, typer.Argument(metavar="[B]", help="Another one; default: today's.")] = None,
    config: ConfigOption = CONFIG,
    json: JsonOption = False,
) -> None:
    """List the prompts that were asked with, or show what differs between prompt A and prompt B."""
    from batcher.commands.results.versions import run_versions

    finish_command(run_versions(start_session(config, json), first, second), json)


@results.command(rich_help_panel=PANEL)
def sql(
    statement: Annotated[
        str | None,
        typer.Argument(metavar="[SQL]", help='A question, such as "select count(*) from lines".'),
    ] = None,
    config: ConfigOption = CONFIG,
    describe: Annotated[
        str | None, typer.Option("--describe", metavar="VIEW", help="The columns of a view, with what each holds.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="The statements that make the views in a copy of the state file.")
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Write the answer as CSV.")] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, max=LARGEST, help="Rows at most; default: 1,000 in a table, else 200,000."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Ask the state in SQL; without a question list what may be asked.

    The state is only read, and no file beside it. While a question is answered nothing else can write to the state: it
    is ended after 20 s. Longer ones are for a copy of the state (docs/reference/views.md).
    """
    from batcher.commands.results.sql import QueryWish, run_sql

    wish = QueryWish(statement, describe, schema, csv, limit)
    finish_command(run_sql(start_session(config, json), wish), json, csv or schema)
