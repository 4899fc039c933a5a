"""The JSON schema of a bio, as strict structured output wants it, and the columns that `collect` makes of it."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from batcher.errors import JobError
from batcher.job.job import Job

COLLECTED = (
    "artist_id", "artist_name", "priority", "model", "finish_reason", "tokens_input", "tokens_cached", "tokens_output",
    "cost_usd", "lane", "shard", "batch_id", "attempts", "completed_at",
)  # fmt: skip
"""The columns that `collect` writes beside the job's own: no field of Bio may take one of these names."""


def build_strict_schema(model: type[BaseModel]) -> Mapping[str, object]:
    """The model's JSON schema as strict structured output wants it: all required, nothing additional, no defaults.

    Source: OpenAI, guides/structured-outputs. Raises JobError for a field that it cannot express.
    """
    for name, field in model.model_fields.items():
        if not field.is_required():
            raise JobError(f"{model.__name__}.{name} has a default; structured output needs every field (use X | None)")
    raw = model.model_json_schema()
    properties = _schema_fields(raw)
    if not properties:
        raise JobError(f"{model.__name__} has no field; give it one for each part of an answer")
    for name in properties:
        if name.lower() in COLLECTED:
            raise JobError(f"{model.__name__}.{name} has the name of a column that `collect` writes; rename it")
    _check_expressible(raw, model.__name__)
    schema = _make_strict(raw)
    assert isinstance(schema, dict)
    return schema


def _check_expressible(node: Mapping[str, Any], place: str) -> None:
    """Raises JobError for what strict mode cannot say: values of any type, and free mappings."""
    if not node.keys() - {"title", "description"}:
        raise JobError(f"{place} may be anything; structured output needs a type")
    if node.get("type") == "object" and "properties" not in node:
        raise JobError(f"{place} is a mapping with free keys; structured output needs a model with named fields")
    for name, sub in {**node.get("properties", {}), **node.get("$defs", {})}.items():
        _check_expressible(sub, f"{place}.{name}")
    items = node.get("items")
    for sub in [*node.get("anyOf", []), *([items] if isinstance(items, dict) else [])]:
        _check_expressible(sub, place)


def _make_strict(node: object) -> object:
    if isinstance(node, list):
        return [_make_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: _make_entry_strict(key, value) for key, value in node.items() if key not in {"title", "default"}}
    if node.get("type") == "object":
        out["additionalProperties"] = False
        out["required"] = list(node.get("properties", {}))
    return out


def _make_entry_strict(key: str, value: object) -> object:
    # The keys of `properties` and `$defs` are names of the user's, not keywords: none of them is dropped.
    if key in {"properties", "$defs"} and isinstance(value, dict):
        return {name: _make_strict(sub) for name, sub in value.items()}
    return _make_strict(value)


_COLUMN_TYPES = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}

_TYPE_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def output_column_types(job: Job) -> dict[str, str]:
    """The job's output fields and their DuckDB types, for `collect`; what is no scalar stays JSON text."""
    defs = job.schema.get("$defs", {})
    return {name: _column_type(_json_types(field, defs)) for name, field in _schema_fields(job.schema).items()}


def _schema_fields(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a model's schema; that of a model which holds itself is a reference."""
    properties: Mapping[str, Any] = _resolve_reference(schema, schema.get("$defs", {})).get("properties", {})
    return properties


def _resolve_reference(node: Mapping[str, Any], defs: Any) -> Mapping[str, Any]:
    while "$ref" in node:
        node = defs[node["$ref"].rpartition("/")[2]]
    return node


def _json_types(node: Mapping[str, Any], defs: Any) -> set[str]:
    """The types of what a field may hold, in JSON's words; "" for any that the schema does not tell."""
    node = _resolve_reference(node, defs)
    options = node.get("anyOf") or node.get("oneOf") or node.get("allOf")
    if options:
        return {kind for option in options for kind in _json_types(option, defs)}
    if "type" in node:
        return {str(node["type"])}
    values = node.get("enum", [node["const"]] if "const" in node else [])  # of mixed types, which have no `type`
    return {_TYPE_NAMES.get(type(value), "") for value in values} or {""}


def _column_type(kinds: set[str]) -> str:
    """The type that holds them all: texts beside numbers are texts, and so are numbers beside truths."""
    named = kinds - {"null"}
    if named == {"integer", "number"}:
        return "DOUBLE"
    if len(named) == 1:
        return _COLUMN_TYPES.get(named.pop(), "JSON")
    return "VARCHAR" if named and named <= _COLUMN_TYPES.keys() else "JSON"
