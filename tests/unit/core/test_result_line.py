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
    CODE_LENGTH,
    LARGEST_INT,
    LATEST_TIME,
    MESSAGE_LENGTH,
    check_answer_text,
    parse_json_object,
    parse_response_body,
    parse_result_line,
    replace_odd_escapes,
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
    (CHAT, _chat([{"type": "thinking", "text": "x"}]), F.UNUSABLE, "empty"),
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


@pytest.mark.parametrize("status", [400, 500, 503])
def test_an_answer_beside_a_status_that_refuses_is_none(status: int) -> None:
    assert _why(_read(_line(_chat(), status)))[1] == f"http_{status}"


@pytest.mark.parametrize("status", [0, None])
def test_a_whole_response_is_taken_too_unless_the_line_has_an_error(status: object) -> None:
    assert _read(_line(_response(), status), RESPONSES).text == "A bio."
    error = {"message": "m", "code": "server_error"}
    assert _why(_read(_line(_response(), status, error=error), RESPONSES)) == (F.SERVER, "server_error")


@pytest.mark.parametrize("error", [{"code": "server_error"}, {"message": "m"}])
def test_a_response_that_failed_says_so_by_a_code_or_by_a_message(error: object) -> None:
    assert _why(_read(_line(_response(error=error)), RESPONSES))[0] is F.SERVER


def _reason(result: LineResult) -> str:
    assert result.failure is not None
    return result.failure.message


def test_what_is_wrong_with_an_answer_is_told_in_words() -> None:
    """They stand in the file of failed lines."""
    told = {
        "the line is not a JSON object": b"[]",
        "the line has no custom_id": b"{}",
        "the answer has no body": _line(None),
        "the answer was cut off at max_output_tokens": _line(_chat("half", "length")),
        "the answer was withheld by the content filter": _line(_chat("", "content_filter")),
        "the answer is empty": _line(_chat("")),
    }
    assert {text: _reason(_read(raw)) for text, raw in told.items()} == {text: text for text in told}
    refusals = ({"type": "refusal", "refusal": "No. "}, {"type": "refusal", "refusal": "Never."})
    assert _reason(_read(_line(_response(*refusals)), RESPONSES)) == "No. Never."


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


def test_the_text_parts_of_a_message_are_joined() -> None:
    """Some services answer with parts, what was thought among them; the answer was paid for all the same."""
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "A "}]
    assert _read(_line(_chat([*parts, {"type": "text", "text": "bio."}]))).text == "A bio."
    assert _why(_read(_line(_chat([{"type": "text"}, 7, {"type": "image", "text": "x"}])))) == (F.UNUSABLE, "empty")


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    raw = GOOD_LINE.replace(b"A bio.", b"A \\ud800 bio \\ude00 \\ud83d\\ude00 \xc3\xa9.")
    assert _read(raw).text == "A \ufffd bio \ufffd 😀 é."
    raw = GOOD_LINE.replace(b'"a1"', b'"a\\udfff"')
    assert _read(raw).custom_id == "a\ufffd"


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
    assert _read(GOOD_LINE.replace(b"A bio.", rb"A \u0000 bio \\u0000.")).text == "A \ufffd bio \\u0000."
    failure = _read(_error(500, {"message": "a \0 b", "code": "c\0d"})).failure
    assert failure is not None
    assert (failure.code, failure.message) == ("c\ufffdd", "a \ufffd b")


@pytest.mark.parametrize("endpoint", Endpoint)
def test_a_body_that_is_json_text_in_a_string_is_read_like_any_other(endpoint: Endpoint) -> None:
    assert _read(_line(orjson.dumps(GOOD[endpoint]).decode()), endpoint) == _read(_line(GOOD[endpoint]), endpoint)
    error = {"error": {"message": "slow down", "type": "requests", "code": None}}
    assert _read(_line(json.dumps(error), 429)) == _read(_line(error, 429))
    assert _why(_read(_line("no JSON"))) == (F.UNUSABLE, "empty_body")
    assert _why(_read(_line('["a"]'))) == (F.UNUSABLE, "empty_body")


@pytest.mark.parametrize(
    ("error", "status", "failure"),
    [
        ({"code": "inference_failed", "message": "HTTP 429 status=429"}, None, F.RATE_LIMIT),
        ({"code": "request_failed", "message": "Error code: 429 - {'error': {'code': 12}}"}, 0, F.RATE_LIMIT),
        ({"code": "request_failed", "message": "Error code: 400 - {}"}, None, F.INVALID),
        ({"code": "x", "message": "upstream said HTTP 503"}, None, F.SERVER),
        ({"message": "status_code: 404"}, None, F.SETUP),
        ("HTTP 429", None, F.RATE_LIMIT),
        ({"code": "x", "message": "HTTP 4290, 429 lines, code: 42"}, None, F.SERVER),
        ({"code": "x", "message": "HTTP 429"}, 500, F.SERVER),  # a status of its own says more
        ({"code": "batch_expired", "message": "HTTP 429"}, None, F.EXPIRED),
    ],
)
def test_a_status_that_stands_in_words_only_decides_the_class(error: object, status: object, failure: F) -> None:
    response = {"status_code": status, "body": None}
    assert _why(_read(_line(None, response=response, error=error)))[0] is failure


def test_a_key_that_a_message_quotes_is_not_kept() -> None:
    message = "Incorrect API key provided: sk-proj-ab12*****wxyz. You can find your API key at ..."
    failure = _read(_error(401, {"message": message, "code": "invalid_api_key"})).failure
    assert failure is not None
    assert failure.message == "Incorrect API key provided: sk-... You can find your API key at ..."


def test_a_code_is_kept_but_not_all_of_it() -> None:
    failure = _read(_error(500, {"message": "m", "code": "c" * 10_000})).failure
    assert failure is not None
    assert failure.code == "c" * CODE_LENGTH
    result = _read(_line(_chat(model="m" * 10_000, finish="f" * 10_000)))
    assert (result.model, result.finish_reason) == ("m" * CODE_LENGTH, "f" * CODE_LENGTH)


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


@pytest.mark.parametrize("created", [0, 1, LATEST_TIME])
def test_times_are_read_to_their_bounds(created: float) -> None:
    assert _read(_line(_chat(created=created))).completed_at == created


@pytest.mark.parametrize("status", [-LARGEST_INT, LARGEST_INT])
def test_a_status_is_read_to_its_bounds(status: int) -> None:
    assert _read(_line(None, status)).status == status
    assert _read(_line(None, status + (1 if status > 0 else -1))).status is None


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
        assert "\0" not in text


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
