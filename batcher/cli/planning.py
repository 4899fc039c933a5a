"""The commands before anything is sent: their options and help."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

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
    QuietOption,
    SkipOption,
    YesOption,
    finish_command,
    start_session,
)
from batcher.cli.interrupts import begin_command
from batcher.commands.base.bounds import LARGEST

PANEL = "Plan"
"""The heading of these commands in `batcher --help`."""

planning = typer.Typer()


@planning.command(rich_help_panel=PANEL)
def init(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="[FOLDER|TABLE]",
            help="A folder for the example, made if it does not exist; or a table (.csv, .jsonl, .parquet).",
        ),
    ] = Path(),
    prompt: Annotated[
        str | None, typer.Option("--prompt", help='What to ask of each row: "Classify {subject}: {body}".')
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option("--schema", help='The fields of an answer: "label bug|billing|other, urgency int".'),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option("--id", help="The column that has a different value in every row. Default: the likeliest."),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", help="embeddings: a vector of each row. moderations: flags of harmful ones."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where the job for a table goes. Default: here.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write a commented batcher.toml and an example job, or a job that fits a table; overwrites nothing.

    Without --schema, what --prompt asks for is answered in plain text.
    """
    from batcher.commands.planning.init import InitWish, run_init

    begin_command()
    finish_command(run_init(InitWish(target, prompt, schema, id, folder, endpoint)), json)


@planning.command(rich_help_panel=PANEL)
def plan(
    config: ConfigOption = CONFIG,
    input: InputOption = None,
    done: DoneOption = None,
    limit: LimitOption = None,
    everything: AllOption = False,
    skip_bad_rows: SkipOption = False,
    add: AddOption = False,
    replan: Annotated[
        bool, typer.Option("--replan", help="Cut everything unsent again, from the table and the job as they are now.")
    ] = False,
    reuse: Annotated[
        Path | None,
        typer.Option(
            "--reuse", help="The state folder of an earlier job: take its answers to lines that ask the same."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Read the table, render and count every line, cut shards; print lines, tokens, price and forecast.

    What is not named is as in the last plan, which takes in no more rows after --limit.
    """
    from batcher.commands.planning.plan import choose_options, run_plan
    from batcher.plan.options import PlanWish

    session = start_session(config, json, quiet=quiet)
    wish = PlanWish(input, done, limit, everything, skip_bad_rows)
    options = choose_options(session, wish, add or dry_run)
    finish_command(run_plan(session, replace(options, replan=replan, reuse=reuse, dry_run=dry_run)), json)


@planning.command(rich_help_panel=PANEL)
def preview(
    rows: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ROW_ID]...", help="Whose lines. Default: the most urgent one's."),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, max=LARGEST, help="Of N rows, from the shortest to the longest."),
    ] = None,
    input: Annotated[
        Path | None,
        typer.Option("--input", help="Take the rows from this table, and not from the plan."),
    ] = None,
    config: ConfigOption = CONFIG,
    json: JsonOption = False,
) -> None:
    """Show lines exactly as they will be sent, with their tokens and price; sends and writes nothing."""
    from batcher.commands.planning.preview import run_preview

    finish_command(run_preview(start_session(config, json), rows or [], sample, input), json)


@planning.command(rich_help_panel=PANEL)
def forget(
    row: Annotated[
        list[str] | None, typer.Option("--row", "--artist", help="The id of one; may be given more than once.")
    ] = None,
    not_in_table: Annotated[
        bool, typer.Option("--not-in-table", help="All that the table does not have, or not any more.")
    ] = False,
    input: Annotated[
        Path | None, typer.Option("--input", help="The table of --not-in-table. Default: that of the last plan.")
    ] = None,
    yes: YesOption = False,
    config: ConfigOption = CONFIG,
    json: JsonOption = False,
) -> None:
    """Take rows that were never sent out of the plan, after their count; what was sent stays.

    A later plan takes them in again where its table has them.
    """
    from batcher.commands.planning.forget import run_forget

    finish_command(run_forget(start_session(config, json), row or [], not_in_table, input, yes), json)
