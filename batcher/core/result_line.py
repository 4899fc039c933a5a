"""Reading a line of a result file, as a pure function of its bytes: tolerant of shape, strict in types, never fatal.

Lines are split at b"\\n" only, because U+2028, U+2029 and U+0085 may occur inside strings.
"""

import json
import re

import orjson

from batcher.core.endpoints.table import FORMS
from batcher.core.endpoints.values import NO_JSON, Json, as_int, as_object, get_text, parse_failure
from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, Failure, LineResult

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a surrogate pair
    r"|u(?P<odd>[dD][89a-fA-F][0-9a-fA-F]{2}|0000)|.)",
    re.DOTALL,
)


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
    response = as_object(data.get("response"))
    status = as_int(response.get("status_code"))
    reply = _parse_body(response)
    if status != 200 and not _has_paid_answer(status, data, reply):
        return LineResult(line_id, failure=parse_failure(status, data, reply), status=status)
    if not reply:
        failure = Failure(FailureClass.UNUSABLE, "empty_body", "the answer has no body")
        return LineResult(line_id, failure=failure, status=status)
    return parse_response_body(line_id, reply, endpoint)


def _parse_body(response: Json) -> Json:
    """Return the body of an answer. Some services send it as JSON text in a string."""
    body = response.get("body")
    return (parse_json_object(body.encode()) or NO_JSON) if isinstance(body, str) else as_object(body)


def _has_paid_answer(status: int | None, data: Json, reply: Json) -> bool:
    """Return whether a line with status 0, or with none, carries an answer without an error: it was paid for."""
    if status not in {0, None} or as_object(data.get("error")) or as_object(reply.get("error")):
        return False
    return any(reply.get(key) for key in ("choices", "output", "data", "results"))


def parse_response_body(line_id: str, reply: Json, endpoint: Endpoint) -> LineResult:
    """Return the result in the body of an answer with status 200, from either lane."""
    return FORMS[endpoint].parse_body(line_id, reply)


def parse_line_text(raw: bytes, endpoint: Endpoint) -> tuple[str, str]:
    """Return the custom_id of a line of a result file, and all text of its answer; "" for what it lacks.

    The text is what the model has written, whether or not it can be used: cut off, or a refusal. Of an answer in
    numbers it is their JSON. Raises nothing.
    """
    data = parse_json_object(raw) or NO_JSON
    return get_text(data, "custom_id"), parse_body_text(_parse_body(as_object(data.get("response"))), endpoint)


def parse_body_text(reply: Json, endpoint: Endpoint) -> str:
    """Return all text in the body of an answer, as `parse_line_text` does."""
    return FORMS[endpoint].read_text(reply)
