"""docs/reference/json.md and the JSON schemas beside it, written from the contracts of the commands.

`BATCHER_WRITE_DOCS=1 pytest tests/docs/test_json.py` writes them again.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.main import get_command

from batcher.cli.app import app
from batcher.contracts.base import Answer
from batcher.contracts.registry import CONTRACTS, ERROR, STREAMED
from tests.docs.pages import table_cell, write_or_compare
from tests.support.world import ROOT

FOLDER = ROOT / "docs" / "reference" / "json"
PAGE = ROOT / "docs" / "reference" / "json.md"
ALL: Mapping[str, type[Answer]] = {**CONTRACTS, "error": ERROR, **STREAMED}
INTRO = """# The JSON of the commands

Made from the contracts in `batcher/contracts/` (`BATCHER_WRITE_DOCS=1 pytest tests/docs/test_json.py`). The Python API
([python.md](../python.md)) returns the same objects.

- With `--json` a command prints one object on one line of stdout, and everything else on stderr.
- `version` is the version of the contract, 1 today. New fields may join within a version, so ignore what you do not
  know; none is renamed, removed or changed in meaning.
- A time is ISO 8601 with its zone, UTC. Dollars are numbers, rounded to a millionth. What there is not is null.
- `run --json`, `poll --json` and `status --watch --json` print a line for each event and for progress before their
  answer, which is the last line; these lines have the key `kind`.
- Where a command could not do what it was to, the object is `{"version": 1, "error": "..."}`; the exit code says more
  (README, "Exit codes").
- Each object has a [JSON schema](https://json-schema.org) in [json/](json/); a test holds what the commands print
  against it.
"""


def make_schema(contract: type[Answer]) -> dict[str, Any]:
    """Return the JSON schema of what a command prints."""
    schema = contract.model_json_schema(mode="serialization")
    return {"$schema": Draft202012Validator.META_SCHEMA["$id"], **_without_titles(schema)}


def _without_titles(value: Any) -> Any:
    """Return a schema without the titles that pydantic makes of names."""
    if isinstance(value, list):
        return [_without_titles(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: {name: _without_titles(part) for name, part in each.items()}
        if key in {"properties", "$defs"}
        else _without_titles(each)
        for key, each in value.items()
        if key != "title"
    }


@pytest.mark.parametrize("name", ALL)
def test_the_schema_is_made_from_the_contract(name: str) -> None:
    schema = make_schema(ALL[name])
    Draft202012Validator.check_schema(schema)
    assert "version" in schema["required"]
    write_or_compare(FOLDER / f"{name}.json", json.dumps(schema, indent=2, ensure_ascii=False) + "\n")


def test_there_is_no_other_schema() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(ALL)


def test_every_command_that_prints_json_has_a_contract() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    with_json = {name for name, command in commands.items() for part in command.params if "--json" in part.opts}
    assert with_json == {name.partition("-")[0] for name in CONTRACTS}


def describe_type(schema: Mapping[str, Any]) -> str:
    """Return the type of a field in words, with a link to the part that it is."""
    if "anyOf" in schema:
        return " or ".join(describe_type(each) for each in schema["anyOf"])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name.removesuffix('Part')}](#{name.removesuffix('Part').lower()})"
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {describe_type(schema['items'])}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {describe_type(schema['additionalProperties'])}s"
    return "time" if schema.get("format") == "date-time" else str(kind)


def draw_fields(schema: Mapping[str, Any]) -> Iterator[str]:
    yield "| field | type | |"
    yield "|---|---|---|"
    for name, field in schema["properties"].items():
        yield f"| `{name}` | {describe_type(field)} | {table_cell(field.get('description', ''))} |"


def draw_page() -> str:
    lines, parts = [INTRO], dict[str, Any]()
    for name, contract in ALL.items():
        schema = make_schema(contract)
        parts |= schema.get("$defs", {})
        lines += [f"## {name}", "", f"{table_cell(schema['description'])} ([schema](json/{name}.json))", ""]
        lines += [*draw_fields(schema), ""]
    lines += ["# Parts", ""]
    for name in sorted(set(parts) - {contract.__name__ for contract in ALL.values()}):
        lines += [f"## {name.removesuffix('Part')}", "", table_cell(parts[name]["description"]), ""]
        lines += [*draw_fields(parts[name]), ""]
    return "\n".join(lines)


def test_the_page_is_made_from_the_contracts() -> None:
    write_or_compare(PAGE, draw_page())
