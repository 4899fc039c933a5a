"""The client's answers and errors as our values: the one place where they are translated.

The client does not check answers against the official description: any field may be missing or of another type.
"""

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
"""Longest message of the service that is kept, in characters."""

LARGEST_COUNT = 2**31 - 1
"""Largest number of lines of a batch that is believed; a larger one is cut to it."""

LARGEST_USAGE = 2**53
"""Largest number of tokens of a batch that is believed; a larger one is cut to it."""

T = TypeVar("T")


def call_translating_errors(call: Callable[[], T], secret: str = "") -> T:
    """Return what the call returns; raise CallRefused, CallUnknown or CallUnsent for the client's errors.

    secret: the key, which is removed from every message.
    """
    import httpx2
    import openai

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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:  # a 200 whose body is not JSON, or cut off
        raise unreadable_answer_error("answer") from error


def read_listing(listing: Callable[[], T]) -> T:
    """Return what the client makes of a listing; raise CallUnknown for an answer that is no listing.

    Where a 200 holds no JSON object (a proxy's page, a bare list), the client itself fails: it attaches itself to each
    page so that the page can fetch the next one (AttributeError), and looks for the last of its `data` (KeyError where
    that is an object, TypeError where it is no collection). Only the client's code may run in here.
    """
    try:
        return listing()
    except (AttributeError, KeyError, TypeError) as error:
        raise unreadable_answer_error("answer") from error


def unreadable_answer_error(what: str) -> CallUnknown:
    """Return the error for an answer (named by `what`) that does not have the API's shape."""
    return CallUnknown(ErrorDetails(message=f"the {what} is not what the API sends; is something in between?"))


def _convert_status_error(error: Any, secret: str) -> CallError:
    body = error.body if isinstance(error.body, dict) else {}
    text = _redact_secrets(_format_error_message(error), secret)
    details = ErrorDetails(error.status_code, str(error.code or ""), str(error.type or ""), text)
    headers = lowercase_keys(error.response.headers)
    # A Retry-After date cannot be used without the server's own time, and one of 0 seconds asks for no wait. Both
    # become None, so that our own delays apply.
    wait = parse_retry_after(headers, parse_server_date(headers) or math.inf) or None
    unknown = error.status_code >= 500 or error.status_code == 408
    # A 404 without the API's error object comes from a proxy: it says nothing about the batch or file.
    unknown = unknown or (error.status_code == 404 and not body.get("message"))
    return (CallUnknown if unknown else CallRefused)(details, wait, headers)


def lowercase_keys(headers: Any) -> dict[str, str]:
    """Return headers as a dictionary with lower-case names."""
    return {key.lower(): value for key, value in headers.items()}


def _format_error_message(error: Any) -> str:
    """Return the message of the API's error object, or else the body of the answer, on one line."""
    body = error.body
    if isinstance(body, dict) and body.get("message"):
        return str(body["message"])
    text = " ".join(str(body or "").split())
    return f"{error.message}: {text}" if text else str(error.message)


def _redact_secrets(text: str, secret: str) -> str:
    """Return a message without the key, cut to MESSAGE_LENGTH.

    OpenAI's refusal of a wrong key quotes a part of it, and the error about an illegal header quotes all of it.
    """
    hidden = text.replace(secret, "...") if secret else text
    shown = re.sub(r"\bsk-[\w*.-]+|(?<=Bearer )[^\s'\"]+", "sk-...", hidden)[:MESSAGE_LENGTH]
    return shown.encode("utf-8", "replace").decode()  # the database cannot store a lone surrogate


def parse_server_date(headers: Mapping[str, str]) -> float:
    """Return the time of the Date header (names in lower case) in epoch seconds, 0 without a readable one."""
    text = headers.get("date", "")
    try:
        return parsedate_to_datetime(text).timestamp() if text else 0.0
    except (ValueError, TypeError):
        return 0.0


def parse_remote_file(file: object) -> RemoteFile:
    """Return the client's description of a file as ours. Raises CallUnknown without an id."""
    file_id = _read_text(file, "id")
    if not file_id:
        raise unreadable_answer_error("description of a file")
    return RemoteFile(file_id, _read_text(file, "filename"), _read_seconds(file, "created_at") or 0.0)


def parse_remote_batch(batch: object) -> RemoteBatch:
    """Return the client's description of a batch as ours. Raises CallUnknown without an id or a creation time."""
    batch_id, created_at = _read_text(batch, "id"), _read_seconds(batch, "created_at")
    if not batch_id or created_at is None:
        raise unreadable_answer_error("description of a batch")
    counts, metadata = getattr(batch, "request_counts", None), getattr(batch, "metadata", None)
    ends = (_read_seconds(batch, f"{status}_at") for status in ("completed", "failed", "expired", "cancelled"))
    errors = getattr(getattr(batch, "errors", None), "data", None)
    return RemoteBatch(
        batch_id=batch_id,
        status=_read_text(batch, "status").lower(),  # compatible services write COMPLETED
        created_at=created_at,
        input_file_id=_read_text(batch, "input_file_id"),
        output_file_id=_read_text(batch, "output_file_id") or None,
        error_file_id=_read_text(batch, "error_file_id") or None,
        expires_at=_read_seconds(batch, "expires_at"),
        finished_at=next((end for end in ends if end is not None), None),
        total=_read_count(counts, "total"),
        completed=_read_count(counts, "completed"),
        failed=_read_count(counts, "failed"),
        usage=_parse_batch_usage(getattr(batch, "usage", None)),
        errors=tuple(_parse_batch_error(each) for each in errors) if isinstance(errors, list) else (),
        metadata={str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, Mapping) else {},
    )


def _parse_batch_usage(usage: object) -> tuple[int, int, int] | None:
    """Return the input tokens, those of them that were cached, and the output tokens of a batch."""
    if not usage:
        return None
    cached = _read_count(getattr(usage, "input_tokens_details", None), "cached_tokens", LARGEST_USAGE)
    return _read_count(usage, "input_tokens", LARGEST_USAGE), cached, _read_count(usage, "output_tokens", LARGEST_USAGE)


def _parse_batch_error(error: object) -> ErrorDetails:
    line = getattr(error, "line", None)
    line = line if isinstance(line, int) else None
    return ErrorDetails(code=_read_text(error, "code"), message=_read_text(error, "message"), line=line)


def _read_text(owner: object, name: str) -> str:
    value = getattr(owner, name, None)
    return value if isinstance(value, str) else ""


def _read_count(owner: object, name: str, most: int = LARGEST_COUNT) -> int:
    value = getattr(owner, name, None)
    return min(value, most) if isinstance(value, int) and value > 0 else 0


def _read_seconds(owner: object, name: str) -> float | None:
    value = getattr(owner, name, None)
    return float(value) if isinstance(value, int | float) and value else None
