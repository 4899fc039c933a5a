"""Running the code of a job: rows and answers, and what is said of code that fails."""

from dataclasses import replace

import orjson
import pytest

from batcher.core.endpoints.table import AnswerKind
from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, Failure
from batcher.core.rendering import LineRenderer
from batcher.errors import InputError, JobError
from batcher.job.job import job_output_to_stderr
from batcher.job.loading import load_job
from tests.support.job_kit import JOB, MESSAGES_JOB, TEXT_JOB, WriteJob, artist

TALKING = """\
print("imported")
from pydantic import BaseModel, field_validator


class Artist(BaseModel):
    artist_id: str
    artist_name: str

    @field_validator("artist_name")
    @classmethod
    def _look(cls, value):
        print("validated")
        return value

    def prompt_values(self):
        print("asked")
        return {"artist_name": self.artist_name}


class Bio(BaseModel):
    bio: str


def accept(artist, bio):
    print("judged")
    if bio.bio == "bad":
        raise ValueError("bad")
"""


def test_what_a_job_prints_goes_to_stderr(write_job: WriteJob, capsys: pytest.CaptureFixture[str]) -> None:
    """stdout is for the answer: with --json, one object."""
    job = load_job(write_job(job=TALKING))
    with job_output_to_stderr():
        ana = artist(job)
        job.prompt_values(ana, "t.csv, row 2")
        job.validate_answer(ana, '{"bio": "Ana."}')
        with pytest.raises(JobError):
            job.validate_answer(ana, '{"bio": "bad"}')
    print("the answer")
    printed = capsys.readouterr()
    assert printed.out == "the answer\n"
    assert printed.err.split() == ["imported", "validated", "asked", "judged", "judged"]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"artist_id": "a"}, "t.csv, row 2, column artist_name: Field required"),
        ({"artist_id": "", "artist_name": "Ana"}, "t.csv, row 2, column artist_id is empty"),
        ({"artist_id": None, "artist_name": "Ana"}, "t.csv, row 2, column artist_id is empty"),
        (
            {"artist_id": "a", "artist_name": "Ana", "born": "soon"},
            "t.csv, row 2, column born: Input should be a valid integer, unable to parse string as an integer "
            "(it is 'soon')",
        ),
        (
            {"artist_id": "a", "artist_name": "A\0na"},
            "t.csv, row 2, column artist_name: holds a NUL character, which no request can carry; remove it",
        ),
        (
            {"artist_id": "a", "artist_name": "Ana", "born": "x" * 100},
            "t.csv, row 2, column born: Input should be a valid integer, unable to parse string as an integer "
            f"(it is '{'x' * 56}...)",
        ),
    ],
)
def test_a_bad_row_is_named_with_its_column(write_job: WriteJob, row: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        load_job(write_job()).parse_artist_row(row, "t.csv, row 2")
    assert str(raised.value) == sentence


NAMING = """
    @field_validator("artist_name")
    @classmethod
    def _look(cls, value):
        raise %s

    def prompt_values"""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("ValueError('artist_name is no name.')", "column artist_name is no name"),
        ("ValueError('must be a name')", "column artist_name: must be a name"),
        ("ValueError('artist_names are names')", "column artist_name: artist_names are names"),
        ("PydanticCustomError('own', 'artist_name is no name.')", "column artist_name is no name (it is 'Ana')"),
    ],
)
def test_a_sentence_of_the_job_that_names_its_column_does_not_name_it_twice(
    write_job: WriteJob, error: str, sentence: str
) -> None:
    source = JOB.replace(
        "import BaseModel", "import BaseModel, field_validator\nfrom pydantic_core import PydanticCustomError"
    )
    job = load_job(write_job(job=source.replace("\n    def prompt_values", NAMING % error)))
    with pytest.raises(InputError) as raised:
        artist(job)
    assert str(raised.value) == f"t.csv, row 2, {sentence}"


def test_a_nul_in_a_column_that_the_job_does_not_read_is_nobodys_business(write_job: WriteJob) -> None:
    assert artist(load_job(write_job()), note="x\0y").artist_name == "Ana"


def test_a_column_may_be_mapped_by_an_alias_and_the_stored_row_reads_the_same(write_job: WriteJob) -> None:
    source = JOB.replace("artist_name: str", "artist_name: str = Field(alias='Full name')")
    job = load_job(write_job(job=source.replace("import BaseModel", "import BaseModel, Field")))
    ana = job.parse_artist_row({"artist_id": "a", "Full name": "Ana"}, "t.csv, row 2")
    assert job.restore_artist(job.encode_row(ana)) == ana


SUBCLASS = """\
from typing import Any

from pydantic import BaseModel, model_validator


class Artist(BaseModel):
    artist_id: str
    artist_name: str

    def prompt_values(self):
        return {"artist_name": self.artist_name}

    @model_validator(mode="wrap")
    @classmethod
    def choose(cls, value: Any, handler: Any) -> Any:
        if cls is Artist and isinstance(value, dict) and value.get("style"):
            return Painter.model_validate(value)
        return handler(value)


class Painter(Artist):
    style: str

    def prompt_values(self):
        return {"artist_name": f"{self.artist_name} ({self.style})"}


class Bio(BaseModel):
    bio: str


def accept(artist, bio):
    return None
"""


