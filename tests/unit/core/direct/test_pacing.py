"""The direct lane's speed: headers in every spelling, and windows that are never overrun (a simulation)."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batcher.core.direct.pacing import (
    DAY_S,
    LARGEST_LIMIT,
    LONGEST_MINUTE_S,
    SHARE,
    Pacer,
    RateHeaders,
    RateLimit,
    RateWindow,
    parse_go_duration,
    parse_rate_headers,
)
from batcher.core.direct.workers import MOST_WORKERS, WORKERS, Workers, build_workers, parse_workers, recommend_workers
from batcher.sandbox.api.direct import format_go_duration
from tests.support.examples import examples

SEEN = {
    "0s": 0.0, "1s": 1.0, "6m0s": 360.0, "8.64s": 8.64, "236ms": 0.236, "1m4.296s": 64.296, "2h0m0s": 7200.0,
    "20ms": 0.02, "1h2m3.5s": 3723.5, "3s": 3.0, "500us": 0.0005, "1.5µs": 1.5e-6, "12": 12.0, "0.5": 0.5,
    " 59ms ": 0.059, "23h59m59.999s": 86399.999, "7d": 7 * DAY_S,
    "5ns": 5e-9, "7μs": 7e-6,
}  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), SEEN.items())
def test_durations_as_they_were_seen(text: str, seconds: float) -> None:
    assert parse_go_duration(text) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "1 s", "1m 2s", "abc", "1x", "1s!", "٣s", "1e3s", "nan", "inf", "8d", "."]
)
def test_what_is_no_duration(text: str) -> None:
    assert parse_go_duration(text) is None


@given(st.integers(0, 86_400_000))
def test_what_the_sandbox_writes_is_read_back(millis: int) -> None:
    assert parse_go_duration(format_go_duration(millis / 1000)) == pytest.approx(millis / 1000)


@given(st.text(max_size=30))
def test_no_text_breaks_the_grammar(text: str) -> None:
    seconds = parse_go_duration(text)
    assert seconds is None or 0 <= seconds <= 7 * DAY_S


KEYS = [f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens", "project-tokens")]  # fmt: skip
VALUES = st.one_of(
    st.integers(-5, 10**16).map(str), st.sampled_from([*SEEN, "", "none", "1,000", "1.5"]), st.text(max_size=8)
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_any_headers_give_sound_limits_or_none(headers: dict[str, str]) -> None:
    read = parse_rate_headers(headers)
    for limit in (read.requests, read.tokens, read.project_tokens):
        assert limit is None or (0 <= limit.remaining <= limit.limit and limit.limit > 0 and limit.period_s > 0)
    assert 0 <= read.lowest_remaining_share <= 1


def test_headers_are_read_kind_by_kind() -> None:
    headers = {
        "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "150000", "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-limit-project-tokens": "1000",
        "x-ratelimit-remaining-project-tokens": "50",
    }  # fmt: skip
    read = parse_rate_headers(headers)
    assert read == RateHeaders(RateLimit(60, 59, 1.0), RateLimit(150_000, 149_984, 360.0), RateLimit(1_000, 50, None))
    assert read.lowest_remaining_share == 0.05


@pytest.mark.parametrize(
    ("limit", "remaining", "read"),
    [
        ("1", "0", RateLimit(1, 0, None)),
        ("5", "5", RateLimit(5, 5, None)),
        (str(LARGEST_LIMIT), "7", RateLimit(LARGEST_LIMIT, 7, None)),
        (str(LARGEST_LIMIT + 1), "7", None),
        ("5", "6", None),
        ("0", "0", None),
    ],
)
def test_a_limit_that_makes_sense_is_read_to_its_bounds(limit: str, remaining: str, read: RateLimit | None) -> None:
    headers = {"x-ratelimit-limit-tokens": limit, "x-ratelimit-remaining-tokens": remaining}
    assert parse_rate_headers(headers) == RateHeaders(tokens=read)


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        (RateLimit(100, 50, 30.0), 60.0),
        (RateLimit(100, 99, 30.0), 3000.0),
        (RateLimit(100, 100, 30.0), 60.0),
        (RateLimit(100, 50, None), 60.0),
        (RateLimit(100, 50, 0.0), 60.0),
    ],
)
def test_the_period_is_the_time_that_the_whole_limit_takes(limit: RateLimit, seconds: float) -> None:
    assert limit.period_s == seconds


def test_a_window_of_an_hour_is_no_day() -> None:
    assert not RateLimit(100, 50, LONGEST_MINUTE_S / 2).is_daily
    assert RateLimit(100, 50, LONGEST_MINUTE_S / 2 + 1).is_daily


def test_a_limit_of_a_day_is_told_from_one_of_a_minute_by_how_fast_it_comes_back() -> None:
    assert RateLimit(10_000, 9_999, 8.64).is_daily
    assert not RateLimit(60, 59, 1.0).is_daily
    assert not RateLimit(10_000, 10_000, 0.0).is_daily


def test_a_window_waits_for_the_oldest_to_leave_it() -> None:
    window = RateWindow(100)
    for second in range(95):
        assert window.earliest_fit(second / 10, 1) == second / 10
        window.record_request(second / 10, 1)
    assert window.earliest_fit(9.5, 1) == 61.0
    assert window.earliest_fit(9.5, 2) == pytest.approx(61.1)
    assert window.earliest_fit(61.0, 1) == 61.0


def test_the_lower_of_setting_and_header_binds() -> None:
    window = RateWindow(100)
    window.record_rate_limit(RateLimit(20, 20, 0.0), 0.0, 0.0)
    assert window.effective_limit == 20
    window.record_rate_limit(RateLimit(500, 500, 0.0), 0.0, 0.0)
    assert window.effective_limit == 100
    unset = RateWindow(0)
    assert unset.earliest_fit(5.0, 10**9) == 5.0
    unset.record_rate_limit(RateLimit(20, 20, 0.0), 0.0, 0.0)
    assert unset.effective_limit == 20


def test_what_others_use_is_heard_of_and_waited_for() -> None:
    window = RateWindow(100)
    window.record_rate_limit(RateLimit(100, 3, 58.2), 0.0, 0.0)  # 97 are used, and none of them by us
    at = window.earliest_fit(0.0, 1)
    assert at == pytest.approx(58.2 * 3 / 97)  # 6 are needed: one, and the 5 that are kept
    assert window.earliest_fit(58.2, 1) == 58.2


def test_what_was_asked_for_since_counts_against_what_was_heard() -> None:
    window = RateWindow(100)
    window.record_request(0.0, 10)
    window.record_rate_limit(RateLimit(100, 20, 48.0), sent_at=-1.0, now=1.0)  # the answer to an earlier call
    assert window.earliest_fit(1.0, 5) == 1.0
    assert window.earliest_fit(1.0, 6) > 1.0


def test_all_that_was_asked_for_since_counts() -> None:
    window = RateWindow(100)
    window.record_rate_limit(RateLimit(100, 20, 4_800.0), sent_at=0.0, now=0.0)
    window.record_request(1.0, 5)
    window.record_request(2.0, 5)
    assert window.earliest_fit(2.0, 5) == 2.0  # 20 were left: 5 are kept, and 10 were asked for since
    assert window.earliest_fit(2.0, 6) > 2.0


def test_a_header_counts_the_call_that_it_answers() -> None:
    window = RateWindow(100)
    window.record_request(0.0, 10)
    window.record_rate_limit(RateLimit(100, 20, 48.0), sent_at=0.0, now=1.0)
    assert window.earliest_fit(1.0, 15) == 1.0
    assert window.earliest_fit(1.0, 16) > 1.0


def test_a_header_of_an_unused_limit_has_nothing_to_wait_for() -> None:
    window = RateWindow(0)
    window.record_rate_limit(RateLimit(100, 100, 30.0), sent_at=0.0, now=0.0)
    window.record_request(1.0, 10)
    assert window.earliest_fit(1.0, 90) == 62.0  # by our own count alone
    used = RateWindow(0)
    used.record_rate_limit(RateLimit(100, 99, 30.0), sent_at=0.0, now=0.0)
    used.record_request(1.0, 10)
    assert used.earliest_fit(1.0, 85) == 30.0  # the one that is used comes back at the reset


@pytest.mark.parametrize("amount", [1, 45])
def test_a_header_from_a_clock_that_was_ahead_holds_nothing_back(amount: int) -> None:
    window = RateWindow(100)
    window.record_rate_limit(RateLimit(100, 50, 30.0), sent_at=500.0, now=500.0)
    assert window.earliest_fit(10.0, amount) == 10.0


def test_more_than_the_limit_waits_for_an_empty_window_only() -> None:
    window = RateWindow(100)
    assert window.earliest_fit(0.0, 1_000) == 0.0
    window.record_request(0.0, 10)
    assert window.earliest_fit(1.0, 1_000) == 61.0


def test_the_settings_bind_requests_and_tokens_apart() -> None:
    pacer = Pacer(rpm=20, tpm=1_000)
    for second in range(19):
        assert pacer.earliest_fit(second, 1) == second
        pacer.record_request(second, 1)
    assert pacer.earliest_fit(19.0, 1) == 61.0
    tokens = Pacer(rpm=0, tpm=1_000)
    tokens.record_request(0.0, 900)
    assert tokens.earliest_fit(1.0, 50) == 1.0
    assert tokens.earliest_fit(1.0, 51) == 61.0


SPENT = RateLimit(100, 5, 30.0)
"""What is left is what is kept for others: nothing fits before some has come back."""


@pytest.mark.parametrize("kind", ["requests", "tokens", "project_tokens"])
def test_each_header_binds_until_its_reset_from_its_arrival(kind: str) -> None:
    pacer = Pacer(rpm=0, tpm=0)
    pacer.record_headers(RateHeaders(**{kind: SPENT}), sent_at=1.0, now=2.0)
    assert pacer.earliest_fit(2.0, 1) == pytest.approx(2.0 + 30 / 95)
    assert pacer.earliest_fit(32.0, 1) == 32.0
    assert pacer.daily is None


def test_the_tokens_of_a_project_are_counted_from_the_call_on() -> None:
    pacer = Pacer(rpm=0, tpm=0)
    pacer.record_request(1.0, 30)
    pacer.record_headers(RateHeaders(project_tokens=RateLimit(100, 50, 3_000.0)), sent_at=1.0, now=2.0)
    pacer.record_request(3.0, 30)
    assert pacer.earliest_fit(3.0, 15) == 3.0
    assert pacer.earliest_fit(3.0, 16) > 3.0
    pacer.record_headers(RateHeaders(project_tokens=RateLimit(100, 50, 3_000.0)), sent_at=2.5, now=4.0)
    assert pacer.earliest_fit(4.0, 16) > 4.0  # the call of 3.0 is not in this header


def test_a_limit_of_a_day_is_kept_beside_the_minutes_until_another_header_or_a_pause() -> None:
    day, minute = RateLimit(10_000, 100, 80_000.0), RateLimit(100, 100, 0.0)
    pacer = Pacer(rpm=0, tpm=0)
    pacer.record_headers(RateHeaders(requests=day), sent_at=0.0, now=0.0)
    assert pacer.daily == day
    assert pacer.earliest_fit(0.0, 1) == 0.0
    pacer.record_headers(RateHeaders(tokens=SPENT), sent_at=1.0, now=1.0)
    assert pacer.daily == day
    pacer.record_headers(RateHeaders(requests=minute), sent_at=2.0, now=2.0)
    assert pacer.daily is None
    pacer.record_headers(RateHeaders(requests=day), sent_at=3.0, now=3.0)
    pacer.forget_daily_limit()
    assert pacer.daily is None


@pytest.mark.parametrize(
    ("lines", "hours", "workers"),
    [(0, 1, 2), (42_888, 168, 2), (42_888, 5, 4), (42_888, 2, 8), (42_888, 1, 16), (10**9, 1, 16), (5, 0, 16)],
)
def test_recommended_workers(lines: int, hours: float, workers: int) -> None:
    assert recommend_workers(lines, hours) == workers


def test_a_measured_rate_replaces_the_assumed_one() -> None:
    assert recommend_workers(42_888, 5, per_worker_s=0.25) == 10
    assert recommend_workers(3 * 3600, 1, per_worker_s=1.0) == 3
    assert recommend_workers(3 * 3600 + 1, 1, per_worker_s=1.0) == 4
    assert recommend_workers(100, 1, per_worker_s=0.0) == MOST_WORKERS


@pytest.mark.parametrize("setting", [*WORKERS, "auto", 1, 16, "7"])
def test_workers_that_there_are(setting: str | int) -> None:
    assert 1 <= build_workers(parse_workers(setting)).workers <= MOST_WORKERS


@pytest.mark.parametrize("setting", ["many", 0, 17, "0", "17", "-1", ""])
def test_workers_that_there_are_not(setting: str | int) -> None:
    with pytest.raises(
        ValueError, match="workers are conservative, moderate, aggressive, auto, or a number from 1 to 16"
    ):
        parse_workers(setting)


def test_auto_adds_a_worker_while_there_is_room_and_halves_on_a_refusal() -> None:
    workers = build_workers("auto")
    assert workers.workers == 2
    for _ in range(200):
        workers = workers.after_success(has_room=True)
    assert workers.workers == MOST_WORKERS
    workers = workers.after_refusal()
    assert workers.workers == 8
    for _ in range(50):
        workers = workers.after_success(has_room=False)
    assert workers.workers == 8


def test_refusals_leave_one_worker_at_least() -> None:
    workers = build_workers("auto").after_refusal()
    assert workers.workers == 1
    assert workers.after_refusal().workers == 1


def test_a_fixed_crew_stays() -> None:
    workers = build_workers("moderate")
    for _ in range(50):
        workers = workers.after_success(has_room=True)
    workers = workers.after_refusal()
    assert workers.workers == 4


@dataclass
class Limited:
    """A service with limits of a minute, counted in one of the three ways in use; its headers carry them."""

    rpm: int
    tpm: int
    how: str
    headers: bool = True
    log: deque[tuple[float, int]] = field(default_factory=deque)
    level: list[float] = field(default_factory=lambda: [0.0, 0.0])
    at: float = 0.0

    def take(self, now: float, tokens: int) -> tuple[bool, RateHeaders]:
        """Return whether a request is accepted, and the headers of the answer."""
        used = {"sliding": self._sliding, "fixed": self._fixed, "bucket": self._bucket}[self.how](now)
        fits = used[0] + 1 <= self.rpm and used[1] + tokens <= self.tpm
        if fits:
            self.log.append((now, tokens))
            self.level = [self.level[0] + 1, self.level[1] + tokens]
            used = [used[0] + 1, used[1] + tokens]
        if not self.headers:
            return fits, RateHeaders()
        return fits, RateHeaders(self._limit(self.rpm, used[0], now), self._limit(self.tpm, used[1], now))

    def _limit(self, limit: int, used: float, now: float) -> RateLimit:
        reset = used * 60.0 / limit if self.how == "bucket" else 60.0 - now % 60.0
        return RateLimit(limit, max(0, int(limit - used)), reset)

    def _sliding(self, now: float) -> list[float]:
        while self.log and self.log[0][0] <= now - 60.0:
            self.log.popleft()
        return [float(len(self.log)), float(sum(tokens for _, tokens in self.log))]

    def _fixed(self, now: float) -> list[float]:
        if now // 60 != self.at // 60:
            self.level = [0.0, 0.0]
        self.at = now
        return list(self.level)

    def _bucket(self, now: float) -> list[float]:
        passed = (now - self.at) / 60.0
        self.level = [max(0.0, self.level[0] - passed * self.rpm), max(0.0, self.level[1] - passed * self.tpm)]
        self.at = now
        return list(self.level)


@dataclass
class Run:
    """How a simulated lane went."""

    sent_at: list[float]
    refused: int


def simulate(
    service: Limited,
    pacer: Pacer,
    workers: Workers,
    latency: Callable[[], float],
    tokens: Callable[[], int],
    until: float,
) -> Run:
    """Apply the lane's rules with a simulated clock: send a call where it fits, wait where it does not."""
    now, run = 0.0, Run([], 0)
    busy: list[tuple[float, int, float]] = []
    arriving: list[tuple[float, int, int]] = []
    taken: dict[int, tuple[bool, RateHeaders]] = {}
    paced_until, order = 0.0, 0
    next_tokens = tokens()
    while now < until:
        while len(busy) < workers.workers:
            at = pacer.earliest_fit(now, next_tokens)
            if at > now:
                paced_until = at
                break
            pacer.record_request(now, next_tokens)
            latency_s = latency()
            heapq.heappush(busy, (now + latency_s, order, now))
            heapq.heappush(arriving, (now + latency_s * 0.3, order, next_tokens))
            order, next_tokens = order + 1, tokens()
        waits = [busy[0][0]] if busy else []
        if len(busy) < workers.workers:
            waits.append(pacer.earliest_fit(now, next_tokens))
        now = max(now, min(waits))
        while busy and busy[0][0] <= now:
            answered_at, call, sent_at = heapq.heappop(busy)
            while arriving and arriving[0][0] <= answered_at:  # the service sees the requests in the order of arrival
                arrived_at, arrived, amount = heapq.heappop(arriving)
                taken[arrived] = service.take(arrived_at, amount)
            fits, headers = taken.pop(call)
            pacer.record_headers(headers, sent_at, answered_at)
            if fits:
                run.sent_at.append(sent_at)
                workers = workers.after_success(has_room=paced_until <= sent_at)
            else:
                run.refused += 1
                workers = workers.after_refusal()
    return run


