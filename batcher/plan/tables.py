"""Reading tables: CSV, JSONL and Parquet as a stream of rows, each with its number for error messages.

CSV is read by Python's own parser and JSONL by orjson, so that the row that is wrong is known; Parquet by DuckDB. Where
one row cannot be read and those after it can, an InputError is returned in its place: the caller may leave it out.
"""

import csv
import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import orjson

from batcher.errors import InputError
from batcher.nouns import current_nouns, to_name
from batcher.state.plan import EarlierBio

if TYPE_CHECKING:
    from _csv import Reader as CsvReader  # its type has a name in the type stubs alone

LONGEST_FIELD = 16 * 1024 * 1024
"""Most characters of a CSV field. Python's own limit of 131,072 would end the reading where a job could still name the
column that is too long."""
FETCH_ROWS = 2_000
"""Rows that are fetched from DuckDB at a time."""
NAMED_ROWS = 1_000
"""Rows of a JSONL file whose columns are taken for those of the table: each row has columns of its own."""
BOM = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8, with which some editors begin a file."""

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "upright strokes"}
"""What separates the columns of tables that are no CSV, and what it is called."""
PARQUET_MARK = b"PAR1"
"""The bytes with which a Parquet file begins and ends."""

INTEGER_BOUND = 2**63
"""Integers that need more than 64 bits are written as text: readers of JSON lose digits of them."""

VECTOR_TYPE = "FLOAT[]"
"""The type of a column of vectors, of which a table of text has JSON lists."""

TableRow = dict[str, object]
"""The values of a row by column."""

NumberedRow = tuple[int, TableRow | InputError]
"""A row with its number, or what is wrong with it."""


def read_table(path: Path, columns: Collection[str] | None = None) -> Iterator[NumberedRow]:
    """Yield (row number, row). Rows are numbered as an editor shows them: a CSV's first row of data is row 2.

    columns: those that are needed; others are left out where that saves time. None: all.
    Raises InputError for a file that is missing, of an unknown kind, not UTF-8, or broken beyond one row.
    """
    readers: Mapping[str, Callable[[Path], Iterator[NumberedRow]]] = {
        ".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": partial(_read_parquet, columns=columns),
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file")
        if reader is None:
            raise InputError(f"{path}: the ending says neither .csv, .jsonl nor .parquet; rename or convert the file")
        if not path.is_file():
            raise InputError(f"{path} does not exist; check the name, or [job] input in batcher.toml")
        yield from reader(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def read_column_names(path: Path) -> list[str]:
    """Return the names of a table's columns in their order; of JSONL those that its first NAMED_ROWS rows have.

    Raises InputError as `read_table` does.
    """
    if path.suffix.lower() == ".parquet" and path.is_file():
        with duckdb.connect(config={"threads": "1"}) as con, _named_parquet_errors(path):
            return list(_describe_parquet(con, path))
    names: dict[str, None] = {}
    for _, row in islice(read_table(path), NAMED_ROWS if path.suffix.lower() == ".jsonl" else 1):
        names.update(dict.fromkeys(row) if isinstance(row, dict) else {})
    return list(names)


def table_name(path: Path, home: Path) -> str:
    """Return a table's path from the folder that holds the state's folder; outside of that folder, its full path.

    Tables of the same file name have different names then, and a name stays the same where the whole project moves.
    home: the state's folder.
    """
    full, root = path.resolve(), home.resolve().parent
    return (full.relative_to(root) if full.is_relative_to(root) else full).as_posix()


def read_bios(path: Path, columns: Mapping[str, str], id_column: str = "artist_id") -> Iterator[EarlierBio]:
    """Yield (row number, artist_id, bio as JSON) of a table of bios that exist.

    columns: the fields of a bio and their DuckDB types; the table may lack some. id_column: of the table. Raises
    InputError naming row and column.
    """
    nouns = current_nouns()
    key = to_name(nouns.answer) if to_name(nouns.answer) in columns else next(iter(columns))
    for number, row in read_table(path):
        if isinstance(row, InputError):
            raise row if "; " in str(row) else InputError(f"{row}; fix the table")  # most say what to do
        artist_id = _format_artist_id(row.get(id_column))
        if not artist_id:
            raise InputError(
                f"{path}, row {number}: column {id_column} is missing or empty; {nouns.an_answer} needs its {nouns.row}"
            )
        bio = {
            name: _parse_bio_value(row[name], kind) for name, kind in columns.items() if row.get(name) not in (None, "")
        }
        if key not in bio or not str(bio[key]).strip():
            raise InputError(
                f"{path}, row {number}: column {key} is missing or empty; leave out rows without {nouns.an_answer}"
            )
        if columns[key] == VECTOR_TYPE and not _is_vector(bio[key]):
            raise InputError(
                f"{path}, row {number}: column {key} is no list of numbers; leave out rows without a vector"
            )
        yield number, artist_id, orjson.dumps(bio, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _is_vector(value: object) -> bool:
    return (
        isinstance(value, list)
        and all(type(number) in {int, float} for number in value)
        and all(map(math.isfinite, value))
    )


def _format_artist_id(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int) else ""


def _parse_bio_value(value: object, kind: str) -> object:
    """Return a value as a bio holds it. kind: its DuckDB type. Only JSONL can hold values of every type: in CSV and
    Parquet some are written as text."""
    if isinstance(value, int) and not -INTEGER_BOUND <= value < INTEGER_BOUND:
        return str(value)
    if kind == "VARCHAR" or not isinstance(value, str):
        return value
    try:
        return orjson.loads(value.lower() if kind == "BOOLEAN" else value)
    except orjson.JSONDecodeError:
        return value


def _read_csv(path: Path) -> Iterator[NumberedRow]:
    csv.field_size_limit(LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = _next_csv_row(path, reader)
        if not header:
            raise InputError(
                f"{path} is empty: not even a header row; write the names of the columns into its first row"
            )
        _check_separator(path, header)
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise InputError(f"{path}, row 1: the header names column {repeated[0]!r} twice; rename or remove one")
        number = reader.line_num + 1  # a row begins below the last line that was read, and may take several lines
        while (values := _next_csv_row(path, reader)) is not None:
            if values:
                yield number, _parse_csv_row(path, number, header, values)
            number = reader.line_num + 1


def _check_separator(path: Path, header: list[str]) -> None:
    """Raise InputError for a header of one column that another sign than the comma would separate."""
    found = [name for sign, name in SEPARATORS.items() if len(header) == 1 and sign in header[0]]
    if found:
        raise InputError(
            f"{path}: its columns are separated by {found[0]}; save it with commas, or as .jsonl or .parquet"
        )


def _next_csv_row(path: Path, reader: "CsvReader") -> list[str] | None:
    """Return the next row of a table; None at its end. Raises InputError for one that no parser could read."""
    number = reader.line_num + 1
    try:
        return next(reader, None)
    except csv.Error as error:
        raise InputError(f"{path}, row {number}: {_explain_csv_error(error)}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}, {_locate_bad_byte(path)}; save it as UTF-8") from None


def _explain_csv_error(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "a quote that begins here is never closed; write quotes inside a value twice"
    if "field limit" in text:
        return f"a value is longer than {LONGEST_FIELD:,} characters, perhaps a quote is not closed; fix the row"
    return f"{text}; write quotes inside a value twice"


def _locate_bad_byte(path: Path) -> str:
    """Describe where a file stops being UTF-8: the row, the byte in it, and its value."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                return f"row {number}: {_describe_bad_byte(raw, error)}"
    return "which is not UTF-8"