def test_a_row_that_becomes_a_subclass_keeps_its_fields_in_the_state(write_job: WriteJob) -> None:
    job = load_job(write_job(SUBCLASS))
    painter = artist(job, style="cubism")
    assert job.prompt_values(painter, "t.csv, row 2") == {"artist_name": "Ana (cubism)"}
    restored = job.restore_artist(job.encode_row(painter))
    assert job.prompt_values(restored, "a stored row") == {"artist_name": "Ana (cubism)"}


@pytest.mark.parametrize(
    ("field", "more", "columns"),
    [
        ("artist_name: str", "", ["artist_id", "artist_name", "born", "priority"]),
        (
            "artist_name: str = Field(alias='Full name')",
            "",
            ["Full name", "artist_id", "artist_name", "born", "priority"],
        ),
        ("artist_name: str = Field(validation_alias=AliasChoices('x', 'y'))", "", None),
        ("artist_name: str", "model_config = ConfigDict(extra='allow')", None),
        ("artist_name: str", "model_config = ConfigDict(extra='forbid')", None),
        ("artist_name: str", "@model_validator(mode='before')\n    def look(cls, row):\n        return row", None),
        ("artist_name: str", "def __init__(self, **row):\n        super().__init__(**row)", None),
    ],
)
def test_the_columns_that_a_job_looks_at_are_known_unless_it_may_look_at_all(
    write_job: WriteJob, field: str, more: str, columns: list[str] | None
) -> None:
    source = JOB.replace("import BaseModel", "import AliasChoices, BaseModel, ConfigDict, Field, model_validator")
    source = source.replace("artist_name: str", field).replace("    def prompt", f"    {more}\n\n    def prompt")
    found = load_job(write_job(job=source)).columns
    assert (sorted(found) if found is not None else None) == columns


def test_a_stored_row_that_todays_job_refuses(write_job: WriteJob) -> None:
    job = load_job(write_job())
    with pytest.raises(JobError) as raised:
        job.restore_artist('{"artist_id": "a"}')
    assert str(raised.value) == (
        "job.py refuses a row that was planned, column artist_name: Field required; undo the change"
    )


VALIDATOR = """
    @field_validator("artist_name")
    @classmethod
    def _look(cls, value):
        return value.nonsense()

    def prompt_values"""


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        (
            JOB.replace("import BaseModel", "import BaseModel, field_validator").replace(
                "\n    def prompt_values", VALIDATOR
            ),
            "t.csv, row 2: job.py, line 13: AttributeError: 'str' object has no attribute 'nonsense'; fix job.py",
        ),
        (
            JOB.replace("self.artist_name}", "self.nothing}"),
            "t.csv, row 2: job.py, line 11: AttributeError: 'Artist' object has no attribute 'nothing'; fix job.py",
        ),
        (
            JOB.replace("self.artist_name}", "{}['facts']}"),
            "t.csv, row 2: job.py, line 11: KeyError: 'facts'; fix job.py",
        ),
        (
            JOB.replace('{"artist_name": self.artist_name}', "self.artist_name"),
            "t.csv, row 2: prompt_values gives str; return a dict of texts",
        ),
        (
            JOB.replace("self.artist_name}", "None}"),
            "t.csv, row 2: prompt_values gives NoneType for artist_name; give a text",
        ),
    ],
)
def test_code_of_the_job_that_fails_on_a_row_names_the_row(write_job: WriteJob, job: str, sentence: str) -> None:
    loaded = load_job(write_job(job=job))
    with pytest.raises(JobError) as raised:
        loaded.prompt_values(artist(loaded), "t.csv, row 2")
    assert str(raised.value) == sentence


def test_judging(write_job: WriteJob) -> None:
    job = load_job(write_job())
    assert job.validate_answer(artist(job), '{"bio": "Ana painted."}') == ('{"bio":"Ana painted."}', None)
    for text, code, message in (
        ('{"bio": "Bo painted."}', "not_accepted", "does not name the artist"),
        ('{"text": "Ana"}', "invalid_output", "column bio: Field required"),
        ("Ana painted.", "invalid_output", "Invalid JSON"),
    ):
        data, failure = job.validate_answer(artist(job), text)
        assert data is None
        assert failure is not None
        assert (failure.failure, failure.code) == (FailureClass.UNUSABLE, code)
        assert message in failure.message


