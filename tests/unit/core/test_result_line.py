"""Reading result lines: each shape that was ever seen, and arbitrary input. No exception, no guess."""

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, LineResult, TokenUsage
from batcher.core.result_line import (
    LARGEST_INT,
    MESSAGE_LENGTH,
    check_answer_text,
    parse_json_object,
    parse_response_body,
    parse_result_line,
)
from tests.support.examples import examples

F = FailureClass
CHAT, RESPONSES = Endpoint.CHAT, Endpoint.RESPONSES


def _chat(content: object = "A bio.", finish: object = "stop", **more: object) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_795_000_100,
        "model": "gpt-6-luna-2026-08-01",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": 24,
            "completion_tokens": 7,
            "total_tokens": 31,
            "prompt_tokens_details": {"cached_tokens": 16},
        },
        "service_tier": "default",
    } | more


def _response(*parts: object, **more: object) -> dict[str, Any]:
    content = list(parts) or [{"type": "output_text", "text": "A bio.", "annotations": []}]
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_795_000_000,
        "completed_at": 1_795_000_100,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "gpt-6-luna-2026-08-01",
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "role": "assistant", "status": "completed", "content": content},
        ],
        "usage": {
            "input_tokens": 24,
            "input_tokens_details": {"cached_tokens": 16},
            "output_tokens": 7,
            "total_tokens": 31,
        },
    } | more


def _line(body: object, status: object = 200, **more: object) -> bytes:
    response = {"status_code": status, "request_id": "97d81ac7", "body": body}
    return orjson.dumps({"id": "batch_req_1", "custom_id": "a1", "response": response, "error": None} | more) + b"\n"


def _error(status: object, error: object) -> bytes:
    return _line({"error": error}, status)


def _unanswered(code: str) -> bytes:
    return _line(None, response=None, error={"code": code, "message": "m"})


def _read(raw: bytes, endpoint: Endpoint = CHAT) -> LineResult:
    result = parse_result_line(raw, endpoint)
    assert result is not None
    return result


def _why(result: LineResult) -> tuple[FailureClass, str]:
    assert result.text is None
    assert result.failure is not None
    return result.failure.failure, result.failure.code


GOOD = {CHAT: _chat(), RESPONSES: _response()}


@pytest.mark.parametrize("endpoint", Endpoint)
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
    assert _read(_line(GOOD[endpoint]), endpoint) == expected
    assert parse_response_body("a1", GOOD[endpoint], endpoint) == expected


@pytest.mark.parametrize("endpoint", Endpoint)
def test_fields_that_we_do_not_know_change_nothing(endpoint: Endpoint) -> None:
    body = GOOD[endpoint] | {"new": {"deep": [1, 2]}, "usage": GOOD[endpoint]["usage"] | {"prompt_weight": 0.5}}
    assert _read(_line(body, later=[None]), endpoint) == _read(_line(GOOD[endpoint]), endpoint)


@pytest.mark.parametrize(
    "text",
    [
        "two\nlines\r\n",
        "\u2028 and \u2029 and \u0085 inside",
        "a NUL \0 inside",
        "👩‍🎨 שלום e\u0301",
        '{"bio": "a \\"quote\\""}',
        "  spaces kept  ",
        "x" * 100_000,
    ],
)
def test_a_text_arrives_as_it_is(text: str) -> None:
    assert _read(_line(_chat(text))).text == text
    assert _read(_line(_response({"type": "output_text", "text": text})), RESPONSES).text == text
    escaped = json.dumps(orjson.loads(_line(_chat(text)))).encode()
    assert _read(escaped).text == text


def test_line_separators_of_unicode_do_not_split_a_file() -> None:
    raw = _line(_chat("a\u2028b\u2029c\u0085d"))
    assert raw.count(b"\n") == 1
    assert [_read(part).text for part in raw.splitlines(keepends=True)] == ["a\u2028b\u2029c\u0085d"]


def test_the_parts_of_a_response_are_joined() -> None:
    body = _response({"type": "output_text", "text": "A "}, {"type": "other"}, {"type": "output_text", "text": "bio."})
    assert _read(_line(body), RESPONSES).text == "A bio."


def _refused() -> dict[str, Any]:
    body = _chat(None)
    body["choices"][0]["message"]["refusal"] = "I cannot help with that."
    return body


