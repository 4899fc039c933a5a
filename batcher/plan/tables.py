"""Reading tables: CSV, JSONL and Parquet as a stream of rows, each with its number for error messages.

CSV and JSONL are read by Python's own parsers, which name the row that is wrong; Parquet by DuckDB.
A row that cannot be read by itself comes as an InputError in its place: whoever reads may leave it out and go on.
"""

import csv
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path

import duckdb
import orjson

from batcher.errors import InputError

LONGEST_FIELD = 16 * 1024 * 1024
"""Characters of a CSV field that are read, so that the job can say which column is too long."""
FETCH_ROWS = 2_000
BOM = b"\xef\xbb\xbf"

LARGEST = 2**63
"""Beyond it, an integer is written as its digits: readers of JSON lose some."""

TableRow = dict[str, object]
NumberedRow = tuple[int, TableRow | InputError]


def read_table(path: Path, columns: Collection[str] | None = None) -> Iterator[NumberedRow]:
    """Yields (row number, row). Rows are numbered as an editor shows them: a CSV's first row of data is row 2.

    columns: those that are needed; others are left out where that saves something. None: all.
    Raises InputError for a file that is missing, of an unknown kind, not UTF-8, or broken beyond one row.
    """
    readers: Mapping[str, Callable[[Path], Iterator[NumberedRow]]] = {
        ".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": partial(_read_parquet, columns=columns),
    }  # fmt: skip
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


def table_name(path: Path, home: Path) -> str:
    """What tells a table from others of the same file name: its path from the folder that the state's folder stands in.

    So it stays the same where the whole project moves. A table elsewhere goes by its full path.
    """
    whole, root = path.resolve(), home.resolve().parent
    return (whole.relative_to(root) if whole.is_relative_to(root) else whole).as_posix()


def read_bios(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[int, str, str]]:
    """Yields (row number, artist_id, bio as JSON) of a table of bios that exist.

    columns: the fields of a bio and their DuckDB types; what the table has of them is taken. Raises InputError naming
    row and column.
    """
    key = "bio" if "bio" in columns else next(iter(columns))
    for number, row in read_table(path):
        if isinstance(row, InputError):
            raise row
        artist_id = _format_artist_id(row.get("artist_id"))
        if not artist_id:
            raise InputError(f"{path}, row {number}: column artist_id is missing or empty; a bio needs its artist")
        bio = {
            name: _parse_bio_value(row[name], kind) for name, kind in columns.items() if row.get(name) not in (None, "")
        }
        if key not in bio or not str(bio[key]).strip():
            raise InputError(f"{path}, row {number}: column {key} is missing or empty; leave out rows without a bio")
        yield number, artist_id, orjson.dumps(bio, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _format_artist_id(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int) else ""


def _parse_bio_value(value: object, kind: str) -> object:
    """A value as a bio holds it. Only JSONL has types of its own for all: elsewhere some are written as text."""
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
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
        last = 0  # the last line that is read: the next row begins below it, and may go over several lines
        try:
            header = next(reader, [])
            _check_header(path, header)
            last = reader.line_num
            for values in reader:
                if values:
                    yield last + 1, _parse_csv_row(path, last + 1, header, values)
                last = reader.line_num
        except csv.Error as error:
            raise InputError(f"{path}, row {last + 1}: {_explain_csv_error(error)}") from None
        except UnicodeDecodeError:
            raise InputError(f"{path}, {_locate_bad_byte(path)}; save it as UTF-8") from None


def _explain_csv_error(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "a quote that begins here is never closed; write quotes inside a value twice"
    if "field limit" in text:
        return f"a value is longer than {LONGEST_FIELD:,} characters, perhaps a quote is not closed; mend the row"
    return f"{text}; write quotes inside a value twice"


def _locate_bad_byte(path: Path) -> str:
    """Where a file stops being UTF-8: row, byte in it, and what stands there."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                return f"row {number}: {_describe_bad_byte(raw, error)}"
    return "which is not UTF-8"


def _describe_bad_byte(raw: bytes, error: UnicodeDecodeError) -> str:
    return f"byte {error.start + 1} of the line is 0x{raw[error.start]:02x}, which is not UTF-8"


def _check_header(path: Path, header: list[str]) -> None:
    if not header:
        raise InputError(f"{path} is empty: not even a header row; write the names of the columns into its first row")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{path}, row 1: the header names column {twice[0]!r} twice; rename or remove one")


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
    return row if isinstance(row, dict) else InputError(f"{where}: not a JSON object; write one object on each line")


def _explain_json_error(raw: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        raw.decode()
    except UnicodeDecodeError as fault:
        return f"{_describe_bad_byte(raw, fault)}; save it as UTF-8"
    if "surrogate" in error.msg:
        where = _find_surrogate_column(raw) or f"character {error.colno}"
        return f"{where} holds half of a surrogate pair, which is no text; mend it"
    return f"not valid JSON ({error.msg} at character {error.colno}); mend the line"


def _find_surrogate_column(raw: bytes) -> str:
    """The column of a line that holds half of a surrogate pair; "" where it cannot be told."""
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(row, dict):
        return ""
    columns = [name for name, value in row.items() if not _is_valid_text(name) or not _is_valid_text(value)]
    return f"column {ascii(columns[0]) if not _is_valid_text(columns[0]) else columns[0]}" if columns else ""


def _is_valid_text(value: object) -> bool:
    """Whether a value, and all that it holds, can be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_parquet(path: Path, columns: Collection[str] | None) -> Iterator[NumberedRow]:
    with duckdb.connect(config={"threads": "1"}) as con:  # each holds a row group, and none is faster than the reader
        try:
            cursor = con.execute("SELECT * FROM read_parquet(?) LIMIT 0", [str(path)])
            found = [(column[0], str(column[1])) for column in cursor.description or []]
            wanted = [column for column in found if columns is None or column[0] in columns] or found
            names, plain = [name for name, _ in wanted], _column_converters(wanted)
            cursor = con.execute(f"SELECT {_quote_columns(names)} FROM read_parquet(?)", [str(path)])  # noqa: S608 - quoted
            number = 0
            while rows := cursor.fetchmany(FETCH_ROWS):
                for values in rows:
                    number += 1
                    row: TableRow = dict(zip(names, values))  # noqa: B905 - the one loop over all values of a table
                    for name, make in plain.items():
                        row[name] = make(row[name])
                    yield number, row
        except duckdb.Error as error:
            raise InputError(f"{path} is not a Parquet file that can be read: {_first_line(error)}") from None


def _quote_columns(names: Iterable[str]) -> str:
    """Columns as SQL names them."""
    return ", ".join('"' + name.replace('"', '""') + '"' for name in names)


def _column_converters(columns: list[tuple[str, str]]) -> Mapping[str, Callable[[object], object]]:
    """What makes plain values of a column of a type that JSON and CSV lack: the same table reads the same in each."""
    kinds: Mapping[str, Callable[[object], object]] = {"UUID": _uuid_to_text, "DECIMAL": _decimal_to_int}
    found = ((name, kinds.get(kind if kind.endswith("]") else kind.partition("(")[0])) for name, kind in columns)
    return {name: make for name, make in found if make}


def _uuid_to_text(value: object) -> object:
    return None if value is None else str(value)


def _decimal_to_int(value: object) -> object:
    """A DECIMAL as an int where it is one: databases write their ids so."""
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
