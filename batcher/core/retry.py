"""Delays before a retry, by the failure table. Pure: nothing here sleeps or reads a clock.

A delay is base x 2^n up to the cap, with jitter that takes something off; a Retry-After replaces it.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from batcher.core.failures import FailureClass


class RetryPolicy(NamedTuple):
    """How a class is retried: at most `tries` times (None: no limit), after delays in seconds."""

    base_s: float
    cap_s: float
    tries: int | None


DEFAULT_POLICIES: Mapping[FailureClass, RetryPolicy] = {
    FailureClass.RATE_LIMIT: RetryPolicy(60, 300, 5),
    FailureClass.CALL: RetryPolicy(0.5, 4, 3),
    FailureClass.OUTAGE: RetryPolicy(60, 300, None),
    FailureClass.ENQUEUED_LIMIT: RetryPolicy(60, 300, None),
    FailureClass.SHARD_REFUSED: RetryPolicy(60, 300, 3),
    FailureClass.QUOTA: RetryPolicy(300, 3600, 3),
    FailureClass.SERVER: RetryPolicy(0.5, 4, 3),
    FailureClass.EXPIRED: RetryPolicy(0, 0, 3),
    FailureClass.CANCELLED: RetryPolicy(0, 0, 0),
    FailureClass.UNUSABLE: RetryPolicy(0, 0, 2),
    FailureClass.INVALID: RetryPolicy(0, 0, 0),
    FailureClass.SETUP: RetryPolicy(0, 0, 0),
    FailureClass.MISSING: RetryPolicy(0, 0, 0),
    FailureClass.RESOURCE_UNAVAILABLE: RetryPolicy(30, 600, 10),
}

MAX_DOUBLINGS = 30
"""Largest exponent of a delay: 2^30 x any base is past every cap, and a long outage cannot overflow."""


def retry_delay_seconds(policy: RetryPolicy, n: int, jitter: float, jitter_share: float = 0.10) -> float:
    """Return the seconds before retry `n` (from 0).

    jitter: a number in [0, 1); it takes up to `jitter_share` off, so that the delay stays within the cap.
    """
    full = min(policy.cap_s, policy.base_s * float(2 ** min(n, MAX_DOUBLINGS)))
    return full * (1 - jitter_share * jitter)


LONGEST_RETRY_AFTER_S = 24 * 3600.0
"""Longest wait in seconds that an answer may ask for: a wrong date must not stop the job for good."""


LONGEST_LOOK_WAIT_S = 900.0
"""Longest time in seconds for which a Retry-After holds back calls that send nothing: they cost nothing, and what is
paid for is read by them."""


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that the service asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date.

    headers: names in lower case. Values that cannot be read or are negative give None, a time in the past gives 0.
    """
    milliseconds = _parse_number(headers.get("retry-after-ms", ""))
    text = headers.get("retry-after", "")
    seconds = milliseconds / 1000 if milliseconds is not None else _parse_number(text)
    if seconds is None and text:
        seconds = _seconds_until(text, now)
    return None if seconds is None else min(seconds, LONGEST_RETRY_AFTER_S)


def _seconds_until(http_date: str, now: float) -> float | None:
    try:
        date = parsedate_to_datetime(http_date)
        if date.tzinfo is None:  # written as by asctime, or with -0000: HTTP dates are UTC
            date = date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _parse_number(text: str) -> float | None:
    number = text.strip()
    return float(number) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", number) else None


class RetryRules(NamedTuple):
    """The failure table with the user's settings."""

    policies: Mapping[FailureClass, RetryPolicy]
    max_attempts: int = 8
    jitter_share: float = 0.10
    storm_share: float = 0.05
    """Rate limits that hit more than this share of a batch cost its lines no try."""
    setup_share: float = 0.05
    """Once a bio exists, one reason is the setup's fault only when more than this share of a batch fails for it."""
    setup_lines: int = 20
    """Fewest lines that must fail for one reason before it is the setup's fault.

    Before the first bio fewer are enough when the reason is of the setup, or when it fails a whole batch.
    """


RETRY_AFTER_SPREAD_S = 5.0
"""Up to this many seconds are added to a Retry-After, so that not all callers come back at once."""


def delay_after_failure(
    rules: RetryRules, failure: FailureClass, n: int, jitter: float, wait_s: float | None = None
) -> float:
    """Return the seconds before retry `n` (from 0) of what failed with a class.

    jitter: a number in [0, 1). wait_s: the seconds of a Retry-After; it wins over the table, with up to 5 s on top.
    """
    if wait_s is not None:
        return wait_s + RETRY_AFTER_SPREAD_S * jitter
    return retry_delay_seconds(rules.policies[failure], n, jitter, rules.jitter_share)


def delay_after_call_failure(rules: RetryRules, n: int, jitter: float, wait_s: float | None = None) -> float:
    """Return the seconds before a call that failed `n` times in a row is retried: quickly first, then as in an outage.

    jitter, wait_s: as for `delay_after_failure`.
    """
    quick = rules.policies[FailureClass.CALL].tries or 0
    if n < quick:
        return delay_after_failure(rules, FailureClass.CALL, n, jitter, wait_s)
    return delay_after_failure(rules, FailureClass.OUTAGE, n - quick, jitter, wait_s)


WAIT_MARGIN_S = 3600.0
"""Seconds by which a wait may exceed the longest delay: the spread of a Retry-After, a clock slightly ahead."""


def latest_wait_time(rules: RetryRules, pause_s: float, now: float) -> float:
    """Return the latest time (epoch seconds) that a wait or a pause may have.

    pause_s: the longest pause (seconds) that begins without the user. A later time was written by a clock that was
    ahead: no delay could have set it, so it counts as past.
    """
    longest = max(LONGEST_RETRY_AFTER_S, pause_s, *(policy.cap_s for policy in rules.policies.values()))
    return now + longest + WAIT_MARGIN_S


Jitter = Callable[[], float]
"""Returns a number in [0, 1). It is passed in, so that a week of delays can be simulated."""
