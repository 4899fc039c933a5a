"""Translating the client's answers and errors into our values, in one place."""

import json
import math
import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from batcher.core.failures import Trouble
from batcher.core.remote import RemoteBatch, RemoteFile
from batcher.core.retry import retry_after_s
from batcher.service.service import CallError, CallRefused, CallUnknown, CallUnsent

MESSAGE_LENGTH = 500
"""Characters of a service's message that are kept."""

LARGEST_COUNT, LARGEST_USAGE = 2**31 - 1, 2**53
"""Lines and tokens of a batch beyond these are nonsense, and are taken at the bound."""

T = TypeVar("T")


def _translated(call: Callable[[], T], secret: str = "") -> T:
    """Runs a call; the client's errors become ours, and `secret` stays out of them."""
    import httpx2  # noqa: PLC0415 - with openai, two thirds of a second of start-up that most commands do not need
    import openai  # noqa: PLC0415

    try:
        return call()
    except openai.APIStatusError as error:
        raise _status_error(error, secret) from error
    except openai.APIConnectionError as error:
        cause = error.__cause__ or error
        text = _without_secrets(f"{error.message} ({type(cause).__name__}: {cause})", secret)
        unsent = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
        raise (CallUnsent if unsent else CallUnknown)(Trouble(message=text)) from error
    except httpx2.HTTPError as error:  # while a body is streamed, the client does not wrap them
        text = _without_secrets(f"{type(error).__name__}: {error}", secret)
        raise CallUnknown(Trouble(message=text)) from error
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        # The client's own, over a 200 that is not what the API sends: a proxy's page, a body cut off.
        raise _unreadable("answer") from error


def _unreadable(what: str) -> CallUnknown:
    return CallUnknown(Trouble(message=f"the {what} is not what the API sends; is something in between?"))


def _status_error(error: Any, secret: str = "") -> CallError:
    body = error.body if isinstance(error.body, dict) else {}
    text = _without_secrets(_message(error), secret)
    trouble = Trouble(error.status_code, str(error.code or ""), str(error.type or ""), text)
    headers = _lower(error.response.headers)
    # A date without the server's own time says nothing, and 0 asks for nothing: None, and our own delays apply.
    wait = retry_after_s(headers, _date(headers) or math.inf) or None
    unknown = error.status_code >= 500 or error.status_code == 408
    # A 404 that is not in the API's shape comes from something in between: nothing is known of batch or file.
    unknown = unknown or (error.status_code == 404 and not body.get("message"))
    return (CallUnknown if unknown else CallRefused)(trouble, wait, headers)


def _lower(headers: Any) -> dict[str, str]:
    return {key.lower(): value for key, value in headers.items()}


def _message(error: Any) -> str:
    """What the service says in the API's shape, or whatever stands there instead of it, on one line."""
    body = error.body
    if isinstance(body, dict) and body.get("message"):
        return str(body["message"])
    told = " ".join(str(body or "").split())
    return f"{error.message}: {told}" if told else str(error.message)


def _without_secrets(text: str, secret: str) -> str:
    """The refusal of a wrong key quotes it in part, an illegal header whole; neither gets into a message."""
    hidden = text.replace(secret, "...") if secret else text
    shown = re.sub(r"\bsk-[\w*.-]+|(?<=Bearer )[^\s'\"]+", "sk-...", hidden)[:MESSAGE_LENGTH]
    return shown.encode("utf-8", "replace").decode()  # a lone surrogate is no text that the state could keep


def _date(headers: Mapping[str, str]) -> float:
    """The server's time in an answer; 0 where it sends none."""
    text = headers.get("date", "")
    try:
        return parsedate_to_datetime(text).timestamp() if text else 0.0
    except (ValueError, TypeError):
        return 0.0


def _file(file: Any) -> RemoteFile:
    if not _text(getattr(file, "id", None)):
        raise _unreadable("description of a file")
    return RemoteFile(file.id, _text(file.filename), _seconds(file.created_at) or 0.0)


def _batch(batch: Any) -> RemoteBatch:
    created_at = _seconds(getattr(batch, "created_at", None))
    if not _text(getattr(batch, "id", None)) or created_at is None:
        raise _unreadable("description of a batch")
    counts, usage, metadata = batch.request_counts, batch.usage, batch.metadata
    finished = batch.completed_at or batch.failed_at or batch.expired_at or batch.cancelled_at
    return RemoteBatch(
        batch_id=batch.id,
        status=_text(batch.status).lower(),  # compatible services write COMPLETED
        created_at=created_at,
        input_file_id=_text(batch.input_file_id),
        output_file_id=_text(batch.output_file_id) or None,
        error_file_id=_text(batch.error_file_id) or None,
        expires_at=_seconds(batch.expires_at),
        finished_at=_seconds(finished),
        total=_count(counts, "total"),
        completed=_count(counts, "completed"),
        failed=_count(counts, "failed"),
        usage=_usage(usage) if usage else None,
        errors=tuple(_trouble(each) for each in getattr(batch.errors, "data", None) or ()),
        metadata={str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, Mapping) else {},
    )


def _usage(usage: Any) -> tuple[int, int, int]:
    cached = _count(getattr(usage, "input_tokens_details", None), "cached_tokens", LARGEST_USAGE)
    return _count(usage, "input_tokens", LARGEST_USAGE), cached, _count(usage, "output_tokens", LARGEST_USAGE)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(owner: object, name: str, most: int = LARGEST_COUNT) -> int:
    value = getattr(owner, name, None)
    return min(value, most) if isinstance(value, int) and value > 0 else 0


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value else None


def _trouble(error: Any) -> Trouble:
    line = getattr(error, "line", None)
    code, message = _text(getattr(error, "code", None)), _text(getattr(error, "message", None))
    return Trouble(None, code, "", message, line if isinstance(line, int) else None)
