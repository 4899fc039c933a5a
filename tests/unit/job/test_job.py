"""Loading a job folder and running its code: what is accepted, and the sentence for each thing that can be wrong."""

import sys
from collections.abc import Callable
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint
from batcher.core.rendering import LineRenderer
from batcher.errors import InputError, JobError
from batcher.job.job import Job, job_output_to_stderr
from batcher.job.loading import load_job
from batcher.job.schema import build_strict_schema, output_column_types

JOB = """\
from pydantic import BaseModel


class Artist(BaseModel):
    artist_id: str
    artist_name: str
    priority: int = 3
    born: int | None = None

    def prompt_values(self):
        return {"artist_name": self.artist_name}


class Bio(BaseModel):
    bio: str


def accept(artist, bio):
    return None if artist.artist_name in bio.bio else "does not name the artist"
"""

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a job folder; a None leaves the file out."""

    def written(job: str | bytes | None = JOB, system: Any = "Be brief.", user: Any = "Artist: {artist_name}") -> Path:
        folder = tmp_path / "painters"
        folder.mkdir()
        for name, content in (("job.py", job), ("system.md", system), ("user.md", user)):
            if content is not None:
                (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    return written


def refusal(folder: Path) -> str:
    with pytest.raises(JobError) as raised:
        load_job(folder)
    return str(raised.value).replace(str(folder), "painters")


def artist(job: Job, **more: object) -> Any:
    return job.parse_artist_row({"artist_id": "a", "artist_name": "Ana", **more}, "t.csv, row 2")


def test_a_sound_job_is_loaded_and_nothing_is_left_beside_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    folder = make(system="\ufeff Be brief.\n")
    job = load_job(folder)
    assert (job.name, job.system, job.template) == ("painters", "Be brief.", "Artist: {artist_name}")
    assert sorted(path.name for path in folder.iterdir()) == ["job.py", "system.md", "user.md"]


def test_the_version_holds_all_that_a_line_repeats(make: Make) -> None:
    version = load_job(make()).build_version("gpt-6-luna", Endpoint.CHAT, 600)
    assert (version.name, version.model, version.max_output_tokens) == ("painters", "gpt-6-luna", 600)
    assert (version.system, version.template, version.schema_name) == ("Be brief.", "Artist: {artist_name}", "bio")


@pytest.mark.parametrize("name", ["job.py", "system.md", "user.md"])
def test_a_missing_file_is_named(make: Make, name: str) -> None:
    folder = make(**{Path(name).stem: None})
    assert refusal(folder) == f"painters is no job: {name} is missing; `batcher init` writes an example"


def test_a_missing_folder_is_no_job(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    with pytest.raises(JobError, match=r"nowhere is no job: job\.py is missing"):
        load_job(folder)


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        ("a = 1\nb = (\n", "painters/job.py, line 2: '(' was never closed; mend the file"),
        (
            "def f():\nreturn 1\n",
            "painters/job.py, line 2: expected an indented block after function definition on line 1; mend the file",
        ),
        (
            b"a = 'caf\xe9'\n",
            "painters/job.py, line 1: (unicode error) 'utf-8' codec can't decode byte 0xe9 in position 3: unexpected "
            "end of data; mend the file",
        ),
        (b"a = 1\0\n", "painters/job.py: source code string cannot contain null bytes; mend the file"),
        (
            "\n\nimport nothing_of_the_kind\n",
            "painters/job.py cannot be loaded: job.py, line 3: ModuleNotFoundError: No module named "
            "'nothing_of_the_kind'; mend job.py",
        ),
        ("a = {}['x']\n", "painters/job.py cannot be loaded: job.py, line 1: KeyError: 'x'; mend job.py"),
        (
            "import sys\nsys.exit('stop')\n",
            "painters/job.py cannot be loaded: job.py, line 2: SystemExit: stop; mend job.py",
        ),
        (
            "class Odd(Exception):\n    pass\n\nraise Odd('one\\ntwo')\n",
            "painters/job.py cannot be loaded: job.py, line 4: Odd: one; mend job.py",
        ),
        (
            "open('/proc/no-such-file')\n",
            "painters/job.py cannot be loaded: job.py, line 1: FileNotFoundError: [Errno 2] No such file or "
            "directory: '/proc/no-such-file'; mend job.py",
        ),
        ("", "painters/job.py has no pydantic model Artist"),
        (JOB.replace("class Artist", "class Painter"), "painters/job.py has no pydantic model Artist"),
        (JOB.replace("class Bio(BaseModel)", "class Bio"), "painters/job.py has no pydantic model Bio"),
        (JOB.replace("def accept", "def agree"), "painters/job.py has no accept(artist, bio) function; "
         "return None to accept"),
        (
            JOB.replace("accept(artist, bio)", "accept(artist)"),
            "painters/job.py: accept(artist) does not take an artist and a bio; write accept(artist, bio), and return "
            "None to accept",
        ),
        (
            JOB.replace("accept(artist, bio)", "accept(artist, bio, *, strict)"),
            "painters/job.py: accept(artist, bio, *, strict) does not take an artist and a bio; write "
            "accept(artist, bio), and return None to accept",
        ),
        (
            JOB.replace("    bio: str", "    pass"),
            "Bio has no field; give it one for each part of an answer",
        ),
        (JOB.replace("artist_name: str", "name: str"), "painters/job.py: Artist has no field artist_name"),
        (
            JOB.replace("def prompt_values", "def values"),
            "painters/job.py: Artist has no prompt_values() giving the values of user.md",
        ),
        (
            JOB.replace("bio: str", "bio: str = ''"),
            "Bio.bio has a default; structured output needs every field (use X | None)",
        ),
        (
            JOB.replace("bio: str", "bio: str\n    tags: dict[str, str]"),
            "Bio.tags is a mapping with free keys; structured output needs a model with named fields",
        ),
        (
            JOB.replace("bio: str", "bio: str\n    more: list[object]"),
            "Bio.more may be anything; structured output needs a type",
        ),
        (
            JOB.replace("bio: str", "bio: str\n    lane: str"),
            "Bio.lane has the name of a column that `collect` writes; rename it",
        ),
    ],
)  # fmt: skip
def test_a_broken_job_is_named_with_its_line(make: Make, job: str | bytes, sentence: str) -> None:
    assert refusal(make(job=job)) == sentence


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        ("Write.", "painters/user.md names no value of the artist, so every prompt would be the same; write "
         "{artist_name} where the name belongs"),
        ("", "painters/user.md names no value of the artist, so every prompt would be the same; write "
         "{artist_name} where the name belongs"),
        ("{artist_name.__class__}", "painters/user.md: {artist_name.__class__} is not a plain name; "
         "use {name} with a key of prompt_values"),
        ("{facts[0]}", "painters/user.md: {facts[0]} is not a plain name; use {name} with a key of prompt_values"),
        ("{}", "painters/user.md: {} is not a plain name; use {name} with a key of prompt_values"),
        ("{artist_name", "painters/user.md: expected '}' before end of string; write {{ and }} for braces that are "
         "meant as such"),
        (b"Artist:\n{artist_name}\xe9", "painters/user.md, line 2 is not UTF-8 (byte 22); save it as UTF-8"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_filled_in(make: Make, user: str | bytes, sentence: str) -> None:
    assert refusal(make(user=user)) == sentence


@pytest.mark.parametrize("user", ["{artist_name:>10}", "{artist_name!r}"])
def test_a_template_with_a_format_is_refused_as_it_is_written(make: Make, user: str) -> None:
    assert f"user.md: {user} is not a plain name" in refusal(make(user=user))


def test_a_system_prompt_that_is_not_utf_8(make: Make) -> None:
    assert refusal(make(system=b"\xff")) == "painters/system.md, line 1 is not UTF-8 (byte 1); save it as UTF-8"


@pytest.mark.parametrize("system", ["", " \n\n", "\ufeff"])
def test_an_empty_system_prompt(make: Make, system: str) -> None:
    sentence = "painters/system.md is empty; write into it what every request has in common"
    assert refusal(make(system=system)) == sentence


@pytest.mark.parametrize("accept", ["accept(artist, bio, strict=True)", "accept(*given)"])
def test_an_acceptance_check_may_take_more_where_it_need_not(make: Make, accept: str) -> None:
    assert load_job(make(job=JOB.replace("accept(artist, bio)", accept))).name == "painters"


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


def test_what_a_job_prints_goes_to_stderr(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """stdout is for the answer: with --json, one object."""
    job = load_job(make(job=TALKING))
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
def test_a_bad_row_is_named_with_its_column(make: Make, row: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        load_job(make()).parse_artist_row(row, "t.csv, row 2")
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
    make: Make, error: str, sentence: str
) -> None:
    source = JOB.replace(
        "import BaseModel", "import BaseModel, field_validator\nfrom pydantic_core import PydanticCustomError"
    )
    job = load_job(make(job=source.replace("\n    def prompt_values", NAMING % error)))
    with pytest.raises(InputError) as raised:
        artist(job)
    assert str(raised.value) == f"t.csv, row 2, {sentence}"


def test_a_nul_in_a_column_that_the_job_does_not_read_is_nobodys_business(make: Make) -> None:
    assert artist(load_job(make()), note="x\0y").artist_name == "Ana"


def test_a_column_may_be_mapped_by_an_alias_and_the_stored_row_reads_the_same(make: Make) -> None:
    source = JOB.replace("artist_name: str", "artist_name: str = Field(alias='Full name')")
    job = load_job(make(job=source.replace("import BaseModel", "import BaseModel, Field")))
    ana = job.parse_artist_row({"artist_id": "a", "Full name": "Ana"}, "t.csv, row 2")
    assert job.restore_artist(job.encode_row(ana)) == ana


FIELDS = ["artist_id", "artist_name", "born", "priority"]


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


def test_a_row_that_becomes_a_subclass_keeps_its_fields_in_the_state(make: Make) -> None:
    job = load_job(make(SUBCLASS))
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
    make: Make, field: str, more: str, columns: list[str] | None
) -> None:
    source = JOB.replace("import BaseModel", "import AliasChoices, BaseModel, ConfigDict, Field, model_validator")
    source = source.replace("artist_name: str", field).replace("    def prompt", f"    {more}\n\n    def prompt")
    found = load_job(make(job=source)).columns
    assert (sorted(found) if found is not None else None) == columns


def test_a_stored_row_that_todays_job_refuses(make: Make) -> None:
    job = load_job(make())
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
            "t.csv, row 2: job.py, line 13: AttributeError: 'str' object has no attribute 'nonsense'; mend job.py",
        ),
        (
            JOB.replace("self.artist_name}", "self.nothing}"),
            "t.csv, row 2: job.py, line 11: AttributeError: 'Artist' object has no attribute 'nothing'; mend job.py",
        ),
        (
            JOB.replace("self.artist_name}", "{}['facts']}"),
            "t.csv, row 2: job.py, line 11: KeyError: 'facts'; mend job.py",
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
def test_code_of_the_job_that_fails_on_a_row_names_the_row(make: Make, job: str, sentence: str) -> None:
    loaded = load_job(make(job=job))
    with pytest.raises(JobError) as raised:
        loaded.prompt_values(artist(loaded), "t.csv, row 2")
    assert str(raised.value) == sentence


def test_judging(make: Make) -> None:
    job = load_job(make())
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
def test_half_a_character_costs_no_answer(make: Make, half: str) -> None:
    """Models write it where they cut an emoji; no column can hold it, so the replacement character stands for it."""
    job = load_job(make())
    data, failure = job.validate_answer(artist(job), f'{{"bio": "Ana {half} painted \\ud83d\\ude00."}}')
    assert failure is None
    replaced = "\N{REPLACEMENT CHARACTER}" * (len(half) // 6)
    assert data == f'{{"bio":"Ana {replaced} painted 😀."}}'


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        (
            JOB.replace("return None if", "return bio.nothing if"),
            "artist a: job.py, line 19: AttributeError: 'Bio' object has no attribute 'nothing'; mend job.py",
        ),
        (
            JOB.replace("return None if", "return {}['x'] if"),
            "artist a: job.py, line 19: KeyError: 'x'; mend job.py",
        ),
        (
            JOB.replace("return None if", "return True if"),
            "artist a: accept gives bool; return None to accept, else the reason",
        ),
    ],
)
def test_an_acceptance_check_that_fails_names_the_artist(make: Make, job: str, sentence: str) -> None:
    loaded = load_job(make(job=job))
    with pytest.raises(JobError) as raised:
        loaded.validate_answer(artist(loaded), '{"bio": "Ana painted."}')
    assert str(raised.value) == sentence


class Work(BaseModel):
    title: str
    default: int = 3


class Everything(BaseModel):
    """All that a schema may hold."""

    title: str
    default: bool
    works: list[Work]
    best: Work | None
    kind: Literal["a", "b"]
    properties: str = Field(description="A word.")


def test_the_schema_is_strict_all_the_way_down() -> None:
    """Keep a field of any name, as it is no keyword."""
    work = {"$ref": "#/$defs/Work"}
    assert build_strict_schema(Everything) == {
        "$defs": {
            "Work": {
                "type": "object",
                "properties": {"title": {"type": "string"}, "default": {"type": "integer"}},
                "required": ["title", "default"],
                "additionalProperties": False,
            }
        },
        "description": "All that a schema may hold.",
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "default": {"type": "boolean"},
            "works": {"type": "array", "items": work},
            "best": {"anyOf": [work, {"type": "null"}]},
            "kind": {"type": "string", "enum": ["a", "b"]},
            "properties": {"type": "string", "description": "A word."},
        },
        "required": ["title", "default", "works", "best", "kind", "properties"],
        "additionalProperties": False,
    }


def test_output_columns(make: Make) -> None:
    fields = "bio: str\n    born: int | None\n    share: float\n    sure: bool\n    works: list[str]"
    job = load_job(make(job=JOB.replace("bio: str", fields)))
    assert output_column_types(job) == {
        "bio": "VARCHAR",
        "born": "BIGINT",
        "share": "DOUBLE",
        "sure": "BOOLEAN",
        "works": "JSON",
    }


class Mood(StrEnum):
    GLAD = "glad"
    SAD = "sad"


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Mixed(Enum):
    WORD = "word"
    NUMBER = 1


class Chosen(BaseModel):
    """Every kind of choice."""

    mood: Mood
    mood_if_any: Mood | None
    size: Size
    size_if_any: Size | None
    mixed: Mixed
    word_or_number: str | int
    either: int | float | None
    mood_or_size: Mood | Size | None
    literal: Literal["a", 1]
    one: Literal[3]
    moods: list[Mood]
    text_or_list: str | list[str]
    work: Work
    nothing: None


def test_a_choice_is_a_column_of_its_values() -> None:
    """Neither an enumeration nor texts beside numbers are JSON in quotes."""
    job = Job("x", Work, Chosen, lambda _artist, _bio: None, "", "", build_strict_schema(Chosen))
    assert output_column_types(job) == {
        "mood": "VARCHAR",
        "mood_if_any": "VARCHAR",
        "size": "BIGINT",
        "size_if_any": "BIGINT",
        "mixed": "VARCHAR",
        "word_or_number": "VARCHAR",
        "either": "DOUBLE",
        "mood_or_size": "VARCHAR",
        "literal": "VARCHAR",
        "one": "BIGINT",
        "moods": "JSON",
        "text_or_list": "JSON",
        "work": "JSON",
        "nothing": "JSON",
    }


class Tree(BaseModel):
    title: str
    best: "Tree | None"


def test_a_bio_that_holds_itself_has_columns() -> None:
    job = Job("x", Work, Tree, lambda _artist, _bio: None, "", "", build_strict_schema(Tree))
    assert output_column_types(job) == {"title": "VARCHAR", "best": "JSON"}


def test_values_are_data_and_never_a_template(make: Make) -> None:
    job = load_job(make())
    renderer = LineRenderer(job.build_version("gpt-6-luna", Endpoint.CHAT, 600))
    name = "{{7*7}} {artist_name} %s {0.__class__}"
    assert renderer.render_user_text(job.prompt_values(artist(job, artist_name=name), "row 2")) == f"Artist: {name}"
