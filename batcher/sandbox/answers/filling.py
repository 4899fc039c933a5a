"""Fills a JSON schema with values made of the facts of a message.

A schema is turned into a plan (a function of the facts) once, and kept by its bytes: 40,000 lines share one. What a
schema may say here: type, properties, required, items, enum, const, anyOf/oneOf/allOf, $ref, min/max of lengths,
items and numbers, multipleOf, format, and a pattern where a text for it is found.
"""

import math
from collections.abc import Callable, Mapping
from typing import cast

import orjson

from batcher.sandbox.answers.patterns import FORMATS, find_matching_text
from batcher.sandbox.answers.text import Facts, build_placeholder_text, truncate_at_word
from batcher.sandbox.base.chance import seeded_fraction

Plan = Callable[[Facts], object]
Schema = Mapping[str, object]
_MAX_DEPTH = 24
_MAX_PLANS = 64
_NAMES = ("name", "artist", "artist_name", "title")
_PLANS: dict[bytes, Plan] = {}


def plan_for_schema(schema: Schema) -> Plan:
    """Return the plan of a schema, from the cache where it was seen before."""
    key = orjson.dumps(schema)
    plan = _PLANS.get(key)
    if plan is None:
        if len(_PLANS) >= _MAX_PLANS:
            _PLANS.clear()
        plan = _PLANS[key] = _build_schema_plan(schema, schema, "", 0)
    return plan


def _as_mapping(value: object) -> Schema:
    return value if isinstance(value, Mapping) else {}


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _read_int_keyword(schema: Schema, name: str) -> int | None:
    value = schema.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _build_schema_plan(schema: Schema, root: Schema, key: str, depth: int) -> Plan:
    schema = _flatten_schema(schema, root)
    if depth > _MAX_DEPTH:
        return lambda _facts: None
    if "const" in schema:
        return _plan_constant(schema["const"])
    if choices := _as_list(schema.get("enum")):
        return _plan_choice(choices, key)
    build = _BUILDERS.get(_schema_type(schema))
    return build(schema, root, key, depth) if build else _plan_constant(None)


def _flatten_schema(schema: Schema, root: Schema) -> Schema:
    """Follow $ref, allOf and the first alternative that isn't null, until plain keywords are left."""
    for _ in range(_MAX_DEPTH):
        if isinstance(schema.get("$ref"), str):
            rest = {name: value for name, value in schema.items() if name != "$ref"}
            schema = {**_resolve_reference(cast(str, schema["$ref"]), root), **rest}
        elif parts := _as_list(schema.get("allOf")):
            rest = {name: value for name, value in schema.items() if name != "allOf"}
            schema = {
                **rest,
                **{name: value for part in parts for name, value in _flatten_schema(_as_mapping(part), root).items()},
            }
        elif options := _as_list(schema.get("anyOf") or schema.get("oneOf")):
            schema = next((each for each in map(_as_mapping, options) if each.get("type") != "null"), {"type": "null"})
        else:
            break
    return schema


def _resolve_reference(reference: str, root: Schema) -> Schema:
    target: object = root
    for step in reference.removeprefix("#").split("/")[1:]:
        target = _as_mapping(target).get(step.replace("~1", "/").replace("~0", "~"))
    return _as_mapping(target)


