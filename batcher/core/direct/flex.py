"""Flex processing: half price on the synchronous endpoint, refused without charge where it has no room. Pure.

A line that is refused waits, longer each time, and it costs no try. The lane as a whole waits only where many refusals
follow on one another. Where it may fall back, a line that was refused for too long, and any line once the whole lane
was, is asked for without flex, at the standard price.
"""

from typing import NamedTuple

from batcher.core.failures import FailureClass
from batcher.core.lifecycle import ArtistState
from batcher.core.retry import RetryRules, delay_after_failure
from batcher.core.verdicts import Verdict

FLEX = "flex"
"""The name of the tier, in requests and in answers."""
FREE_REFUSALS = 5
"""Refusals in a row before the whole lane waits. Where one call in five is refused, that many come in a row once in
3,000 calls."""


class FlexHistory(NamedTuple):
    """What the lane remembers of the refusals of flex."""

    refusals: int = 0
    """Calls refused in a row, since flex last answered one."""
    refused_at: float = float("-inf")
    """When the last refusal was recorded. Calls that were sent before it belong to the same incident."""

    def after_refusal(self, now: float) -> "FlexHistory":
        """Return the history with one more refusal."""
        return FlexHistory(self.refusals + 1, now)


def find_lane_wait(rules: RetryRules, history: FlexHistory, jitter: float, wait_s: float | None) -> float | None:
    """Return the seconds that the lane waits after the last refusal of the history; None: only the line waits.

    jitter, wait_s: as for `delay_after_failure`.
    """
    n = history.refusals - FREE_REFUSALS - 1
    return None if n < 0 else delay_after_failure(rules, FailureClass.RESOURCE_UNAVAILABLE, n, jitter, wait_s)


def is_flex_full(rules: RetryRules, history: FlexHistory) -> bool:
    """Return whether the whole lane was refused so often in a row that it falls back, where it may."""
    return is_refused_too_often(rules, history.refusals - FREE_REFUSALS)


def is_refused_too_often(rules: RetryRules, refusals: int) -> bool:
    """Return whether these refusals are more than the tries that the failure table allows."""
    tries = rules.policies[FailureClass.RESOURCE_UNAVAILABLE].tries
    return tries is not None and refusals > tries


def decide_refused_line(
    rules: RetryRules, refusals: int, falls_back: bool, now: float, jitter: float, wait_s: float | None
) -> Verdict:
    """Return what becomes of a line that flex refused. It was not executed, so it costs no try, however often.

    refusals: earlier ones of this line. falls_back: whether it may be asked for without flex.
    """
    if falls_back and is_refused_too_often(rules, refusals + 1):
        return Verdict(ArtistState.READY, counted=False)
    delay_s = delay_after_failure(rules, FailureClass.RESOURCE_UNAVAILABLE, refusals, jitter, wait_s)
    return Verdict(ArtistState.WAITING, now + delay_s, counted=False)
