"""Damaged result lines, odd characters and arbitrary input: no exception, no guess."""

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.endpoints.values import LARGEST_INT, MESSAGE_LENGTH
from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, LineResult
from batcher.core.result_line import (
    parse_json_object,
    parse_result_line,
    replace_odd_escapes,
)
from tests.support.examples import examples
from tests.support.result_lines import CHAT, GOOD, GOOD_LINE, chat_body, error_line, failure_of, line_of, read_line

F = FailureClass


@pytest.mark.parametrize("odd", [b"A \xff\xfe bio.", b"A \xed\xa0\x80 bio."])
def test_bytes_that_are_no_text_are_replaced_and_the_rest_is_read(odd: bytes) -> None:
    text = read_line(line_of(chat_body()).replace(b"A bio.", odd)).text
    assert text is not None and text.startswith("A \N{REPLACEMENT CHARACTER}") and text.endswith(" bio.")
    assert read_line(b"\xef\xbb\xbf" + line_of(chat_body())).text == "A bio."


@pytest.mark.parametrize("raw", [b"", b"\n", b"\r\n", b" \t\n"])
def test_an_empty_line_is_nothing(raw: bytes) -> None:
    assert parse_result_line(raw, CHAT) is None


@pytest.mark.parametrize(
    "raw",
    [
        GOOD_LINE[:-20],
        GOOD_LINE[5:],
        GOOD_LINE + GOOD_LINE,
        GOOD_LINE.replace(b"A bio.", b"A \x00 bio."),
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"NaN",
        b"\x00",
        b"\xff\xff",
        b"<html>bad gateway</html>",
        b"[" * 100_000,
        b'{"custom_id":' * 100_000,
        b'{"custom_id":"a1","n":' + b"9" * 5_000 + b',"s":"\\ud800"}',
    ],
)
def test_a_line_that_is_no_json_object_is_told_and_belongs_to_nobody(raw: bytes) -> None:
    result = read_line(raw)
    assert result.custom_id == ""
    assert failure_of(result) == (F.UNUSABLE, "malformed_line")


@pytest.mark.parametrize("line_id", [None, "", 7, 1.5, True, [], ["a1"], {"a": 1}])
def test_a_line_without_a_custom_id_belongs_to_nobody(line_id: object) -> None:
    result = read_line(line_of(chat_body(), custom_id=line_id))
    assert result.custom_id == ""
    assert failure_of(result) == (F.UNUSABLE, "no_custom_id")
    assert failure_of(read_line(b"{}")) == (F.UNUSABLE, "no_custom_id")


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    raw = GOOD_LINE.replace(b"A bio.", b"A \\ud800 bio \\ude00 \\ud83d\\ude00 \xc3\xa9.")
    assert read_line(raw).text == "A \ufffd bio \ufffd 😀 é."
    raw = GOOD_LINE.replace(b'"a1"', b'"a\\udfff"')
    assert read_line(raw).custom_id == "a\ufffd"


@pytest.mark.parametrize(
    ("text", "storable"),
    [
        (r"A life \ud83d of", r"A life \ufffd of"),
        (r"\uDE00\uD83D", r"\ufffd\ufffd"),
        (r"\ud83d\ude00 \uD83D\uDE00", r"\ud83d\ude00 \uD83D\uDE00"),
        (r"\ud83d\ud83d\ude00", r"\ufffd\ud83d\ude00"),
        (r"\ud83d\u0041", r"\ufffd\u0041"),
        (r"\u0000\u0001", r"\ufffd\u0001"),
        (r"\\ud83d \\u0000 \\\ud83d", r"\\ud83d \\u0000 \\\ufffd"),
        (r"\" \n \u00e9 é \ud7ff \ue000", r"\" \n \u00e9 é \ud7ff \ue000"),
        (r"\ud8 \u00 \u", r"\ud8 \u00 \u"),
        ("no escape", "no escape"),
    ],
)
def test_an_escape_that_no_column_can_hold_becomes_the_replacement_character(text: str, storable: str) -> None:
    assert replace_odd_escapes(text) == storable


