"""Texts that a schema's `format` or `pattern` asks for: the shortest that fits, as no meaning is needed."""

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

FORMATS: Mapping[str, str] = {
    "date": "2026-11-27",
    "date-time": "2026-11-27T07:30:00Z",
    "time": "07:30:00Z",
    "duration": "PT1H",
    "email": "somebody@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "0f3b1e8e-6f0e-4a53-8f3a-0d3b1c9f9a10",
    "uri": "https://example.com/",
}
"""A text of each format that strict schemas may name, and of `uri`, which pydantic writes.

Source of the others: OpenAI, guides/structured-outputs, supported properties of strings.
"""
_MOST_REPEATED = 1_000
"""Repetitions of a part that are written at most; a pattern that asks for more is not followed."""
_CATEGORIES = {
    "CATEGORY_DIGIT": "0", "CATEGORY_NOT_DIGIT": "a", "CATEGORY_SPACE": " ", "CATEGORY_NOT_SPACE": "a",
    "CATEGORY_WORD": "a", "CATEGORY_NOT_WORD": " ",
}  # fmt: skip
_CANDIDATES = "aA0 -_./:,;@#x1bz!?"
"""Characters of which one is taken that a set does not exclude."""


def find_matching_text(pattern: str) -> str | None:
    """Return a text that a regular expression matches; None for one that is not understood, or asks for too much."""
    try:
        # The parser of `re` itself, which has no public name; a Python without it has no texts for patterns.
        parts = importlib.import_module("re._parser").parse(pattern)
        text = _write_parts(parts)
        return text if re.search(pattern, text) else None
    except (re.error, ImportError, AttributeError, ValueError, RecursionError, OverflowError):
        return None


def _write_parts(parts: Any) -> str:
    return "".join(_write_part(str(kind), value) for kind, value in parts)


def _write_part(kind: str, value: Any) -> str:
    """Return the text of a part of a parsed expression. Raises ValueError for one that is not understood."""
    write = _WRITERS.get(kind)
    if write is None:
        raise ValueError(kind)
    return write(value)


def _write_repeated(value: tuple[int, int, Any]) -> str:
    least, _, parts = value
    if least > _MOST_REPEATED:
        raise ValueError("too many repetitions")
    return _write_parts(parts) * int(least)


def _write_one_of(members: Sequence[tuple[Any, Any]]) -> str:
    """Return one character of a set."""
    if str(members[0][0]) == "NEGATE":
        excluded = [_make_class(str(kind), value) for kind, value in members[1:]]
        return next(each for each in _CANDIDATES if not any(holds(each) for holds in excluded))
    kind, value = members[0]
    return chr(value[0]) if str(kind) == "RANGE" else _write_part(str(kind), value)


def _make_class(kind: str, value: Any) -> Callable[[str], bool]:
    """Return whether a character is of a member of a set."""
    if kind == "RANGE":
        return lambda each: value[0] <= ord(each) <= value[1]
    if kind == "LITERAL":
        return lambda each: ord(each) == value
    shorthand = {"CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s", "CATEGORY_WORD": r"\w"}
    name = str(value)
    expression = re.compile(shorthand[name.replace("NOT_", "")])
    return lambda each: (expression.match(each) is not None) != ("NOT_" in name)


_WRITERS: Mapping[str, Callable[[Any], str]] = {
    "LITERAL": chr,
    "NOT_LITERAL": lambda value: next(each for each in _CANDIDATES if ord(each) != value),
    "ANY": lambda _value: "a",
    "AT": lambda _value: "",
    "CATEGORY": lambda value: _CATEGORIES[str(value)],
    "IN": _write_one_of,
    "BRANCH": lambda value: _write_parts(value[1][0]),
    "SUBPATTERN": lambda value: _write_parts(value[-1]),
    "MAX_REPEAT": _write_repeated,
    "MIN_REPEAT": _write_repeated,
    "POSSESSIVE_REPEAT": _write_repeated,
}
