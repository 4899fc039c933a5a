"""Reading result lines: each shape of an answer that was ever seen, its text, its usage and its times."""

import json

import orjson
import pytest

from batcher.core.endpoints.values import LARGEST_INT, LATEST_TIME
from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, LineResult, TokenUsage
from batcher.core.result_line import parse_response_body
from tests.support.result_lines import (
    CHAT,
    GOOD,
    GOOD_LINE,
    PROMPTED,
    RESPONSES,
    chat_body,
    failure_of,
    line_of,
    read_line,
    response_body,
)

F = FailureClass


@pytest.mark.parametrize("endpoint", PROMPTED)
def test_a_success_is_read_whole(endpoint: Endpoint) -> None:
    expected = LineResult(
        "a1",
        text="A bio.",
        status=200,
        model="gpt-6-luna-2026-08-01",
        finish_reason="stop",
        usage=TokenUsage(24, 16, 7),
        completed_at=1_795_000_100.0,
    )
    assert read_line(line_of(GOOD[endpoint]), endpoint) == expected
    assert parse_response_body("a1", GOOD[endpoint], endpoint) == expected


@pytest.mark.parametrize("endpoint", Endpoint)
def test_fields_that_we_do_not_know_change_nothing(endpoint: Endpoint) -> None:
    usage = GOOD[endpoint].get("usage", {})
    body = GOOD[endpoint] | {"new": {"deep": [1, 2]}, "usage": usage | {"prompt_weight": 0.5}}
    assert read_line(line_of(body, later=[None]), endpoint) == read_line(line_of(GOOD[endpoint]), endpoint)


@pytest.mark.parametrize(
    "text",
    [
        "two\nlines\r\n",
        "\u2028 and \u2029 and \u0085 inside",
        "👩‍🎨 שלום e\u0301",
        '{"bio": "a \\"quote\\""}',
        "  spaces kept  ",
        "x" * 100_000,
    ],
)
def test_a_text_arrives_as_it_is(text: str) -> None:
    assert read_line(line_of(chat_body(text))).text == text
    assert read_line(line_of(response_body({"type": "output_text", "text": text})), RESPONSES).text == text
    escaped = json.dumps(orjson.loads(line_of(chat_body(text)))).encode()
    assert read_line(escaped).text == text


def test_line_separators_of_unicode_do_not_split_a_file() -> None:
    raw = line_of(chat_body("a\u2028b\u2029c\u0085d"))
    assert raw.count(b"\n") == 1
    assert [read_line(part).text for part in raw.splitlines(keepends=True)] == ["a\u2028b\u2029c\u0085d"]


def test_the_parts_of_a_response_are_joined() -> None:
    body = response_body(
        {"type": "output_text", "text": "A "}, {"type": "other"}, {"type": "output_text", "text": "bio."}
    )
    assert read_line(line_of(body), RESPONSES).text == "A bio."


def test_the_text_parts_of_a_message_are_joined() -> None:
    """Some services answer with parts, what was thought among them; the answer was paid for all the same."""
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "A "}]
    assert read_line(line_of(chat_body([*parts, {"type": "text", "text": "bio."}]))).text == "A bio."
    assert failure_of(read_line(line_of(chat_body([{"type": "text"}, 7, {"type": "image", "text": "x"}])))) == (
        F.UNUSABLE,
        "empty",
    )


@pytest.mark.parametrize("endpoint", Endpoint)
def test_a_body_that_is_json_text_in_a_string_is_read_like_any_other(endpoint: Endpoint) -> None:
    assert read_line(line_of(orjson.dumps(GOOD[endpoint]).decode()), endpoint) == read_line(
        line_of(GOOD[endpoint]), endpoint
    )
    error = {"error": {"message": "slow down", "type": "requests", "code": None}}
    assert read_line(line_of(json.dumps(error), 429)) == read_line(line_of(error, 429))
    assert failure_of(read_line(line_of("no JSON"))) == (F.UNUSABLE, "empty_body")
    assert failure_of(read_line(line_of('["a"]'))) == (F.UNUSABLE, "empty_body")


