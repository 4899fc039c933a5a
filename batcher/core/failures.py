"""Classifying failures: what the service sent, as one of the classes of the failure table. Pure."""

import re
from enum import StrEnum
from typing import NamedTuple


class FailureClass(StrEnum):
    """The classes of failure (docs/reliability.md has the table)."""

    RATE_LIMIT = "rate_limit"
    CALL = "call"
    OUTAGE = "outage"
    """What follows the quick tries of a call: the service is down, and asked again at leisure."""
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
"""How the codes of images that cannot be read begin."""

_QUEUE_TEXT = re.compile(
    r"enqueued (?:token|request)s? limit reached|number of enqueued tokens has surpassed", re.IGNORECASE
)

_TOO_LARGE_TEXT = re.compile(r"request too large for ", re.IGNORECASE)
"""Comes as rate_limit_exceeded, though no repetition makes the request smaller."""

_BILLING_TEXT = re.compile(r"billing hard limit|exceeded your current quota", re.IGNORECASE)

_NUMBER = r"(\d[\d,]*(?:\.\d+)?)"

_LIMIT_TEXT = re.compile(
    rf"Limit: {_NUMBER} enqueued tokens|configured limit of {_NUMBER} ?([KMB]?)\b(?!\.\d)", re.IGNORECASE
)

_LARGEST_LIMIT = 10**15

_SCALE = {"": 1, "K": 1_000, "M": 1_000_000, "B": 1_000_000_000}

_SERVER_FROM = 500


class ErrorDetails(NamedTuple):
    """A failure as the service told it, in one shape for a call, a batch and a line."""

    status: int | None = None
    code: str = ""
    kind: str = ""
    message: str = ""
    line: int | None = None


def classify_call_error(trouble: ErrorDetails) -> FailureClass:
    """The class of a failed HTTP call of ours. A 4xx that is about the call is SHARD_REFUSED, as is an unknown one: no
    line is at fault, none dies."""
    known = _classify_code(trouble)
    refused = trouble.status is not None and 400 <= trouble.status < _SERVER_FROM and trouble.status not in {408, 409}
    if known is FailureClass.INVALID or (known is FailureClass.SERVER and refused and trouble.status != 429):
        return FailureClass.SHARD_REFUSED
    return known or _classify_call_status(trouble.status)


def _classify_call_status(status: int | None) -> FailureClass:
    if status is None or status in {408, 409, 429} or status >= _SERVER_FROM:
        return FailureClass.CALL
    return FailureClass.SETUP if status in {401, 403} else FailureClass.SHARD_REFUSED


def classify_batch_error(trouble: ErrorDetails) -> FailureClass:
    """The class of one entry of `batch.errors`. An entry with a line number is that line's fault, unless the service
    says that it is its own."""
    known = _classify_code(trouble)
    if known is FailureClass.RATE_LIMIT:  # too many batches or requests at once: there is room later
        return FailureClass.ENQUEUED_LIMIT
    if known in {FailureClass.ENQUEUED_LIMIT, FailureClass.QUOTA, FailureClass.SETUP}:
        return known
    return FailureClass.SHARD_REFUSED if trouble.line is None or known is FailureClass.SERVER else FailureClass.INVALID


def classify_line_error(trouble: ErrorDetails) -> FailureClass:
    """The class of a failed line in an output or error file. Unknown errors are SERVER: tried again, then dead."""
    if trouble.code == "batch_expired":
        return FailureClass.EXPIRED
    if trouble.code == "batch_cancelled":
        return FailureClass.CANCELLED
    known = _classify_code(trouble) or _classify_line_status(trouble.status)
    return (
        FailureClass.RATE_LIMIT if known is FailureClass.ENQUEUED_LIMIT else known
    )  # a line has no queue: it waits, and its tries count


def _classify_line_status(status: int | None) -> FailureClass:
    if status == 429:
        return FailureClass.RATE_LIMIT
    if status in {401, 403, 404}:
        return FailureClass.SETUP
    return (
        FailureClass.INVALID
        if status is not None and 400 <= status < _SERVER_FROM and status != 408
        else FailureClass.SERVER
    )


def _classify_code(trouble: ErrorDetails) -> FailureClass | None:
    if trouble.code == "token_limit_exceeded" or _QUEUE_TEXT.search(trouble.message):
        return FailureClass.ENQUEUED_LIMIT
    if _QUOTA_CODES & {trouble.code, trouble.kind} or _BILLING_TEXT.search(trouble.message):
        return FailureClass.QUOTA
    if _TOO_LARGE_TEXT.match(trouble.message) or trouble.code.startswith(_INVALID_IMAGE):
        return FailureClass.INVALID
    for codes, failure in _CODE_TABLE:
        if trouble.code in codes:
            return failure
    return None


_CODE_TABLE = (
    (_SETUP_CODES, FailureClass.SETUP),
    (_RATE_CODES, FailureClass.RATE_LIMIT),
    (_SERVER_CODES, FailureClass.SERVER),
    (_INVALID_CODES, FailureClass.INVALID),
)


def is_missing_file(trouble: ErrorDetails) -> bool:
    """Whether the service says that it cannot find the input file (then it is uploaded again)."""
    return "cannot find file" in trouble.message.lower() or "no such file" in trouble.message.lower()


def parse_enqueued_limit(message: str) -> int | None:
    """The enqueued-token limit that a refusal names, such as "Limit: 2,000,000 enqueued tokens" or "limit of 30K".

    None where it names none, or one that cannot be meant.
    """
    found = _LIMIT_TEXT.search(message)
    if not found:
        return None
    plain, short, scale = found.groups()
    limit = float((plain or short).replace(",", "")) * _SCALE[(scale or "").upper()]
    return round(limit) if 1 <= limit <= _LARGEST_LIMIT else None


_CALL_SERVER_STATUSES = frozenset({408, 409, 425})
_CALL_SETUP_STATUSES = frozenset({401, 402, 403, 405, 407})


def classify_direct_call(error: ErrorDetails, may_be_done: bool) -> FailureClass:
    """Return the class of a synchronous call that failed.

    may_be_done: whether the call may have had its effect although it failed (a server error, a lost answer). What a
    proxy answers instead of the service, or a status that means "later", is no fault of the line.
    """
    if error.status in _CALL_SERVER_STATUSES or (may_be_done and error.status is not None):
        return FailureClass.SERVER
    return FailureClass.SETUP if error.status in _CALL_SETUP_STATUSES else classify_line_error(error)
