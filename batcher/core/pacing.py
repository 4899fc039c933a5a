"""How fast the direct lane may go: the rate-limit headers, the windows of a minute. Pure.

A call is asked for only where it fits into what is left of the last minute, by our own count and by what the service
last said; so a limit that is known is not run into.
"""

import math
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

SHARE = 0.95
"""Of a minute's limit; the rest is for what others and the clocks do."""
MINUTE_S = 61.0
"""A minute, and a second in which a call may be on its way: the service counts it when it comes."""
LONGEST_MINUTE_S = 3600.0
"""A limit whose window is longer is one of a day."""
DAY_S = 24 * 3600.0
LARGEST_LIMIT = 10**12
LONGEST_RESET_S = 7 * DAY_S
"""Limits and times to a reset beyond these are nonsense."""

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY_S}
_PART = re.compile(r"(\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})(ns|us|µs|μs|ms|s|m|h|d)", re.ASCII)
_PLAIN = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)


def parse_go_duration(text: str) -> float | None:
    """Seconds of a duration as Go writes it: `0s`, `236ms`, `8.64s`, `6m0s`, `1h2m3.5s`; plain numbers are seconds.

    None for anything else, and for what no reset can be (over a week).
    """
    stripped = text.strip()
    if _PLAIN.fullmatch(stripped):
        seconds = float(stripped)
    else:
        parts = _PART.findall(stripped)
        if not parts or "".join(number + unit for number, unit in parts) != stripped:
            return None
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return seconds if seconds <= LONGEST_RESET_S else None


class RateLimit(NamedTuple):
    """One limit as an answer tells it: `remaining` of `limit`, full again in `reset_s` seconds (None: not told)."""

    limit: int
    remaining: int
    reset_s: float | None

    @property
    def period_s(self) -> float:
        """The seconds in which the whole limit comes back: that of a minute or of a day; a minute where it is full."""
        used = self.limit - self.remaining
        return self.reset_s * self.limit / used if self.reset_s and used > 0 else 60.0

    @property
    def is_daily(self) -> bool:
        """Whether this is a limit of a day: accounts of the first tiers have one for the requests."""
        return self.period_s > LONGEST_MINUTE_S


class RateHeaders(NamedTuple):
    """The x-ratelimit headers of one answer; None for what is missing or makes no sense."""

    requests: RateLimit | None = None
    tokens: RateLimit | None = None
    project_tokens: RateLimit | None = None

    @property
    def lowest_remaining_share(self) -> float:
        """What is left of the scarcest limit, as a share of it; 1 where none is told."""
        told = [each for each in (self.requests, self.tokens, self.project_tokens) if each is not None]
        return min((each.remaining / each.limit for each in told), default=1.0)


def parse_rate_headers(headers: Mapping[str, str]) -> RateHeaders:
    """The limits that an answer tells. Header names in lower case."""
    return RateHeaders(*(_parse_rate_limit(headers, kind) for kind in ("requests", "tokens", "project-tokens")))


def _parse_rate_limit(headers: Mapping[str, str], kind: str) -> RateLimit | None:
    limit, remaining = (
        _parse_whole_number(headers.get(f"x-ratelimit-{what}-{kind}", "")) for what in ("limit", "remaining")
    )
    if not limit or remaining is None or not 0 <= remaining <= limit <= LARGEST_LIMIT:
        return None
    return RateLimit(limit, remaining, parse_go_duration(headers.get(f"x-ratelimit-reset-{kind}", "")))


def _parse_whole_number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text.strip()) else None


@dataclass(slots=True)
class RateWindow:
    """What was asked for within the last minute, against one limit (0: none is known)."""

    limit: int
    """The bound from the settings; an answer may tell a lower one."""
    _log: deque[tuple[float, int]] = field(default_factory=deque)
    _used: int = 0
    _told: RateLimit | None = None
    _told_at: float = 0.0
    _told_since: int = 0
    """What was asked for since the call went out whose answer told the allowance."""

    @property
    def effective_limit(self) -> int:
        """The limit in force; 0: none."""
        told = self._told.limit if self._told is not None else 0
        return min(self.limit, told) if self.limit and told else self.limit or told

    def earliest_fit(self, now: float, amount: int) -> float:
        """The earliest time at which `amount` may be asked for: `now`, or later. What can never fit waits for an empty
        window only: the service's own word on it is then worth having."""
        if not self.effective_limit:
            return now
        self._expire_requests(now)
        return max(self._earliest_by_own_count(now, amount), self._earliest_by_service_limit(now, amount))

    def _earliest_by_own_count(self, now: float, amount: int) -> float:
        excess = self._used + amount - int(self.effective_limit * SHARE)
        at = now
        for asked_at, asked in self._log:
            if excess <= 0:
                break
            excess -= asked
            at = asked_at + MINUTE_S
        return at

    def _earliest_by_service_limit(self, now: float, amount: int) -> float:
        """By what the service last said: what it had left then comes back evenly until its reset."""
        told = self._told
        if told is None or told.reset_s is None:
            return now
        full_at = self._told_at + told.reset_s
        kept = told.limit - int(told.limit * SHARE)
        lacking = min(amount + kept, told.limit) + self._told_since - told.remaining
        used = told.limit - told.remaining
        if now >= full_at or lacking <= 0 or used <= 0:
            return now
        return max(now, min(full_at, self._told_at + told.reset_s * lacking / used))

    def record_request(self, now: float, amount: int) -> None:
        """Counts what is asked for now."""
        self._log.append((now, amount))
        self._used += amount
        self._told_since += amount

    def record_rate_limit(self, told: RateLimit, asked_at: float, now: float) -> None:
        """Takes in what an answer tells that came `now` to a call of `asked_at`."""
        self._expire_requests(now)
        self._told, self._told_at = told, now
        self._told_since = sum(amount for at, amount in self._log if at > asked_at)

    def _expire_requests(self, now: float) -> None:
        while self._log and not now - MINUTE_S < self._log[0][0] <= now:  # or the clock was set back
            self._used -= self._log.popleft()[1]


