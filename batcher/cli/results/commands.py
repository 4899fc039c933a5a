"""The commands that look at what came: their options and help."""

from pathlib import Path
from typing import Annotated

import typer

from batcher.cli.base.declaration import (
    CONFIG,
    ConfigOption,
    JsonOption,
    OverwriteOption,
    finish_command,
    start_session,
)

PANEL = "Results"
"""The heading of these commands in `batcher --help`."""

results = typer.Typer()


@results.command(rich_help_panel=PANEL)
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

    finish_command(run_collect(start_session(config, json), out, failed, only_new, overwrite), json)


@results.command(rich_help_panel=PANEL)
def status(
    config: ConfigOption = CONFIG,
    watch: Annotated[bool, typer.Option("--watch", help="Again every few seconds, until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """Tell how far it is: counts, batches in flight, room, who waits until when, cost."""
    from batcher.cli.results.status import run_status, watch_status

    session = start_session(config, json)
    if watch:
        watch_status(session)
        return
    finish_command(run_status(session), json)


@results.command(rich_help_panel=PANEL)
def show(
    artist_id: Annotated[str, typer.Argument(help="As in the table; an unknown one is told with those like it.")],
    config: ConfigOption = CONFIG,
    json: JsonOption = False,
) -> None:
    """Tell one artist's whole history."""
    from batcher.cli.results.status import run_show

    finish_command(run_show(start_session(config, json), artist_id), json)
