"""Result lines without a usable answer: the class, the code and the words of each."""

from typing import Any

import pytest

from batcher.core.endpoints.values import CODE_LENGTH, MESSAGE_LENGTH, check_answer_text
from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, LineResult, TokenUsage
from tests.support.result_lines import (
    CHAT,
    PROMPTED,
    RESPONSES,
    chat_body,
    error_line,
    failure_of,
    line_of,
    read_line,
    response_body,
)

F = FailureClass


def _unanswered(code: str) -> bytes:
    return line_of(None, response=None, error={"code": code, "message": "m"})


def _refused() -> dict[str, Any]:
    body = chat_body(None)
    body["choices"][0]["message"]["refusal"] = "I cannot help with that."
    return body


def _incomplete(reason: str) -> dict[str, Any]:
    return response_body(status="incomplete", incomplete_details={"reason": reason})


def _failed(code: str) -> dict[str, Any]:
    return response_body(output=[], status="failed", error={"code": code, "message": "m"})


UNUSABLE: list[tuple[Endpoint, object, FailureClass, str]] = [
    (CHAT, _refused(), F.UNUSABLE, "refusal"),
    (CHAT, chat_body("half of a", "length"), F.UNUSABLE, "length"),
    (CHAT, chat_body("", "length"), F.UNUSABLE, "length"),
    (CHAT, chat_body("", "content_filter"), F.INVALID, "content_filter"),
    (CHAT, chat_body("some", "content_filter"), F.INVALID, "content_filter"),
    (CHAT, chat_body(""), F.UNUSABLE, "empty"),
    (CHAT, chat_body(" \n\t"), F.UNUSABLE, "empty"),
    (CHAT, chat_body(None), F.UNUSABLE, "empty"),
    (CHAT, chat_body(None, "tool_calls"), F.UNUSABLE, "empty"),
    (CHAT, chat_body([{"type": "thinking", "text": "x"}]), F.UNUSABLE, "empty"),
    (CHAT, chat_body(choices=[]), F.UNUSABLE, "empty"),
    (CHAT, chat_body(choices=None), F.UNUSABLE, "empty"),
    (CHAT, chat_body(choices={"0": {}}), F.UNUSABLE, "empty"),
    (CHAT, chat_body(choices=["x"]), F.UNUSABLE, "empty"),
    (CHAT, chat_body(choices=[{"message": "x"}]), F.UNUSABLE, "empty"),
    (CHAT, {"unknown": 1}, F.UNUSABLE, "empty"),
    (CHAT, response_body(), F.UNUSABLE, "empty"),
    (CHAT, {}, F.UNUSABLE, "empty_body"),
    (CHAT, None, F.UNUSABLE, "empty_body"),
    (CHAT, "", F.UNUSABLE, "empty_body"),
    (CHAT, "a bio", F.UNUSABLE, "empty_body"),
    (CHAT, [], F.UNUSABLE, "empty_body"),
    (RESPONSES, response_body({"type": "refusal", "refusal": "No."}), F.UNUSABLE, "refusal"),
    (RESPONSES, _incomplete("max_output_tokens"), F.UNUSABLE, "length"),
    (RESPONSES, _incomplete("content_filter"), F.INVALID, "content_filter"),
    (RESPONSES, response_body({"type": "output_text", "text": ""}), F.UNUSABLE, "empty"),
    (RESPONSES, response_body({"type": "output_text"}), F.UNUSABLE, "empty"),
    (RESPONSES, response_body("x", 7, None), F.UNUSABLE, "empty"),
    (RESPONSES, response_body(output=[]), F.UNUSABLE, "empty"),
    (RESPONSES, response_body(output=None), F.UNUSABLE, "empty"),
    (RESPONSES, response_body(output=["x", {"type": "message", "content": "x"}]), F.UNUSABLE, "empty"),
    (RESPONSES, chat_body(), F.UNUSABLE, "empty"),
    (RESPONSES, _failed("server_error"), F.SERVER, "server_error"),
    (RESPONSES, _failed("rate_limit_exceeded"), F.RATE_LIMIT, "rate_limit_exceeded"),
    (RESPONSES, {}, F.UNUSABLE, "empty_body"),
]  # fmt: skip


@pytest.mark.parametrize(("endpoint", "body", "failure", "code"), UNUSABLE)
def test_an_answer_that_cannot_be_used_says_why(endpoint: Endpoint, body: object, failure: F, code: str) -> None:
    result = read_line(line_of(body), endpoint)
    assert failure_of(result) == (failure, code)
    assert (result.custom_id, result.status) == ("a1", 200)


@pytest.mark.parametrize("endpoint", PROMPTED)
def test_what_was_paid_is_known_though_the_answer_cannot_be_used(endpoint: Endpoint) -> None:
    cut_off = {
        CHAT: chat_body("half", "length"),
        RESPONSES: _incomplete("max_output_tokens"),
    }
    assert read_line(line_of(cut_off[endpoint]), endpoint).usage == TokenUsage(24, 16, 7)