def _incomplete(reason: str) -> dict[str, Any]:
    return _response(status="incomplete", incomplete_details={"reason": reason})


def _failed(code: str) -> dict[str, Any]:
    return _response(output=[], status="failed", error={"code": code, "message": "m"})


UNUSABLE: list[tuple[Endpoint, object, FailureClass, str]] = [
    (CHAT, _refused(), F.UNUSABLE, "refusal"),
    (CHAT, _chat("half of a", "length"), F.UNUSABLE, "length"),
    (CHAT, _chat("", "length"), F.UNUSABLE, "length"),
    (CHAT, _chat("", "content_filter"), F.INVALID, "content_filter"),
    (CHAT, _chat("some", "content_filter"), F.INVALID, "content_filter"),
    (CHAT, _chat(""), F.UNUSABLE, "empty"),
    (CHAT, _chat(" \n\t"), F.UNUSABLE, "empty"),
    (CHAT, _chat(None), F.UNUSABLE, "empty"),
    (CHAT, _chat(None, "tool_calls"), F.UNUSABLE, "empty"),
    (CHAT, _chat([{"type": "text", "text": "x"}]), F.UNUSABLE, "empty"),
    (CHAT, _chat(choices=[]), F.UNUSABLE, "empty"),
    (CHAT, _chat(choices=None), F.UNUSABLE, "empty"),
    (CHAT, _chat(choices={"0": {}}), F.UNUSABLE, "empty"),
    (CHAT, _chat(choices=["x"]), F.UNUSABLE, "empty"),
    (CHAT, _chat(choices=[{"message": "x"}]), F.UNUSABLE, "empty"),
    (CHAT, {"unknown": 1}, F.UNUSABLE, "empty"),
    (CHAT, _response(), F.UNUSABLE, "empty"),
    (CHAT, {}, F.UNUSABLE, "empty_body"),
    (CHAT, None, F.UNUSABLE, "empty_body"),
    (CHAT, "", F.UNUSABLE, "empty_body"),
    (CHAT, "a bio", F.UNUSABLE, "empty_body"),
    (CHAT, [], F.UNUSABLE, "empty_body"),
    (RESPONSES, _response({"type": "refusal", "refusal": "No."}), F.UNUSABLE, "refusal"),
    (RESPONSES, _incomplete("max_output_tokens"), F.UNUSABLE, "length"),
    (RESPONSES, _incomplete("content_filter"), F.INVALID, "content_filter"),
    (RESPONSES, _response({"type": "output_text", "text": ""}), F.UNUSABLE, "empty"),
    (RESPONSES, _response({"type": "output_text"}), F.UNUSABLE, "empty"),
    (RESPONSES, _response("x", 7, None), F.UNUSABLE, "empty"),
    (RESPONSES, _response(output=[]), F.UNUSABLE, "empty"),
    (RESPONSES, _response(output=None), F.UNUSABLE, "empty"),
    (RESPONSES, _response(output=["x", {"type": "message", "content": "x"}]), F.UNUSABLE, "empty"),
    (RESPONSES, _chat(), F.UNUSABLE, "empty"),
    (RESPONSES, _failed("server_error"), F.SERVER, "server_error"),
    (RESPONSES, _failed("rate_limit_exceeded"), F.RATE_LIMIT, "rate_limit_exceeded"),
    (RESPONSES, {}, F.UNUSABLE, "empty_body"),
]  # fmt: skip


@pytest.mark.parametrize(("endpoint", "body", "failure", "code"), UNUSABLE)
def test_an_answer_that_cannot_be_used_says_why(endpoint: Endpoint, body: object, failure: F, code: str) -> None:
    result = _read(_line(body), endpoint)
    assert _why(result) == (failure, code)
    assert (result.custom_id, result.status) == ("a1", 200)


@pytest.mark.parametrize("endpoint", Endpoint)
def test_what_was_paid_is_known_though_the_answer_cannot_be_used(endpoint: Endpoint) -> None:
    cut_off = {
        CHAT: _chat("half", "length"),
        RESPONSES: _incomplete("max_output_tokens"),
    }
    assert _read(_line(cut_off[endpoint]), endpoint).usage == TokenUsage(24, 16, 7)


