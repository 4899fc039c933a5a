"""docs/architecture.md held against the code: what it names exists, no module is missing, the layers are the contract.

`BATCHER_WRITE_DOCS=1 pytest tests/docs` draws the layers again.
"""

import ast
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.support.world import ROOT

PACKAGE = ROOT / "batcher"
PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text(encoding="utf-8")
BEGIN, END = "<!-- layers -->\n", "<!-- end of layers -->"


def draw_layers() -> str:
    """Return the drawing of the layers that pyproject.toml has as contracts: a column of folders for each container."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    drawn = [draw_contract(each) for each in contracts if each["type"] == "layers"]
    return "\n".join(["```text", "\n\n".join(drawn), "```", ""])


def draw_contract(contract: Mapping[str, Sequence[str]]) -> str:
    (container,) = contract["containers"]
    rows = [f"    {layer}" for layer in contract["layers"]]
    return "\n".join([f"{container.replace('.', '/')}/", "\n      |\n".join(rows)])


def test_the_drawing_is_made_from_the_contract() -> None:
    before, _, rest = TEXT.partition(BEGIN)
    _, _, after = rest.partition(END)
    drawn = before + BEGIN + draw_layers() + END + after
    if os.environ.get("BATCHER_WRITE_DOCS"):
        PAGE.write_text(drawn, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == drawn


def first_column(text: str) -> list[str]:
    return re.findall(r"(?m)^\| `([^`]+)` \|", text)


def folders() -> set[str]:
    """Return the folders of the package that hold modules or statements, and the data."""
    found = {path.parent for path in PACKAGE.rglob("*.py")} | {path.parent for path in PACKAGE.glob("state/sql/*.sql")}
    inside = {f"{folder.relative_to(PACKAGE)}/" for folder in found - {PACKAGE}}
    return {folder for folder in inside if not folder.startswith("data/")} | {"data/"}


def modules() -> set[str]:
    paths = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    return {path for path in paths if not path.startswith("data/")}


def test_every_folder_has_a_line_and_no_other() -> None:
    section = TEXT.split("## The tree")[1].split("\n## ")[0]
    assert first_column(section) == sorted(set(first_column(section)), key=first_column(section).index)
    assert set(first_column(section)) == folders()
    for folder, line in re.findall(r"(?m)^\| `([^`]+)` \| (.*) \|$", section):
        assert 12 <= len(line.split()) <= 20, folder


def test_every_module_has_a_line_and_no_other() -> None:
    section = TEXT.split("## What each file holds")[1].split("\n## ")[0]
    named = first_column(section)
    assert len(named) == len(set(named))
    assert set(named) == modules()


def test_every_file_of_statements_is_named() -> None:
    files = {f"state/sql/{path.name}" for path in PACKAGE.glob("state/sql/*.sql")}
    assert set(re.findall(r"`(state/sql/\w+\.sql)`", TEXT)) == files


def test_every_path_leads_somewhere() -> None:
    paths = re.findall(r"`(\w[\w./]*/[\w.]*)`", TEXT)
    assert len(paths) > 130
    missing = [path for path in paths if not ((PACKAGE / path).exists() or (ROOT / path).exists())]
    assert missing == [], "paths are from batcher/, or from the repository's root"


@cache
def names_in(module: Path) -> frozenset[str]:
    """Return what a module defines: functions, classes, their methods and fields, and constants."""
    return frozenset(defined(ast.parse(module.read_text(encoding="utf-8")).body, ""))


def defined(body: Sequence[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name):
                yield prefix + name
            case ast.ClassDef(name=name, body=inner):
                yield prefix + name
                yield from defined(inner, f"{prefix}{name}.")
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name
            case _:
                pass


def dotted_names() -> list[str]:
    heads = {path.parts[0] for path in map(Path, modules())}
    tops = "|".join(sorted(head.removesuffix(".py") for head in heads))
    names = re.findall(rf"`((?:{tops})(?:\.\w+)+)`", TEXT)
    return sorted({name for name in names if not name.endswith(".py")})


@pytest.mark.parametrize("name", dotted_names())
def test_every_function_that_is_named_exists(name: str) -> None:
    parts = name.split(".")
    places = [(PACKAGE.joinpath(*parts[:n]).with_suffix(".py"), ".".join(parts[n:])) for n in range(1, len(parts))]
    found = [(path, inner) for path, inner in places if path.is_file()]
    assert found, f"no module of batcher holds {name}"
    path, inner = found[0]
    assert inner in names_in(path), f"{path.relative_to(ROOT)} has no {inner}"


def test_many_functions_are_named() -> None:
    assert len(dotted_names()) > 80


def test_the_questions_and_journeys_are_there() -> None:
    questions = TEXT.split("## Where is ...")[1].split("\n## ")[0]
    assert len(re.findall(r"(?m)^\| (?!what|---)", questions)) >= 15
    journeys = TEXT.split("## Four journeys")[1].split("\n## ")[0].split("### ")[1:]
    assert len(journeys) == 4
    for journey in journeys:
        steps = re.findall(r"(?m)^(\d+)\. `[\w.]+`$", journey)
        assert steps == [str(n) for n in range(1, len(steps) + 1)]
        assert len(steps) > 10
