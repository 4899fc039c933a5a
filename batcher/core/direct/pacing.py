"""How fast the direct lane may go: rate-limit headers, and the windows of a minute. Pure.

A call is made only where it fits into what is left of the last minute, by our own count and by the service's last
headers. So a limit that is known is not exceeded.
"""

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

SHARE = 0.95
"""The share of a minute's limit that is used. The rest covers other users of the key and differences of the clocks."""
MINUTE_S = 61.0
"""The length of a window in seconds: a minute, and one second of travel, as the service counts a call on arrival."""
LONGEST_MINUTE_S = 3600.0
"""Seconds. A limit whose window is longer than this is a limit of a day."""
DAY_S = 24 * 3600.0
"""Seconds of a day."""
LARGEST_LIMIT = 10**12
"""Requests or tokens. A header with a larger limit makes no sense and is ignored."""
LONGEST_RESET_S = 7 * DAY_S
"""Seconds. A header with a longer time to its reset makes no sense and is ignored."""

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY_S}
_PART = re.compile(r"(\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})(ns|us|µs|μs|ms|s|m|h|d)", re.ASCII)
_PLAIN = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,15}")


def parse_go_duration(text: str) -> float | None:
    """Return the seconds of a duration as Go writes it: `0s`, `236ms`, `8.64s`, `6m0s`, `1h2m3.5s`.

    A plain number is in seconds. None for any other text, and for what is too long for a reset (over a week).
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
    """One limit from the headers of an answer, in requests or in tokens."""

    limit: int
    """What the whole window allows."""
    remaining: int
    """What is left of the limit."""
    reset_s: float | None
    """Seconds until the whole limit is available; None where no header says so."""

    @property
    def period_s(self) -> float:
        """The seconds in which the whole limit is restored; 60 where nothing of it is used, or no reset is known."""
        used = self.limit - self.remaining
        return self.reset_s * self.limit / used if self.reset_s and used > 0 else 60.0

    @property
    def is_daily(self) -> bool:
        """Whether this is a limit of a day: accounts of the lowest tiers have one for requests."""
        return self.period_s > LONGEST_MINUTE_S


class RateHeaders(NamedTuple):
    """The x-ratelimit headers of one answer; None for a limit that is missing or makes no sense."""

    requests: RateLimit | None = None
    tokens: RateLimit | None = None
    project_tokens: RateLimit | None = None

    @property
    def lowest_remaining_share(self) -> float:
        """The part that is left of the scarcest limit, from 0 to 1; 1 where there is no limit."""
        limits = [each for each in (self.requests, self.tokens, self.project_tokens) if each is not None]
        return min((each.remaining / each.limit for each in limits), default=1.0)


def parse_rate_headers(headers: Mapping[str, str]) -> RateHeaders:
    """Return the rate limits in the headers of an answer. Header names are in lower case."""
    return RateHeaders(*(_parse_rate_limit(headers, kind) for kind in ("requests", "tokens", "project-tokens")))


def _parse_rate_limit(headers: Mapping[str, str], kind: str) -> RateLimit | None:
    texts = [headers.get(f"x-ratelimit-{what}-{kind}", "").strip() for what in ("limit", "remaining")]
    if not all(_WHOLE.fullmatch(text) for text in texts):
        return None
    limit, remaining = (int(text) for text in texts)
    if not 0 < limit <= LARGEST_LIMIT or remaining > limit:
        return None
    return RateLimit(limit, remaining, parse_go_duration(headers.get(f"x-ratelimit-reset-{kind}", "")))


@dataclass(slots=True)
class RateWindow:
    """The requests (or tokens) of the last minute, against one limit."""

    limit: int
    """The limit from the settings (0: none); a header may lower it."""
    _log: deque[tuple[float, int]] = field(default_factory=deque)
    """The time and the amount of each request of the last minute."""
    _used: int = 0
    """The sum of the amounts in the log."""
    _header: RateLimit | None = None
    """The limit that the service has sent last."""
    _header_at: float = 0.0
    """When that header arrived."""
    _sent_since: int = 0
    """The amount sent after the request whose answer carried that header: the header does not count it."""

    @property
    def effective_limit(self) -> int:
        """The limit in force; 0: none."""
        announced = self._header.limit if self._header is not None else 0
        return min(self.limit, announced) if self.limit and announced else self.limit or announced

    def earliest_fit(self, now: float, amount: int) -> float:
        """Return the earliest time (epoch seconds) at which `amount` may be sent; `now` where it fits already.

        An amount over the limit waits until the window is empty; the service then refuses it itself.
        """
        if not self.effective_limit:
            return now
        self._expire_requests(now)
        return max(self._earliest_by_own_count(now, amount), self._earliest_by_header(now, amount))

    def _earliest_by_own_count(self, now: float, amount: int) -> float:
        excess = self._used + amount - int(self.effective_limit * SHARE)
        at = now
        for sent_at, sent in self._log:
            if excess <= 0:
                break
            excess -= sent
            at = sent_at + MINUTE_S
        return at

    def _earliest_by_header(self, now: float, amount: int) -> float:
        """Return the time by the last header: what was used then is restored evenly until its reset."""
        header = self._header
        if header is None or header.reset_s is None:
            return now
        full_at = self._header_at + header.reset_s
        kept = header.limit - int(header.limit * SHARE)
        lacking = min(amount + kept, header.limit) + self._sent_since - header.remaining
        used = header.limit - header.remaining
        if now >= full_at or lacking <= 0 or used <= 0:
            return now
        return max(now, min(full_at, self._header_at + header.reset_s * lacking / used))

    def record_request(self, now: float, amount: int) -> None:
        """Count what is sent now."""
        self._log.append((now, amount))
        self._used += amount
        self._sent_since += amount

    def record_rate_limit(self, header: RateLimit, sent_at: float, now: float) -> None:
        """Record the limit in an answer that arrived `now` to a request of `sent_at`."""
        self._expire_requests(now)
        self._header, self._header_at = header, now
        self._sent_since = sum(amount for at, amount in self._log if at > sent_at)

    def _expire_requests(self, now: float) -> None:
        while self._log and not now - MINUTE_S < self._log[0][0] <= now:  # or the clock was set back
            self._used -= self._log.popleft()[1]


@dataclass(slots=True)
class Pacer:
    """The windows of requests and tokens, and the newest daily limit of the headers."""

    rpm: int
    """Requests a minute from the settings; 0: none."""
    tpm: int
    """Tokens a minute from the settings; 0: none."""
    daily: RateLimit | None = None
    """The newest limit on the requests of a day; None where the account has none."""
    _requests: RateWindow = field(init=False)
    _tokens: RateWindow = field(init=False)
    _project: RateWindow = field(init=False)

    def __post_init__(self) -> None:
        self._requests, self._tokens, self._project = RateWindow(self.rpm), RateWindow(self.tpm), RateWindow(0)

    def earliest_fit(self, now: float, tokens: int) -> float:
        """Return the earliest time (epoch seconds) at which a request of `tokens` tokens may be sent."""
        windows = ((self._requests, 1), (self._tokens, tokens), (self._project, tokens))
        return max(window.earliest_fit(now, amount) for window, amount in windows)

    def record_request(self, now: float, tokens: int) -> None:
        """Count a request that is sent now."""
        self._requests.record_request(now, 1)
        self._tokens.record_request(now, tokens)
        self._project.record_request(now, tokens)

    def record_headers(self, headers: RateHeaders, sent_at: float, now: float) -> None:
        """Record the headers of an answer that arrived `now` to a request of `sent_at`."""
        if headers.requests is not None:
            self.daily = headers.requests if headers.requests.is_daily else None
            if self.daily is None:
                self._requests.record_rate_limit(headers.requests, sent_at, now)
        if headers.tokens is not None:
            self._tokens.record_rate_limit(headers.tokens, sent_at, now)
        if headers.project_tokens is not None:
            self._project.record_rate_limit(headers.project_tokens, sent_at, now)

    def forget_daily_limit(self) -> None:
        """Forget the header of the daily limit: after a pause only a fresh one counts."""
        self.daily = None