def test_an_error_of_nothing_is_none() -> None:
    nothings: list[object] = [None, {}, {"code": None, "message": None}, "x", []]
    for error in nothings:
        assert read_line(line_of(response_body(error=error)), RESPONSES).text == "A bio."


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
    (error_line(429, QUOTA), F.QUOTA, "insufficient_quota", 429),
    (error_line(429, {"message": "slow down", "type": "requests", "code": None}), F.RATE_LIMIT, "requests", 429),
    (error_line(400, {"message": "m", "code": "context_length_exceeded"}), F.INVALID, "context_length_exceeded", 400),
    (error_line(500, {"message": "An error occurred"}), F.SERVER, "http_500", 500),
    (error_line(404, None), F.SETUP, "http_404", 404),
    (error_line(503, "overloaded"), F.SERVER, "http_503", 503),
    (error_line(400, {"message": 7, "type": [], "code": 5}), F.INVALID, "http_400", 400),
    (line_of(None, 0), F.SERVER, "http_0", 0),
    (line_of(None, response=None), F.SERVER, "no_response", None),
    (line_of(None, response="x"), F.SERVER, "no_response", None),
    (line_of(None, response=None, error="vllm failed"), F.SERVER, "no_response", None),
    (_unanswered("batch_expired"), F.EXPIRED, "batch_expired", None),
    (_unanswered("batch_cancelled"), F.CANCELLED, "batch_cancelled", None),
    (_unanswered("request_timeout"), F.SERVER, "request_timeout", None),
    (_unanswered("never_heard_of"), F.SERVER, "never_heard_of", None),
    (b'{"custom_id":"a1"}', F.SERVER, "no_response", None),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "failure", "code", "status"), ERRORS)
@pytest.mark.parametrize("endpoint", Endpoint)
def test_an_error_line_has_its_class(raw: bytes, failure: F, code: str, status: int | None, endpoint: Endpoint) -> None:
    result = read_line(raw, endpoint)
    assert failure_of(result) == (failure, code)
    assert (result.custom_id, result.status, result.usage) == ("a1", status, TokenUsage())


@pytest.mark.parametrize("status", [0, None, "200", True, 200.0, 2**40])
def test_a_whole_answer_is_taken_though_its_status_is_none(status: object) -> None:
    """It was paid for, and nothing in it speaks of an error."""
    assert read_line(line_of(chat_body(), status)).text == "A bio."
    error = {"message": "m", "code": "server_error"}
    assert failure_of(read_line(line_of(chat_body() | {"error": error}, status))) == (F.SERVER, "server_error")


@pytest.mark.parametrize("status", [400, 500, 503])
def test_an_answer_beside_a_status_that_refuses_is_none(status: int) -> None:
    assert failure_of(read_line(line_of(chat_body(), status)))[1] == f"http_{status}"


@pytest.mark.parametrize("status", [0, None])
def test_a_whole_response_is_taken_too_unless_the_line_has_an_error(status: object) -> None:
    assert read_line(line_of(response_body(), status), RESPONSES).text == "A bio."
    error = {"message": "m", "code": "server_error"}
    assert failure_of(read_line(line_of(response_body(), status, error=error), RESPONSES)) == (F.SERVER, "server_error")


@pytest.mark.parametrize("error", [{"code": "server_error"}, {"message": "m"}])
def test_a_response_that_failed_says_so_by_a_code_or_by_a_message(error: object) -> None:
    assert failure_of(read_line(line_of(response_body(error=error)), RESPONSES))[0] is F.SERVER


def _reason(result: LineResult) -> str:
    assert result.failure is not None
    return result.failure.message


def test_what_is_wrong_with_an_answer_is_told_in_words() -> None:
    """They stand in the file of failed lines."""
    told = {
        "the line is not a JSON object": b"[]",
        "the line has no custom_id": b"{}",
        "the answer has no body": line_of(None),
        "the answer was cut off at max_output_tokens": line_of(chat_body("half", "length")),
        "the answer was withheld by the content filter": line_of(chat_body("", "content_filter")),
        "the answer is empty": line_of(chat_body("")),
    }
    assert {text: _reason(read_line(raw)) for text, raw in told.items()} == {text: text for text in told}
    refusals = ({"type": "refusal", "refusal": "No. "}, {"type": "refusal", "refusal": "Never."})
    assert _reason(read_line(line_of(response_body(*refusals)), RESPONSES)) == "No. Never."


def test_a_message_is_kept_but_not_all_of_it() -> None:
    failure = read_line(error_line(500, {"message": "m" * 10_000})).failure
    assert failure is not None
    assert failure.message == "m" * MESSAGE_LENGTH
    refused = _refused()
    refused["choices"][0]["message"]["refusal"] = "r" * 10_000
    failure = read_line(line_of(refused)).failure
    assert failure is not None
    assert failure.message == "r" * MESSAGE_LENGTH


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
    assert failure_of(read_line(line_of(None, response=response, error=error)))[0] is failure


def test_a_key_that_a_message_quotes_is_not_kept() -> None:
    message = "Incorrect API key provided: sk-proj-ab12*****wxyz. You can find your API key at ..."
    failure = read_line(error_line(401, {"message": message, "code": "invalid_api_key"})).failure
    assert failure is not None
    assert failure.message == "Incorrect API key provided: sk-... You can find your API key at ..."


def test_a_code_is_kept_but_not_all_of_it() -> None:
    failure = read_line(error_line(500, {"message": "m", "code": "c" * 10_000})).failure
    assert failure is not None
    assert failure.code == "c" * CODE_LENGTH
    result = read_line(line_of(chat_body(model="m" * 10_000, finish="f" * 10_000)))
    assert (result.model, result.finish_reason) == ("m" * CODE_LENGTH, "f" * CODE_LENGTH)
