"""The schema of an answer, and the columns that it becomes."""

from enum import Enum, IntEnum, StrEnum
from typing import Literal

from pydantic import BaseModel, Field

from batcher.job.job import Job
from batcher.job.loading import load_job
from batcher.job.schema import build_strict_schema, output_column_types
from tests.support.job_kit import JOB, TEXT_JOB, WriteJob


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


def test_output_columns(write_job: WriteJob) -> None:
    fields = "bio: str\n    born: int | None\n    share: float\n    sure: bool\n    works: list[str]"
    job = load_job(write_job(job=JOB.replace("bio: str", fields)))
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


def test_plain_text_is_one_column(write_job: WriteJob) -> None:
    assert output_column_types(load_job(write_job(job=TEXT_JOB))) == {"text": "VARCHAR"}
