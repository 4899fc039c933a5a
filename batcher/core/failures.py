"""Classifying failures: what the service sent becomes one of the classes of the failure table. Pure."""

import re
from enum import StrEnum
from typing import NamedTuple


class FailureClass(StrEnum):
    """The classes of failure (docs/reliability.md has the table)."""

    RATE_LIMIT = "rate_limit"
    CALL = "call"
    OUTAGE = "outage"
    """What follows the quick retries of a call: the service is down, and is retried at long intervals."""
    ENQUEUED_LIMIT = "enqueued_limit"
    SHARD_REFUSED = "shard_refused"
    QUOTA = "quota"
    SERVER = "server"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    UNUSABLE = "unusable"
    INVALID = "invalid"
    SETUP = "setup"
    MISSING = "missing"
    """A line without a result although its batch says that it was executed: perhaps paid, so held."""
    RESOURCE_UNAVAILABLE = "resource_unavailable"
    """A call that flex processing had no room for: not executed, and not charged."""


_SETUP_CODES = frozenset(
    {"invalid_api_key", "model_not_found", "account_deactivated", "unsupported_country_region_territory"}
)

_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})

_RATE_CODES = frozenset({"rate_limit_exceeded", "request_limit_exceeded"})

_SERVER_CODES = frozenset({"server_error", "request_timeout", "timeout", "overloaded", "internal_error"})

_INVALID_CODES = frozenset(
    {
        "context_length_exceeded", "content_policy_violation", "content_filter", "invalid_prompt", "bio_policy",
        "image_content_policy_violation",
    }
)  # fmt: skip

_INVALID_IMAGE = "invalid_image"
"""Prefix of the codes for images that cannot be read."""

_QUEUE_TEXT = re.compile(
    r"enqueued (?:token|request)s? limit reached|number of enqueued tokens has surpassed", re.IGNORECASE
)

_TOO_LARGE_TEXT = re.compile(r"request too large for ", re.IGNORECASE)
"""The code of this message is rate_limit_exceeded, but a retry does not make the request smaller."""

_BILLING_TEXT = re.compile(r"billing hard limit|exceeded your current quota", re.IGNORECASE)

_NUMBER = r"(\d[\d,]*(?:\.\d+)?)"

_LIMIT_TEXT = re.compile(
    rf"Limit: {_NUMBER} enqueued tokens|configured limit of {_NUMBER} ?([KMB]?)\b(?!\.\d)", re.IGNORECASE
)

_LARGEST_LIMIT = 10**15

_SCALE = {"": 1, "K": 1_000, "M": 1_000_000, "B": 1_000_000_000}

_SERVER_FROM = 500


class ErrorDetails(NamedTuple):
    """A failure as the service described it, in one shape for a call, a batch and a line."""

    status: int | None = None
    code: str = ""
    kind: str = ""
    message: str = ""
    line: int | None = None


def classify_call_error(details: ErrorDetails) -> FailureClass:
    """Return the class of a failed HTTP call of ours.

    A 4xx that is about the call is SHARD_REFUSED, as is an unknown one: no line is at fault, so none dies.
    """
    known = _classify_code(details)
    refused = details.status is not None and 400 <= details.status < _SERVER_FROM and details.status not in {408, 409}
    if known is FailureClass.INVALID or (known is FailureClass.SERVER and refused and details.status != 429):
        return FailureClass.SHARD_REFUSED
    if known is not None:
        return known
    if details.status is None or details.status in {408, 409, 429} or details.status >= _SERVER_FROM:
        return FailureClass.CALL
    is_setup = details.status in {401, 403} or is_redirect(details)
    return FailureClass.SETUP if is_setup else FailureClass.SHARD_REFUSED


def is_redirect(details: ErrorDetails) -> bool:
    """Return whether a call was answered with a redirect that is not followed: the address is not the service's."""
    return details.status is not None and 300 <= details.status < 400


def classify_batch_error(details: ErrorDetails) -> FailureClass:
    """Return the class of one entry of `batch.errors`.

    An entry with a line number is that line's fault, unless the service says that it is its own.
    """
    known = _classify_code(details)
    if known is FailureClass.RATE_LIMIT:  # too many batches or requests at once: there will be room later
        return FailureClass.ENQUEUED_LIMIT
    if known in {FailureClass.ENQUEUED_LIMIT, FailureClass.QUOTA, FailureClass.SETUP}:
        return known
    return FailureClass.SHARD_REFUSED if details.line is None or known is FailureClass.SERVER else FailureClass.INVALID


