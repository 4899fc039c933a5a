"""Values of the JSON of an answer, read strictly by type, and what all endpoints have in common in their answers."""

import re
from collections.abc import Mapping
from typing import cast

from batcher.core.failures import ErrorDetails, FailureClass, classify_line_error
from batcher.core.model import Failure, TokenUsage

MESSAGE_LENGTH = 500
"""The most characters of a service's message that are kept with a failed line."""

LARGEST_INT = 2**31 - 1
"""The largest status or token count of a line that makes sense; the columns of the state hold no larger one."""
LATEST_TIME = 1e11
"""The latest time that makes sense, in seconds since the epoch: in the year 5138."""
CODE_LENGTH = 200
"""The most characters of a code, a model's name or a finish reason that are kept."""
_STATUS_IN_WORDS = re.compile(r"\b(?:status(?:[ _]code)?[=:] ?|code: ?|HTTP )([45]\d\d)\b", re.IGNORECASE)
"""A status as services write it that give none in a field: "status=429", "Error code: 400", "HTTP 503"."""

_KEY_SHAPE = re.compile(r"\bsk-[\w*.-]+")
"""What looks like a key of OpenAI's: the refusal of a wrong one quotes a part of it."""

Json = Mapping[str, object]
NO_JSON: Json = {}


def parse_failure(status: int | None, data: Json, reply: Json) -> Failure:
    """Return the failure of a line, of its error, or of the one in the body of its answer."""
    given = data.get("error")
    error = {"message": given} if isinstance(given, str) else as_object(given) or as_object(reply.get("error"))
    details = ErrorDetails(status, get_text(error, "code"), get_text(error, "type"), get_text(error, "message"))
    code = details.code or details.kind or (f"http_{status}" if status is not None else "no_response")
    words = None if status else _STATUS_IN_WORDS.search(details.message)
    failure = classify_line_error(details._replace(status=int(words[1])) if words else details)
    message = _KEY_SHAPE.sub("sk-...", details.message)
    return Failure(failure, code[:CODE_LENGTH], message[:MESSAGE_LENGTH])


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


def parse_token_usage(reply: Json, input_key: str, output_key: str) -> TokenUsage:
    """Return the tokens of an answer. The keys are those of its usage; what they lack counts as 0."""
    usage = as_object(reply.get("usage"))
    of_input = as_object(usage.get(f"{input_key}_details"))
    return TokenUsage(
        get_count(usage, input_key),
        get_count(of_input, "cached_tokens"),
        get_count(usage, output_key),
        get_count(of_input, "cache_write_tokens"),
        get_count(as_object(usage.get(f"{output_key}_details")), "reasoning_tokens"),
    )


def as_object(value: object) -> Json:
    """Return a JSON object; an empty one for anything else."""
    return cast("Json", value) if isinstance(value, dict) else NO_JSON


def get_text(data: Json, key: str) -> str:
    """Return the text under a key; "" for anything else."""
    value = data.get(key)
    return value if isinstance(value, str) else ""


def get_name(data: Json, key: str) -> str:
    """Return the text under a key, as much of it as is kept; "" for anything else."""
    return get_text(data, key)[:CODE_LENGTH]


def as_int(value: object) -> int | None:
    """Return an integer that makes sense; None for anything else."""
    return value if type(value) is int and -LARGEST_INT <= value <= LARGEST_INT else None


def get_count(data: Json, key: str) -> int:
    """Return the count under a key; 0 for anything else."""
    value = data.get(key)
    return value if type(value) is int and 0 <= value <= LARGEST_INT else 0


def as_time(value: object) -> float | None:
    """Return epoch seconds that make sense; None for anything else."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= LATEST_TIME:
        return None
    return float(value)
