"""Answers in SQL as they are drawn and written: every type of DuckDB's, and every width."""

import io

import duckdb
import orjson
import pytest
from rich.cells import cell_len

from batcher.contracts.results import SqlAnswer
from batcher.state.reports.query import QueryResult, ResultColumn
from batcher.views.progress import CleanConsole
from batcher.views.query import ResultTable, to_plain, write_csv


def ask(question: str) -> QueryResult:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        cursor = con.execute(question)
        columns = [ResultColumn(name, str(kind)) for name, kind, *_ in cursor.description or ()]
        return QueryResult(columns, cursor.fetchall(), False)


def draw(result: QueryResult, width: int) -> str:
    written = io.StringIO()
    CleanConsole(file=written, width=width).print(ResultTable(result))
    return written.getvalue()


@pytest.mark.parametrize(
    ("value", "drawn", "plain"),
    [
        ("NULL", "", None),
        ("true", "true", True),
        ("1234567", "1234567", 1234567),
        ("1.50::DECIMAL(24, 12)", "1.5", 1.5),
        ("100::DECIMAL(24, 12)", "100", 100.0),
        ("0.000000012500::DECIMAL(24, 12)", "0.0000000125", 1.25e-8),
        ("0.25::DOUBLE", "0.25", 0.25),
        ("'nan'::DOUBLE", "nan", None),
        ("'infinity'::DOUBLE", "inf", None),
        ("170141183460469231731687303715884105727", "1701", "170141183460469231731687303715884105727"),
        ("'2026-11-27 08:00:00.5+01'::TIMESTAMPTZ", "2026-11-27 07:00:00+00:00", "2026-11-27T07:00:00.500000+00:00"),
        ("'2026-11-27'::DATE", "2026-11-27", "2026-11-27"),
        ("'08:30:00'::TIME", "08:30:00", "08:30:00"),
        ("INTERVAL '90 minutes'", "1:30:00", "1:30:00"),
        ("'-1000-01-01'::DATE", "1001-01-01 (BC)", "1001-01-01 (BC)"),
        ("'\\xAB'::BLOB", "ab", "ab"),
        ("[1, NULL]", "[1,null]", [1, None]),
        ("{'a': to_timestamp(0)}", '{"a":"1970-01-01T00:00:00+00:00"}', {"a": "1970-01-01T00:00:00+00:00"}),
        ("MAP {1: 'x'}", '{"1":"x"}', {"1": "x"}),
        ("'a' || chr(10) || chr(27) || '[31mb'", "a �[31mb", "a\n\x1b[31mb"),
        ("'00000000-0000-0000-0000-000000000001'::UUID", "00000000-0000", "00000000-0000-0000-0000-000000000001"),
    ],
)  # fmt: skip
def test_a_value_of_each_type(value: str, drawn: str, plain: object) -> None:
    result = ask(f"SELECT {value} AS v")
    assert drawn in draw(result, 100)
    rows = [[to_plain(each) for each in row] for row in result.rows]
    told = SqlAnswer.model_validate({**result._asdict(), "rows": rows}).to_json()
    assert orjson.loads(told)["rows"] == [[plain]]


@pytest.mark.parametrize("width", [1, 10, 24, 40, 80, 120, 200])
def test_a_table_is_never_wider_than_the_screen(width: int) -> None:
    wide = ask(
        "SELECT repeat('x', 300) AS long, 1234567890123 AS number, '李' || repeat('白', 60) AS cjk, now() AS at, "
        "repeat('y' || chr(27), 20) AS short, 'z' AS \"a name that is longer than its values\" FROM range(3)"
    )
    assert max(map(cell_len, draw(wide, width).splitlines())) <= width


def test_numbers_are_whole_and_texts_are_cut() -> None:
    table = draw(ask("SELECT repeat('x', 300) AS long, 1234567890123 AS number"), 40)
    assert "1234567890123" in table
    assert f"{'x' * 23}…" in table
    assert "No room" not in table


def test_columns_without_room_are_named() -> None:
    table = draw(ask("SELECT 1234567890123 AS a, 1234567890123 AS b, 1234567890123 AS c"), 30)
    assert "No room for c: name fewer" in table


def test_csv_is_exact() -> None:
    written = write_csv(
        ask("SELECT 'a,\"' || chr(10) || chr(13) AS t, 1.50::DECIMAL(24, 12) AS d, NULL AS n, true AS b")
    )
    assert written == 't,d,n,b\n"a,""\n\r",1.5,,true'


def test_an_answer_without_rows() -> None:
    result = ask("SELECT 1 AS a WHERE false")
    assert "0 rows." in draw(result, 40)
    assert write_csv(result) == "a"