def classify_line_error(details: ErrorDetails) -> FailureClass:
    """Return the class of a failed line in an output or error file. Unknown errors are SERVER: retried, then dead."""
    if details.code == "batch_expired":
        return FailureClass.EXPIRED
    if details.code == "batch_cancelled":
        return FailureClass.CANCELLED
    known = _classify_code(details) or _classify_line_status(details.status)
    # A single line does not wait for room in the queue: it is retried as after a rate limit, and its tries count.
    return FailureClass.RATE_LIMIT if known is FailureClass.ENQUEUED_LIMIT else known


def _classify_line_status(status: int | None) -> FailureClass:
    if status == 429:
        return FailureClass.RATE_LIMIT
    if status in {401, 403, 404}:
        return FailureClass.SETUP
    is_refused = status is not None and 400 <= status < _SERVER_FROM and status != 408
    return FailureClass.INVALID if is_refused else FailureClass.SERVER


def _classify_code(details: ErrorDetails) -> FailureClass | None:
    if details.code == "token_limit_exceeded" or _QUEUE_TEXT.search(details.message):
        return FailureClass.ENQUEUED_LIMIT
    if _QUOTA_CODES & {details.code, details.kind} or _BILLING_TEXT.search(details.message):
        return FailureClass.QUOTA
    if _TOO_LARGE_TEXT.match(details.message) or details.code.startswith(_INVALID_IMAGE):
        return FailureClass.INVALID
    for codes, failure in _CODE_TABLE:
        if details.code in codes:
            return failure
    return None


_CODE_TABLE = (
    (_SETUP_CODES, FailureClass.SETUP),
    (_RATE_CODES, FailureClass.RATE_LIMIT),
    (_SERVER_CODES, FailureClass.SERVER),
    (_INVALID_CODES, FailureClass.INVALID),
)


def is_missing_file(details: ErrorDetails) -> bool:
    """Return whether the service says that it cannot find the input file (then it is uploaded again)."""
    return "cannot find file" in details.message.lower() or "no such file" in details.message.lower()


def parse_enqueued_limit(message: str) -> int | None:
    """Return the enqueued-token limit that a refusal names, in tokens.

    It is written as "Limit: 2,000,000 enqueued tokens" or "limit of 30K". None where there is none, or where the
    number is under 1 or over 10^15 and so cannot be a limit.
    """
    found = _LIMIT_TEXT.search(message)
    if not found:
        return None
    plain, short, scale = found.groups()
    limit = float((plain or short).replace(",", "")) * _SCALE[(scale or "").upper()]
    return round(limit) if 1 <= limit <= _LARGEST_LIMIT else None


_NO_ROOM_CODE = "resource_unavailable"
_NO_ROOM_TEXT = re.compile(r"resource unavailable", re.IGNORECASE)
_TIER_TEXT = re.compile(r"\bservice_tier\b")
_CALL_SERVER_STATUSES = frozenset({408, 409, 425})
_CALL_SETUP_STATUSES = frozenset({401, 402, 403, 405, 407})


def classify_direct_call(error: ErrorDetails, may_be_done: bool) -> FailureClass:
    """Return the class of a synchronous call that failed.

    may_be_done: whether the call may have had its effect although it failed (a server error, a lost answer). What a
    proxy answers instead of the service, or a status that means "later", is no fault of the line.
    """
    if error.status in _CALL_SERVER_STATUSES or (may_be_done and error.status is not None):
        return FailureClass.SERVER
    if error.status == 429 and (_NO_ROOM_CODE in {error.code, error.kind} or _NO_ROOM_TEXT.match(error.message)):
        return FailureClass.RESOURCE_UNAVAILABLE
    is_setup = error.status in _CALL_SETUP_STATUSES or is_redirect(error)
    is_tier_refused = error.status == 400 and bool(_TIER_TEXT.search(error.message))  # the model is not served by it
    return FailureClass.SETUP if is_setup or is_tier_refused else classify_line_error(error)
