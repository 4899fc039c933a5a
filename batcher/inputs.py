"""Reading tables: CSV, JSONL and Parquet as a stream of rows, each with its number for error messages.

CSV and JSONL are read by Python's own parsers, which name the row that is wrong; Parquet by DuckDB.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import duckdb
import orjson

from batcher.errors import InputError

LONGEST_FIELD = 16 * 1024 * 1024
"""Characters of a CSV field that are read, so that the job can say which column is too long."""
FETCH_ROWS = 10_000

Row = dict[str, object]


def read_table(path: Path) -> Iterator[tuple[int, Row]]:
    """Yields (row number, row). Rows are numbered as an editor shows them: a CSV's first row of data is row 2.

    Raises InputError for a file that is missing, of an unknown kind, not UTF-8, or broken.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: the ending says neither .csv, .jsonl nor .parquet")
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    try:
        yield from reader(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _read_csv(path: Path) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            _check_header(path, header)
            for values in reader:
                if values:
                    yield reader.line_num, _csv_row(path, reader.line_num, header, values)
        except csv.Error as error:
            raise InputError(f"{path}, row {reader.line_num}: {error}") from None
        except UnicodeDecodeError as error:
            bad = error.object[error.start]
            raise InputError(
                f"{path} is not UTF-8 (byte 0x{bad:02x} after row {reader.line_num}); save it as UTF-8"
            ) from None


def _check_header(path: Path, header: list[str]) -> None:
    if not header:
        raise InputError(f"{path} is empty: not even a header row")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{path}: the header names column {twice[0]} twice")


def _csv_row(path: Path, number: int, header: list[str], values: list[str]) -> Row:
    if len(values) != len(header):
        raise InputError(
            f"{path}, row {number}: {len(values)} values for {len(header)} columns; quote commas in values"
        )
    return dict(zip(header, values, strict=True))


def _read_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            try:
                row = orjson.loads(raw)
            except orjson.JSONDecodeError as error:
                raise InputError(f"{path}, row {number}: not valid JSON: {error}") from None
            if not isinstance(row, dict):
                raise InputError(f"{path}, row {number}: not a JSON object")
            yield number, row


def _read_parquet(path: Path) -> Iterator[tuple[int, Row]]:
    with duckdb.connect() as con:
        try:
            cursor = con.execute("SELECT * FROM read_parquet(?)", [str(path)])
        except duckdb.Error as error:
            raise InputError(f"{path} is not a Parquet file that can be read: {_first_line(error)}") from None
        names = [column[0] for column in cursor.description or []]
        number = 0
        while rows := cursor.fetchmany(FETCH_ROWS):
            for values in rows:
                number += 1
                yield number, dict(zip(names, values, strict=True))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