def _describe_bad_byte(raw: bytes, error: UnicodeDecodeError) -> str:
    return f"byte {error.start + 1} of the line is 0x{raw[error.start]:02x}, which is not UTF-8"


def _parse_csv_row(path: Path, number: int, header: list[str], values: list[str]) -> TableRow | InputError:
    if len(values) != len(header):
        counts = f"{len(values)} values for {len(header)} columns"
        return InputError(f"{path}, row {number}: {counts}; quote commas in values")
    return dict(zip(header, values, strict=True))


def _read_jsonl(path: Path) -> Iterator[NumberedRow]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            text = raw.removeprefix(BOM) if number == 1 else raw
            if text.strip():
                yield number, _parse_jsonl_row(f"{path}, row {number}", text)


def _parse_jsonl_row(where: str, raw: bytes) -> TableRow | InputError:
    try:
        row = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return InputError(f"{where}: {_explain_json_error(raw, error)}")
    if not isinstance(row, dict):
        return InputError(f"{where}: not a JSON object; write one object on each line")
    if any(type(value) is float and abs(value) >= INTEGER_BOUND for value in row.values()):
        return _keep_digits(row, raw)
    return row


def _keep_digits(row: TableRow, raw: bytes) -> TableRow:
    """Return a row with whole numbers of more than 64 bits as texts: orjson makes floats of them, and ids alike."""
    whole = {name: str(value) for name, value in json.loads(raw).items() if type(value) is int}
    return {name: whole.get(name, value) if type(value) is float else value for name, value in row.items()}


