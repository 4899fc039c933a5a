"""What went wrong, and what follows: the failure table as two pure functions.

`classify_*` turn what the service sent into a class; `decide_line` turns a class and a history into a verdict.
Delays are base x 2^n up to the cap, with jitter inside the cap. Nothing here sleeps or reads a clock.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC
from enum import StrEnum
from typing import NamedTuple

from batcher.core.lifecycle import ArtistState


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


class Policy(NamedTuple):
    """How a class is repeated: `tries` repetitions after the first (None: no limit), delays in seconds."""

    base_s: float
    cap_s: float
    tries: int | None


DEFAULT_POLICIES: Mapping[FailureClass, Policy] = {
    FailureClass.RATE_LIMIT: Policy(60, 300, 5),
    FailureClass.CALL: Policy(0.5, 4, 3),
    FailureClass.OUTAGE: Policy(60, 300, None),
    FailureClass.ENQUEUED_LIMIT: Policy(60, 300, None),
    FailureClass.SHARD_REFUSED: Policy(60, 300, 3),
    FailureClass.QUOTA: Policy(300, 3600, 3),
    FailureClass.SERVER: Policy(0.5, 4, 3),
    FailureClass.EXPIRED: Policy(0, 0, 3),
    FailureClass.CANCELLED: Policy(0, 0, 0),
    FailureClass.UNUSABLE: Policy(0, 0, 2),
    FailureClass.INVALID: Policy(0, 0, 0),
    FailureClass.SETUP: Policy(0, 0, 0),
    FailureClass.MISSING: Policy(0, 0, 0),
}

MAX_DOUBLINGS = 30
"""2^30 x any base is past every cap; clamped so that a long outage cannot overflow."""


def delay_s(policy: Policy, n: int, jitter: float, jitter_share: float = 0.10) -> float:
    """Seconds before repetition `n` (from 0). `jitter` in [0, 1) takes up to `jitter_share` off: inside the cap."""
    full = min(policy.cap_s, policy.base_s * float(2 ** min(n, MAX_DOUBLINGS)))
    return full * (1 - jitter_share * jitter)


LONGEST_RETRY_AFTER_S = 24 * 3600.0
"""No answer makes us wait longer than a day before we ask again: a nonsense date must not stop the job for good."""


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the service asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date.

    Header names in lower case. Nonsense and negative values are None, a time that is past is 0.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    text = headers.get("retry-after", "")
    seconds = milliseconds / 1000 if milliseconds is not None else _number(text)
    if seconds is None and text:
        seconds = _seconds_until(text, now)
    return None if seconds is None else min(seconds, LONGEST_RETRY_AFTER_S)


def _seconds_until(http_date: str, now: float) -> float | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - few answers name a date

    try:
        date = parsedate_to_datetime(http_date)
        if date.tzinfo is None:  # as asctime writes it, or with -0000: HTTP dates are UTC
            date = date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str) -> float | None:
    number = text.strip()
    return float(number) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", number) else None


# --- what the service sent -> class -----------------------------------------------------------------------------

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


class Trouble(NamedTuple):
    """A failure as the service told it, in one shape for a call, a batch and a line."""

    status: int | None = None
    code: str = ""
    kind: str = ""
    message: str = ""
    line: int | None = None


def classify_call(trouble: Trouble) -> FailureClass:
    """The class of a failed HTTP call of ours. A 4xx that is about the call is SHARD_REFUSED, as is an unknown one: no
    line is at fault, none dies."""
    known = _by_code(trouble)
    refused = trouble.status is not None and 400 <= trouble.status < _SERVER_FROM and trouble.status not in {408, 409}
    if known is FailureClass.INVALID or (known is FailureClass.SERVER and refused and trouble.status != 429):
        return FailureClass.SHARD_REFUSED
    return known or _by_call_status(trouble.status)


def _by_call_status(status: int | None) -> FailureClass:
    if status is None or status in {408, 409, 429} or status >= _SERVER_FROM:
        return FailureClass.CALL
    return FailureClass.SETUP if status in {401, 403} else FailureClass.SHARD_REFUSED


def classify_batch_error(trouble: Trouble) -> FailureClass:
    """The class of one entry of `batch.errors`. An entry with a line number is that line's fault, unless the service
    says that it is its own."""
    known = _by_code(trouble)
    if known is FailureClass.RATE_LIMIT:  # too many batches or requests at once: there is room later
        return FailureClass.ENQUEUED_LIMIT
    if known in {FailureClass.ENQUEUED_LIMIT, FailureClass.QUOTA, FailureClass.SETUP}:
        return known
    return FailureClass.SHARD_REFUSED if trouble.line is None or known is FailureClass.SERVER else FailureClass.INVALID


def classify_line(trouble: Trouble) -> FailureClass:
    """The class of a failed line in an output or error file. Unknown errors are SERVER: tried again, then dead."""
    if trouble.code == "batch_expired":
        return FailureClass.EXPIRED
    if trouble.code == "batch_cancelled":
        return FailureClass.CANCELLED
    known = _by_code(trouble) or _by_line_status(trouble.status)
    return (
        FailureClass.RATE_LIMIT if known is FailureClass.ENQUEUED_LIMIT else known
    )  # a line has no queue: it waits, and its tries count


def _by_line_status(status: int | None) -> FailureClass:
    if status == 429:
        return FailureClass.RATE_LIMIT
    if status in {401, 403, 404}:
        return FailureClass.SETUP
    return (
        FailureClass.INVALID
        if status is not None and 400 <= status < _SERVER_FROM and status != 408
        else FailureClass.SERVER
    )


def _by_code(trouble: Trouble) -> FailureClass | None:
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


def is_missing_file(trouble: Trouble) -> bool:
    """Whether the service says that it cannot find the input file (then it is uploaded again)."""
    return "cannot find file" in trouble.message.lower() or "no such file" in trouble.message.lower()


def learned_limit(message: str) -> int | None:
    """The enqueued-token limit that a refusal names, such as "Limit: 2,000,000 enqueued tokens" or "limit of 30K".

    None where it names none, or one that cannot be meant.
    """
    found = _LIMIT_TEXT.search(message)
    if not found:
        return None
    plain, short, scale = found.groups()
    limit = float((plain or short).replace(",", "")) * _SCALE[(scale or "").upper()]
    return round(limit) if 1 <= limit <= _LARGEST_LIMIT else None


# --- class and history -> verdict --------------------------------------------------------------------------------


class Rules(NamedTuple):
    """The failure table as the user has set it."""

    policies: Mapping[FailureClass, Policy]
    max_attempts: int = 8
    jitter_share: float = 0.10
    storm_share: float = 0.05
    setup_share: float = 0.05
    """The share of a batch that one reason must take to be the setup's fault rather than that of the lines..."""
    setup_lines: int = 20
    """...and at least so many lines."""


