"""What becomes of the failed lines of one batch, with the batch as a whole in view. Pure.

A line alone cannot tell a storm of rate limits from its own bad luck, nor a wrong setup from a wrong line.
"""

from collections.abc import Sequence
from typing import NamedTuple

from batcher.core.failures import FailureClass
from batcher.core.lifecycle import ArtistState, BatchStatus
from batcher.core.retry import Jitter, RetryPolicy, RetryRules, retry_delay_seconds


class Verdict(NamedTuple):
    """What becomes of a failed line: its next state, the time it waits for (epoch seconds), and why."""

    state: ArtistState
    wait_until: float | None = None
    counted: bool = True


def decide_line_verdict(
    rules: RetryRules, failure: FailureClass, tries: int, attempts: int, now: float, jitter: float
) -> Verdict:
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
    return _retry_verdict(policy, tries, now, jitter, rules.jitter_share)


def _retry_verdict(policy: RetryPolicy, tries: int, now: float, jitter: float, share: float) -> Verdict:
    if policy.base_s <= 0:
        return Verdict(ArtistState.READY)
    return Verdict(ArtistState.WAITING, now + retry_delay_seconds(policy, tries, jitter, share))


def storm_verdict(rules: RetryRules, now: float, jitter: float) -> Verdict:
    """The verdict when a rate limit hit over 5% of a batch: everyone waits the base delay, and no try is spent."""
    policy = rules.policies[FailureClass.RATE_LIMIT]
    return Verdict(ArtistState.WAITING, now + retry_delay_seconds(policy, 0, jitter, rules.jitter_share), counted=False)


Counts = Sequence[tuple[FailureClass, str, int]]
"""Failed lines by class and code."""

FREE_STORMS = 10
"""How often a storm costs a line no try: without an end, a line that is always limited would go round for ever."""


def classify_missing_line(status: str, completed: int, read: int, counted: bool = True) -> tuple[FailureClass, str]:
    """The class and the code of a line that no file holds, by how its batch ended. counted: the service told counts."""
    uncertain = status == BatchStatus.COMPLETED and not counted
    if completed > read or uncertain or status == BatchStatus.OVERDUE:
        return FailureClass.MISSING, "perhaps_paid"
    if status == BatchStatus.EXPIRED:
        return FailureClass.EXPIRED, "batch_expired"
    if status == BatchStatus.CANCELLED:
        return FailureClass.CANCELLED, "batch_cancelled"
    return FailureClass.SERVER, "no_result"


def find_setup_problem(rules: RetryRules, counts: Counts, bios: int, bios_of_job: int) -> str:
    """Why the job must stop: the setup refused, or one reason for too many lines. "" when it goes on.

    bios: of this batch; bios_of_job: of all batches so far.
    """
    lines = bios + sum(n for _, _, n in counts)
    for failure, code, n in counts:
        if _is_setup_fault(rules, failure, n, lines, bios_of_job):
            what = "refused" if failure in {FailureClass.SETUP, FailureClass.INVALID} else "answered of no use"
            return f"{n:,} of {lines:,} lines were {what} ({code}); mend the setup or the prompt and run again"
    return ""


def _is_setup_fault(rules: RetryRules, failure: FailureClass, n: int, lines: int, bios_of_job: int) -> bool:
    if failure is FailureClass.SETUP and not bios_of_job:
        return True
    if (
        failure is FailureClass.INVALID and not bios_of_job and n == lines > 1
    ):  # a first small trial that is refused whole
        return True
    if n < rules.setup_lines or failure not in {FailureClass.SETUP, FailureClass.INVALID, FailureClass.UNUSABLE}:
        return False
    # Answers of no use come and go by chance; they are the prompt's fault where nothing has ever succeeded.
    return not bios_of_job or (failure is not FailureClass.UNUSABLE and n > rules.setup_share * lines)


class VerdictDecider:
    """Decides the failed lines of one batch."""

    def __init__(self, rules: RetryRules, jitter: Jitter, now: float, counts: Counts, bios: int) -> None:
        self._rules, self._jitter, self._now = rules, jitter, now
        lines = bios + sum(n for _, _, n in counts)
        limited = sum(n for failure, _, n in counts if failure is FailureClass.RATE_LIMIT)
        self._storm = limited > rules.storm_share * lines
        self.stopped = False
        """The job stops for the setup: no line pays for it."""
        self.cancelled = False
        """The user cancels this shard: nothing of it goes again by itself."""

    def decide_verdict(self, failure: FailureClass, attempts: int, tries: int, free: int) -> Verdict:
        """The verdict on one line. tries: earlier failures of this class that counted; free: those that did not."""
        verdict = self._failure_verdict(failure, attempts, tries, free)
        if self.cancelled and verdict.state in {ArtistState.READY, ArtistState.WAITING}:
            return Verdict(ArtistState.HELD, counted=verdict.counted)
        return verdict

    def _failure_verdict(self, failure: FailureClass, attempts: int, tries: int, free: int) -> Verdict:
        if self.stopped and failure in {FailureClass.SETUP, FailureClass.INVALID, FailureClass.UNUSABLE}:
            return Verdict(ArtistState.READY, counted=False)
        if failure is FailureClass.RATE_LIMIT and self._storm and free < FREE_STORMS:
            return storm_verdict(self._rules, self._now, self._jitter())
        if failure is FailureClass.SETUP:
            # A few lines refused as if by the setup, beside lines that were answered: tried again like server errors.
            failure = FailureClass.SERVER
        return decide_line_verdict(self._rules, failure, tries, attempts, self._now, self._jitter())
