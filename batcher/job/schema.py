"""The JSON schema of a bio, as strict structured output requires it, and the columns that `collect` makes of it."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel

from batcher.core.endpoints.table import AnswerKind
from batcher.core.model import ARTIST_COLUMNS, TEXT_FIELD, RowColumns
from batcher.errors import JobError
from batcher.job.job import Job
from batcher.job.numbers import number_columns

COLLECT_COLUMNS = (
    "model", "finish_reason", "tokens_input", "tokens_cached", "tokens_output", "tokens_written", "tokens_reasoning",
    "cost_usd", "prompt_version", "lane", "shard", "batch_id", "attempts", "completed_at",
)  # fmt: skip
"""The columns that `collect` writes in addition to the job's own and to those that name a row."""
FAILED_COLUMNS = ("state", "class", "code", "message", "shard", "attempts")
"""The columns that `collect --failed` writes in addition to those that name a row."""


def collect_columns(columns: RowColumns) -> list[str]:
    """Return the columns that `collect` writes in addition to the job's own. No field of an answer may have one of
    these names."""
    return [*columns.list_names(), *COLLECT_COLUMNS]


def check_row_columns(columns: RowColumns, fixed: Collection[str], place: str) -> None:
    """Raise JobError where a column that names a row is one that `collect` writes itself.

    fixed: the columns of an answer that has no output model. place: of job.py.
    """
    taken = {*COLLECT_COLUMNS, *FAILED_COLUMNS, *fixed}
    for variable, column in zip(("ID", "NAME", "PRIORITY"), columns, strict=True):
        if column is not None and column.lower() in taken:
            raise JobError(
                f"{place}: {variable} names {column}, and `collect` writes a column of that name itself; give the "
                f'field another name, and read the column by Field(alias="{column}")'
            )


def build_strict_schema(model: type[BaseModel], columns: RowColumns = ARTIST_COLUMNS) -> Mapping[str, object]:
    """Return the model's JSON schema as strict structured output requires it: all fields required, no others allowed,
    no defaults.

    columns: those that name a row. Source: OpenAI, guides/structured-outputs. Raises JobError for a field that it
    cannot express, or that has the name of a column which `collect` writes.
    """
    for name, field in model.model_fields.items():
        if not field.is_required():
            raise JobError(f"{model.__name__}.{name} has a default; structured output needs every field (use X | None)")
    raw = model.model_json_schema()
    properties = _schema_fields(raw)
    if not properties:
        raise JobError(f"{model.__name__} has no field; give it one for each part of an answer")
    taken = {name.lower() for name in collect_columns(columns)}
    for name in properties:
        if name.lower() in taken:
            raise JobError(f"{model.__name__}.{name} has the name of a column that `collect` writes; rename it")
    _check_expressible(raw, model.__name__)
    return _make_strict(raw)


def _check_expressible(node: Mapping[str, Any], place: str) -> None:
    """Raise JobError for what strict mode cannot express: values of any type, and mappings with free keys."""
    if not node.keys() - {"title", "description"}:
        raise JobError(f"{place} may be anything; structured output needs a type")
    if node.get("type") == "object" and "properties" not in node:
        raise JobError(f"{place} is a mapping with free keys; structured output needs a model with named fields")
    for name, sub in {**node.get("properties", {}), **node.get("$defs", {})}.items():
        _check_expressible(sub, f"{place}.{name}")
    items = node.get("items")
    for sub in [*node.get("anyOf", []), *([items] if isinstance(items, dict) else [])]:
        _check_expressible(sub, place)


def _make_strict(schema: Mapping[str, object]) -> dict[str, object]:
    """Return a schema, and all those in it, without titles and defaults, and with all fields of objects required."""
    strict: dict[str, object] = {}
    for key, value in schema.items():
        # The keys of `properties` and `$defs` are the user's names, not keywords: none of them is dropped.
        if key in {"properties", "$defs"} and isinstance(value, dict):
            strict[key] = {name: _make_value_strict(sub) for name, sub in value.items()}
        elif key not in {"title", "default"}:
            strict[key] = _make_value_strict(value)
    if schema.get("type") == "object":
        properties = schema.get("properties")
        strict["additionalProperties"] = False
        strict["required"] = list(properties) if isinstance(properties, dict) else []
    return strict


def _make_value_strict(value: object) -> object:
    if isinstance(value, list):
        return [_make_value_strict(item) for item in value]
    return _make_strict(value) if isinstance(value, dict) else value


_COLUMN_TYPES = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}

_TYPE_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def output_column_types(job: Job) -> dict[str, str]:
    """Return the job's output fields and their DuckDB types, for `collect`. A field that is no scalar is JSON; plain
    text is a field of its own."""
    if job.answers is not AnswerKind.WORDS:
        return dict(number_columns(job.answers))
    if job.bio is None:
        return {TEXT_FIELD: "VARCHAR"}
    defs = job.schema.get("$defs", {})
    return {name: _column_type(_json_types(field, defs)) for name, field in _schema_fields(job.schema).items()}


def _schema_fields(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a model's schema. The schema of a model that contains itself is a reference."""
    properties: Mapping[str, Any] = _resolve_reference(schema, schema.get("$defs", {})).get("properties", {})
    return properties


def _resolve_reference(node: Mapping[str, Any], defs: Any) -> Mapping[str, Any]:
    while "$ref" in node:
        node = defs[node["$ref"].rpartition("/")[2]]
    return node


def _json_types(node: Mapping[str, Any], defs: Any) -> set[str]:
    """Return the JSON types of what a field may hold; "" for one that the schema does not name."""
    node = _resolve_reference(node, defs)
    options = node.get("anyOf") or node.get("oneOf") or node.get("allOf")
    if options:
        return {kind for option in options for kind in _json_types(option, defs)}
    if "type" in node:
        return {str(node["type"])}
    values = node.get("enum", [node["const"]] if "const" in node else [])  # a choice of several types has no `type`
    return {_TYPE_NAMES.get(type(value), "") for value in values} or {""}


def _column_type(kinds: set[str]) -> str:
    """Return the DuckDB type that holds values of all these JSON types: several scalar types together are text, but for
    integers and other numbers."""
    named = kinds - {"null"}
    if named == {"integer", "number"}:
        return "DOUBLE"
    if len(named) == 1:
        return _COLUMN_TYPES.get(named.pop(), "JSON")
    return "VARCHAR" if named and named <= _COLUMN_TYPES.keys() else "JSON"
