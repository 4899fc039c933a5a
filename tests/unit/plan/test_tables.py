"""Reading tables: what is read, and the one sentence for each way in which a file can be wrong."""

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from batcher.errors import InputError
from batcher.plan import tables as plan_tables
from batcher.plan.tables import LONGEST_FIELD, read_bios, read_table

HEADER = b"artist_id,artist_name\n"


def table(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def rows(path: Path) -> list[tuple[int, Any]]:
    """Return the rows in order; a bad one as its sentence, without the folder."""
    return [(n, str(row).replace(f"{path.parent}/", "") if isinstance(row, InputError) else row)
            for n, row in read_table(path)]  # fmt: skip


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        rows(path)
    return str(raised.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (HEADER + b"a,Ana\n", [(2, {"artist_id": "a", "artist_name": "Ana"})]),
        (HEADER, []),
        (b"\xef\xbb\xbf" + HEADER + b"a,\xc3\x89\n", [(2, {"artist_id": "a", "artist_name": "É"})]),
        (HEADER + b'a,"Ana, ""the"" one"\r\n', [(2, {"artist_id": "a", "artist_name": 'Ana, "the" one'})]),
        (
            HEADER + b'a,"two\nlines"\n\nb,Bo\n',  # the row after is numbered as an editor shows it
            [(2, {"artist_id": "a", "artist_name": "two\nlines"}), (5, {"artist_id": "b", "artist_name": "Bo"})],
        ),
        (HEADER + b"a,\n", [(2, {"artist_id": "a", "artist_name": ""})]),
        (HEADER + b"a,x\0y\n", [(2, {"artist_id": "a", "artist_name": "x\0y"})]),
        (
            HEADER + b"a\nb,Bo\nc,Cy,3\n",
            [
                (2, "t.csv, row 2: 1 values for 2 columns; quote commas in values"),
                (3, {"artist_id": "b", "artist_name": "Bo"}),
                (4, "t.csv, row 4: 3 values for 2 columns; quote commas in values"),
            ],
        ),
    ],
)
def test_csv_rows(tmp_path: Path, content: bytes, expected: list[object]) -> None:
    assert rows(table(tmp_path, "t.csv", content)) == expected


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "t.csv is empty: not even a header row; write the names of the columns into its first row"),
        (b"\n", "t.csv is empty: not even a header row; write the names of the columns into its first row"),
        (b"a,b,a\n1,2,3\n", "t.csv, row 1: the header names column 'a' twice; rename or remove one"),
        (b"a,,\n1,2,3\n", "t.csv, row 1: the header names column '' twice; rename or remove one"),
        (
            HEADER + b"a,Ana\nb,caf\xe9\n",
            "t.csv, row 3: byte 6 of the line is 0xe9, which is not UTF-8; save it as UTF-8",
        ),
        (
            "artist_id,artist_name\n".encode("utf-16"),
            "t.csv, row 1: byte 1 of the line is 0xff, which is not UTF-8; save it as UTF-8",
        ),
        (
            HEADER + b'a,Ana\nb,"Bo\nc,Cy\n',
            "t.csv, row 3: a quote that begins here is never closed; write quotes inside a value twice",
        ),
        (HEADER + b'a,"An"a\n', "t.csv, row 2: ',' expected after '\"'; write quotes inside a value twice"),
        (
            HEADER + b"a," + b"x" * (LONGEST_FIELD + 1) + b"\n",
            f"t.csv, row 2: a value is longer than {LONGEST_FIELD:,} characters, perhaps a quote is not closed; "
            "fix the row",
        ),
    ],
    ids=["empty", "blank", "twice", "nameless-twice", "latin-1", "utf-16", "open-quote", "quote-inside", "huge"],
)
def test_csv_refusals(tmp_path: Path, content: bytes, sentence: str) -> None:
    assert refusal(table(tmp_path, "t.csv", content)) == sentence