def test_numbers_that_json_does_not_have_do_no_harm() -> None:
    for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
        raw = GOOD_LINE.replace(b'"prompt_tokens":24', b'"prompt_tokens":' + number)
        result = read_line(raw.replace(b'"created":1795000100', b'"created":' + number))
        assert (result.text, result.usage, result.completed_at) == ("A bio.", TokenUsage(0, 16, 7), None)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        [],
        "x",
        7,
        {"prompt_tokens": None, "completion_tokens": "7"},
        {"prompt_tokens": -24, "completion_tokens": 7.5},
        {"prompt_tokens": True, "completion_tokens": [7]},
        {"prompt_tokens": 2**31, "completion_tokens": 2**64 - 1},
        {"prompt_tokens_details": None},
        {"prompt_tokens_details": "x"},
        {"prompt_tokens_details": {"cached_tokens": "16"}},
        {"input_tokens": 24, "output_tokens": 7},
    ],
)
def test_a_usage_that_is_nonsense_counts_nothing(usage: object) -> None:
    result = read_line(line_of(chat_body(usage=usage)))
    assert (result.text, result.usage) == ("A bio.", TokenUsage())


@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
def test_what_was_written_to_the_cache_and_what_was_thought_is_told_apart(endpoint: Endpoint) -> None:
    names = ("prompt_tokens", "completion_tokens") if endpoint is CHAT else ("input_tokens", "output_tokens")
    usage = {
        names[0]: 1_500, f"{names[0]}_details": {"cached_tokens": 200, "cache_write_tokens": 1_300},
        names[1]: 700, f"{names[1]}_details": {"reasoning_tokens": 640},
    }  # fmt: skip
    body = chat_body(usage=usage) if endpoint is CHAT else response_body(usage=usage)
    assert read_line(line_of(body), endpoint).usage == TokenUsage(1_500, 200, 700, written=1_300, reasoning=640)


def test_a_usage_may_lack_a_part() -> None:
    assert read_line(line_of(chat_body(usage={"prompt_tokens": 24}))).usage == TokenUsage(24, 0, 0)
    assert read_line(line_of(chat_body(usage={"prompt_tokens": LARGEST_INT}))).usage == TokenUsage(LARGEST_INT, 0, 0)
    without = chat_body()
    del without["usage"]
    assert read_line(line_of(without)).usage == TokenUsage()


@pytest.mark.parametrize("created", [None, "1795000100", True, [], -1, 2**63, 1e12])
def test_a_time_that_is_nonsense_is_none(created: object) -> None:
    result = read_line(line_of(chat_body(created=created)))
    assert (result.text, result.completed_at) == ("A bio.", None)
    assert read_line(line_of(response_body(completed_at=None)), RESPONSES).completed_at == 1_795_000_000.0


@pytest.mark.parametrize("created", [0, 1, LATEST_TIME])
def test_times_are_read_to_their_bounds(created: float) -> None:
    assert read_line(line_of(chat_body(created=created))).completed_at == created


@pytest.mark.parametrize("status", [-LARGEST_INT, LARGEST_INT])
def test_a_status_is_read_to_its_bounds(status: int) -> None:
    assert read_line(line_of(None, status)).status == status
    assert read_line(line_of(None, status + (1 if status > 0 else -1))).status is None


def test_a_number_too_large_for_a_float_does_no_harm() -> None:
    huge = b"9" * 400
    raw = GOOD_LINE.replace(b'"created":1795000100', b'"created":' + huge).replace(b"A bio.", b"A \\ud800.")
    result = read_line(raw.replace(b'"prompt_tokens":24', b'"prompt_tokens":' + huge))
    assert (result.text, result.completed_at, result.usage) == ("A \ufffd.", None, TokenUsage(0, 16, 7))
