"""Translating the client's answers and errors into our values, in one place."""

import json
import math
import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from batcher.core.failures import ErrorDetails
from batcher.core.remote import RemoteBatch, RemoteFile
from batcher.core.retry import parse_retry_after
from batcher.service.service import CallError, CallRefused, CallUnknown, CallUnsent

MESSAGE_LENGTH = 500
"""Characters of a service's message that are kept."""

LARGEST_COUNT, LARGEST_USAGE = 2**31 - 1, 2**53
"""Lines and tokens of a batch beyond these are nonsense, and are taken at the bound."""

T = TypeVar("T")


def call_translating_errors(call: Callable[[], T], secret: str = "") -> T:
    """Runs a call; the client's errors become ours, and `secret` stays out of them."""
    import httpx2  # noqa: PLC0415 - with openai, two thirds of a second of start-up that most commands do not need
    import openai  # noqa: PLC0415

    try:
        return call()
    except openai.APIStatusError as error:
        raise _convert_status_error(error, secret) from error
    except openai.APIConnectionError as error:
        cause = error.__cause__ or error
        text = _redact_secrets(f"{error.message} ({type(cause).__name__}: {cause})", secret)
        unsent = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
        raise (CallUnsent if unsent else CallUnknown)(ErrorDetails(message=text)) from error
    except httpx2.HTTPError as error:  # while a body is streamed, the client does not wrap them
        text = _redact_secrets(f"{type(error).__name__}: {error}", secret)
        raise CallUnknown(ErrorDetails(message=text)) from error
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        # The client's own, over a 200 that is not what the API sends: a proxy's page, a body cut off.
        raise unreadable_answer("answer") from error


def unreadable_answer(what: str) -> CallUnknown:
    return CallUnknown(ErrorDetails(message=f"the {what} is not what the API sends; is something in between?"))


def _convert_status_error(error: Any, secret: str = "") -> CallError:
    body = error.body if isinstance(error.body, dict) else {}
    text = _redact_secrets(_format_error_message(error), secret)
    trouble = ErrorDetails(error.status_code, str(error.code or ""), str(error.type or ""), text)
    headers = lowercase_keys(error.response.headers)
    # A date without the server's own time says nothing, and 0 asks for nothing: None, and our own delays apply.
    wait = parse_retry_after(headers, parse_server_date(headers) or math.inf) or None
    unknown = error.status_code >= 500 or error.status_code == 408
    # A 404 that is not in the API's shape comes from something in between: nothing is known of batch or file.
    unknown = unknown or (error.status_code == 404 and not body.get("message"))
    return (CallUnknown if unknown else CallRefused)(trouble, wait, headers)


def lowercase_keys(headers: Any) -> dict[str, str]:
    return {key.lower(): value for key, value in headers.items()}


def _format_error_message(error: Any) -> str:
    """What the service says in the API's shape, or whatever stands there instead of it, on one line."""
    body = error.body
    if isinstance(body, dict) and body.get("message"):
        return str(body["message"])
    told = " ".join(str(body or "").split())
    return f"{error.message}: {told}" if told else str(error.message)


def _redact_secrets(text: str, secret: str) -> str:
    """The refusal of a wrong key quotes it in part, an illegal header whole; neither gets into a message."""
    hidden = text.replace(secret, "...") if secret else text
    shown = re.sub(r"\bsk-[\w*.-]+|(?<=Bearer )[^\s'\"]+", "sk-...", hidden)[:MESSAGE_LENGTH]
    return shown.encode("utf-8", "replace").decode()  # a lone surrogate is no text that the state could keep


def parse_server_date(headers: Mapping[str, str]) -> float:
    """The server's time in an answer; 0 where it sends none."""
    text = headers.get("date", "")
    try:
        return parsedate_to_datetime(text).timestamp() if text else 0.0
    except (ValueError, TypeError):
        return 0.0


def parse_remote_file(file: Any) -> RemoteFile:
    if not _as_text(getattr(file, "id", None)):
        raise unreadable_answer("description of a file")
    return RemoteFile(file.id, _as_text(file.filename), _as_seconds(file.created_at) or 0.0)


def parse_remote_batch(batch: Any) -> RemoteBatch:
    created_at = _as_seconds(getattr(batch, "created_at", None))
    if not _as_text(getattr(batch, "id", None)) or created_at is None:
        raise unreadable_answer("description of a batch")
    counts, usage, metadata = batch.request_counts, batch.usage, batch.metadata
    finished = batch.completed_at or batch.failed_at or batch.expired_at or batch.cancelled_at
    return RemoteBatch(
        batch_id=batch.id,
        status=_as_text(batch.status).lower(),  # compatible services write COMPLETED
        created_at=created_at,
        input_file_id=_as_text(batch.input_file_id),
        output_file_id=_as_text(batch.output_file_id) or None,
        error_file_id=_as_text(batch.error_file_id) or None,
        expires_at=_as_seconds(batch.expires_at),
        finished_at=_as_seconds(finished),
        total=_get_count(counts, "total"),
        completed=_get_count(counts, "completed"),
        failed=_get_count(counts, "failed"),
        usage=_parse_batch_usage(usage) if usage else None,
        errors=tuple(_parse_error_details(each) for each in getattr(batch.errors, "data", None) or ()),
        metadata={str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, Mapping) else {},
    )


def _parse_batch_usage(usage: Any) -> tuple[int, int, int]:
    cached = _get_count(getattr(usage, "input_tokens_details", None), "cached_tokens", LARGEST_USAGE)
    return _get_count(usage, "input_tokens", LARGEST_USAGE), cached, _get_count(usage, "output_tokens", LARGEST_USAGE)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _get_count(owner: object, name: str, most: int = LARGEST_COUNT) -> int:
    value = getattr(owner, name, None)
    return min(value, most) if isinstance(value, int) and value > 0 else 0


def _as_seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value else None


def _parse_error_details(error: Any) -> ErrorDetails:
    line = getattr(error, "line", None)
    code, message = _as_text(getattr(error, "code", None)), _as_text(getattr(error, "message", None))
    return ErrorDetails(None, code, "", message, line if isinstance(line, int) else None)
