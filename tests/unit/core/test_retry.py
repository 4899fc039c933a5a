"""Delays: what the service asks for, and how long each class waits from try to try."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.failures import FailureClass
from batcher.core.lifecycle import ArtistState
from batcher.core.retry import (
    DEFAULT_POLICIES,
    LONGEST_RETRY_AFTER_S,
    RetryPolicy,
    RetryRules,
    delay_after_call_failure,
    delay_after_failure,
    latest_wait_time,
    parse_retry_after,
    retry_delay_seconds,
)
from batcher.core.verdicts import Verdict, storm_verdict
from tests.support.examples import examples

F = FailureClass
RULES = RetryRules(DEFAULT_POLICIES)
NOW = 1_795_000_000.0
NO_HEADERS: Mapping[str, str] = {}


def _http_date(at: float) -> str:
    return format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "7\x1f"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "250.5", "retry-after": "60"}, 0.2505),
        ({"retry-after-ms": "soon", "retry-after": "60"}, 60.0),
        ({"retry-after": _http_date(NOW + 90)}, 90.0),
        ({"retry-after": _http_date(NOW - 90)}, 0.0),
        ({"retry-after": _http_date(NOW + 90).replace("GMT", "-0000")}, 90.0),
        ({"retry-after": time.asctime(time.gmtime(NOW + 90))}, 90.0),
        ({"retry-after": "999999999"}, LONGEST_RETRY_AFTER_S),
        ({"retry-after-ms": "999999999"}, LONGEST_RETRY_AFTER_S),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, LONGEST_RETRY_AFTER_S),
        (NO_HEADERS, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "12345678901234567890"}, None),
        ({"retry-after": "Fri, 99 Foo 2026 99:99:99 GMT"}, None),
        ({"retry-after": "20\n30"}, None),
        ({"x-ratelimit-reset-tokens": "6m0s"}, None),
    ],
)
def test_what_the_service_asks_to_wait(
    headers: Mapping[str, str], seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert parse_retry_after(headers, NOW) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.integers(-10_000_000, 10_000_000))
@examples(200)
def test_an_http_date_is_read_to_the_second(offset: int) -> None:
    expected = min(max(0.0, float(offset)), LONGEST_RETRY_AFTER_S)
    assert parse_retry_after({"retry-after": _http_date(NOW + offset)}, NOW) == expected


DATE_LIKE = st.from_regex(r"[A-Za-z]{0,4},? ?\d{0,3} [A-Za-z]{0,4} \d{0,6} [\d:.]{0,10} ?[A-Z+0-9-]{0,6}")


@given(st.text() | DATE_LIKE, st.text() | st.just(""))
@examples(1_000)
def test_nonsense_never_raises_and_never_waits_for_good(after: str, after_ms: str) -> None:
    seconds = parse_retry_after({"retry-after": after, "retry-after-ms": after_ms}, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER_S


POLICIES = st.builds(
    lambda base, factor, tries: RetryPolicy(base, base * factor, tries),
    st.floats(0, 1e6),
    st.floats(1, 1e6),
    st.none() | st.integers(0, 20),
)
JITTERS = st.floats(0, 1, exclude_max=True)


@given(POLICIES, st.integers(0, 10**6), JITTERS, st.floats(0, 0.99))
@examples(1_000)
def test_a_delay_stays_between_the_base_and_the_cap(policy: RetryPolicy, n: int, jitter: float, share: float) -> None:
    delay = retry_delay_seconds(policy, n, jitter, share)
    assert policy.base_s * (1 - share) <= delay <= policy.cap_s
    full = retry_delay_seconds(policy, n, 0.0, share)
    assert full * (1 - share) <= delay <= full


@given(POLICIES, st.integers(0, 100), st.integers(0, 100), JITTERS)
@examples(500)
def test_delays_never_shrink_from_try_to_try(policy: RetryPolicy, n: int, more: int, jitter: float) -> None:
    assert retry_delay_seconds(policy, n, jitter) <= retry_delay_seconds(policy, n + more, jitter)


def test_a_long_outage_does_not_overflow() -> None:
    for n in (29, 30, 31, 1_024, 10**9):
        assert retry_delay_seconds(RetryPolicy(0.5, 4, None), n, 0.0) == 4


def test_a_base_over_the_cap_is_the_cap() -> None:
    assert retry_delay_seconds(RetryPolicy(100, 10, None), 0, 0.0) == 10


def _delays(failure: F, most: int) -> list[float]:
    return [retry_delay_seconds(DEFAULT_POLICIES[failure], n, 0.0) for n in range(most)]


def test_plan_rate_limit_five_tries_from_60_s_doubling_to_300_s() -> None:
    assert _delays(F.RATE_LIMIT, 6) == [60, 120, 240, 300, 300, 300]
    assert DEFAULT_POLICIES[F.RATE_LIMIT].tries == 5


def test_plan_quota_three_tries_from_300_s_doubling_to_3600_s() -> None:
    assert _delays(F.QUOTA, 6) == [300, 600, 1200, 2400, 3600, 3600]
    assert DEFAULT_POLICIES[F.QUOTA].tries == 3


def test_plan_everything_else_three_tries_from_half_a_second_doubling_to_4_s() -> None:
    for failure in (F.SERVER, F.CALL):
        assert _delays(failure, 5) == [0.5, 1, 2, 4, 4]
        assert DEFAULT_POLICIES[failure].tries == 3


def test_plan_ten_percent_jitter() -> None:
    assert RULES.jitter_share == 0.10
    assert retry_delay_seconds(DEFAULT_POLICIES[F.RATE_LIMIT], 0, 0.0) == 60
    assert retry_delay_seconds(DEFAULT_POLICIES[F.RATE_LIMIT], 0, 0.5) == pytest.approx(57)
    assert retry_delay_seconds(DEFAULT_POLICIES[F.RATE_LIMIT], 9, 0.999999) == pytest.approx(270, rel=1e-4)


def test_a_delay_takes_the_jitter_of_the_settings_and_a_retry_after_comes_before_it() -> None:
    wide = RULES._replace(jitter_share=0.5)
    assert delay_after_failure(wide, F.RATE_LIMIT, 0, 0.5) == 45
    assert delay_after_failure(wide, F.RATE_LIMIT, 0, 0.5, wait_s=7.0) == 9.5
    assert storm_verdict(wide, NOW, 0.5) == Verdict(ArtistState.WAITING, NOW + 45, counted=False)


@pytest.mark.parametrize(("n", "seconds"), [(0, 0.5), (2, 2.0), (3, 60.0), (4, 120.0), (99, 300.0)])
def test_a_call_is_repeated_quickly_and_then_as_in_an_outage(n: int, seconds: float) -> None:
    assert delay_after_call_failure(RULES, n, 0.0) == seconds
    assert delay_after_call_failure(RULES, n, 1.0, wait_s=7.0) == 12.0
    slow = RULES._replace(policies={**DEFAULT_POLICIES, F.CALL: RetryPolicy(0.5, 4, 0)})
    assert delay_after_call_failure(slow, 0, 0.0) == 60.0


def test_no_wait_may_be_later_than_the_longest_delay_and_an_hour() -> None:
    assert latest_wait_time(RULES, pause_s=0.0, now=NOW) == NOW + LONGEST_RETRY_AFTER_S + 3600
    assert latest_wait_time(RULES, pause_s=2 * LONGEST_RETRY_AFTER_S, now=NOW) == NOW + 2 * LONGEST_RETRY_AFTER_S + 3600
    long = {**DEFAULT_POLICIES, F.QUOTA: RetryPolicy(300, 10**6, 3)}
    assert latest_wait_time(RULES._replace(policies=long), pause_s=0.0, now=NOW) == NOW + 10**6 + 3600


@pytest.mark.parametrize(
    ("failure", "policy"),
    [
        (F.OUTAGE, RetryPolicy(60, 300, None)),
        (F.ENQUEUED_LIMIT, RetryPolicy(60, 300, None)),
        (F.SHARD_REFUSED, RetryPolicy(60, 300, 3)),
        (F.EXPIRED, RetryPolicy(0, 0, 3)),
        (F.UNUSABLE, RetryPolicy(0, 0, 2)),
        (F.INVALID, RetryPolicy(0, 0, 0)),
    ],
)
def test_the_rest_of_the_failure_table(failure: F, policy: RetryPolicy) -> None:
    assert DEFAULT_POLICIES[failure] == policy
    assert set(DEFAULT_POLICIES) == set(F)
    assert RULES.max_attempts == 8