@pytest.mark.parametrize("half", ["\\ud83d", "\\uDE00", "\\u0000", "\\ud83d\\ud83d"])
def test_half_a_character_costs_no_answer(write_job: WriteJob, half: str) -> None:
    """Models write it where they cut an emoji; no column can hold it, so the replacement character stands for it."""
    job = load_job(write_job())
    data, failure = job.validate_answer(artist(job), f'{{"bio": "Ana {half} painted \\ud83d\\ude00."}}')
    assert failure is None
    replaced = "\N{REPLACEMENT CHARACTER}" * (len(half) // 6)
    assert data == f'{{"bio":"Ana {replaced} painted 😀."}}'


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        (
            JOB.replace("return None if", "return bio.nothing if"),
            "artist a: job.py, line 19: AttributeError: 'Bio' object has no attribute 'nothing'; fix job.py",
        ),
        (
            JOB.replace("return None if", "return {}['x'] if"),
            "artist a: job.py, line 19: KeyError: 'x'; fix job.py",
        ),
        (
            JOB.replace("return None if", "return True if"),
            "artist a: accept gives bool; return None to accept, else the reason",
        ),
    ],
)
def test_an_acceptance_check_that_fails_names_the_artist(write_job: WriteJob, job: str, sentence: str) -> None:
    loaded = load_job(write_job(job=job))
    with pytest.raises(JobError) as raised:
        loaded.validate_answer(artist(loaded), '{"bio": "Ana painted."}')
    assert str(raised.value) == sentence


def test_values_are_data_and_never_a_template(write_job: WriteJob) -> None:
    job = load_job(write_job())
    renderer = LineRenderer(job.build_version("gpt-6-luna", Endpoint.CHAT, 600))
    name = "{{7*7}} {artist_name} %s {0.__class__}"
    assert renderer.render_user_text(job.prompt_values(artist(job, artist_name=name), "row 2")) == f"Artist: {name}"


def test_plain_text_is_kept_as_an_object_of_one_field(write_job: WriteJob) -> None:
    job = load_job(write_job(job=TEXT_JOB))
    text = 'Ana said: "Yes."\n{"bio": 1}'
    bio, failure = job.validate_answer(artist(job), text)
    assert (orjson.loads(bio or ""), failure) == ({"text": text}, None)
    assert job.validate_answer(artist(job), " \n") == (
        None, Failure(FailureClass.UNUSABLE, "not_accepted", "the answer is blank")
    )  # fmt: skip


def test_accept_is_given_the_plain_text(write_job: WriteJob) -> None:
    check = "\n\ndef accept(artist, text):\n    return None if artist.artist_name in text else f'{len(text)} letters'\n"
    job = load_job(write_job(job=TEXT_JOB + check))
    assert job.validate_answer(artist(job), "Ana.") == ('{"text":"Ana."}', None)
    assert job.validate_answer(artist(job), "Bob.")[1] == Failure(FailureClass.UNUSABLE, "not_accepted", "4 letters")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            MESSAGES_JOB.replace('"role": "user"', '"role": "human"'),
            "messages gives the role 'human' in message 1; roles are system, developer, user, assistant",
        ),
        (
            MESSAGES_JOB.replace("row.artist_name", "row.name"),
            "job.py, line 15: AttributeError: 'Artist' object has no attribute 'name'; fix job.py",
        ),
        (TEXT_JOB, "the line was planned with messages(row) of job.py, which is gone; undo the change"),
    ],
)
def test_messages_that_are_wrong_are_named_with_their_row(write_job: WriteJob, source: str, reason: str) -> None:
    job = load_job(write_job(job=source, user="{artist_name}" if source == TEXT_JOB else None))
    with pytest.raises(JobError) as raised:
        job.render_messages(artist(job), Endpoint.CHAT, "t.csv, row 2")
    assert str(raised.value) == f"t.csv, row 2: {reason}"


@pytest.mark.parametrize("kind", ["model", "text", "vector", "flags"])
def test_a_kept_answer_is_judged_for_another_row(write_job: WriteJob, kind: str) -> None:
    """The check is given what it was given of the answer when that came, and the row that asks the same."""
    job = load_job(write_job(JOB if kind == "model" else TEXT_JOB))
    came = {"model": '{"bio":"Good."}', "text": "Good.", "vector": "[0.5, 1.5]", "flags": '{"flagged":false}'}[kind]
    answers = {"vector": AnswerKind.VECTOR, "flags": AnswerKind.FLAGS}.get(kind, AnswerKind.WORDS)
    given: list[object] = []

    def accept(row: object, answer: object) -> str | None:
        given.append(answer)
        return None if row.artist_id == "a" else "not for b"  # type: ignore[attr-defined]

    job = replace(job, accept=accept, answers=answers)
    first = job.artist(artist_id="a", artist_name="Ann")
    second = job.artist(artist_id="b", artist_name="Ann")
    kept, failure = job.validate_answer(first, came)
    assert failure is None
    assert kept is not None
    assert job.judge_kept_bio(job.encode_row(first), kept) is None
    refused = Failure(FailureClass.UNUSABLE, "not_accepted", "not for b")
    assert job.judge_kept_bio(job.encode_row(second), kept) == refused
    assert not job.accepts_kept_bio(job.encode_row(second), kept)
    assert given[0] == given[1] == given[2]