def _schema_type(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _plan_constant(value: object) -> Plan:
    return lambda _facts: value


def _plan_choice(choices: list[object], key: str) -> Plan:
    def choose_value(facts: Facts) -> object:
        given = facts.find_value(key)
        return (
            given if given in choices else choices[int(seeded_fraction(0, "choice", key, facts.message) * len(choices))]
        )

    return choose_value


def _plan_object(schema: Schema, root: Schema, _key: str, depth: int) -> Plan:
    """Return a plan that fills every property, required or not: strict schemas require all of them."""
    wanted = {cast(str, name) for name in _as_list(schema.get("required"))}
    # A schema that holds itself by an optional property ends here instead of at the depth limit.
    parts = {name: part for name, part in _as_mapping(schema.get("properties")).items() if name in wanted or depth < 4}
    plans = {name: _build_schema_plan(_as_mapping(part), root, name, depth + 1) for name, part in parts.items()}
    return lambda facts: {name: plan(facts) for name, plan in plans.items()}


def _plan_array(schema: Schema, root: Schema, key: str, depth: int) -> Plan:
    least, most = _read_int_keyword(schema, "minItems") or 0, _read_int_keyword(schema, "maxItems")
    item = _flatten_schema(_as_mapping(schema.get("items")), root)
    if choices := _as_list(item.get("enum")):
        return _plan_constant(choices[: max(least, 1)])
    plan = _build_schema_plan(item, root, key, depth + 1)
    count = max(least, 1) if most is None else min(max(least, 1), most)
    unique = bool(schema.get("uniqueItems"))

    def fill_array(facts: Facts) -> object:
        items = [plan(facts) for _ in range(count)]
        if unique and count > 1:
            return [
                f"{value} {'i' * (place + 1)}" if isinstance(value, str) else value for place, value in enumerate(items)
            ]
        return items

    return fill_array


def _plan_string(schema: Schema, _root: Schema, key: str, _depth: int) -> Plan:
    least, most = _read_int_keyword(schema, "minLength") or 0, _read_int_keyword(schema, "maxLength")
    named = key.lower() in _NAMES
    pattern = schema.get("pattern")
    shaped = FORMATS.get(str(schema.get("format")))
    if isinstance(pattern, str):
        shaped = find_matching_text(pattern) or shaped
    if shaped is not None:
        return _plan_constant(shaped)

    def fill_string(facts: Facts) -> object:
        given = facts.name if named else facts.find_value(key)
        if given is None or len(given) < least:
            return build_placeholder_text(facts, least, most)
        return given if most is None else truncate_at_word(given, most)

    return fill_string


def _plan_number(schema: Schema, _root: Schema, key: str, _depth: int) -> Plan:
    low, high = _number_bounds(schema)
    whole = _schema_type(schema) == "integer"
    given_step = schema.get("multipleOf")
    step = float(given_step) if isinstance(given_step, int | float) and given_step > 0 else 0.0
    multiple = [math.ceil(low / step) * step] if step and math.isfinite(low) else []

    def is_in_bounds(value: float) -> bool:
        is_multiple = not step or math.isclose(value / step, round(value / step), abs_tol=1e-9)
        return low <= value <= high and is_multiple and (not whole or value.is_integer())

    def fill_number(facts: Facts) -> object:
        given = facts.find_value(key)
        candidates = [float(given)] if given and given.lstrip("-").isdigit() else []
        candidates += [*facts.find_numbers(), 0.0, low, high, *multiple]
        value = next((each for each in candidates if math.isfinite(each) and is_in_bounds(each)), 0.0)
        return int(value) if whole else value

    return fill_number


def _number_bounds(schema: Schema) -> tuple[float, float]:
    def read_keyword(name: str, default: float) -> float:
        value = schema.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default

    step = 1.0 if _schema_type(schema) == "integer" else 1e-6
    low = max(read_keyword("minimum", -math.inf), read_keyword("exclusiveMinimum", -math.inf) + step)
    return low, min(read_keyword("maximum", math.inf), read_keyword("exclusiveMaximum", math.inf) - step)


def _plan_boolean(_schema: Schema, _root: Schema, key: str, _depth: int) -> Plan:
    return lambda facts: seeded_fraction(0, "boolean", key, facts.message) < 0.5


def _plan_null(_schema: Schema, _root: Schema, _key: str, _depth: int) -> Plan:
    return _plan_constant(None)


_BUILDERS: Mapping[str, Callable[[Schema, Schema, str, int], Plan]] = {
    "object": _plan_object,
    "array": _plan_array,
    "string": _plan_string,
    "number": _plan_number,
    "integer": _plan_number,
    "boolean": _plan_boolean,
    "null": _plan_null,
}