def _explain_json_error(raw: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        raw.decode()
    except UnicodeDecodeError as fault:
        return f"{_describe_bad_byte(raw, fault)}; save it as UTF-8"
    if "surrogate" in error.msg:
        where = _find_surrogate_column(raw) or f"character {error.colno}"
        return f"{where} holds half of a surrogate pair, which is no text"
    return f"not valid JSON ({error.msg} at character {error.colno})"


def _find_surrogate_column(raw: bytes) -> str:
    """Return which column of a line holds half of a surrogate pair; "" where that is not known."""
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(row, dict):
        return ""
    columns = [name for name, value in row.items() if not _is_valid_text(name) or not _is_valid_text(value)]
    return f"column {ascii(columns[0]) if not _is_valid_text(columns[0]) else columns[0]}" if columns else ""


def _is_valid_text(value: object) -> bool:
    """Return whether a value, and all that it holds, can be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


_PARQUET_QUERY = "SELECT {columns} FROM read_parquet(?)"


def _read_parquet(path: Path, columns: Collection[str] | None) -> Iterator[NumberedRow]:
    # One thread: each holds a row group in memory, and one is as fast as the reader of the rows.
    with duckdb.connect(config={"threads": "1"}) as con, _named_parquet_errors(path):
        types = _describe_parquet(con, path)
        names = [name for name in types if columns is None or name in columns] or list(types)
        quoted = ('"' + name.replace('"', '""') + '"' for name in names)
        cursor = con.execute(_PARQUET_QUERY.format(columns=", ".join(quoted)), [str(path)])
        converters = _column_converters({name: types[name] for name in names})
        for number, values in enumerate(_fetch_rows(cursor), 1):
            row: TableRow = dict(zip(names, values))  # noqa: B905 - `strict=` makes each row of a table 0.2 us slower
            for name, convert in converters.items():
                row[name] = convert(row[name])
            yield number, row


def _describe_parquet(con: duckdb.DuckDBPyConnection, path: Path) -> dict[str, str]:
    """Return DuckDB's type of each column, by its name."""
    described = con.execute(_PARQUET_QUERY.format(columns="*") + " LIMIT 0", [str(path)]).description or []
    return {str(column[0]): str(column[1]) for column in described}


@contextmanager
def _named_parquet_errors(path: Path) -> Iterator[None]:
    """Turn DuckDB's errors into InputErrors that name the file."""
    try:
        yield
    except duckdb.Error:
        raise InputError(f"{path} is {_describe_parquet_fault(path)}") from None


def _describe_parquet_fault(path: Path) -> str:
    """Return why a file cannot be read as Parquet, and what to do. DuckDB's own words name bytes and exceptions."""
    with path.open("rb") as file:
        first = file.read(len(PARQUET_MARK))
        file.seek(-min(len(PARQUET_MARK), path.stat().st_size), os.SEEK_END)
        last = file.read()
    if first != PARQUET_MARK:
        return "not a Parquet file, whatever its name says; name it after what it is, or write it again as Parquet"
    if last != PARQUET_MARK:
        return "a Parquet file without its end, as after a download that broke off; fetch or write it again"
    return "a Parquet file that is damaged, or written in a way that is not known here; write it again"


def _fetch_rows(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[object, ...]]:
    while rows := cursor.fetchmany(FETCH_ROWS):
        yield from rows


def _column_converters(types: Mapping[str, str]) -> Mapping[str, Callable[[object], object]]:
    """Return what converts the values of each column of a type that JSON and CSV lack, by the column's name.

    With it the same table gives the same rows in every format. types: DuckDB's, by column.
    """
    known: Mapping[str, Callable[[object], object]] = {"UUID": _uuid_to_text, "DECIMAL": _decimal_to_int}
    converters = {}
    for name, kind in types.items():
        convert = known.get(kind if kind.endswith("]") else kind.partition("(")[0])
        if convert is not None:
            converters[name] = convert
    return converters


def _uuid_to_text(value: object) -> object:
    return None if value is None else str(value)


def _decimal_to_int(value: object) -> object:
    """Return a DECIMAL as an int where it is a whole number: databases write their ids so."""
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value
