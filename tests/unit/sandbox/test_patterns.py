"""Texts for the formats and patterns of a schema: whatever model a job has, its answers from the sandbox fit it."""

import datetime
import re
import uuid
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from batcher.job.schema import build_strict_schema
from batcher.sandbox.answers.filling import plan_for_schema
from batcher.sandbox.answers.patterns import find_matching_text
from batcher.sandbox.answers.text import parse_message_facts


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[A-Z]{3}-\d{2,4}$",
        r"(bug|wish)+\w*",
        r"^\S+@[^@\s]+\.[a-z]{2,}$",
        r"^[^a-z0-9]x?.\Z",
        r"^(?:\+49|0)[1-9][0-9]{3,}$",
        r"^[\w-]+?\W\D\s$",
        r"[^\W\d_]",
        "",
    ],
)
def test_a_text_is_found_for_a_pattern(pattern: str) -> None:
    text = find_matching_text(pattern)
    assert text is not None
    assert re.search(pattern, text)


@pytest.mark.parametrize("pattern", ["(", r"^(?=ab)ab$", "a{2000}", r"(a)\1", "^b$a"])
def test_a_pattern_that_is_not_understood_has_none(pattern: str) -> None:
    assert find_matching_text(pattern) is None


class Part(BaseModel):
    day: datetime.date
    share: Annotated[float, Field(gt=0, lt=1)]


class Everything(BaseModel):
    label: Literal["bug", "billing"]
    urgency: Annotated[int, Field(ge=1, le=4)]
    score: Annotated[float, Field(ge=-1, le=-0.5)]
    moment: datetime.datetime
    clock: datetime.time
    span: datetime.timedelta
    key: uuid.UUID
    code: Annotated[str, Field(pattern=r"^[A-Z]{2}\d+$")]
    maybe: datetime.date | None
    parts: list[Part]
    tags: Annotated[list[str], Field(min_length=2)]
    half: Annotated[float, Field(multiple_of=0.5)]
    is_open: bool


@pytest.mark.parametrize("message", ["", "Label it.", "urgency: 9\nlabel: wish\ncode: x\nday: tomorrow"])
def test_the_answer_fits_the_model(message: str) -> None:
    schema = dict(build_strict_schema(Everything))
    value = plan_for_schema(schema)(parse_message_facts(message))
    assert Everything.model_validate(value)
