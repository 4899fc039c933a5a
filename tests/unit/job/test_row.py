"""Rows with names of their own: which fields are the id, the name and the priority, and what stands in the prompt."""

import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path

import pytest
from pydantic import BaseModel

from batcher.core.model import ARTIST_COLUMNS, Endpoint, RowColumns
from batcher.errors import InputError, JobError
from batcher.job.loading import load_job
from batcher.job.row import format_id, format_value
from batcher.plan.rows import parse_priority
from tests.support.job_kit import JOB, ROW_JOB, write_small_job, write_ticket_job

TEXT_ROWS = ROW_JOB.partition("class Answer")[0].rstrip() + "\n"
BASE = "from pydantic import BaseModel\n\n"


def refusal(folder: Path) -> str:
    with pytest.raises(JobError) as raised:
        load_job(folder)
    return str(raised.value).replace(str(folder), "tickets")


def test_a_job_with_names_of_its_own(tmp_path: Path) -> None:
    job = load_job(write_ticket_job(tmp_path))
    assert job.row_columns == RowColumns("ticket_id", None, None)
    assert job.build_version("m", Endpoint.CHAT, 600).schema_name == "answer"
    row = job.parse_artist_row({"ticket_id": 17, "subject": "", "Body text": "Help {me}", "urgency": "2"}, "row 2")
    assert (job.read_id(row), job.read_name(row), parse_priority(job, row, "row 2")) == ("17", "17", 3)
    values = job.prompt_values(row, "row 2")
    assert values == {"ticket_id": "17", "subject": "", "body": "Help {me}", "urgency": "2"}
    assert job.restore_artist(job.encode_row(row)) == row
    assert job.validate_answer(row, '{"label": "bug"}') == ('{"label":"bug"}', None)


def test_the_names_of_a_model_are_exchangeable(tmp_path: Path) -> None:
    source = JOB.replace("class Bio", "class Answer")
    job = load_job(write_small_job(tmp_path, source))
    assert job.row_columns == ARTIST_COLUMNS
    assert job.build_version("m", Endpoint.CHAT, 600).schema_name == "answer"
    source = JOB.replace("class Artist", "class Row")
    (tmp_path / "painters" / "job.py").write_text(source, encoding="utf-8")
    assert load_job(tmp_path / "painters").row_columns == ARTIST_COLUMNS


def test_variables_beside_a_model_named_artist_are_its_own(tmp_path: Path) -> None:
    job = load_job(write_small_job(tmp_path, f"ID = 5\nNAME = 'x'\nPRIORITY = ()\n{JOB}"))
    assert job.row_columns == ARTIST_COLUMNS


@pytest.mark.parametrize(
    ("variables", "columns"),
    [
        ('ID = "a"', RowColumns("a", "artist_name", "priority")),
        ("", RowColumns("artist_id", "artist_name", "priority")),
        ("ID = None\nNAME = None\nPRIORITY = None", RowColumns("artist_id", None, None)),
        ('NAME = "a"\nPRIORITY = "b"', RowColumns("artist_id", "a", "b")),
    ],
)
def test_what_is_not_named_has_the_usual_name(tmp_path: Path, variables: str, columns: RowColumns) -> None:
    fields = ("artist_id: str", "artist_name: str", "priority: int = 3", "a: str", "b: float | None = None")
    source = BASE + f"{variables}\n\n\nclass Row(BaseModel):\n    " + "\n    ".join(fields) + "\n"
    assert load_job(write_ticket_job(tmp_path, source, "{a}")).row_columns == columns


def test_a_priority_in_words_is_none(tmp_path: Path) -> None:
    source = TEXT_ROWS.replace("    urgency: int", "    priority: str")
    job = load_job(write_ticket_job(tmp_path, source))
    row = job.parse_artist_row({"ticket_id": "1", "Body text": "x", "priority": "high"}, "row 2")
    assert (job.row_columns.priority, parse_priority(job, row, "row 2")) == (None, 3)


