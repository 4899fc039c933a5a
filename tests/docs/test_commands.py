"""docs/reference/commands.md: every command with its options, written from what Typer knows of them.

`BATCHER_WRITE_DOCS=1 pytest tests/docs` writes it again.
"""

import re
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.main import get_command

from batcher.cli.app import app
from batcher.cli.planning import PANEL as PLAN
from batcher.cli.results import PANEL as RESULTS
from batcher.cli.sending import PANEL as SEND
from batcher.cli.tools import PANEL as TOOLS
from batcher.errors import ExitCode
from tests.docs.pages import table_cell, table_row, write_or_compare
from tests.support.world import ROOT

PAGE = ROOT / "docs" / "reference" / "commands.md"
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
PANELS = (PLAN, SEND, RESULTS, TOOLS)
INTRO = """# The commands

Made from the code (`BATCHER_WRITE_DOCS=1 pytest tests/docs`). `batcher COMMAND --help` shows the same.

- With `--json` a command prints one object ([json.md](json.md)). Everything but its answer goes to stderr.
- What can be set for good is in [settings.md](settings.md).
"""
SIGNALS = """
Ctrl-C ends `run`, `poll`, `submit`, `direct` and `cancel` at the next safe point with 3, other commands with
130. SIGTERM and SIGHUP end them at the same points with 143 and 129. The README says more ("How it recovers").
"""


def describe_type(annotation: Any) -> str:
    """Return what an option takes, in words; "" for a flag."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is types.UnionType:
        return describe_type(next(each for each in get_args(annotation) if each is not types.NoneType))
    if get_origin(annotation) is list:
        return f"{describe_type(get_args(annotation)[0])}, more than once"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    return {bool: "", int: "whole number", float: "number", str: "text", Path: "path"}[annotation]


def _format_bound(bound: float) -> str:
    return f"{bound:g}" if bound < 1e6 else f"{bound:,}"


def describe_bounds(parameter: Any) -> str:
    """Return the bounds of a number; "" where there are none."""
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if low is None:
        return "" if high is None else f"up to {_format_bound(high)}"
    return f"from {_format_bound(low)}" if high is None else f"{_format_bound(low)} to {_format_bound(high)}"


def describe_default(parameter: Any) -> str:
    """Return the default as it is typed; "" where an option is off without it."""
    if parameter.required:
        return "needed"
    default = parameter.default
    return "" if default is None or default is False or callable(default) else f"`{default}`"


def draw_parameter(parameter: Any) -> str:
    """Return a row: the names, what it takes, the default, the help."""
    is_option = parameter.opts[0].startswith("-")
    shown = parameter.opts if is_option else [parameter.metavar or parameter.name.upper()]
    names = ", ".join(f"`{name}`" for name in [*shown, *parameter.secondary_opts])
    takes = ", ".join(filter(None, [describe_type(parameter.type_descriptor.annotation), describe_bounds(parameter)]))
    cells = (names, takes, describe_default(parameter), table_cell(parameter.help or ""))
    return table_row(cells)


def draw_command(name: str) -> Iterator[str]:
    """Yield the lines of a command."""
    command = COMMANDS[name]
    yield from ["", f"### `batcher {name}`", "", (command.help or "").strip(), ""]
    shown = [parameter for parameter in command.params if not parameter.hidden and parameter.name != "help"]
    if shown:
        yield from ["| option | takes | default | |", "|---|---|---|---|"]
        yield from map(draw_parameter, shown)


def draw_exit_codes() -> Iterator[str]:
    """Yield the exit codes with the text that stands under each in the code."""
    source = (ROOT / "batcher" / "errors.py").read_text(encoding="utf-8")
    body = source.split("class ExitCode(IntEnum):")[1].split("\nclass ")[0]
    texts = dict(re.findall(r'    (\w+) = \d+\n    """(.*?)"""', body, re.DOTALL))
    assert set(texts) == set(ExitCode.__members__)
    yield from ["", "## Exit codes", "", "| code | means |", "|---|---|"]
    yield from (f"| {int(code)} | {table_cell(texts[code.name])} |" for code in ExitCode)
    yield from [SIGNALS]


def draw_page() -> str:
    lines = [INTRO.rstrip()]
    for panel in PANELS:
        lines += ["", f"## {panel}"]
        for name, command in COMMANDS.items():
            if command.rich_help_panel == panel:
                lines += draw_command(name)
    return "\n".join([*lines, *draw_exit_codes()])


def test_the_page_is_made_from_the_commands() -> None:
    write_or_compare(PAGE, draw_page())


def test_every_command_is_under_a_heading() -> None:
    assert {command.rich_help_panel for command in COMMANDS.values()} == set(PANELS)
    assert len(re.findall(r"(?m)^### ", draw_page())) == len(COMMANDS)
