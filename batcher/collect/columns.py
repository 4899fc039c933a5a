"""The columns of a file of bios: the query that makes them of the job's fields, and the types that hold every value."""

from collections.abc import Mapping
from typing import NamedTuple

from batcher.core.model import RowColumns
from batcher.nouns import current_nouns
from batcher.state import bios
from batcher.state.db.transaction import Transaction

_BIOS_QUERY = """
    SELECT {keys}, {fields},
           b.model, b.finish_reason, b.tokens_input, b.tokens_cached, b.tokens_output,
           b.tokens_written, b.tokens_reasoning, b.cost_usd, v.prompt AS prompt_version, b.lane, b.shard,
           b.batch_id, b.attempts, make_timestamp((b.completed_at * 1000000)::BIGINT) AS completed_at
    FROM (SELECT *, {texts} AS texts FROM bios) AS b
    JOIN artists AS a USING (artist_id) LEFT JOIN versions AS v ON v.version = b.version
    WHERE {condition}
    ORDER BY a.priority, a.seq
"""

_MISFIT_QUERY = """
    SELECT a.artist_id, left(json_extract(b.data, {path})::VARCHAR, 60)
    FROM bios AS b JOIN artists AS a USING (artist_id) WHERE {condition}
      AND (coalesce(json_type(b.data, {path}), 'NULL') NOT IN ('NULL', {json_types}) OR {too_large})
    ORDER BY a.seq LIMIT 1
"""

_TOO_LARGE = "TRY_CAST(b.data ->> {path} AS {kind}) IS NULL AND json_type(b.data, {path}) <> 'NULL'"


VECTOR_TYPE = "FLOAT[]"
_VECTOR = """CASE WHEN starts_with(b.data, '{prefix}')
    THEN list_transform(string_split(b.data[{start}:-3], ','), lambda number: TRY_CAST(number AS FLOAT)) END"""
"""A vector, which is the only field of its answer. It is split as text: JSON of 2,048 vectors of 3,072 numbers, which
DuckDB parses together, is more than the memory that it may have."""


class ColumnCheck(NamedTuple):
    """How to find a value that a column type cannot hold."""

    json_types: str
    """The JSON types that the column type can hold, as a list in SQL."""
    too_large: str
    """A condition in SQL for values of those types that are out of its range."""
    description: str
    """What the column type holds, for the user."""


_CHECKS: Mapping[str, ColumnCheck] = {
    "BIGINT": ColumnCheck("'BIGINT', 'UBIGINT'", _TOO_LARGE, "a whole number of at most 64 bits"),
    "DOUBLE": ColumnCheck("'BIGINT', 'UBIGINT', 'DOUBLE'", _TOO_LARGE, "a number"),
    "BOOLEAN": ColumnCheck("'BOOLEAN'", "false", "true or false"),
}
"""The column types that a value may fail to fit. A cast alone is no check: DuckDB casts '3.7' to the whole number 4,
and 'yes' to true."""


class ColumnChoice(NamedTuple):
    """The DuckDB types of the job's columns, and a note for each column that became text."""

    types: Mapping[str, str]
    notes: list[str]


def choose_column_types(tx: Transaction, columns: Mapping[str, str], only_new: bool) -> ColumnChoice:
    """Return types for the columns that hold every value of the bios that are to be written.

    Bios outlive a change of job.py, and a model may write an integer of 30 digits. One such value must neither block
    the other bios nor be lost, and a NULL in its place would be a loss that stays unseen. So the whole column is
    written as text, which changes no value, and a note names the first artist with such a value.
    """
    types, notes = dict(columns), []
    for name, kind in columns.items():
        if kind not in _CHECKS:
            continue
        misfit = bios.find_misfit(tx, build_misfit_query(name, kind, only_new))
        if misfit is not None:
            types[name] = "VARCHAR"
            notes.append(
                f"column {name} is written as text: {current_nouns().row} {misfit.artist_id} has {misfit.value}, "
                f"which is not {_CHECKS[kind].description}"
            )
    return ColumnChoice(types, notes)


def build_misfit_query(name: str, kind: str, only_new: bool) -> str:
    """Return the query for the first artist whose value is not of the column's type."""
    path, check = _json_path(name), _CHECKS[kind]
    return _MISFIT_QUERY.format(
        path=path,
        condition=_collected_condition(only_new),
        json_types=check.json_types,
        too_large=check.too_large.format(path=path, kind=kind),
    )


def build_bios_query(types: Mapping[str, str], only_new: bool, columns: RowColumns) -> str:
    """Return the query for the bios; the job's own fields become columns of these DuckDB types.

    columns: what the job names the columns by which a row is known.
    """
    fields = []
    scalars = [name for name, kind in types.items() if kind not in {"JSON", VECTOR_TYPE}]
    for name, kind in types.items():
        if name in scalars:
            value = f"b.texts[{scalars.index(name) + 1}]::{kind}"
        elif kind == VECTOR_TYPE:
            value = _VECTOR.format(prefix=f'{{"{name}":[', start=len(name) + 6)
        else:
            value = f"json_extract(b.data, {_json_path(name)})"
        quoted = name.replace('"', '""')
        fields.append(f'{value} AS "{quoted}"')
    return _BIOS_QUERY.format(
        keys=bios.select_keys(columns),
        fields=",\n".join(fields),
        # all in one call, as each call parses the bio
        texts=f"json_extract_string(data, [{', '.join(map(_json_path, scalars))}])" if scalars else "NULL",
        condition=_collected_condition(only_new),
    )


def _collected_condition(only_new: bool) -> str:
    # A negative time is that of a file that was written and perhaps not moved into place.
    return "coalesce(b.collected_at, -1) < 0" if only_new else "true"


def _json_path(name: str) -> str:
    """Return a field of a bio as a JSON path of DuckDB's, quoted as a text in SQL."""
    escaped = name.replace('"', '\\"').replace("'", "''")
    return f"""'$."{escaped}"'"""
