"""What a table holds, column by column: types, gaps, and which values are different in every row. DuckDB reads it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import duckdb

from batcher.errors import InputError
from batcher.plan.tables import LONGEST_FIELD, read_column_names, read_table

LONGEST_ID = 200
"""Characters of the longest value of a column that may be an id."""

_SOURCES = {
    ".csv": (
        "read_csv({path}, columns = {{{columns}}}, auto_detect = false, header = true, delim = ',', quote = '\"', "
        f"escape = '\"', ignore_errors = true, max_line_size = {LONGEST_FIELD})"
    ),
    ".jsonl": (
        "read_json_objects({path}, format = 'newline_delimited', ignore_errors = true, "
        f"maximum_object_size = {LONGEST_FIELD})"
    ),
    ".parquet": "read_parquet({path})",
}
"""The tables as DuckDB reads them. A row that it cannot read is left out: `plan` names it."""
_DESCRIBE = "DESCRIBE SELECT * FROM {source}"
_VIEW = "CREATE TEMP VIEW source AS SELECT * FROM (SELECT {columns} FROM {source}) WHERE {filled}"
_SELECT = "SELECT {columns} FROM source"
_INT = r"-?(0|[1-9][0-9]{0,17})"
_FLOAT = r"-?(0|[1-9][0-9]*)\.[0-9]+"
_LONG_INT = r"-?[0-9]{19,}"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_PARQUET_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"), "int"),
    **dict.fromkeys(("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"), "int"),
    **dict.fromkeys(("FLOAT", "DOUBLE", "DECIMAL"), "float"),
    **dict.fromkeys(("VARCHAR", "UUID", "ENUM"), "str"),
    "BOOLEAN": "bool",
    "DATE": "dt.date",
    "TIME": "dt.time",
    "TIMESTAMP WITH TIME ZONE": "dt.datetime",
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"), "dt.datetime"),
}
"""The types that a row has for DuckDB's types. Columns of other types are not read."""
ID_KINDS = frozenset({"int", "str", "float"})
"""The types that an id may have."""
_LIST_KINDS = {"str", "int", "float", "bool", "dt.date"}


class ColumnProfile(NamedTuple):
    """A column of a table. kind: its type as job.py writes it; "" where a row cannot have it."""

    name: str
    kind: str
    has_gaps: bool
    is_unique: bool
    """Whether it has a value in every row, another one in each, that is short enough for an id."""
    longest: int
    """Characters of its longest value."""
    least: int | None = None
    """The least value of whole numbers; None for other types."""


class TableProfile(NamedTuple):
    """A table: its rows, and its columns in their order."""

    path: Path
    rows: int
    columns: Sequence[ColumnProfile]

    def find_column(self, name: str) -> ColumnProfile | None:
        """Return the column of a name; None where there is none."""
        return next((column for column in self.columns if column.name == name), None)


def profile_table(path: Path) -> TableProfile:
    """Return what a table holds. Raises InputError where it cannot be read, or has no rows."""
    names = read_column_names(path)
    suffix = path.suffix.lower()
    with TemporaryDirectory() as spill, duckdb.connect(config={"temp_directory": spill}) as con:
        try:
            types = _read_types(con, path, suffix, names)
            rows, columns = _profile_columns(con, suffix, types) if types else (0, [])
        except duckdb.Error as error:
            raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not rows:
        bad = next((row for _, row in read_table(path) if isinstance(row, InputError)), None)
        raise bad or InputError(f"{path} has no rows; a job is made from the columns of a table that has some")
    return TableProfile(path, rows, [column for column in columns if column.name.strip()])


def _read_types(con: duckdb.DuckDBPyConnection, path: Path, suffix: str, names: Sequence[str]) -> Mapping[str, str]:
    """Make the view `source` of a table, with columns of plain names; return DuckDB's type of each column.

    Texts of CSV are told apart by what they are, values of JSON by what they are in JSON.
    """
    named = ", ".join(f"c{n}: 'VARCHAR'" for n in range(len(names)))  # DuckDB takes "A" and "a" for one name
    source = _SOURCES[suffix].format(path=_quote_text(str(path)), columns=named)
    types = dict.fromkeys(names, "VARCHAR" if suffix == ".csv" else "JSON")
    if suffix == ".parquet":
        types = {str(name): str(kind) for name, kind, *_ in con.execute(_DESCRIBE.format(source=source)).fetchall()}
    if types:
        find = {".csv": "c{n}", ".jsonl": "{key}", ".parquet": "{name}"}[suffix]
        chosen = [
            find.format(n=n, key=_extract_key(name), name=_quote_name(name)) + f" AS c{n}"
            for n, name in enumerate(types)
        ]
        filled = " OR ".join(f"c{n} IS NOT NULL" for n in range(len(types)))
        con.execute(_VIEW.format(columns=", ".join(chosen), source=source, filled=filled))
    return types


