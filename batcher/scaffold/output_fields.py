"""The fields of an answer as `batcher init --schema` takes them: "label bug|billing|other, urgency int"."""

import json
import keyword
from typing import NamedTuple

from batcher.errors import InputError
from batcher.job.schema import COLLECT_COLUMNS
from batcher.scaffold.choosing import has_meaning

TYPES = ("str", "int", "float", "bool")
EXAMPLE = '"label bug|billing|other, urgency int"'
KNOWN_TYPES = f"{', '.join(TYPES)}, list[str], or a choice such as bug|billing|other"
OTHER_NAMES = {
    "string": "str", "text": "str", "integer": "int", "number": "float", "double": "float", "boolean": "bool",
    "list": "list[str]", "array": "list[str]",
}  # fmt: skip
"""What other languages call these types."""


_MARKS = "[]\"'`"
"""What no value of a choice begins or ends with: it would be a part of the value."""


class OutputField(NamedTuple):
    """A field of an answer, and its type as job.py writes it."""

    name: str
    type: str


def parse_output_fields(text: str) -> list[OutputField]:
    """Return the fields of an answer. Raises InputError with what is wrong with the text."""
    fields: list[OutputField] = []
    for part in text.split(","):
        name, _, kind = part.strip().replace(":", " ", 1).partition(" ")
        if not name:
            raise InputError(f"--schema {text!r}: a field is missing; write fields as in {EXAMPLE}")
        _check_name(name, [field.name for field in fields])
        fields.append(OutputField(name, _parse_type(name, kind.strip())))
    return fields


def _check_name(name: str, others: list[str]) -> None:
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name) or name.startswith("_"):
        raise InputError(f"--schema: {name!r} is no name of a field; take letters, digits and _, as in {EXAMPLE}")
    if name.lower() in [other.lower() for other in others]:
        raise InputError(f"--schema: the field {name} stands there twice; give one of them another name")
    if name.lower() in COLLECT_COLUMNS or has_meaning(name):
        raise InputError(f"--schema: a field cannot be called {name}, which has a meaning of its own; rename it")


def _parse_type(name: str, kind: str) -> str:
    if not kind:
        raise InputError(f"--schema: the field {name} has no type; the types are {KNOWN_TYPES}")
    if kind.startswith("list[") and kind.endswith("]") and "|" in kind:
        return f"list[{_parse_choice(name, kind[5:-1])}]"
    if "|" in kind:
        return _parse_choice(name, kind)
    plain = kind.replace(" ", "")
    if plain in TYPES or (plain.startswith("list[") and plain[5:-1] in TYPES and plain.endswith("]")):
        return plain
    other = OTHER_NAMES.get(plain.lower())
    meant = f"did you mean {other}? " if other is not None else ""
    raise InputError(f"--schema: the field {name} has the type {kind!r}; {meant}the types are {KNOWN_TYPES}")


def _parse_choice(name: str, kind: str) -> str:
    values = [value.strip() for value in kind.split("|")]
    if not all(values) or len(set(values)) < len(values):
        raise InputError(f"--schema: the choice {kind!r} of {name} has a value that is empty or stands there twice")
    for value in values:
        if value in TYPES:
            raise InputError(
                f"--schema: the choice {kind!r} of {name} has the value {value!r}, which is a type; give it one type"
            )
        if value[0] in _MARKS or value[-1] in _MARKS or "list[" in value:
            raise InputError(
                f"--schema: the choice {kind!r} of {name} has the value {value!r}; write it without brackets and quotes"
            )
    return f"Literal[{', '.join(json.dumps(value, ensure_ascii=False) for value in values)}]"
