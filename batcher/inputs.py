"""Reading tables: CSV, JSONL and Parquet as a stream of rows, each with its number for error messages.

CSV and JSONL are read by Python's own parsers, which name the row that is wrong; Parquet by DuckDB.
A row that cannot be read by itself comes as an InputError in its place: whoever reads may leave it out and go on.
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
BOM = b"\xef\xbb\xbf"

Row = dict[str, object]
NumberedRow = tuple[int, Row | InputError]


def read_table(path: Path) -> Iterator[NumberedRow]:
    """Yields (row number, row). Rows are numbered as an editor shows them: a CSV's first row of data is row 2.

    Raises InputError for a file that is missing, of an unknown kind, not UTF-8, or broken beyond one row.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: the ending says neither .csv, .jsonl nor .parquet; rename or convert the file")
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file")
        if not path.is_file():
            raise InputError(f"{path} does not exist; check the name, or [job] input in batcher.toml")
        yield from reader(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _read_csv(path: Path) -> Iterator[NumberedRow]:
    csv.field_size_limit(LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        last = 0  # the last line that is read: the next row begins below it, and may go over several lines
        try:
            header = next(reader, [])
            _check_header(path, header)
            last = reader.line_num
            for values in reader:
                if values:
                    yield last + 1, _csv_row(path, last + 1, header, values)
                last = reader.line_num
        except csv.Error as error:
            raise InputError(f"{path}, row {last + 1}: {_csv_fault(error)}") from None
        except UnicodeDecodeError:
            raise InputError(f"{path}, {_bad_byte(path)}; save it as UTF-8") from None


def _csv_fault(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "a quote that begins here is never closed; write quotes inside a value twice"
    if "field limit" in text:
        return f"a value is longer than {LONGEST_FIELD:,} characters, perhaps a quote is not closed; mend the row"
    return f"{text}; write quotes inside a value twice"


def _bad_byte(path: Path) -> str:
    """Where a file stops being UTF-8: row, byte in it, and what stands there."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                return f"row {number}: {_not_utf8(raw, error)}"
    return "which is not UTF-8"


def _not_utf8(raw: bytes, error: UnicodeDecodeError) -> str:
    return f"byte {error.start + 1} of the line is 0x{raw[error.start]:02x}, which is not UTF-8"


def _check_header(path: Path, header: list[str]) -> None:
    if not header:
        raise InputError(f"{path} is empty: not even a header row; write the names of the columns into its first row")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{path}, row 1: the header names column {twice[0]!r} twice; rename or remove one")


def _csv_row(path: Path, number: int, header: list[str], values: list[str]) -> Row | InputError:
    if len(values) != len(header):
        counts = f"{len(values)} values for {len(header)} columns"
        return InputError(f"{path}, row {number}: {counts}; quote commas in values")
    return dict(zip(header, values, strict=True))


def _read_jsonl(path: Path) -> Iterator[NumberedRow]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            text = raw.removeprefix(BOM) if number == 1 else raw
            if text.strip():
                yield number, _jsonl_row(f"{path}, row {number}", text)


def _jsonl_row(where: str, raw: bytes) -> Row | InputError:
    try:
        row = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return InputError(f"{where}: {_json_fault(raw, error)}")
    return row if isinstance(row, dict) else InputError(f"{where}: not a JSON object; write one object on each line")


def _json_fault(raw: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        raw.decode()
    except UnicodeDecodeError as fault:
        return f"{_not_utf8(raw, fault)}; save it as UTF-8"
    if "surrogate" in error.msg:
        return f"column {error.colno} holds half of a surrogate pair, which is no text; mend the value"
    return f"not valid JSON ({error.msg} at column {error.colno}); mend the line"


def _read_parquet(path: Path) -> Iterator[NumberedRow]:
    with duckdb.connect() as con:
        try:
            cursor = con.execute("SELECT * FROM read_parquet(?)", [str(path)])
            names = [column[0] for column in cursor.description or []]
            number = 0
            while rows := cursor.fetchmany(FETCH_ROWS):
                for values in rows:
                    number += 1
                    yield number, dict(zip(names, values, strict=True))
        except duckdb.Error as error:
            raise InputError(f"{path} is not a Parquet file that can be read: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