def _profile_columns(
    con: duckdb.DuckDBPyConnection, suffix: str, types: Mapping[str, str]
) -> tuple[int, Sequence[ColumnProfile]]:
    """Return the rows of `source`, and its columns."""
    value = "(c{n} ->> '$')" if suffix == ".jsonl" else "c{n}::VARCHAR"
    texts = [f"nullif({value.format(n=n)}, '')" for n in range(len(types))]
    checks = [
        _list_checks(suffix, f"c{n}", text, kind)
        for n, (text, kind) in enumerate(zip(texts, types.values(), strict=True))
    ]
    wanted = ["count(*)"]
    for text, check in zip(texts, checks, strict=True):
        wanted += [f"count({text})", f"coalesce(max(length({text})), 0)", f"min(try_cast({text} AS HUGEINT))"]
        wanted += [f"bool_and({each})" for each in check.values()]
    rows, *found = con.execute(_SELECT.format(columns=", ".join(wanted))).fetchall()[0]
    columns, values = [], iter(found)
    for name, check in zip(types, checks, strict=True):
        filled, longest, least = next(values), next(values), next(values)
        held = [kind for kind in check if next(values)]
        kind = next(iter(held), "") if filled else "str"
        may_be_id = filled == rows and longest <= LONGEST_ID and kind in ID_KINDS
        columns.append(ColumnProfile(name, kind, filled < rows, may_be_id, longest, least if kind == "int" else None))
    return rows, _keep_unique(con, rows, columns, texts)


def _keep_unique(
    con: duckdb.DuckDBPyConnection, rows: int, columns: Sequence[ColumnProfile], texts: Sequence[str]
) -> Sequence[ColumnProfile]:
    """Return the columns, of which those are unique that seemed so and have a different value in every row."""
    counted = [f"count(DISTINCT {text})" for column, text in zip(columns, texts, strict=True) if column.is_unique]
    found = iter(con.execute(_SELECT.format(columns=", ".join(counted))).fetchall()[0] if counted else ())
    return [each._replace(is_unique=next(found) == rows) if each.is_unique else each for each in columns]


def _list_checks(suffix: str, column: str, text: str, kind: str) -> Mapping[str, str]:
    """Return the types that a column may have, the narrowest first, each with a condition for every row."""
    if suffix == ".parquet":
        own = _find_parquet_kind(kind)
        check = f"NOT isnan({column})" if kind in {"FLOAT", "DOUBLE"} else "true"  # JSON has no NaN
        return {own: check} if own else {}
    date = f"regexp_full_match({text}, '{_DATE}') AND try_cast({text} AS DATE) IS NOT NULL"
    if suffix == ".csv":  # a number that a prompt would show otherwise is a text: 007, 1.10, 5E3, one of 20 digits
        return {
            "int": f"regexp_full_match({text}, '{_INT}')",
            "float": f"regexp_full_match({text}, '{_FLOAT}') AND try_cast({text} AS DOUBLE)::VARCHAR = {text}",
            "bool": f"lower({text}) IN ('true', 'false')",
            "dt.date": date,
            "str": "true",
        }
    kinds = {
        "int": "IN ('BIGINT', 'UBIGINT')",
        "float": "IN ('BIGINT', 'UBIGINT', 'DOUBLE')",
        "bool": "= 'BOOLEAN'",
        "dt.date": f"= 'VARCHAR' AND {date}",
        "str": "IN ('VARCHAR', 'BIGINT', 'UBIGINT', 'DOUBLE')",  # a row makes texts of numbers
        "list[Any]": "= 'ARRAY'",
        "dict[str, Any]": "= 'OBJECT'",
    }
    checks = {name: f"{text} IS NULL OR (json_type({column}) {check})" for name, check in kinds.items()}
    checks["float"] += f" AND NOT coalesce(regexp_full_match({text}, '{_LONG_INT}'), false)"  # texts: see plan/tables
    return {**checks, "Any": "true"}


def _find_parquet_kind(kind: str) -> str:
    """Return the type that a row has for a type of DuckDB's; "" where it has none."""
    if kind.endswith("[]"):
        part = _find_parquet_kind(kind[:-2])
        return f"list[{part}]" if part in _LIST_KINDS and kind != "UUID[]" else ""
    if kind.startswith("DECIMAL") and kind.endswith(",0)"):
        return "int"
    return _PARQUET_KINDS.get(kind.partition("(")[0], "")


def _quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quote_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _extract_key(name: str) -> str:
    """Return what has the value of a key of a JSON object in SQL: nothing for a key without a name.

    DuckDB's paths cannot name it, and no field can hold it.
    """
    escaped = name.replace('"', '\\"')
    path = _quote_text(f'$."{escaped}"')
    return f"json_extract(json, {path})" if name else "NULL::JSON"
