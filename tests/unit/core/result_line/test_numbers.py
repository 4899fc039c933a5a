"""Answers in numbers: the vector of a text, and its judgement by categories."""

import json
import math
from array import array
from base64 import b64encode
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.endpoints.embeddings import VectorLength
from batcher.core.endpoints.moderations import CATEGORIES, name_category, name_fields, name_score
from batcher.core.failures import FailureClass
from batcher.core.model import LineResult, TokenUsage
from batcher.core.result_line import parse_line_text
from tests.support.result_lines import (
    EMBEDDINGS,
    MODERATIONS,
    embedding_body,
    failure_of,
    line_of,
    moderation_body,
    read_line,
)

NO_VECTOR = (FailureClass.UNUSABLE, "no_vector")
NO_RESULT = (FailureClass.UNUSABLE, "no_result")


def encode(*numbers: float) -> str:
    return b64encode(array("f", numbers).tobytes()).decode()


def test_a_vector_is_read_with_what_it_cost() -> None:
    expected = LineResult("a1", "[0.5,-0.25,1]", None, 200, "text-embedding-3-small", usage=TokenUsage(24))
    for vector in ((0.5, -0.25, 1), encode(0.5, -0.25, 1)):
        line = line_of(embedding_body(vector))
        assert read_line(line, EMBEDDINGS) == expected
        assert parse_line_text(line, EMBEDDINGS) == ("a1", "[0.5,-0.25,1]")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (embedding_body(data=[]), "the answer has no vector, where one was asked for"),
        (embedding_body(data=None), "the answer has no vector, where one was asked for"),
        (embedding_body(data=[{}, {}]), "the answer has 2 vectors, where one was asked for"),
        (embedding_body(data=[{}]), "the answer has no vector"),
        (embedding_body(data=[7]), "the answer has no vector"),
        (embedding_body(()), "the answer has no vector"),
        (embedding_body({"0": 1}), "the answer has no vector"),
        (embedding_body((0.5, "1")), "the vector holds something that is no number"),
        (embedding_body((0.5, True)), "the vector holds something that is no number"),
        (embedding_body((0.5, None)), "the vector holds something that is no number"),
        (embedding_body("not base64!"), "the vector is no base64"),
        (embedding_body("é"), "the vector is no base64"),
        (embedding_body("AAAA"), "the vector is 3 bytes, which are no 32-bit numbers"),
        (embedding_body(""), "the vector is 0 bytes, which are no 32-bit numbers"),
        (embedding_body(encode(0.5, math.nan)), "the vector holds a number that is not finite"),
        (embedding_body(encode(0.5, -math.inf)), "the vector holds a number that is not finite"),
    ],
)
def test_an_answer_without_a_vector_says_why(body: object, reason: str) -> None:
    result = read_line(line_of(body), EMBEDDINGS)
    assert (failure_of(result), result.failure and result.failure.message) == (NO_VECTOR, reason)
    assert (result.text, result.usage) == (None, TokenUsage(24))
    assert parse_line_text(line_of(body), EMBEDDINGS) == ("a1", "")


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_json_does_not_have_is_no_vector(number: float) -> None:
    raw = json.dumps(json.loads(line_of(embedding_body())) | {"response": {"status_code": 200, "body": None}})
    raw = raw.replace("null", json.dumps(embedding_body((0.5, number))), 1)
    result = read_line(raw.encode(), EMBEDDINGS)
    assert result.failure is not None and "not finite" in result.failure.message


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_each_number_of_32_bits_comes_back(numbers: list[float]) -> None:
    text = read_line(line_of(embedding_body(encode(*numbers))), EMBEDDINGS).text
    assert text is not None and array("f", orjson.loads(text)) == array("f", numbers)


def test_vectors_of_a_version_have_one_length() -> None:
    known, first = VectorLength(3), VectorLength()
    assert [known.find_fault(length) for length in (3, 2)] == ["", "the vector has 2 numbers, where 3 are expected"]
    assert [first.find_fault(length) for length in (1_536, 1_536, 3)] == [
        "", "", "the vector has 3 numbers, where 1,536 are expected",
    ]  # fmt: skip


def test_a_judgement_is_read_with_all_its_categories() -> None:
    result = read_line(line_of(moderation_body()), MODERATIONS)
    assert (result.model, result.usage, result.failure) == ("omni-moderation-latest", TokenUsage(), None)
    assert orjson.loads(result.text or "") == {
        "flagged": True, "hate": False, "self_harm_intent": True, "hate_score": 0.0625, "self_harm_intent_score": 0.75,
    }  # fmt: skip
    assert parse_line_text(line_of(moderation_body()), MODERATIONS) == ("a1", result.text)


def test_fields_are_named_for_sql() -> None:
    fields = name_fields()
    assert len(fields) == 1 + 2 * len(CATEGORIES) == 27
    assert all(name.isidentifier() for name in fields)
    assert (fields["flagged"], fields["violence_graphic"]) == ("BOOLEAN", "BOOLEAN")
    assert (name_category("self-harm/intent"), fields[name_score("self-harm/intent")]) == ("self_harm_intent", "DOUBLE")


def test_a_category_that_a_model_does_not_have_is_left_out() -> None:
    body = moderation_body(categories={"hate": False, "illicit": None}, category_scores={"hate": 0, "illicit": None})
    assert orjson.loads(read_line(line_of(body), MODERATIONS).text or "") == {
        "flagged": True, "hate": False, "hate_score": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"results": []}, "the answer has no result for the text"),
        ({"model": "m"}, "the answer has no result for the text"),
        ({"results": [{}, {}]}, "the answer has no result for the text"),
        (moderation_body(flagged=None), "the answer does not say whether the text is flagged"),
        (moderation_body(flagged=1), "the answer does not say whether the text is flagged"),
        (moderation_body(categories={"hate": 0}), "category hate is neither true nor false"),
        (moderation_body(category_scores={"hate": "0"}), "the score of category hate is no number"),
        (moderation_body(category_scores={"hate": True}), "the score of category hate is no number"),
    ],
)
def test_an_answer_without_a_judgement_says_why(body: dict[str, Any], reason: str) -> None:
    result = read_line(line_of(body), MODERATIONS)
    assert (failure_of(result), result.failure and result.failure.message) == (NO_RESULT, reason)