@pytest.mark.slow("20 s: hours of calls against a simulated limit, in each example")
@examples(4_000)
@example(48_406, 23, 100, 0.515625, "sliding", 3.0, False)  # needs a service that counts by arrival
@given(
    seed=st.integers(0, 2**32),
    rpm=st.integers(15, 30),
    tokens_per_request=st.integers(100, 2_000),
    tightness=st.floats(0.4, 2.5),
    how=st.sampled_from(["sliding", "fixed", "bucket"]),
    latency_s=st.floats(0.2, 3.0),
    headers=st.booleans(),
)
def test_limits_that_are_known_are_never_run_into_and_used_well(
    seed: int, rpm: int, tokens_per_request: int, tightness: float, how: str, latency_s: float, headers: bool
) -> None:
    dice = random.Random(seed)
    tpm = max(int(rpm * tokens_per_request * tightness), 3 * tokens_per_request)
    service = Limited(rpm, tpm, how, headers)
    workers = build_workers("auto")
    minutes = 6

    def latency() -> float:
        return latency_s * dice.uniform(0.8, 1.25)

    def tokens() -> int:
        return int(tokens_per_request * dice.uniform(0.8, 1.2))

    run = simulate(service, Pacer(rpm, tpm), workers, latency, tokens, minutes * 61.0)
    assert run.refused == 0
    attainable = min(SHARE * rpm / 60, SHARE * tpm / tokens_per_request / 60, MOST_WORKERS / latency_s)
    steady = [at for at in run.sent_at if at >= 61.0]  # `auto` has found its number by then
    whole = minutes  # what is left of a window does not hold another request
    assert len(steady) >= 0.9 * attainable * (minutes - 1) * 61.0 - whole