FIELDS = "ticket_id, subject, body, urgency"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            ROW_JOB + "\n\nclass Artist(BaseModel):\n    artist_id: str\n",
            "tickets/job.py has both Artist and Row, which are two names of one thing; keep one",
        ),
        (
            ROW_JOB + "\n\nclass Bio(BaseModel):\n    bio: str\n",
            "tickets/job.py has both Bio and Answer, which are two names of one thing; keep one",
        ),
        (
            ROW_JOB.replace("class Row", "class Ticket"),
            "tickets/job.py has no pydantic model Row or Artist",
        ),
        (ROW_JOB.replace("Row(BaseModel)", "Row"), "tickets/job.py has no pydantic model Row"),
        (ROW_JOB.replace("Answer(BaseModel)", "Answer"), "tickets/job.py has no pydantic model Answer"),
        (
            ROW_JOB.replace('ID = "ticket_id"', ""),
            'tickets/job.py does not say which field of Row is the id; write ID = "..." above it, with one of its '
            f"names: {FIELDS}",
        ),
        (
            ROW_JOB.replace('"ticket_id"', '"Body text"'),
            f"tickets/job.py: ID names 'Body text', which is no field of Row; it has {FIELDS}",
        ),
        (
            ROW_JOB.replace('"ticket_id"', '""'),
            f"tickets/job.py: ID names '', which is no field of Row; it has {FIELDS}",
        ),
        (
            ROW_JOB.replace('ID = "ticket_id"', "ID = 5"),
            "tickets/job.py: ID is int; write the name of a field of Row as a text",
        ),
        (
            ROW_JOB.replace("\n\nclass Row", '\nNAME = ["subject"]\n\n\nclass Row'),
            "tickets/job.py: NAME is list; write the name of a field of Row as a text",
        ),
        (
            ROW_JOB.replace("\n\nclass Row", '\nNAME = "ticket_id"\n\n\nclass Row'),
            "tickets/job.py: ID and NAME name the same field ticket_id; name another one, or leave NAME or PRIORITY "
            "out",
        ),
        (
            ROW_JOB.replace("\n\nclass Row", '\nPRIORITY = "subject"\n\n\nclass Row'),
            "tickets/job.py: PRIORITY names subject, which is not declared as a number; 1 is the most urgent",
        ),
        (
            ROW_JOB.replace("urgency:", "Model:").replace("\n\nclass Row", '\nPRIORITY = "Model"\n\n\nclass Row'),
            "tickets/job.py: PRIORITY names Model, and `collect` writes a column of that name itself; give the field "
            'another name, and read the column by Field(alias="Model")',
        ),
        (
            ROW_JOB.replace("ticket_id", "code"),
            "tickets/job.py: ID names code, and `collect` writes a column of that name itself; give the field another "
            'name, and read the column by Field(alias="code")',
        ),
        (
            TEXT_ROWS.replace("subject:", "text:").replace("\n\nclass Row", '\nNAME = "text"\n\n\nclass Row'),
            "tickets/job.py: NAME names text, and `collect` writes a column of that name itself; give the field "
            'another name, and read the column by Field(alias="text")',
        ),
        (
            ROW_JOB.replace("    label:", "    ticket_id:"),
            "Answer.ticket_id has the name of a column that `collect` writes; rename it",
        ),
        (
            ROW_JOB.replace("    label:", "    Lane:"),
            "Answer.Lane has the name of a column that `collect` writes; rename it",
        ),
        (
            ROW_JOB.replace("accept(row, answer)", "accept(row)"),
            "tickets/job.py: accept(row) does not take a row and an answer; write accept(row, answer), and return None "
            "to accept",
        ),
        (
            ROW_JOB.partition("def accept")[0],
            "tickets/job.py has no accept(row, answer) function; return None to accept",
        ),
        (
            TEXT_ROWS + "\n\nclass Label(BaseModel):\n    label: str\n",
            "tickets/job.py has no pydantic model Answer, and its model Label is no part of Row; name it Answer where "
            "an answer has its fields, else _Label: then answers are plain text",
        ),
    ],
)
def test_what_is_wrong_with_names_is_said_in_one_sentence(tmp_path: Path, source: str, sentence: str) -> None:
    assert refusal(write_ticket_job(tmp_path, source)) == sentence


def test_columns_that_are_not_written_are_free_for_answers(tmp_path: Path) -> None:
    source = ROW_JOB.replace("label: str", "priority: int\n    artist_id: str\n    label: str")
    assert load_job(write_ticket_job(tmp_path, source)).bio is not None


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        (
            "Label {subjct}.",
            f"tickets/user.md names {{subjct}}, which is no field of Row; it has {FIELDS}",
        ),
        (
            "Label it.",
            "tickets/user.md names no value of the row, so every prompt would be the same; write {subject} where the "
            "value belongs",
        ),
    ],
)
def test_a_prompt_that_does_not_fit_the_row(tmp_path: Path, user: str, sentence: str) -> None:
    assert refusal(write_ticket_job(tmp_path, user=user)) == sentence


def test_a_row_may_have_prompt_values_of_its_own(tmp_path: Path) -> None:
    values = '\n    def prompt_values(self):\n        return {"all": self.body.upper()}\n\n\nclass Answer'
    folder = write_ticket_job(tmp_path, ROW_JOB.replace("\n\nclass Answer", values), "{all}")
    job = load_job(folder)
    row = job.parse_artist_row({"ticket_id": "1", "Body text": "x"}, "row 2")
    assert job.prompt_values(row, "row 2") == {"all": "X"}


class Colour(Enum):
    RED = "red"


class Part(BaseModel):
    name: str
    size: int | None = None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (2.5, "2.5"),
        (Decimal("2.50"), "2.50"),
        ("a {b}", "a {b}"),
        (datetime.date(2026, 11, 27), "2026-11-27"),
        (datetime.datetime(2026, 11, 27, 7, 30), "2026-11-27 07:30:00"),  # noqa: DTZ001 - as a table has it
        (["a", 1, None, True], "a; 1; ; true"),
        (("a",), "a"),
        ([], ""),
        ({"b", "a"}, "a; b"),
        (Colour.RED, "red"),
        (Part(name="x"), '{"name":"x"}'),
        ({"b": 1}, '{"b":1}'),
    ],
)
def test_values_as_plain_text(value: object, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), ("a", "a"), (17, "17"), (17.0, "17"), (1.5, "1.5"), (Decimal(17), "17"), (float("nan"), "nan")],
)
def test_ids_as_texts(value: object, text: str) -> None:
    assert format_id(value) == text


def test_an_id_that_is_no_whole_number_stays_what_the_model_makes_of_it(tmp_path: Path) -> None:
    job = load_job(write_ticket_job(tmp_path))
    with pytest.raises(InputError, match=r"row 2, column ticket_id: Input should be a valid string \(it is True\)"):
        job.parse_artist_row({"ticket_id": True, "Body text": "x"}, "row 2")
    job = load_job(write_ticket_job(tmp_path / "tickets", ROW_JOB.replace("ticket_id: str", "ticket_id: int")))
    assert job.read_id(job.parse_artist_row({"ticket_id": "17", "Body text": "x"}, "row 2")) == "17"
