"""The how-to pages: their commands exist, their files are whole, and the index of the documents has every page."""

import ast
import configparser
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from batcher.cli.app import app
from tests.support.terminal_screens import MOMENTS, SIZES, STEPS, WIDTHS, draw_index
from tests.support.world import ROOT

DOCS = ROOT / "docs"
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


def commands_of(text: str) -> list[tuple[str, list[str]]]:
    """Return the commands of Batcher in a text, each with its options."""
    found = re.findall(r"(?<![\w.])batcher ([a-z]+)\b([^\n`|&#]*)", text)
    return [(name, re.findall(r"(?<!\w)--?[a-z][a-z-]*", rest)) for name, rest in found if name in COMMANDS]


def block_of(page: str, language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", (DOCS / "how-to" / page).read_text(encoding="utf-8"), re.DOTALL)
    return str(block)


@pytest.mark.parametrize("page", [DOCS / "tutorial.md", *HOW_TO], ids=lambda page: page.stem)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    named = commands_of(page.read_text(encoding="utf-8"))
    assert named
    for name, options in named:
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert set(options) <= known, f"{page.name}: batcher {name}"


def test_the_unit_is_that_of_the_page() -> None:
    unit = (DOCS / "how-to" / "batcher.service").read_text(encoding="utf-8")
    assert block_of("systemd.md", "ini") == unit
    read = configparser.RawConfigParser()
    read.read_string(unit)
    assert shlex.split(read["Service"]["ExecStart"])[0].endswith("/batcher")


def test_the_task_of_airflow_is_python() -> None:
    ast.parse(block_of("airflow.md", "python"))


def test_the_dockerfile_copies_what_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"(?m)^COPY (.*) \S+$", text) for name in line.split()]
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in sent, f"{name} is not sent to the engine"


def test_every_document_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = {path for path in DOCS.rglob("*.md") if path.parent.name != "decisions"} | {DOCS / "decisions/README.md"}
    missing = [str(path.relative_to(DOCS)) for path in pages if f"]({path.relative_to(DOCS)})" not in index]
    assert missing == ["README.md"]


def test_every_command_has_its_pictures() -> None:
    shown = {words[1] for step in STEPS if (words := step.shown.split())[1] in COMMANDS}
    assert shown == set(COMMANDS)
    names = {f"{step.name}-{width}" for step in STEPS for width in WIDTHS}
    names |= {f"live-{moment}-{rows}x{columns}" for moment in MOMENTS for rows, columns in SIZES}
    assert {path.stem for path in (DOCS / "screens").glob("*.svg")} == names
    assert (DOCS / "screens" / "README.md").read_text(encoding="utf-8") == draw_index()
