"""A condition of the user's over the columns that `collect` writes: checked to be a condition and nothing else."""

from collections.abc import Iterator
from typing import Any

from batcher.collect.columns import build_bios_query, choose_column_types
from batcher.errors import InputError
from batcher.job.job import Job
from batcher.job.schema import collect_columns, output_column_types
from batcher.state.db.transaction import Transaction
from batcher.state.redo import parse_query

ONE_CONDITION = "it must be one condition, such as priority = 1"
_TRUE = "true"
_QUERY = "SELECT {key} FROM collected WHERE (\n{condition}\n)"
_BARE_QUERY = "SELECT {key} FROM collected WHERE\n{condition}\n"
"""The query without its parentheses. A text that fits both closes none that it did not open."""
_REFUSED = {
    "SUBQUERY": "queries and files cannot be named in it",
    "PARAMETER": "it has a parameter without a value",
    "WINDOW": "it looks at one row at a time",
}
"""What a condition may not hold, by the classes of DuckDB's syntax tree: a query could read files of the user's."""


def build_condition_query(tx: Transaction, job: Job, condition: str) -> str:
    """Return the query for the artist_ids whose collected rows fulfil a condition.

    Raises InputError where it is not one condition, or names queries or files. Columns are checked when it is run.
    """
    if not condition.strip():
        raise _refuse(condition, ONE_CONDITION)
    key = '"' + job.row_columns.id.replace('"', '""') + '"'
    query = _QUERY.format(key=key, condition=condition)
    try:
        tree = parse_query(tx, query)
    except InputError as error:
        raise _refuse(condition, str(error)) from None
    where, frame = _take_condition(tree)
    if frame != _take_condition(parse_query(tx, _QUERY.format(key=key, condition=_TRUE)))[1]:
        raise _refuse(condition, ONE_CONDITION)
    try:
        parse_query(tx, _BARE_QUERY.format(key=key, condition=condition))
    except InputError:
        raise _refuse(condition, f"its parentheses do not match; {ONE_CONDITION}") from None
    found = next((_REFUSED[name] for name in _find_classes(where) if name in _REFUSED), None)
    if found is not None:
        raise _refuse(condition, found)
    types, _ = choose_column_types(tx, output_column_types(job), only_new=False)
    return f"WITH collected AS ({build_bios_query(types, False, job.row_columns)}) {query}"


def describe_columns(job: Job) -> str:
    """Return the columns that a condition may name."""
    return ", ".join([*output_column_types(job), *collect_columns(job.row_columns)])


def _refuse(condition: str, why: str) -> InputError:
    return InputError(f"--where {condition!r} cannot be used: {why}")


def _take_condition(trees: list[Any]) -> tuple[object, object]:
    """Return the condition of the first query, and all else of the queries without the places in their text."""
    node = dict(trees[0]["node"])
    return node.pop("where_clause", None), _without_places([node, *trees[1:]])


def _without_places(tree: object) -> object:
    if isinstance(tree, dict):
        return {name: _without_places(part) for name, part in tree.items() if not name.startswith("query_location")}
    return [_without_places(part) for part in tree] if isinstance(tree, list) else tree


def _find_classes(tree: object) -> Iterator[str]:
    """Yield the class of every expression in a syntax tree."""
    if isinstance(tree, dict):
        yield str(tree.get("class"))
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for part in parts:
        yield from _find_classes(part)
