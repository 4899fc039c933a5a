"""The limits of the direct lane: what each ended call means for the next ones, the limit of a day, and warnings."""

from collections.abc import Sequence
from typing import assert_never

from batcher.core import events
from batcher.core.direct.decide import (
    DAILY,
    Block,
    DailyUse,
    LaneHistory,
    LanePolicy,
    NoChange,
    PauseForQuota,
    PauseLane,
    count_calls_over_daily_share,
    decide_after_call,
    decide_daily_allowance,
)
from batcher.core.direct.flex import is_flex_full
from batcher.core.direct.pacing import DAY_S, MINUTE_S, Pacer, RateHeaders, parse_rate_headers
from batcher.core.direct.workers import Workers
from batcher.core.snapshot import Pause
from batcher.lanes.context import LaneContext
from batcher.lanes.direct.outcomes import CallResult
from batcher.state import direct_calls, facts, quota_pauses
from batcher.state.db.transaction import Transaction
from batcher.state.snapshot import latest_valid_wait

LOW_SHARE = 0.10
"""The user is warned when less than this share of a rate limit is left."""
WARNING_INTERVAL_S = 60.0
"""Seconds between two of these warnings at least."""


class LaneLimits:
    """Learns from each ended call how fast the lane may go, and carries out what the policy decides."""

    def __init__(self, context: LaneContext, pacer: Pacer, workers: Workers) -> None:
        self._context, self._pacer = context, pacer
        self._policy = LanePolicy(context.rules, context.config.pause.duration_hours * 3600)
        self.history = LaneHistory(workers)
        """What the lane remembers of its calls."""
        self._answers = 0
        """Calls that have ended."""
        self._busy_s = 0.0
        """Seconds that these calls took, added up."""
        self._warned_at = float("-inf")

    @property
    def is_flex_over(self) -> bool:
        """Whether the lane asks without flex processing from now on, as that has refused it for too long."""
        return self._context.config.direct.flex_fallback and is_flex_full(self._context.rules, self.history.flex)

    def load_recent_calls(self, tx: Transaction) -> None:
        """Count the calls of the last minute, which an earlier process has made."""
        for call in direct_calls.load_recent_calls(tx, tx.now - MINUTE_S):
            self._pacer.record_request(call.sent_at, call.tokens)

    def record_results(self, tx: Transaction, results: Sequence[CallResult], paced_until: float) -> None:
        """Carry out what these calls mean for the next ones, and record their rate limits.

        paced_until: until when the last line had to wait for a window of the minute (epoch seconds).
        """
        quota_pauses.record_header_samples(
            tx, self._context.config.model.name, [self._record_result(tx, each, paced_until) for each in results]
        )

    def _record_result(self, tx: Transaction, result: CallResult, paced_until: float) -> RateHeaders:
        """Return the rate limits of the answer, after all else of it is recorded."""
        outcome = result.outcome
        sent_at = outcome.request.sent_at
        self._answers += 1
        self._busy_s += max(0.0, outcome.answered_at - sent_at)
        response = outcome.answer or outcome.error
        headers = parse_rate_headers(response.headers if response else {})
        self._pacer.record_headers(headers, sent_at, outcome.answered_at)
        self._apply_policy(tx, result, paced_until)
        self._report_rate_limits(headers, tx.now)
        return headers

    def _apply_policy(self, tx: Transaction, result: CallResult, paced_until: float) -> None:
        change, self.history = decide_after_call(
            self._policy, self.history, result.to_ended_call(paced_until), tx.now, self._context.jitter()
        )
        match change:
            case NoChange():
                pass
            case Block(delay_s, reason):
                facts.extend_wait(tx, facts.WaitFact.DIRECT, tx.now + delay_s)
                tx.record_event("direct_waits", f"{delay_s:.0f} s: {reason}")
                self._context.notify(events.CallFailed(call="direct", reason=reason))
            case PauseLane():
                self._pause_lane(tx, change)
            case PauseForQuota(wait_s):
                request = result.outcome.request
                said = result.failure.message if result.failure is not None else ""
                quota_pauses.record_quota_failure(
                    tx, self._context.quota_rule, f"call {request.call}", said, request.sent_at, wait_s
                )
            case _:
                assert_never(change)

    def _pause_lane(self, tx: Transaction, pause: PauseLane) -> None:
        quota_pauses.pause_sending(tx, "direct", pause.reason, tx.now + pause.duration_s, pause.details)

    def _report_rate_limits(self, headers: RateHeaders, now: float) -> None:
        """Report the headers of every `quota_every`-th answer, and warn at most once a minute where little is left."""
        logging = self._context.config.logging
        if logging.quota_every and self._answers % logging.quota_every == 0:
            self._context.notify(events.RateLimitsSeen(answers=self._answers, headers=headers))
        share = headers.lowest_remaining_share
        if logging.rate_limit_warnings and share < LOW_SHARE and now - self._warned_at >= WARNING_INTERVAL_S:
            self._warned_at = now
            self._context.notify(events.RateLimitLow(share=share))

    def load_pauses(self, tx: Transaction) -> tuple[Pause, ...]:
        """Return the open pauses, without those of this lane whose time is over, which end here."""
        quota_pauses.end_lapsed_direct_pauses(tx)
        return quota_pauses.load_open_pauses(tx, latest_valid_wait(tx, self._context.config))

    def apply_daily_limit(self, tx: Transaction, running: int) -> int | None:
        """Return the requests that the day leaves (None: it has no limit); pause the lane where none are left.

        running: calls in progress.
        """
        limit, threshold = self._context.config.direct.daily_requests, self._context.config.pause.threshold
        header = self._pacer.daily
        if not limit and header is None:
            return None
        since = tx.now - DAY_S
        used = direct_calls.count_calls_since(tx, since) if limit else 0
        over = count_calls_over_daily_share(limit, threshold, used)
        allowance = decide_daily_allowance(
            DailyUse(
                limit=limit,
                threshold=threshold,
                used=used,
                nth_call_at=direct_calls.find_nth_call_time(tx, since, over) if limit and over >= 0 else None,
                header=header,
                running=running,
                is_paused=any(p.reason == DAILY and (p.until or 0.0) > tx.now for p in self.load_pauses(tx)),
            ),
            tx.now,
        )
        if allowance.pause is not None:
            self._pause_lane(tx, allowance.pause)
            self._pacer.forget_daily_limit()
        return allowance.left

    def record_worker_rate(self, tx: Transaction) -> None:
        """Record what one worker does in a second, for the next recommendation of a number of workers."""
        if self._answers and self._busy_s > 0:
            facts.record_worker_rate(tx, self._answers / self._busy_s)
