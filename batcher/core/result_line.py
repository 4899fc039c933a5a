"""Reading a line of a result file, as a pure function of its bytes: tolerant of shape, strict in types, never fatal.

Lines are split at b"\\n" only, because U+2028, U+2029 and U+0085 may occur inside strings.
"""

import json
import re
from collections.abc import Mapping
from typing import cast

import orjson

from batcher.core.failures import ErrorDetails, FailureClass, classify_line_error
from batcher.core.model import Endpoint, Failure, LineResult, TokenUsage

MESSAGE_LENGTH = 500
"""The most characters of a service's message that are kept with a failed line."""

LARGEST_INT = 2**31 - 1
"""The largest status or token count of a line that makes sense; the columns of the state hold no larger one."""
LATEST_TIME = 1e11
"""The latest time that makes sense, in seconds since the epoch: in the year 5138."""
CODE_LENGTH = 200
"""The most characters of a code, a model's name or a finish reason that are kept."""
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a surrogate pair
    r"|u(?P<odd>[dD][89a-fA-F][0-9a-fA-F]{2}|0000)|.)",
    re.DOTALL,
)
_STATUS_IN_WORDS = re.compile(r"\b(?:status(?:[ _]code)?[=:] ?|code: ?|HTTP )([45]\d\d)\b", re.IGNORECASE)
"""A status as services write it that give none in a field: "status=429", "Error code: 400", "HTTP 503"."""

_KEY_SHAPE = re.compile(r"\bsk-[\w*.-]+")
"""What looks like a key of OpenAI's: the refusal of a wrong one quotes a part of it."""

Json = Mapping[str, object]
NO_JSON: Json = {}


def parse_result_line(raw: bytes, endpoint: Endpoint) -> LineResult | None:
    """Return the result that a line carries; None for an empty line. Raises nothing.

    The result of a line that is not a JSON object, or has no custom_id, has `custom_id=""` and an UNUSABLE failure.
    """
    if not raw or raw.isspace():
        return None
    data = parse_json_object(raw)
    if data is None:
        return LineResult("", failure=Failure(FailureClass.UNUSABLE, "malformed_line", "the line is not a JSON object"))
    line_id = data.get("custom_id")
    if not isinstance(line_id, str) or not line_id:
        return LineResult("", failure=Failure(FailureClass.UNUSABLE, "no_custom_id", "the line has no custom_id"))
    return _parse_response(line_id, data, endpoint)


def parse_json_object(raw: bytes) -> Json | None:
    """Return a JSON object; None for anything else. Raises nothing.

    Text that orjson refuses (a lone surrogate, bytes that are not UTF-8) is read by the standard library, and so is one
    with a NUL: the texts of the object hold none.
    """
    try:
        data = _parse_json_leniently(raw) if b"\\u0000" in raw else orjson.loads(raw)
    except orjson.JSONDecodeError:
        data = _parse_json_leniently(raw)
    return data if isinstance(data, dict) else None


def _parse_json_leniently(raw: bytes) -> object:
    # Bytes that are not UTF-8 become U+FFFD, as lenient decoders do; a byte order mark is dropped.
    try:
        return json.loads(replace_odd_escapes(raw.decode("utf-8-sig", "replace")))
    except (ValueError, RecursionError):
        return None


def replace_odd_escapes(text: str) -> str:
    """Return a JSON text in which U+FFFD stands for each escape of half a surrogate pair, and of a NUL.

    A model writes half a pair where it cuts an emoji; neither can be stored as text.
    """
    return _ESCAPE.sub(lambda found: r"\ufffd" if found["odd"] else found[0], text) if "\\u" in text else text


def _parse_response(line_id: str, data: Json, endpoint: Endpoint) -> LineResult:
    response = _as_object(data.get("response"))
    status = _as_int(response.get("status_code"))
    reply = _parse_body(response)
    if status != 200 and not _has_paid_answer(status, data, reply):
        return LineResult(line_id, failure=_parse_failure(status, data, reply), status=status)
    if not reply:
        failure = Failure(FailureClass.UNUSABLE, "empty_body", "the answer has no body")
        return LineResult(line_id, failure=failure, status=status)
    return parse_response_body(line_id, reply, endpoint)


def _parse_body(response: Json) -> Json:
    """Return the body of an answer. Some services send it as JSON text in a string."""
    body = response.get("body")
    return (parse_json_object(body.encode()) or NO_JSON) if isinstance(body, str) else _as_object(body)


def _has_paid_answer(status: int | None, data: Json, reply: Json) -> bool:
    """Return whether a line with status 0, or with none, carries an answer without an error: it was paid for."""
    if status not in {0, None} or _as_object(data.get("error")) or _as_object(reply.get("error")):
        return False
    return bool(reply.get("choices") or reply.get("output"))


def _parse_failure(status: int | None, data: Json, reply: Json) -> Failure:
    given = data.get("error")
    error = {"message": given} if isinstance(given, str) else _as_object(given) or _as_object(reply.get("error"))
    details = ErrorDetails(status, _get_text(error, "code"), _get_text(error, "type"), _get_text(error, "message"))
    code = details.code or details.kind or (f"http_{status}" if status is not None else "no_response")
    words = None if status else _STATUS_IN_WORDS.search(details.message)
    failure = classify_line_error(details._replace(status=int(words[1])) if words else details)
    message = _KEY_SHAPE.sub("sk-...", details.message)
    return Failure(failure, code[:CODE_LENGTH], message[:MESSAGE_LENGTH])