@given(st.text(st.characters(exclude_categories=())))
@examples(1_000)
def test_every_text_that_json_can_carry_becomes_storable(text: str) -> None:
    """Compare with what a lenient decoder makes of the same text."""
    read = json.loads(replace_odd_escapes(json.dumps(text)))
    assert read == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def test_a_nul_in_an_answer_becomes_the_replacement_character() -> None:
    assert read_line(GOOD_LINE.replace(b"A bio.", rb"A \u0000 bio \\u0000.")).text == "A \ufffd bio \\u0000."
    failure = read_line(error_line(500, {"message": "a \0 b", "code": "c\0d"})).failure
    assert failure is not None
    assert (failure.code, failure.message) == ("c\ufffdd", "a \ufffd b")


def _sound(result: LineResult | None) -> None:
    """Assert what every caller may rely on, and every column can hold."""
    if result is None:
        return
    assert (result.text is None) == (result.failure is not None)
    assert result.text is None or result.text.strip()
    assert result.status is None or abs(result.status) <= LARGEST_INT
    assert all(0 <= count <= LARGEST_INT for count in result.usage)
    assert result.completed_at is None or math.isfinite(result.completed_at)
    failure = result.failure
    assert failure is None or (failure.code and len(failure.message) <= MESSAGE_LENGTH)
    reason = (failure.code, failure.message) if failure else ()
    for text in (result.custom_id, result.text or "", result.model, result.finish_reason, *reason):
        text.encode()
        assert "\0" not in text


@given(st.binary(max_size=200), st.sampled_from(Endpoint))
@examples(1_000)
def test_no_bytes_raise(raw: bytes, endpoint: Endpoint) -> None:
    _sound(parse_result_line(raw, endpoint))


@given(st.sampled_from(Endpoint), st.data())
@examples(1_000)
def test_no_damage_to_a_good_line_raises(endpoint: Endpoint, data: st.DataObject) -> None:
    good = line_of(GOOD[endpoint])
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 40)))
    _sound(parse_result_line(good[:start] + data.draw(st.binary(max_size=12)) + good[end:], endpoint))


NAMES = [
    "custom_id",
    "response",
    "error",
    "status_code",
    "body",
    "code",
    "type",
    "message",
    "choices",
    "finish_reason",
    "refusal",
    "content",
    "usage",
    "prompt_tokens",
    "prompt_tokens_details",
    "cached_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "model",
    "created",
    "created_at",
    "completed_at",
    "output",
    "text",
    "incomplete_details",
    "reason",
    "data",
    "embedding",
    "results",
    "flagged",
    "categories",
    "category_scores",
]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.sampled_from([200, 429, "a1", "stop", "length", "message", "output_text", "refusal", "content_filter"])
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(ANYTHING, st.sampled_from(Endpoint))
@examples(1_000)
def test_no_json_raises(value: object, endpoint: Endpoint) -> None:
    _sound(parse_result_line(json.dumps(value).encode(), endpoint))
    _sound(parse_result_line(json.dumps({"custom_id": "a1", "response": value}).encode(), endpoint))
    body = {"custom_id": "a1", "response": {"status_code": 200, "body": value}}
    _sound(parse_result_line(json.dumps(body).encode(), endpoint))


def _paths(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [path] + [found for key, part in inner for found in _paths(part, (*path, key))]


def _put(value: Any, path: tuple[object, ...], new: object) -> Any:
    if not path:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _put(value[path[0]], path[1:], new)
    return copy


@given(st.sampled_from(Endpoint), st.data())
@examples(1_500)
def test_no_wrong_type_at_any_place_raises(endpoint: Endpoint, data: st.DataObject) -> None:
    whole = orjson.loads(line_of(GOOD[endpoint]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole = _put(whole, data.draw(st.sampled_from(_paths(whole))), data.draw(ANYTHING))
    _sound(parse_result_line(json.dumps(whole).encode(), endpoint))


@given(ANYTHING)
@examples(500)
def test_only_objects_are_parsed(value: object) -> None:
    parsed = parse_json_object(json.dumps(value).encode())
    assert (parsed is None) == (not isinstance(value, dict))
