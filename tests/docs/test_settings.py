"""docs/reference/settings.md: every key of batcher.toml, with type, bounds and default from the settings' classes, and
the comment that the key has in the batcher.toml that `batcher init` writes.

`BATCHER_WRITE_DOCS=1 pytest tests/docs` writes it again.
"""

import re
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from batcher.config.sections import Config, ConfigSection
from tests.docs.pages import table_cell, table_row, write_or_compare
from tests.support.world import ROOT

PAGE = ROOT / "docs" / "reference" / "settings.md"
TEMPLATE = (ROOT / "batcher" / "data" / "example" / "batcher.toml").read_text(encoding="utf-8")
INTRO = """# The settings

Made from the code (`BATCHER_WRITE_DOCS=1 pytest tests/docs`). They stand in `batcher.toml`; `batcher init` writes one
that has every key with its default, commented out. An unknown key is an error that names the valid ones.

- `BATCHER_SECTION__KEY` in the environment overrides a key: `BATCHER_LIMITS__TIER=4`.
- `--config` names another file. Relative paths start at the folder of the file.
- `OPENAI_API_KEY` and `OPENAI_BASE_URL` are no settings; they stay in the environment.
"""


def read_comments() -> Mapping[tuple[str, str], str]:
    """Return the comment of each section ("" as its key) and of each key of the template."""
    found: dict[tuple[str, str], str] = {}
    section, place = "", None
    for line in TEMPLATE.splitlines():
        if head := re.fullmatch(r"\[(\w+)\](?:\s+# (.*))?", line):
            section, place = head[1], (head[1], "")
            found[place] = head[2] or ""
        elif key := re.fullmatch(r"#?(\w+) = .*?(?:\s# (.*))?", line):
            place = (section, key[1])
            found[place] = key[2] or ""
        elif place and (more := re.fullmatch(r"\s{8,}# (.*)", line)):
            found[place] += " " + more[1]
    return found


COMMENTS = read_comments()


def describe_type(annotation: Any) -> str:
    """Return what a key takes, in words."""
    if get_origin(annotation) is Literal:
        return ", ".join(f'`"{value}"`' for value in get_args(annotation))
    if get_origin(annotation) in {types.UnionType, Union}:
        return " or ".join(describe_type(each) for each in get_args(annotation) if each is not types.NoneType)
    if get_origin(annotation) is tuple:
        return f"list of {describe_type(get_args(annotation)[0])}"
    if issubclass(annotation, Enum):
        return ", ".join(f'`"{member.value}"`' for member in annotation)
    return {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}[annotation]


def describe_bounds(field: FieldInfo) -> str:
    """Return the bounds of a key; "" where there are none."""
    words = {"ge": "from", "gt": "above", "le": "up to", "lt": "below"}
    bounds = {name: getattr(each, name) for each in field.metadata for name in words if hasattr(each, name)}
    return " ".join(f"{words[name]} {value:,}" for name, value in bounds.items() if abs(value) < 2**62)


def describe_default(value: Any) -> str:
    """Return a default as TOML has it; "" for none."""
    if value is None:
        return ""
    if isinstance(value, ConfigSection):
        rows = [f"{name} = {describe_default(each).strip('`')}" for name, each in value if each is not None]
        return f"`{{ {', '.join(rows)} }}`" if rows else ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str | Path):
        return f'`"{value}"`'
    return f"`{list(value) if isinstance(value, tuple) else f'{value:g}' if value < 1e6 else f'{value:_}'}`"


def draw_rows(model: type[ConfigSection], section: str, prefix: str = "") -> Iterator[str]:
    """Yield a row for each key of a section; a table within it has one for itself and one for each of its keys."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        is_table = isinstance(inner, type) and issubclass(inner, ConfigSection)
        takes = "table" if is_table else describe_type(inner)
        takes = ", ".join(filter(None, [takes, describe_bounds(field)]))
        comment = table_cell(COMMENTS.get((section, name), "") if not prefix else "")
        yield table_row([f"`{prefix}{name}`", takes, describe_default(field.default), comment])
        if name == "parameters":
            yield from draw_rows(inner, section, "parameters.")  # type: ignore[arg-type]


def draw_page() -> str:
    lines = [INTRO.rstrip()]
    for section, field in Config.model_fields.items():
        lines += ["", f"## `[{section}]`", ""]
        if comment := COMMENTS[section, ""]:
            lines += [f"{comment[:1].upper()}{comment[1:]}.", ""]
        lines += ["| key | takes | default | |", "|---|---|---|---|"]
        lines += draw_rows(field.annotation, section)  # type: ignore[arg-type]
    return "\n".join([*lines, ""])


def test_the_page_is_made_from_the_settings() -> None:
    write_or_compare(PAGE, draw_page())


def test_the_template_has_every_key() -> None:
    keys = {(section, key) for section, field in Config.model_fields.items() for key in field.annotation.model_fields}  # type: ignore[union-attr]
    assert {place for place in COMMENTS if place[1]} == keys