def test_the_position_of_a_bad_byte_is_exact_far_into_a_file(tmp_path: Path) -> None:
    """Name the row although the decoder reads ahead in blocks."""
    content = HEADER + b"".join(b"a%d,Ana\n" % n for n in range(20_000)) + b"z,\xff\n" + b"y,Yo\n" * 9_000
    assert refusal(table(tmp_path, "t.csv", content)).startswith("t.csv, row 20002: byte 3 of the line is 0xff")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a": 1}\n\n{"a": null}', [(1, {"a": 1}), (3, {"a": None})]),
        (b'\xef\xbb\xbf{"a": 1}\n', [(1, {"a": 1})]),
        (b"", []),
        (b"[1]\n", [(1, "t.jsonl, row 1: not a JSON object; write one object on each line")]),
        (b"3\n", [(1, "t.jsonl, row 1: not a JSON object; write one object on each line")]),
        (
            b'{"id": 12345678901234567890123, "a": -92233720368547758080, "b": 1e30, "c": 1.5}\n',
            [(1, {"id": "12345678901234567890123", "a": "-92233720368547758080", "b": 1e30, "c": 1.5})],
        ),
        (
            b'{"a": 1}\n{"a": }\n{"a": 2}\n',
            [
                (1, {"a": 1}),
                (
                    2,
                    "t.jsonl, row 2: not valid JSON (unexpected character, expected a JSON value at character 7)",
                ),
                (3, {"a": 2}),
            ],
        ),
        (
            b'{"a": "\\ud800"}\n',
            [(1, "t.jsonl, row 1: column a holds half of a surrogate pair, which is no text")],
        ),
        (
            b'{"a": 1, "b": [{"c": "\\udc00x"}], "d": "\\ud83d\\ude00"}\n',
            [(1, "t.jsonl, row 1: column b holds half of a surrogate pair, which is no text")],
        ),
        (
            b'{"a": 1, "b\\ud800": 2}\n',
            [(1, "t.jsonl, row 1: column 'b\\ud800' holds half of a surrogate pair, which is no text")],
        ),
        (
            b'["\\ud800"]\n',
            [(1, "t.jsonl, row 1: character 3 holds half of a surrogate pair, which is no text")],
        ),
        (
            b'{"a": "\\ud800", }\n',
            [(1, "t.jsonl, row 1: character 8 holds half of a surrogate pair, which is no text")],
        ),
        (
            b'{"a": "\xe9"}\n',
            [(1, "t.jsonl, row 1: byte 8 of the line is 0xe9, which is not UTF-8; save it as UTF-8")],
        ),
    ],
)
def test_jsonl_rows(tmp_path: Path, content: bytes, expected: list[object]) -> None:
    assert rows(table(tmp_path, "t.jsonl", content)) == expected


def parquet(path: Path, query: str) -> Path:
    with duckdb.connect() as con:
        con.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return path


def test_parquet_rows_over_several_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_tables, "FETCH_ROWS", 2)
    path = parquet(tmp_path / "odd [1] 'name'.parquet".replace("'", ""), "SELECT 'a' || i AS id, i FROM range(5) t(i)")
    assert rows(path) == [(n + 1, {"id": f"a{n}", "i": n}) for n in range(5)]


def test_the_types_that_only_parquet_has_read_as_in_any_table(tmp_path: Path) -> None:
    """Read a UUID as a text and a whole DECIMAL as an int; keep a fraction exact."""
    ident = "0f3b1e8e-6f0e-4a53-8f3a-0d3b1c9f9a10"
    query = f"""
        SELECT '{ident}'::UUID AS u, 7::DECIMAL(38, 0) AS whole, 2.00::DECIMAL(9, 2) AS zeros,
               2.50::DECIMAL(9, 2) AS part, [1.0::DECIMAL(3, 1)] AS list, 7.0::DOUBLE AS number
        UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL
    """
    (_, first), (_, second) = rows(parquet(tmp_path / "t.parquet", query))
    assert first == {"u": ident, "whole": 7, "zeros": 2, "part": Decimal("2.50"), "list": [Decimal(1)], "number": 7.0}
    assert [type(first[name]) for name in ("u", "whole", "zeros", "part")] == [str, int, int, Decimal]
    assert set(second.values()) == {None}