@dataclass(slots=True)
class Pacer:
    """The windows of requests and tokens, and what was heard of a daily limit."""

    rpm: int
    tpm: int
    daily: RateLimit | None = None
    """The last word on the requests of a day, where the account has such a limit."""
    heard: RateHeaders = field(default_factory=RateHeaders)
    """The newest headers."""
    _requests: RateWindow = field(init=False)
    _tokens: RateWindow = field(init=False)
    _project: RateWindow = field(init=False)

    def __post_init__(self) -> None:
        self._requests, self._tokens, self._project = RateWindow(self.rpm), RateWindow(self.tpm), RateWindow(0)

    def earliest_fit(self, now: float, tokens: int) -> float:
        """The earliest time at which one request of so many tokens may be made."""
        windows = ((self._requests, 1), (self._tokens, tokens), (self._project, tokens))
        return max(window.earliest_fit(now, amount) for window, amount in windows)

    def record_request(self, now: float, tokens: int) -> None:
        """Counts a request that is made now."""
        self._requests.record_request(now, 1)
        self._tokens.record_request(now, tokens)
        self._project.record_request(now, tokens)

    def record_headers(self, heard: RateHeaders, asked_at: float, now: float) -> None:
        """Takes in the headers that came `now` with the answer to a request of `asked_at`."""
        self.heard = heard
        if heard.requests is not None:
            self.daily = heard.requests if heard.requests.is_daily else None
            if self.daily is None:
                self._requests.record_rate_limit(heard.requests, asked_at, now)
        if heard.tokens is not None:
            self._tokens.record_rate_limit(heard.tokens, asked_at, now)
        if heard.project_tokens is not None:
            self._project.record_rate_limit(heard.project_tokens, asked_at, now)


WORKERS: Mapping[str, int] = {"conservative": 2, "moderate": 4, "aggressive": 8}
"""Calls at once, by name."""

AUTO = "auto"

FEWEST_WORKERS, MOST_WORKERS = 2, 16

LINES_PER_WORKER_S = 0.75
"""Lines that one worker does in a second, before it is measured here (an earlier run: 240 a minute with 4; its plan
counted with 0.75)."""


def parse_workers(wanted: str | int) -> str | int:
    """The setting, with a number that came as text as a number. Raises ValueError for what is none."""
    if isinstance(wanted, str) and wanted.isdecimal():
        wanted = int(wanted)
    if wanted in WORKERS or wanted == AUTO or (isinstance(wanted, int) and 1 <= wanted <= MOST_WORKERS):
        return wanted
    raise ValueError(f"workers are {', '.join(WORKERS)}, {AUTO}, or a number from 1 to {MOST_WORKERS}")


def recommend_workers(lines: int, hours: float, per_worker_s: float = LINES_PER_WORKER_S) -> int:
    """Workers that do so many lines in so many hours: rounded up, 2 at least and 16 at most."""
    needed = lines / (hours * 3600.0) / per_worker_s if hours > 0 and per_worker_s > 0 else math.inf
    return FEWEST_WORKERS if needed <= FEWEST_WORKERS else math.ceil(min(needed, MOST_WORKERS))


@dataclass(slots=True)
class Workers:
    """How many calls run at once: a fixed number, or one that finds its own."""

    workers: int
    adapts: bool = False
    _succeeded: int = 0
    """Successes since the number last changed."""

    def record_success(self, room: bool) -> None:
        """A call was answered. room: nothing had to wait for a window since."""
        self._succeeded += 1
        if self.adapts and room and self._succeeded >= self.workers and self.workers < MOST_WORKERS:
            self.workers += 1
            self._succeeded = 0

    def record_refusal(self) -> None:
        """A call was refused for its rate: half of them."""
        if self.adapts:
            self.workers = max(1, self.workers // 2)
        self._succeeded = 0


def build_workers(wanted: str | int) -> Workers:
    """The crew of a setting: a name, a number, or `auto`."""
    if wanted == AUTO:
        return Workers(FEWEST_WORKERS, adapts=True)
    return Workers(WORKERS[wanted] if isinstance(wanted, str) else wanted)
