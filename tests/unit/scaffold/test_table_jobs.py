"""Jobs made from a table: the types of its columns, the columns that name a row, and the files that are written."""

import ast
from pathlib import Path

import duckdb
import pytest

from batcher.commands.planning.init import InitWish, run_init, scaffold_table_job
from batcher.config.loading import load_config
from batcher.core.model import RowColumns
from batcher.errors import InputError
from batcher.job.job import Job
from batcher.job.loading import load_job
from batcher.nouns import find_nouns
from batcher.plan.tables import read_table
from batcher.scaffold.choosing import name_row
from batcher.scaffold.output_fields import OutputField, parse_output_fields
from batcher.scaffold.profile import profile_table
from batcher.scaffold.sources import convert_prompt, parse_endpoint
from tests.support.world import World

HEAD = "ticket_id,subject,body\n"
ROWS = "7,Printer,It is on fire\n8,Mouse,It squeaks\n"


def table(folder: Path, text: str = HEAD + ROWS, name: str = "tickets.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def made(path: Path, **wish: str) -> Job:
    """Have a job written beside a table, and return it."""
    scaffold_table_job(InitWish(path, folder=path.parent, **wish))
    return load_job(load_config(path.parent / "batcher.toml").job.path)


def refusal(path: Path, **wish: str) -> str:
    with pytest.raises(InputError) as raised:
        made(path, **wish)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    return str(raised.value).replace(str(path), path.name)


CSV = """n,share,sure,day,code,mixed,gap,empty,when
1,0.5,true,2026-11-27,007,1,,,27/11/2026
-2,3.0,FALSE,2026-01-31,008,x,5,,28/11/2026
30,-12.25,true,2026-02-28,009,2.5,6,,29/11/2026
"""


def test_the_texts_of_a_csv_tell_its_types(tmp_path: Path) -> None:
    found = profile_table(table(tmp_path, CSV))
    assert found.rows == 3
    assert {column.name: (column.kind, column.has_gaps) for column in found.columns} == {
        "n": ("int", False),
        "share": ("float", False),
        "sure": ("bool", False),
        "day": ("dt.date", False),
        "code": ("str", False),
        "mixed": ("str", False),
        "gap": ("int", True),
        "empty": ("str", True),
        "when": ("str", False),
    }


@pytest.mark.parametrize(
    "value",
    [
        "1.10",
        "2",
        "5E3",
        "1e-3",
        "0.00005",
        "92748927005455000000000017",
        "9007199254740993.0",
        "0.1234567890123456789",
    ],
)
def test_a_number_that_would_be_written_otherwise_is_a_text(tmp_path: Path, value: str) -> None:
    path = table(tmp_path, f"id,number\n1,0.5\n2,{value}\n")
    assert profile_table(path).columns[1].kind == "str"
    job = made(path, prompt="Number: {number}")
    row = job.parse_artist_row({"id": "2", "number": value}, "row 3")
    assert job.prompt_values(row, "row 3")["number"] == value


def test_a_date_that_does_not_exist_is_a_text(tmp_path: Path) -> None:
    assert profile_table(table(tmp_path, "id,day\n1,2026-02-30\n")).columns[1].kind == "str"


def test_rows_that_cannot_be_read_and_odd_line_ends_do_no_harm(tmp_path: Path) -> None:
    text = '\ufeffid,Body text\r\n1,"a, ""b""\r\nc"\r\n\r\n2,b,too many\r\n3,d\r\n'
    found = profile_table(table(tmp_path, text))
    assert (found.rows, [column.name for column in found.columns]) == (2, ["id", "Body text"])


def test_the_values_of_jsonl_tell_its_types(tmp_path: Path) -> None:
    rows = (
        '{"id": 1, "a": 1, "b": "17", "c": ["x"], "d": {"k": 1}, "e": true, "f": "2026-11-27", "g": 1, "h": 1}\n\n'
        '{"id": 2, "a": 2.5, "b": "", "c": null, "d": {}, "e": false, "f": "2026-11-28", "g": "x", "h": []}\nno json\n'
    )
    found = profile_table(table(tmp_path, rows, "t.jsonl"))
    kinds = {column.name: (column.kind, column.has_gaps) for column in found.columns}
    assert kinds == {
        "id": ("int", False),
        "a": ("float", False),
        "b": ("str", True),
        "c": ("list[Any]", True),
        "d": ("dict[str, Any]", False),
        "e": ("bool", False),
        "f": ("dt.date", False),
        "g": ("str", False),
        "h": ("Any", False),
    }


PARQUET = """SELECT 1::BIGINT AS id, 2.50::DECIMAL(9, 2) AS price, 3::DECIMAL(20, 0) AS whole, DATE '2026-11-27' AS day,
    TIMESTAMP '2026-11-27 07:30:00' AS moment, true AS sure, ['a', 'b'] AS tags, {'k': 1} AS parts, '7' AS digits,
    '0f3b1e8e-6f0e-4a53-8f3a-0d3b1c9f9a10'::UUID AS uuid, [1.5] AS shares, NULL::INTEGER AS gap, TIME '07:30' AS clock,
    'nan'::DOUBLE AS nan, TIMESTAMPTZ '2026-11-27 07:30:00+00' AS there, [DATE '2026-11-27'] AS days"""


def test_a_parquet_file_has_its_types(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    duckdb.execute(f"COPY ({PARQUET}) TO '{path}'")
    kinds = {column.name: column.kind for column in profile_table(path).columns}
    assert kinds == {
        "id": "int", "price": "float", "whole": "int", "day": "dt.date", "moment": "dt.datetime", "sure": "bool",
        "tags": "list[str]", "parts": "", "digits": "str", "uuid": "str", "shares": "list[float]", "gap": "str",
        "clock": "dt.time", "nan": "", "there": "dt.datetime", "days": "list[dt.date]",
    }  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_job_for_any_kind_of_table_can_be_planned(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tickets.{suffix}"
    left_out = [] if suffix == "parquet" else [", {'k': 1} AS parts", " 'nan'::DOUBLE AS nan,"]
    query = PARQUET
    for part in left_out:
        query = query.replace(part, "")
    duckdb.execute(f"COPY ({query} UNION ALL {query.replace('SELECT 1::', 'SELECT 2::')}) TO '{path}'")
    job = made(path)
    assert job.row_columns == RowColumns("id", None, None)
    world = World(tmp_path)
    world.job = job
    world.plan(path)
    assert world.rows("SELECT artist_id, artist_name, priority FROM artists ORDER BY 1") == [
        ("1", "1", 3),
        ("2", "2", 3),
    ]


@pytest.mark.parametrize(
    ("head", "row", "columns"),
    [
        ("user_id,id,ticket_id", "{n},{n},{n}", ("ticket_id", None, None)),
        ("user_id,id", "{n},{n}", ("id", None, None)),
        ("id,title,user_name,priority", "{n},t,u,2", ("id", "title", "priority")),
        ("Ticket ID,Subject,prio", "{n},s,0", ("ticket_id", "Subject", None)),
        ("TicketID,agent_name,priority", "{n},a,high", ("TicketID", "agent_name", None)),
        ("body,number", "{n}{n},{n}", ("number", None, None)),
        ("body,count", "long text {n},{n}", ("count", None, None)),
        ("code,name,model", "{n},x,y", ("ticket_code", "name", None)),
        ("id,url_key", "1,{n}", ("url_key", None, None)),
        ("email,title", "{n}@example.org,{n}", ("email", None, None)),
        ("ticket,title", "long text {n},{n}", ("ticket", None, None)),
        ("ticket,code", "{n},{n}", ("ticket_code", None, None)),
    ],
)
def test_the_columns_that_name_a_row(tmp_path: Path, head: str, row: str, columns: tuple[str, ...]) -> None:
    rows = "\n".join(row.format(n=n) for n in range(1, 4))
    assert made(table(tmp_path, f"{head}\n{rows}\n")).row_columns == columns


def test_a_column_with_gaps_may_be_empty(tmp_path: Path) -> None:
    path = table(tmp_path, "id,born,Body text\n1,1899,\n2,,x\n")
    world = World(tmp_path)
    world.job = made(path, prompt="{born}: {Body text}")
    world.plan(path)
    rows = [
        world.job.restore_artist(str(data)) for (data,) in world.rows("SELECT data FROM artists ORDER BY artist_id")
    ]
    assert [(row.born, row.body_text) for row in rows] == [(1899, None), (None, "x")]
    source = (tmp_path / "jobs" / "tickets" / "job.py").read_text(encoding="utf-8")
    assert "    born: int | None = None\n" in source
    assert '    body_text: str | None = Field(default=None, alias="Body text")\n' in source


def test_a_column_that_is_called_an_id_and_is_none_is_named(tmp_path: Path) -> None:
    told = scaffold_table_job(InitWish(table(tmp_path, "id,code,body\n7,1,x\n7,2,y\n"), folder=tmp_path / "a"))
    assert "code is the id: it has a different value in each of the 2 rows. --id COLUMN takes another one." in told
    assert "id has a value twice, so it is not the id." in told
    told = scaffold_table_job(InitWish(table(tmp_path, "id,body\n7,x\n,y\n"), folder=tmp_path / "b"))
    assert "id is empty in some rows, so it is not the id." in told
    told = scaffold_table_job(InitWish(table(tmp_path, "id,body\n7,x\n"), folder=tmp_path / "c"))
    assert "id is the id: it has a different value in each row. --id COLUMN takes another one." in told
    assert not [line for line in told if line.endswith("is not the id.")]


def test_another_id_can_be_taken(tmp_path: Path) -> None:
    assert made(table(tmp_path), id="subject").row_columns == RowColumns("subject", None, None)


@pytest.mark.parametrize(
    ("text", "wish", "sentence"),
    [
        (HEAD, {}, "tickets.csv has no rows; a job is made from the columns of a table that has some"),
        (HEAD + "1,2\n", {}, "tickets.csv, row 2: 2 values for 3 columns; quote commas in values"),
        ("", {}, "tickets.csv is empty: not even a header row; write the names of the columns into its first row"),
        (
            "subject,body\nx,y\nx,y\n",
            {},
            "tickets.csv: no column can be the id, as none has a different, short value in every row; add one that "
            "numbers the rows",
        ),
        (
            "id,body\n7,y\n7,y\n",
            {},
            "tickets.csv: no column can be the id: id has a value twice, and no other has a different, short value in "
            "every row; add one that numbers the rows",
        ),
        (HEAD + ROWS, {"id": "ticket"}, "--id: tickets.csv has no column 'ticket'; did you mean ticket_id?"),
        (HEAD + ROWS, {"id": "xyz"}, "--id: tickets.csv has no column 'xyz'; there are ticket_id, subject, body"),
        (
            HEAD + "1,,x\n2,y,z\n",
            {"id": "subject"},
            "--id: column subject is empty in some rows; an id is needed in each",
        ),
        (
            HEAD + "1,y,x\n2,y,z\n",
            {"id": "subject"},
            "--id: column subject is no id: it must have a different, short value in every row",
        ),
        (
            HEAD + ROWS,
            {"prompt": "Classify {subjet}."},
            "--prompt names {subjet}, and the table has no such column; did you mean subject?",
        ),
        (
            HEAD + ROWS,
            {"prompt": "Classify it."},
            "--prompt names no column, so every request would be the same; there are {ticket_id}, {subject}, {body}",
        ),
        (
            HEAD + ROWS,
            {"prompt": "Classify {subject"},
            "--prompt: a brace stands alone; a column stands between two, as {ticket_id}, and {{ and }} are braces "
            "that are meant as such",
        ),
        (
            HEAD + ROWS,
            {"schema": "Ticket_ID int"},
            "--schema: ticket_id is the column of the id; give the field of an answer another name",
        ),
    ],
)
def test_what_gives_no_job_is_said_and_nothing_is_written(
    tmp_path: Path, text: str, wish: dict[str, str], sentence: str
) -> None:
    assert refusal(table(tmp_path, text), **wish) == sentence


def test_a_column_that_no_field_can_hold_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    duckdb.execute(f"COPY ({PARQUET}) TO '{path}'")
    assert refusal(path, prompt="{day} {parts}") == (
        "--prompt names {parts}, a column of a type that no field can hold; write it as text"
    )
    told = scaffold_table_job(InitWish(path, folder=tmp_path))
    assert "No field can hold these columns, and none is sent: parts, nan." in told


def test_a_field_of_an_answer_takes_the_place_of_a_name_and_of_a_priority(tmp_path: Path) -> None:
    path = table(tmp_path, "id,title,priority\n1,x,1\n2,y,2\n")
    assert made(path, schema="title str, priority int").row_columns == RowColumns("id", None, None)


def test_nothing_that_is_there_is_touched(tmp_path: Path) -> None:
    path = table(tmp_path)
    (tmp_path / "batcher.toml").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"batcher\.toml is there already, and nothing was written: move it away"):
        made(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["batcher.toml", "tickets.csv"]


@pytest.mark.parametrize("name", ["tickets.xlsx", "tickets.TSV", "tickets.json", "tickets.csv.gz", "tickets.txt"])
def test_a_missing_table_of_another_kind_is_no_folder_for_the_example(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as raised:
        run_init(InitWish(tmp_path / name))
    assert str(raised.value) == (
        f"{tmp_path / name} does not exist, and a table is .csv, .jsonl or .parquet; check the name"
    )
    assert not list(tmp_path.iterdir())


def test_a_folder_with_a_point_in_its_name_takes_the_example(tmp_path: Path) -> None:
    run_init(InitWish(tmp_path / "jobs.v2"))
    assert (tmp_path / "jobs.v2" / "batcher.toml").is_file()


def test_a_table_elsewhere_is_named_by_its_full_path(tmp_path: Path) -> None:
    path, folder = table(tmp_path), tmp_path / "new" / "place"
    told = scaffold_table_job(InitWish(path, folder=folder))
    assert load_config(folder / "batcher.toml").job.input == path
    assert told[:4] == [
        f"{folder}/jobs/tickets/job.py written",
        f"{folder}/jobs/tickets/system.md written",
        f"{folder}/jobs/tickets/user.md written",
        f"{folder}/batcher.toml written",
    ]
    assert told[4].startswith("ticket_id is the id: it has a different value in each of the 2 rows")
    assert sum("batcher " in line for line in told) == 3


def test_no_word_of_another_job_is_written(tmp_path: Path) -> None:
    told = scaffold_table_job(InitWish(table(tmp_path), folder=tmp_path))
    written = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()]
    for word in ("artist", "bio"):
        assert word not in "\n".join([*written, *told]).lower()


@pytest.mark.parametrize("wish", [{}, {"prompt": "{subject}"}, {"schema": "label a|b, tags list[str]"}])
def test_job_py_is_tidy_python(tmp_path: Path, wish: dict[str, str]) -> None:
    job = made(table(tmp_path), **wish)
    source = (tmp_path / "jobs" / "tickets" / "job.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    (nouns,) = (ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and "NOUNS" in ast.dump(n))
    assert nouns == ("ticket", "answer")
    assert (job.bio is None) == ("prompt" in wish)
    assert "description" not in job.schema  # it would be sent with every request


def test_a_plural_that_no_rule_gives_is_written(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("id,name\n1,Ann\n2,Bo\n", encoding="utf-8")
    made(path)
    assert find_nouns(tmp_path / "jobs" / "people") == ("person", "answer", "people", "answers")


def test_a_table_of_a_very_long_name_has_rows() -> None:
    assert [name_row(stem) for stem in ("tickets", "w" * 39 + "s", "w" * 40 + "s")] == ["ticket", "w" * 39, "row"]


ODD = 'ID,class,Body text,"say ""a""",_x,2024,json,date,größe,str,,Class\n1,a,b,c,d,e,f,2026-11-27,h,i,j,k\n'


def test_any_name_of_a_column_becomes_a_field(tmp_path: Path) -> None:
    path = table(tmp_path, ODD)
    job = made(path, prompt='{ID} {class} {Body text} {say "a"} {_x} {2024} {json} {date} {größe} {str} {Class}')
    world = World(tmp_path)
    world.job = job
    world.plan(path)
    assert list(job.artist.model_fields) == [
        "ID", "ticket_class", "body_text", "say_a", "x", "ticket_2024", "ticket_json", "date", "größe", "ticket_str",
        "Class",
    ]  # fmt: skip
    assert world.rows("SELECT artist_id FROM artists") == [("1",)]


def test_pydantic_has_no_word_against_the_names_of_fields(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    job = made(table(tmp_path, "id,model_dump_x,model_validated,model_name\n1,a,b,c\n"))
    assert list(job.artist.model_fields) == ["id", "ticket_model_dump_x", "ticket_model_validated", "model_name"]
    assert not [str(each.message) for each in recwarn]
    with pytest.raises(InputError, match="a field cannot be called model_dump_z"):
        parse_output_fields("model_dump_z str")


def test_names_in_other_alphabets_stay_readable(tmp_path: Path) -> None:
    job = made(table(tmp_path, "id,Описание тикета,客户 名称,Straße (lang),ﬁeld,x²\n1,a,b,c,d,e\n"))
    assert list(job.artist.model_fields) == ["id", "описание_тикета", "客户_名称", "straße_lang", "field", "x2"]


def test_a_field_never_has_the_name_of_another_column(tmp_path: Path) -> None:
    job = made(table(tmp_path, "id,body-text,body text,body_text,Body Text\n1,a,b,c,d\n2,a,b,c,d\n"))
    row = job.parse_artist_row({"id": "1", "body-text": "a", "body text": "b", "body_text": "c", "Body Text": "d"}, "")
    assert job.restore_artist(job.encode_row(row)) == row
    assert job.prompt_values(row, "") == {
        "id": "1", "body_text_2": "a", "body_text_3": "b", "body_text": "c", "body_text_4": "d",
    }  # fmt: skip


def test_a_long_number_of_jsonl_keeps_its_digits(tmp_path: Path) -> None:
    rows = '{"id": 92748927005455000000000017, "track": 92748927005455000000000018}\n{"id": 2, "track": 2}\n'
    job = made(table(tmp_path, rows, "t.jsonl"), prompt="{track}")
    given = next(row for _, row in read_table(tmp_path / "t.jsonl"))
    assert isinstance(given, dict)
    row = job.parse_artist_row(given, "row 1")
    assert job.prompt_values(row, "row 1") == {
        "id": "92748927005455000000000017", "track": "92748927005455000000000018",
    }  # fmt: skip


def test_a_key_without_a_name_is_left_out(tmp_path: Path) -> None:
    path = table(tmp_path, '{"id": 1, "": 2, "a\\\\b": 3}\n', "t.jsonl")
    assert [column.name for column in profile_table(path).columns] == ["id", "a\\b"]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("label str", [("label", "str")]),
        ("label str, urgency int", [("label", "str"), ("urgency", "int")]),
        ("a: float,b:bool", [("a", "float"), ("b", "bool")]),
        ("tags list[str], n list[ int ]", [("tags", "list[str]"), ("n", "list[int]")]),
        ("label bug | billing|it's other", [("label", 'Literal["bug", "billing", "it\'s other"]')]),
        ("tags list[a|b c], n int", [("tags", 'list[Literal["a", "b c"]]'), ("n", "int")]),
        ("kind text|None", [("kind", 'Literal["text", "None"]')]),
    ],
)
def test_the_fields_of_an_answer(text: str, fields: list[tuple[str, str]]) -> None:
    assert parse_output_fields(text) == [OutputField(*field) for field in fields]


TYPES = "the types are str, int, float, bool, list[str], or a choice such as bug|billing|other"
EXAMPLE = '"label bug|billing|other, urgency int"'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", f"--schema '': a field is missing; write fields as in {EXAMPLE}"),
        ("label str,", f"--schema 'label str,': a field is missing; write fields as in {EXAMPLE}"),
        ("label", f"--schema: the field label has no type; {TYPES}"),
        ("label string", f"--schema: the field label has the type 'string'; did you mean str? {TYPES}"),
        ("label bug", f"--schema: the field label has the type 'bug'; {TYPES}"),
        ("label list[x]", f"--schema: the field label has the type 'list[x]'; {TYPES}"),
        ("1st str", f"--schema: '1st' is no name of a field; take letters, digits and _, as in {EXAMPLE}"),
        ("class str", f"--schema: 'class' is no name of a field; take letters, digits and _, as in {EXAMPLE}"),
        ("a str, A int", "--schema: the field A stands there twice; give one of them another name"),
        ("lane str", "--schema: a field cannot be called lane, which has a meaning of its own; rename it"),
        ("json str", "--schema: a field cannot be called json, which has a meaning of its own; rename it"),
        ("a x|", "--schema: the choice 'x|' of a has a value that is empty or stands there twice"),
        ("a x|x", "--schema: the choice 'x|x' of a has a value that is empty or stands there twice"),
        (
            "a str|None",
            "--schema: the choice 'str|None' of a has the value 'str', which is a type; give it one type",
        ),
        (
            "a list[x|y",
            "--schema: the choice 'list[x|y' of a has the value 'list[x'; write it without brackets and quotes",
        ),
        ('a "x|y"', """--schema: the choice '"x|y"' of a has the value '"x'; write it without brackets and quotes"""),
    ],
)
def test_what_is_wrong_with_the_fields_of_an_answer(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_output_fields(text)
    assert str(raised.value) == sentence


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Classify {Body text}: {a}", "Classify {body_text}: {a}\n"),
        ("{body_text} {{b}} { a }", "{body_text} {{b}} {a}\n"),
        ("{a:b} {c!r}", "{a_b} {c_r}\n"),
    ],
)
def test_a_prompt_names_columns_or_fields(prompt: str, text: str) -> None:
    fields = {"a": "a", "Body text": "body_text", "a:b": "a_b", "c!r": "c_r"}
    assert convert_prompt(prompt, fields) == text


@pytest.mark.parametrize(
    ("stem", "noun"),
    [
        ("tickets", "ticket"),
        ("Support-Tickets_2026", "ticket"),
        ("queries", "query"),
        ("addresses", "address"),
        ("boxes", "box"),
        ("people", "person"),
        ("data", "row"),
        ("status", "row"),
        ("answers", "row"),
        ("2026", "row"),
        ("заявки", "row"),
    ],
)
def test_what_a_row_is_called(stem: str, noun: str) -> None:
    assert name_row(stem) == noun


@pytest.mark.parametrize(
    ("endpoint", "noun", "model", "more"),
    [
        ("embeddings", "vector", "text-embedding-3-small", ""),
        ("moderations", "judgement", "omni-moderation-latest", "\n[limits]\nenqueued_tokens = 1_000_000\n"),
    ],
)
def test_a_job_of_numbers_needs_its_table_alone(
    tmp_path: Path, endpoint: str, noun: str, model: str, more: str
) -> None:
    path = table(tmp_path)
    told = scaffold_table_job(InitWish(path, folder=tmp_path, endpoint=endpoint))
    folder = tmp_path / "jobs" / "tickets"
    assert sorted(each.name for each in folder.iterdir()) == ["job.py", "user.md"]
    assert (folder / "user.md").read_text(encoding="utf-8") == "{subject}\n\n{body}\n"
    assert any("set enqueued_tokens" in line for line in told) == bool(more)
    settings = tmp_path / "batcher.toml"
    if more:
        settings.write_text(settings.read_text(encoding="utf-8").replace("\n[limits]", more), encoding="utf-8")
    config = load_config(settings)
    assert (config.model.name, config.model.endpoint, config.model.cache) == (model, f"/v1/{endpoint}", None)
    world = World(tmp_path / "world")
    world.config, world.job = config, load_job(folder, config.model.endpoint)
    world.plan(path)
    assert world.rows("SELECT artist_id, artist_name FROM artists ORDER BY seq") == [("7", "Printer"), ("8", "Mouse")]
    assert find_nouns(folder)[:2] == ("ticket", noun)


def test_a_prompt_is_the_text_of_numbers(tmp_path: Path) -> None:
    scaffold_table_job(InitWish(table(tmp_path), "{subject}: {body}", folder=tmp_path, endpoint="embeddings"))
    assert (tmp_path / "jobs" / "tickets" / "user.md").read_text(encoding="utf-8") == "{subject}: {body}\n"


def test_a_column_that_names_rows_keeps_off_those_of_numbers(tmp_path: Path) -> None:
    path = table(tmp_path, "flagged,body\nx1,a\nx2,b\n")
    scaffold_table_job(InitWish(path, id="flagged", folder=tmp_path, endpoint="moderations"))
    assert 'ID = "ticket_flagged"' in (tmp_path / "jobs" / "tickets" / "job.py").read_text(encoding="utf-8")


def test_what_does_not_fit_numbers_is_refused(tmp_path: Path) -> None:
    assert refusal(table(tmp_path), endpoint="embedding") == (
        "--endpoint 'embedding' is none whose answers are numbers; take embeddings or moderations"
    )
    assert refusal(table(tmp_path), endpoint="embeddings", schema="label str") == (
        "--schema is for answers in words, and those of --endpoint are numbers; leave one of them out"
    )


@pytest.mark.parametrize("text", ["embeddings", "/v1/embeddings", "v1/embeddings"])
def test_an_endpoint_may_be_written_as_in_the_settings(text: str) -> None:
    assert parse_endpoint(text) == "/v1/embeddings"


def test_an_endpoint_of_texts_is_refused() -> None:
    with pytest.raises(InputError, match="--endpoint '/v1/responses' is none whose answers are numbers"):
        parse_endpoint("/v1/responses")