def test_only_the_columns_that_are_needed_are_read(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", """SELECT 1 AS id, 'x' AS "a ""b", 2 AS "Id", 7::DECIMAL(3) AS d""")
    every = {"id": 1, 'a "b': "x", "Id_1": 2, "d": 7}
    assert list(read_table(path, {'a "b', "d", "missing"})) == [(1, {'a "b': "x", "d": 7})]
    assert list(read_table(path, {"missing"})) == list(read_table(path)) == [(1, every)]


def test_an_empty_parquet_has_no_rows(tmp_path: Path) -> None:
    assert rows(parquet(tmp_path / "t.parquet", "SELECT 1 AS a WHERE false")) == []


@pytest.mark.parametrize("kept", [0, 3, 60])
def test_a_broken_parquet_is_refused(tmp_path: Path, kept: int) -> None:
    path = parquet(tmp_path / "t.parquet", "SELECT i, 'x' AS x FROM range(1000) t(i)")
    path.write_bytes(path.read_bytes()[:kept])
    assert refusal(path).startswith(
        "t.parquet is a Parquet file without its end, as after a download that broke off; "
        if kept > 3
        else "t.parquet is not a Parquet file, whatever its name says; "
    )


def test_a_parquet_that_breaks_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", "SELECT i, 'x' || i AS x FROM range(1000) t(i)")
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56  # the footer stands, the pages don't
    path.write_bytes(data)
    assert refusal(path).startswith("t.parquet is a Parquet file that is damaged, or written in a way")


@pytest.mark.parametrize(("sign", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "upright strokes")])
def test_columns_that_are_not_separated_by_commas_are_named(tmp_path: Path, sign: str, name: str) -> None:
    path = table(tmp_path, "t.csv", sign.join(["artist_id", "artist_name"]).encode() + b"\n")
    told = f"t.csv: its columns are separated by {name}; save it with commas, or as .jsonl or .parquet"
    assert refusal(path) == told


@pytest.mark.parametrize("name", ["t.txt", "t", "t.csv.gz"])
def test_an_unknown_ending_is_refused(tmp_path: Path, name: str) -> None:
    path = table(tmp_path, name, HEADER)
    assert refusal(path) == f"{name}: the ending says neither .csv, .jsonl nor .parquet; rename or convert the file"


def test_an_ending_in_capitals_is_known(tmp_path: Path) -> None:
    assert rows(table(tmp_path, "T.CSV", HEADER + b"a,Ana\n")) == [(2, {"artist_id": "a", "artist_name": "Ana"})]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_missing_file_a_folder_and_a_monster_of_a_name(tmp_path: Path, ending: str) -> None:
    missing = "t.%s does not exist; check the name, or [job] input in batcher.toml"
    assert refusal(tmp_path / f"t.{ending}") == missing % ending
    (tmp_path / f"d.{ending}").mkdir()
    assert refusal(tmp_path / f"d.{ending}") == f"d.{ending} is a folder; name a file"
    (tmp_path / "folder").mkdir(exist_ok=True)
    assert refusal(tmp_path / "folder") == "folder is a folder; name a file"
    monster = "x" * 5_000 + f".{ending}"
    assert refusal(tmp_path / monster) == f"{monster} cannot be read: File name too long"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_file_without_the_right_to_read(tmp_path: Path, ending: str) -> None:
    path = table(tmp_path, f"t.{ending}", HEADER)
    path.chmod(0)
    assert refusal(path) == f"t.{ending} cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ('artist_id,embedding\na,"[0.5, -1]"\n', ['{"embedding":[0.5,-1]}']),
        (
            "artist_id,embedding\na,0.5\n",
            "d.csv, row 2: column embedding is no list of numbers; leave out",
        ),
        ('artist_id,embedding\na,"[0.5, null]"\n', "d.csv, row 2: column embedding is no list of numbers"),
        ("artist_id,embedding\na,\n", "d.csv, row 2: column embedding is missing or empty"),
    ],
)
def test_a_table_of_vectors_that_exist_holds_lists_of_numbers(tmp_path: Path, rows: str, found: object) -> None:
    table = tmp_path / "d.csv"
    table.write_text(rows, encoding="utf-8")
    if isinstance(found, list):
        assert [data for _, _, data in read_bios(table, {"embedding": "FLOAT[]"})] == found
        return
    with pytest.raises(InputError) as raised:
        list(read_bios(table, {"embedding": "FLOAT[]"}))
    assert str(found) in str(raised.value)
