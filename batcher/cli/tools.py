"""The commands beside the job: their options and help."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batcher import __version__
from batcher.cli.declaration import CONFIG, ConfigOption, JsonOption, finish_command, print_drawing, start_session
from batcher.cli.interrupts import begin_command
from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.bounds import LARGEST
from batcher.commands.base.json_lines import write_json_line

if TYPE_CHECKING:
    from batcher.contracts.tools import VersionAnswer

PANEL = "Tools"
"""The heading of these commands in `batcher --help`."""

tools = typer.Typer()


@tools.command(rich_help_panel=PANEL)
def doctor(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Check key, endpoint, model, limits, state and disk, and say what to do about each."""
    from batcher.commands.tools.doctor import run_doctor

    finish_command(run_doctor(start_session(config, json)), json)


@tools.command(rich_help_panel=PANEL)
def bill(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Show what was counted beside what OpenAI says was used and billed (needs OPENAI_ADMIN_KEY)."""
    from batcher.commands.tools.bill import run_bill

    finish_command(run_bill(start_session(config, json)), json)


@tools.command(rich_help_panel=PANEL)
def log(
    config: ConfigOption = CONFIG,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="And lines that come, until Ctrl-C.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="Only lines after this: 2h, 30m, 1d, or a time as 2026-11-27T07:30.")
    ] = None,
    shard: Annotated[
        int | None, typer.Option("--shard", min=1, max=LARGEST, help="Only lines about this shard.")
    ] = None,
    lines: Annotated[
        int | None,
        typer.Option("--lines", min=1, max=LARGEST, help="The newest N. Default: 100; all with --since or --shard."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the log: what acting commands did, with times, and why they ended."""
    from batcher.commands.tools.log import choose_lines, describe_line, draw_line, show_log

    session = start_session(config, json)
    choice = choose_lines(since, shard, lines)
    if json:
        show_log(session, choice, follow, lambda line: write_json_line(describe_line(line).to_json()))
    else:
        show_log(session, choice, follow, lambda line: print_drawing(draw_line(line)))


@tools.command(rich_help_panel=PANEL)
def sandbox(
    port: Annotated[int, typer.Option("--port", help="Where it listens; 0: any free port.", min=0, max=65535)] = 8080,
    speed: Annotated[float, typer.Option("--speed", help="Sandbox seconds in one real second.", min=0.001)] = 1.0,
    tier: Annotated[int, typer.Option("--tier", help="The usage tier whose limits it keeps.", min=1, max=5)] = 3,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same answers and faults.")] = 0,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where its files go; default: a temporary one.")
    ] = None,
) -> None:
    """Serve a local Batch API on the loopback interface: for trying a job at no cost."""
    from batcher.commands.tools.sandbox import run_sandbox

    begin_command()
    run_sandbox(port, speed, tier, seed, folder)


@tools.command(rich_help_panel=PANEL)
def demo(
    config: ConfigOption = CONFIG,
    input: Annotated[Path | None, typer.Option("--input", help="Another table than the configured one.")] = None,
    speed: Annotated[float, typer.Option("--speed", help="Sandbox seconds in one real second.", min=1)] = 1800.0,
    svg: Annotated[Path | None, typer.Option("--svg", help="Save what was seen as a picture.")] = None,
    folder: Annotated[
        Path,
        typer.Option("--folder", help="Where answers, settings and state are left; that of an earlier demo is reused."),
    ] = Path("demo"),
) -> None:
    """Run the real commands on the configured job against the sandbox, over HTTP, at no cost."""
    from batcher.commands.tools.demo import run_demo

    begin_command()
    run_demo(config, input, speed, svg, folder)


@tools.command(rich_help_panel=PANEL)
def version(json: JsonOption = False) -> None:
    """Print the version."""

    def describe() -> "VersionAnswer":
        from batcher.contracts.tools import VersionAnswer

        return VersionAnswer(batcher=__version__)

    finish_command(CommandAnswer(lambda: f"batcher {__version__}", describe), json)