WAIT_MARGIN_S = 3600.0
"""What is added to a delay on its way: the seconds on top of a Retry-After, a clock a little ahead."""


def latest_wait(rules: Rules, pause_s: float, now: float) -> float:
    """The latest time that a wait or a pause may have; pause_s: the longest one by itself.

    A later one was written by a clock that was ahead: no delay could have set it, so it counts as past.
    """
    longest = max(LONGEST_RETRY_AFTER_S, pause_s, *(policy.cap_s for policy in rules.policies.values()))
    return now + longest + WAIT_MARGIN_S


class Verdict(NamedTuple):
    """What becomes of a failed line: its next state, the time it waits for (epoch seconds), and why."""

    state: ArtistState
    wait_until: float | None = None
    counted: bool = True


def decide_line(rules: Rules, failure: FailureClass, tries: int, attempts: int, now: float, jitter: float) -> Verdict:
    """The verdict on a line that failed with `failure`.

    tries: failures of this class that counted before; attempts: all that counted before, in every class.
    """
    if failure in {FailureClass.CANCELLED, FailureClass.MISSING}:
        return Verdict(ArtistState.HELD)
    if failure in {
        FailureClass.SETUP,
        FailureClass.QUOTA,
        FailureClass.ENQUEUED_LIMIT,
        FailureClass.SHARD_REFUSED,
        FailureClass.CALL,
        FailureClass.OUTAGE,
    }:
        return Verdict(ArtistState.READY, counted=False)
    policy = rules.policies[failure]
    if (policy.tries is not None and tries >= policy.tries) or attempts + 1 >= rules.max_attempts:
        return Verdict(ArtistState.DEAD)
    return _again(policy, tries, now, jitter, rules.jitter_share)


def _again(policy: Policy, tries: int, now: float, jitter: float, share: float) -> Verdict:
    if policy.base_s <= 0:
        return Verdict(ArtistState.READY)
    return Verdict(ArtistState.WAITING, now + delay_s(policy, tries, jitter, share))


def storm_verdict(rules: Rules, now: float, jitter: float) -> Verdict:
    """The verdict when a rate limit hit over 5% of a batch: everyone waits the base delay, and no try is spent."""
    policy = rules.policies[FailureClass.RATE_LIMIT]
    return Verdict(ArtistState.WAITING, now + delay_s(policy, 0, jitter, rules.jitter_share), counted=False)


Jitter = Callable[[], float]
"""Gives a number in [0, 1); passed in, so that a week of delays can be simulated."""
