"""What a row of a job is: the fields that name and rank it, and all its fields as the texts of user.md."""

import datetime
from collections.abc import Callable, Mapping, Sequence, Set
from decimal import Decimal
from enum import Enum
from types import ModuleType
from typing import Any, get_args

import orjson
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from batcher.core.model import ARTIST_COLUMNS, RowColumns
from batcher.errors import JobError

ROW_MODELS = ("Artist", "Row")
"""The names that the model of a row may have. A row of the second one says itself which of its fields are which."""
NUMBERS = (int, float, Decimal, object, Any)
"""What a field may be declared as whose values can be priorities."""


def find_row_columns(module: ModuleType, model: type[BaseModel], place: str) -> RowColumns:
    """Return which fields of the model are a row's id, name and priority.

    They are those that ID, NAME and PRIORITY of job.py name, else the usual ones where the model has them. place: of
    job.py. Raises JobError for a text that names no field, or one that is named twice.
    """
    fields = model.model_fields
    usual = ARTIST_COLUMNS
    ranks = usual.priority in fields and _may_hold_numbers(fields["priority"].annotation)
    columns = RowColumns(
        _read_column_name(module, "ID", usual.id, fields, place) or usual.id,
        _read_column_name(module, "NAME", usual.name if usual.name in fields else None, fields, place),
        _read_column_name(module, "PRIORITY", usual.priority if ranks else None, fields, place),
    )
    if columns.id not in fields:
        raise JobError(
            f'{place} does not say which field of Row is the id; write ID = "..." above it, with one of its names: '
            f"{', '.join(fields)}"
        )
    _check_columns(columns, fields, place)
    return columns


def _read_column_name(
    module: ModuleType, variable: str, usual: str | None, fields: Mapping[str, object], place: str
) -> str | None:
    """Return the field that a variable of job.py names, or that it says there is none (None); `usual` without it."""
    value: object = getattr(module, variable, usual)
    if value is None or not hasattr(module, variable):
        return usual if value is not None else None
    if not isinstance(value, str):
        raise JobError(f"{place}: {variable} is {type(value).__name__}; write the name of a field of Row as a text")
    if value not in fields:
        raise JobError(f"{place}: {variable} names {value!r}, which is no field of Row; it has {', '.join(fields)}")
    return value


def _check_columns(columns: RowColumns, fields: Mapping[str, Any], place: str) -> None:
    """Raise JobError where one field is to be two things, or the priority cannot be a number."""
    names = columns.list_names()
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        both = " and ".join(
            what for what, name in zip(("ID", "NAME", "PRIORITY"), columns, strict=True) if name == twice
        )
        raise JobError(f"{place}: {both} name the same field {twice}; name another one, or leave NAME or PRIORITY out")
    priority = columns.priority
    if priority is not None and not _may_hold_numbers(fields[priority].annotation):
        raise JobError(f"{place}: PRIORITY names {priority}, which is not declared as a number; 1 is the most urgent")


def _may_hold_numbers(annotation: object) -> bool:
    return annotation in NUMBERS or any(_may_hold_numbers(part) for part in get_args(annotation))


def format_id(value: object) -> str:
    """Return an id as a text; a whole number without a fraction, and "" for None."""
    if value is None:
        return ""
    if isinstance(value, float | Decimal) and value == value // 1:
        return str(int(value))
    return str(value)


def format_fields(row: BaseModel) -> dict[str, str]:
    """Return the fields of a row as texts, by name: what stands in user.md for a row without prompt_values."""
    values = vars(row) if row.model_extra is None else {**vars(row), **row.model_extra}
    return {name: _FORMATTERS.get(type(value), format_value)(value) for name, value in values.items()}


def format_value(value: object) -> str:
    """Return a value as plain text: nothing for None, true and false, dates as in ISO 8601, lists joined by "; "."""
    if value is None:
        return ""
    if isinstance(value, Set):
        return "; ".join(sorted(map(format_value, value)))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "; ".join(map(format_value, value))
    if isinstance(value, BaseModel | Mapping):
        return orjson.dumps(to_jsonable_python(value, exclude_none=True)).decode()
    return _format_scalar(value)


def _format_scalar(value: object) -> str:
    if isinstance(value, Enum):
        return format_value(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat(sep=" ") if isinstance(value, datetime.datetime) else str(value)


_FORMATTERS: Mapping[type, Callable[[Any], str]] = {
    str: str, int: str, float: str, datetime.date: str, type(None): lambda _: "",
    bool: lambda value: "true" if value else "false",
}  # fmt: skip
"""What makes texts of the commonest values, as `format_value` does: this is done for each field of each row."""