def parse_response_body(line_id: str, reply: Json, endpoint: Endpoint) -> LineResult:
    """Return the result in the body of an answer with status 200, from either lane."""
    return _parse_chat_body(line_id, reply) if endpoint is Endpoint.CHAT else _parse_responses_body(line_id, reply)


def parse_line_text(raw: bytes, endpoint: Endpoint) -> tuple[str, str]:
    """Return the custom_id of a line of a result file, and all text of its answer; "" for what it lacks.

    The text is what the model has written, whether or not it can be used: cut off, or a refusal. Raises nothing.
    """
    data = parse_json_object(raw) or NO_JSON
    return _get_text(data, "custom_id"), parse_body_text(_parse_body(_as_object(data.get("response"))), endpoint)


def parse_body_text(reply: Json, endpoint: Endpoint) -> str:
    """Return all text in the body of an answer, as `parse_line_text` does."""
    if endpoint is Endpoint.CHAT:
        message = _as_object(_get_first_choice(reply).get("message"))
        return _join_message_text(message) or _get_text(message, "refusal")
    content, refusal = _join_output_text(reply)
    return content or refusal


def _get_first_choice(reply: Json) -> Json:
    choices = reply.get("choices")
    return _as_object(choices[0]) if isinstance(choices, list) and choices else NO_JSON


def _parse_chat_body(line_id: str, reply: Json) -> LineResult:
    choice = _get_first_choice(reply)
    message = _as_object(choice.get("message"))
    finish = _get_name(choice, "finish_reason")
    text, failure = check_answer_text(_join_message_text(message), finish, _get_text(message, "refusal"))
    usage = _parse_token_usage(reply, "prompt_tokens", "completion_tokens")
    return LineResult(
        line_id,
        text,
        failure,
        200,
        _get_name(reply, "model"),
        finish,
        usage,
        _as_time(reply.get("created")),
    )


def _join_message_text(message: Json) -> str:
    """Return the text of a chat message. Some services send it in parts, of which others hold what was thought."""
    content = message.get("content")
    if not isinstance(content, list):
        return _get_text(message, "content")
    parts = map(_as_object, content)
    return "".join(_get_text(part, "text") for part in parts if part.get("type") == "text")


def _parse_responses_body(line_id: str, reply: Json) -> LineResult:
    content, refusal = _join_output_text(reply)
    reason = _get_name(_as_object(reply.get("incomplete_details")), "reason")
    finish = {"max_output_tokens": "length", "": "stop"}.get(reason, reason)
    text, failure = check_answer_text(content, finish, refusal)
    if any(_get_text(_as_object(reply.get("error")), key) for key in ("code", "message")):
        # A response that failed has status 200 as well.
        text, failure = None, _parse_failure(None, reply, NO_JSON)
    usage = _parse_token_usage(reply, "input_tokens", "output_tokens")
    ended = _as_time(reply.get("completed_at") or reply.get("created_at"))
    return LineResult(line_id, text, failure, 200, _get_name(reply, "model"), finish, usage, ended)


def _join_output_text(reply: Json) -> tuple[str, str]:
    """Return the joined output_text parts and the joined refusals of a response's messages."""
    output = reply.get("output")
    messages = [_as_object(item) for item in output] if isinstance(output, list) else []
    contents = [message.get("content") for message in messages if message.get("type") == "message"]
    parts = [_as_object(part) for content in contents if isinstance(content, list) for part in content]
    texts = [_get_text(p, "text") for p in parts if p.get("type") == "output_text"]
    return "".join(texts), "".join(_get_text(p, "refusal") for p in parts if p.get("type") == "refusal")


def check_answer_text(content: str, finish_reason: str, refusal: str) -> tuple[str | None, Failure | None]:
    """Return the text of an answer, or why it cannot be used: refused, cut off, filtered, or empty."""
    if refusal:
        return None, Failure(FailureClass.UNUSABLE, "refusal", refusal[:MESSAGE_LENGTH])
    if finish_reason == "length":
        return None, Failure(FailureClass.UNUSABLE, "length", "the answer was cut off at max_output_tokens")
    if finish_reason == "content_filter":
        return None, Failure(FailureClass.INVALID, "content_filter", "the answer was withheld by the content filter")
    if not content or content.isspace():
        return None, Failure(FailureClass.UNUSABLE, "empty", "the answer is empty")
    return content, None


def _parse_token_usage(reply: Json, input_key: str, output_key: str) -> TokenUsage:
    usage = _as_object(reply.get("usage"))
    of_input = _as_object(usage.get(f"{input_key}_details"))
    return TokenUsage(
        _get_count(usage, input_key),
        _get_count(of_input, "cached_tokens"),
        _get_count(usage, output_key),
        _get_count(of_input, "cache_write_tokens"),
        _get_count(_as_object(usage.get(f"{output_key}_details")), "reasoning_tokens"),
    )


def _as_object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else NO_JSON


def _get_text(data: Json, key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _get_name(data: Json, key: str) -> str:
    return _get_text(data, key)[:CODE_LENGTH]


def _as_int(value: object) -> int | None:
    return value if type(value) is int and -LARGEST_INT <= value <= LARGEST_INT else None


def _get_count(data: Json, key: str) -> int:
    value = data.get(key)
    return value if type(value) is int and 0 <= value <= LARGEST_INT else 0


def _as_time(value: object) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= LATEST_TIME:
        return None
    return float(value)