def test_an_error_of_nothing_is_none() -> None:
    nothings: list[object] = [None, {}, {"code": None, "message": None}, "x", []]
    for error in nothings:
        assert _read(_line(_response(error=error)), RESPONSES).text == "A bio."


def test_a_verdict_on_a_text() -> None:
    assert check_answer_text("x", "stop", "") == ("x", None)
    assert check_answer_text("x", "anything new", "") == ("x", None)
    for content, finish, refusal in (("x", "stop", "no"), ("x", "length", ""), ("", "stop", "")):
        text, failure = check_answer_text(content, finish, refusal)
        assert text is None
        assert failure is not None


QUOTA = {
    "message": "You exceeded your current quota",
    "type": "insufficient_quota",
    "param": None,
    "code": "insufficient_quota",
}
ERRORS = [
    (_error(429, QUOTA), F.QUOTA, "insufficient_quota", 429),
    (_error(429, {"message": "slow down", "type": "requests", "code": None}), F.RATE_LIMIT, "requests", 429),
    (_error(400, {"message": "m", "code": "context_length_exceeded"}), F.INVALID, "context_length_exceeded", 400),
    (_error(500, {"message": "An error occurred"}), F.SERVER, "http_500", 500),
    (_error(404, None), F.SETUP, "http_404", 404),
    (_error(503, "overloaded"), F.SERVER, "http_503", 503),
    (_error(400, {"message": 7, "type": [], "code": 5}), F.INVALID, "http_400", 400),
    (_line(None, 0), F.SERVER, "http_0", 0),
    (_line(None, response=None), F.SERVER, "no_response", None),
    (_line(None, response="x"), F.SERVER, "no_response", None),
    (_line(None, response=None, error="vllm failed"), F.SERVER, "no_response", None),
    (_unanswered("batch_expired"), F.EXPIRED, "batch_expired", None),
    (_unanswered("batch_cancelled"), F.CANCELLED, "batch_cancelled", None),
    (_unanswered("request_timeout"), F.SERVER, "request_timeout", None),
    (_unanswered("never_heard_of"), F.SERVER, "never_heard_of", None),
    (b'{"custom_id":"a1"}', F.SERVER, "no_response", None),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "failure", "code", "status"), ERRORS)
@pytest.mark.parametrize("endpoint", Endpoint)
def test_an_error_line_has_its_class(raw: bytes, failure: F, code: str, status: int | None, endpoint: Endpoint) -> None:
    result = _read(raw, endpoint)
    assert _why(result) == (failure, code)
    assert (result.custom_id, result.status, result.usage) == ("a1", status, TokenUsage())


@pytest.mark.parametrize("status", [0, None, "200", True, 200.0, 2**40])
def test_a_whole_answer_is_taken_though_its_status_is_none(status: object) -> None:
    """It was paid for, and nothing in it speaks of an error."""
    assert _read(_line(_chat(), status)).text == "A bio."
    error = {"message": "m", "code": "server_error"}
    assert _why(_read(_line(_chat() | {"error": error}, status))) == (F.SERVER, "server_error")


def test_a_message_is_kept_but_not_all_of_it() -> None:
    failure = _read(_error(500, {"message": "m" * 10_000})).failure
    assert failure is not None
    assert failure.message == "m" * MESSAGE_LENGTH
    refused = _refused()
    refused["choices"][0]["message"]["refusal"] = "r" * 10_000
    failure = _read(_line(refused)).failure
    assert failure is not None
    assert failure.message == "r" * MESSAGE_LENGTH


@pytest.mark.parametrize("odd", [b"A \xff\xfe bio.", b"A \xed\xa0\x80 bio."])
def test_bytes_that_are_no_text_are_replaced_and_the_rest_is_read(odd: bytes) -> None:
    text = _read(_line(_chat()).replace(b"A bio.", odd)).text
    assert text is not None and text.startswith("A \N{REPLACEMENT CHARACTER}") and text.endswith(" bio.")
    assert _read(b"\xef\xbb\xbf" + _line(_chat())).text == "A bio."


@pytest.mark.parametrize("raw", [b"", b"\n", b"\r\n", b" \t\n"])
def test_an_empty_line_is_nothing(raw: bytes) -> None:
    assert parse_result_line(raw, CHAT) is None


GOOD_LINE = _line(_chat())


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
    result = _read(raw)
    assert result.custom_id == ""
    assert _why(result) == (F.UNUSABLE, "malformed_line")


