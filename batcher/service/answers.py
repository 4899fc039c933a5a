"""The bodies of answers as our values. Any field may be missing, of another type, or beyond bounds.

What `read_answer` returns can be stored: no text has half of a surrogate pair, a NUL or our key in it, no number is
beyond a column, nothing is nested without end. An id is enough for a file or a batch; anything else that is odd counts
as missing. What models answer is passed on as bytes, to `core/result_line.py`.
"""

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from batcher.core.endpoints.values import Json
from batcher.core.failures import ErrorDetails
from batcher.core.remote import RemoteBatch, RemoteFile
from batcher.service.masking import hide_secrets, mask_secrets
from batcher.service.profiles import ServiceProfile, load_profile
from batcher.service.service import CallUnknown

MESSAGE_LENGTH = 500
"""Longest message of the service that is kept, in characters."""
NAME_LENGTH = 512
"""Longest id, code, status or piece of metadata that is kept, in characters (OpenAI, metadata: 512)."""
DEEPEST = 20
"""Levels of an answer that are read. The deepest that the API sends is the sixth: usage in a listing of batches."""
LARGEST_NUMBER = 2**53
"""Largest number that is believed, tokens of a batch included; a larger one is cut to it. Floats hold it exactly."""
LARGEST_COUNT = 2**31 - 1
"""Largest number of lines of a batch that is believed; a larger one is cut to it."""
EARLIEST_TIME, LATEST_TIME = 946_684_800.0, 4_102_444_800.0
"""The years 2000 to 2100 in epoch seconds. A time outside of them is none."""

_DIGITS_KEPT = 17
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
"""Texts and brackets. Within a text only escapes repeat the group: each repetition takes a hundred bytes."""


def unreadable_answer_error(what: str) -> CallUnknown:
    """Return the error for an answer (named by `what`) that does not have the API's shape."""
    return CallUnknown(ErrorDetails(message=f"the {what} is not what the API sends; is something in between?"))


def make_storable(value: object, secrets: Collection[str] = (), depth: int = 0) -> object:
    """Return a parsed JSON value as one that the state can hold.

    Half of a surrogate pair and NUL become U+FFFD, a secret "...", a number is cut to LARGEST_NUMBER, what is no number
    (NaN, infinity) or nested deeper than DEEPEST becomes None.
    """
    if isinstance(value, str):
        return _clean_text(value, secrets)
    if isinstance(value, int | float) and not isinstance(value, bool):
        is_number = isinstance(value, int) or math.isfinite(value)
        return max(-LARGEST_NUMBER, min(value, LARGEST_NUMBER)) if is_number else None
    if isinstance(value, list) and depth < DEEPEST:
        return [make_storable(each, secrets, depth + 1) for each in value]
    if isinstance(value, dict) and depth < DEEPEST:
        return {_clean_text(name, secrets): make_storable(each, secrets, depth + 1) for name, each in value.items()}
    return value if isinstance(value, bool) else None


def _clean_text(text: str, secrets: Collection[str]) -> str:
    return _UNSTORABLE.sub("\ufffd", hide_secrets(text, secrets))


def read_answer(body: bytes, what: str, secrets: Collection[str] = ()) -> object:
    """Return the JSON value of a body, storable. Raises CallUnknown, which names `what`, for one that is no JSON."""
    return make_storable(read_json(body, what), secrets)


def read_object(body: bytes, what: str, secrets: Collection[str] = ()) -> Json:
    """Return the JSON object of a body, storable. Raises CallUnknown for anything else."""
    answer = read_answer(body, what, secrets)
    if not isinstance(answer, dict):
        raise unreadable_answer_error(what)
    return answer


def read_json(body: bytes, what: str) -> object:
    """Return the JSON value of a body as it came, but for bytes that are no UTF-8 and numbers of very many digits.

    Raises CallUnknown for one that is no JSON.
    """
    text = body.decode("utf-8-sig", "replace")
    try:
        try:
            return _parse_json(text)
        except RecursionError:
            return _parse_json(_cut_depth(text))
    except ValueError as error:
        raise unreadable_answer_error(what) from error


def _parse_json(text: str) -> object:
    return json.loads(text, parse_int=_parse_int, parse_constant=lambda _name: None)


def _parse_int(digits: str) -> int:
    # Python refuses to read a number of more than 4,300 digits; one of more than 17 is over every bound anyway.
    return int(
        digits if len(digits) <= _DIGITS_KEPT else f"{'-' if digits.startswith('-') else ''}1{'0' * _DIGITS_KEPT}"
    )


def _cut_depth(text: str) -> str:
    """Return JSON text whose lists and objects deeper than DEEPEST are null: the parser fails on a thousand levels."""
    kept: list[str] = []
    depth, kept_to = 0, 0
    for token in _TOKENS.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == DEEPEST + 1:
                kept.append(text[kept_to : token.start()])
        elif token[0] in "]}":
            if depth == DEEPEST + 1:
                kept += ["null"]
                kept_to = token.end()
            depth -= 1
    return "".join(kept) + (text[kept_to:] if depth <= DEEPEST else "")


