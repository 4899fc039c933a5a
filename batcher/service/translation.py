"""The client's errors, and the headers of its answers, as our values: the one place where they are translated."""

import math
from collections.abc import Callable, Collection, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from batcher.core.failures import ErrorDetails
from batcher.core.retry import parse_retry_after
from batcher.service.answers import (
    MESSAGE_LENGTH,
    NAME_LENGTH,
    make_storable,
    parse_time,
    read_answer,
)
from batcher.service.masking import mask_secrets
from batcher.service.profiles import ServiceProfile, load_profile
from batcher.service.service import CallError, CallRefused, CallUnknown, CallUnsent

T = TypeVar("T")


def call_translating_errors(
    call: Callable[[], T], secrets: Collection[str] = (), profile: ServiceProfile | None = None
) -> T:
    """Return what the call returns; raise CallRefused, CallUnknown or CallUnsent for the client's errors.

    secrets: the key and the like, which are removed from every message. profile: of the service; None: OpenAI's.
    """
    import httpx2
    import openai

    try:
        return call()
    except openai.APIStatusError as error:
        raise _convert_status_error(error, secrets, profile or load_profile()) from error
    except openai.APIConnectionError as error:
        cause = error.__cause__ or error
        text = _clean_message(f"{error.message} ({type(cause).__name__}: {cause})", secrets)
        unsent = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
        raise (CallUnsent if unsent else CallUnknown)(ErrorDetails(message=text)) from error
    except httpx2.HTTPError as error:  # while a body is streamed, the client does not wrap them
        text = _clean_message(f"{type(error).__name__}: {error}", secrets)
        raise CallUnknown(ErrorDetails(message=text)) from error


def none_where_missing(call: Callable[[], T]) -> T | None:
    """Return what the call returns, None where the object that it names does not exist."""
    try:
        return call()
    except CallRefused as error:
        if error.names_missing_object:
            return None
        raise


def _convert_status_error(error: Any, secrets: Collection[str], profile: ServiceProfile) -> CallError:
    status = error.status_code
    body = _read_error_body(error.response.content, secrets)
    fields = body if isinstance(body, Mapping) else {}
    message = _clean_message(_format_error_message(status, body), secrets)
    code, kind = (mask_secrets(str(fields.get(name) or ""), secrets)[:NAME_LENGTH] for name in ("code", "type"))
    details = profile.translate_error(ErrorDetails(status, code, kind, message))
    headers = lowercase_keys(error.response.headers)
    # A Retry-After date cannot be used without the server's own time, and one of 0 seconds asks for no wait. Both
    # become None, so that our own delays apply.
    wait = parse_retry_after(headers, parse_server_date(headers) or math.inf) or None
    unknown = status >= 500 or status == 408
    # A 404 without the API's error object comes from a proxy: it says nothing about the batch or file.
    unknown = unknown or (status == 404 and not fields.get("message"))
    return (CallUnknown if unknown else CallRefused)(details, wait, headers)


def _read_error_body(content: bytes, secrets: Collection[str]) -> object:
    """Return the API's error object, or else what the body of a refusal holds: JSON, or text."""
    try:
        body = read_answer(content, "refusal", secrets)
    except CallUnknown:
        return make_storable(content.decode("utf-8", "replace"), secrets)
    return body.get("error", body) if isinstance(body, Mapping) else body


def lowercase_keys(headers: Any) -> dict[str, str]:
    """Return headers as a dictionary with lower-case names."""
    return {key.lower(): value for key, value in headers.items()}


def _format_error_message(status: int, body: object) -> str:
    """Return the message of the API's error object, or else the body of the answer, on one line."""
    if 300 <= status < 400:
        return f"the address answers with a redirect ({status}), which is not followed: what is sent goes nowhere else"
    if isinstance(body, Mapping) and body.get("message"):
        return str(body["message"])
    text = " ".join(str(body or "").split())
    return f"Error code: {status}: {text}" if text else f"Error code: {status}"


def _clean_message(text: str, secrets: Collection[str]) -> str:
    """Return a message that can be stored and shown: without the key, cut to MESSAGE_LENGTH.

    OpenAI's refusal of a wrong key quotes a part of it, and the error about an illegal header quotes all of it.
    """
    return str(make_storable(mask_secrets(text, secrets)))[:MESSAGE_LENGTH]


def parse_server_date(headers: Mapping[str, str]) -> float:
    """Return the time of the Date header (names in lower case) in epoch seconds, 0 without a readable one."""
    text = headers.get("date", "")
    try:
        return parse_time(parsedate_to_datetime(text).timestamp()) or 0.0 if text else 0.0
    except (ValueError, TypeError, OverflowError):
        return 0.0