@pytest.mark.parametrize("line_id", [None, "", 7, 1.5, True, [], ["a1"], {"a": 1}])
def test_a_line_without_a_custom_id_belongs_to_nobody(line_id: object) -> None:
    result = _read(_line(_chat(), custom_id=line_id))
    assert result.custom_id == ""
    assert _why(result) == (F.UNUSABLE, "no_custom_id")
    assert _why(_read(b"{}")) == (F.UNUSABLE, "no_custom_id")


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    raw = GOOD_LINE.replace(b"A bio.", b"A \\ud800 bio \\ude00 \\ud83d\\ude00 \xc3\xa9.")
    assert _read(raw).text == "A \ufffd bio \ufffd 😀 é."
    raw = GOOD_LINE.replace(b'"a1"', b'"a\\udfff"')
    assert _read(raw).custom_id == "a\ufffd"


def test_numbers_that_json_does_not_have_do_no_harm() -> None:
    for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
        raw = GOOD_LINE.replace(b'"prompt_tokens":24', b'"prompt_tokens":' + number)
        result = _read(raw.replace(b'"created":1795000100', b'"created":' + number))
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
    result = _read(_line(_chat(usage=usage)))
    assert (result.text, result.usage) == ("A bio.", TokenUsage())


@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
def test_what_was_written_to_the_cache_and_what_was_thought_is_told_apart(endpoint: Endpoint) -> None:
    names = ("prompt_tokens", "completion_tokens") if endpoint is CHAT else ("input_tokens", "output_tokens")
    usage = {
        names[0]: 1_500, f"{names[0]}_details": {"cached_tokens": 200, "cache_write_tokens": 1_300},
        names[1]: 700, f"{names[1]}_details": {"reasoning_tokens": 640},
    }  # fmt: skip
    body = _chat(usage=usage) if endpoint is CHAT else _response(usage=usage)
    assert _read(_line(body), endpoint).usage == TokenUsage(1_500, 200, 700, written=1_300, reasoning=640)


def test_a_usage_may_lack_a_part() -> None:
    assert _read(_line(_chat(usage={"prompt_tokens": 24}))).usage == TokenUsage(24, 0, 0)
    assert _read(_line(_chat(usage={"prompt_tokens": LARGEST_INT}))).usage == TokenUsage(LARGEST_INT, 0, 0)
    without = _chat()
    del without["usage"]
    assert _read(_line(without)).usage == TokenUsage()


@pytest.mark.parametrize("created", [None, "1795000100", True, [], -1, 2**63, 1e12])
def test_a_time_that_is_nonsense_is_none(created: object) -> None:
    result = _read(_line(_chat(created=created)))
    assert (result.text, result.completed_at) == ("A bio.", None)
    assert _read(_line(_response(completed_at=None)), RESPONSES).completed_at == 1_795_000_000.0


def test_a_number_too_large_for_a_float_does_no_harm() -> None:
    huge = b"9" * 400
    raw = GOOD_LINE.replace(b'"created":1795000100', b'"created":' + huge).replace(b"A bio.", b"A \\ud800.")
    result = _read(raw.replace(b'"prompt_tokens":24', b'"prompt_tokens":' + huge))
    assert (result.text, result.completed_at, result.usage) == ("A \ufffd.", None, TokenUsage(0, 16, 7))


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


@given(st.binary(max_size=200), st.sampled_from(Endpoint))
@examples(1_000)
def test_no_bytes_raise(raw: bytes, endpoint: Endpoint) -> None:
    _sound(parse_result_line(raw, endpoint))


@given(st.sampled_from(Endpoint), st.data())
@examples(1_000)
def test_no_damage_to_a_good_line_raises(endpoint: Endpoint, data: st.DataObject) -> None:
    good = _line(GOOD[endpoint])
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
    whole = orjson.loads(_line(GOOD[endpoint]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole = _put(whole, data.draw(st.sampled_from(_paths(whole))), data.draw(ANYTHING))
    _sound(parse_result_line(json.dumps(whole).encode(), endpoint))


@given(ANYTHING)
@examples(500)
def test_only_objects_are_parsed(value: object) -> None:
    parsed = parse_json_object(json.dumps(value).encode())
    assert (parsed is None) == (not isinstance(value, dict))