def parse_remote_file(answer: object, server_time: float) -> RemoteFile:
    """Return a description of a file as ours. Raises CallUnknown without an id.

    server_time: used where it does not say when it was created.
    """
    file = _as_object(answer)
    created_at = parse_time(file.get("created_at")) or server_time
    return RemoteFile(_require_id(file, "file"), _read_text(file, "filename"), created_at)


def parse_remote_batch(answer: object, server_time: float, profile: ServiceProfile | None = None) -> RemoteBatch:
    """Return a description of a batch as ours. Raises CallUnknown without an id.

    server_time: used where it does not say when it was created. profile: of the service; None: OpenAI's.
    """
    profile = profile or load_profile()
    batch = _as_object(answer)
    status = _read_text(batch, "status").lower()
    counts = _as_object(batch.get("request_counts"))
    ends = (parse_time(batch.get(f"{status}_at")) for status in ("completed", "failed", "expired", "cancelled"))
    return RemoteBatch(
        batch_id=_require_id(batch, "batch"),
        status=profile.read_status(status),  # compatible services write COMPLETED
        created_at=parse_time(batch.get("created_at")) or server_time,
        input_file_id=_read_id(batch, "input_file_id"),
        output_file_id=_read_id(batch, "output_file_id") or None,
        error_file_id=_read_id(batch, "error_file_id") or None,
        expires_at=parse_time(batch.get("expires_at")),
        finished_at=next((end for end in ends if end is not None), None),
        total=_read_count(counts, "total", LARGEST_COUNT),
        completed=_read_count(counts, "completed", LARGEST_COUNT),
        failed=_read_count(counts, "failed", LARGEST_COUNT),
        usage=_parse_batch_usage(batch.get("usage")),
        errors=tuple(profile.translate_error(error) for error in _parse_batch_errors(batch.get("errors"))),
        metadata={
            name[:NAME_LENGTH]: str(value)[:NAME_LENGTH]
            for name, value in _as_object(batch.get("metadata")).items()
            if value is not None
        },
    )


def parse_time(value: object) -> float | None:
    """Return a time in epoch seconds; None where there is none that makes sense.

    It may be written as a number, as the digits of one, or as ISO 8601 (UTC where no zone is named).
    """
    if isinstance(value, str):
        try:
            if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", value):
                value = float(value)
            else:
                time = datetime.fromisoformat(value)
                value = (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if EARLIEST_TIME <= value <= LATEST_TIME else None


def _parse_batch_usage(answer: object) -> tuple[int, int, int] | None:
    """Return the input tokens, those of them that were cached, and the output tokens of a batch."""
    usage = _as_object(answer)
    if not usage:
        return None
    cached = _read_count(_as_object(usage.get("input_tokens_details")), "cached_tokens")
    return _read_count(usage, "input_tokens"), cached, _read_count(usage, "output_tokens")


def _parse_batch_errors(answer: object) -> Iterator[ErrorDetails]:
    """Yield the errors of a batch: a list, a list within an object, an error alone, or a text."""
    errors = answer
    if isinstance(answer, Mapping):
        is_error = "message" in answer or "code" in answer
        errors = answer.get("data", [answer] if is_error else None)
    for error in errors if isinstance(errors, Sequence) and not isinstance(errors, str) else [errors]:
        if isinstance(error, str) and error:
            yield ErrorDetails(message=_shorten_message(error))
        elif isinstance(error, Mapping):
            line = _read_count(error, "line", LARGEST_COUNT) or None
            message = _shorten_message(str(error.get("message") or ""))
            yield ErrorDetails(code=_read_text(error, "code"), message=message, line=line)


def _shorten_message(text: str) -> str:
    return mask_secrets(text, ())[:MESSAGE_LENGTH]


def _as_object(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _require_id(owner: Json, what: str) -> str:
    """Return the id of an object. Raises CallUnknown for one that has none."""
    found = _read_id(owner, "id")
    if not found:
        raise unreadable_answer_error(f"description of a {what}")
    return found


def _read_id(owner: Json, name: str) -> str:
    """Return an id; empty where there is none, or one that no address can name."""
    value = owner.get(name)
    return value if isinstance(value, str) and is_usable_id(value) else ""


def is_usable_id(text: str) -> bool:
    """Return whether a text can be the id of an object: it is not empty, and an address can hold it unchanged."""
    return 0 < len(text) <= NAME_LENGTH and text.isprintable() and "\ufffd" not in text and text not in {".", ".."}


def _read_text(owner: Json, name: str) -> str:
    value = owner.get(name)
    return value[:NAME_LENGTH] if isinstance(value, str) else ""


def _read_count(owner: Json, name: str, most: int = LARGEST_NUMBER) -> int:
    value = owner.get(name)
    return min(value, most) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
