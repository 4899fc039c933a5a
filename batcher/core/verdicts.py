"""What becomes of failed lines and refused shards, as pure functions of counts and settings.

Failed lines are decided with their whole batch in view: a line alone cannot distinguish a storm of rate limits from
bad luck of its own, nor a wrong setup from a wrong line.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from batcher.core.failures import FailureClass
from batcher.core.lifecycle import ArtistState, BatchStatus
from batcher.core.retry import Jitter, RetryRules, retry_delay_seconds


class Verdict(NamedTuple):
    """What becomes of a failed line: its next state, the time it waits for (epoch seconds), and if it cost a try."""

    state: ArtistState
    wait_until: float | None = None
    counted: bool = True


def decide_line_verdict(
    rules: RetryRules, failure: FailureClass, tries: int, attempts: int, now: float, jitter: float
) -> Verdict:
    """Return the verdict on a line that failed with `failure` at `now` (epoch seconds).

    tries: earlier failures of this class that counted; attempts: earlier attempts that counted, of every class.
    jitter: a number in [0, 1).
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
    if policy.base_s <= 0:
        return Verdict(ArtistState.READY)
    return Verdict(ArtistState.WAITING, now + retry_delay_seconds(policy, tries, jitter, rules.jitter_share))


def storm_verdict(rules: RetryRules, now: float, jitter: float) -> Verdict:
    """Return the verdict on a rate-limited line in a storm: it waits the base delay, and no try is spent."""
    policy = rules.policies[FailureClass.RATE_LIMIT]
    return Verdict(ArtistState.WAITING, now + retry_delay_seconds(policy, 0, jitter, rules.jitter_share), counted=False)


FailureCounts = Sequence[tuple[FailureClass, str, int]]
"""Failed lines of a batch: the class, the service's code and the number of lines, for each class and code."""

FREE_STORMS = 10
"""How many storms are free of charge for a line. They are bounded: else a line that is always limited would be retried
for ever."""


class BatchReading(NamedTuple):
    """What the result files of an ended batch hold of its shard's lines, beside what the service counts."""

    status: str
    """How the batch ended."""
    total: int
    completed: int
    failed: int
    """The service's counts; `total` is 0 where it reports none."""
    outputs: int
    """Lines that the output file holds."""
    errors: int
    """Lines that the error file alone holds."""
    unreported: int
    """Lines that neither file holds, nor held at an earlier reading."""
    absent: int
    """Those of them that this batch has to decide."""
    is_damaged: bool = False
    """Whether the output file could not be read, or lines of it could not: then an absent line may stand there."""
    is_cancel_wanted: bool = False
    """Whether we want the batch cancelled."""


class Shortage(Enum):
    """What the files of an ended batch lack, and so how long they are read again."""

    NONE = auto()
    """Nothing: an absent line was not executed."""
    LATE = auto()
    """Perhaps all: a batch that expired or was cancelled may show its files late. A day is waited for them."""
    UNCLEAR = auto()
    """The counts do not tell what an absent line is: readings that agree decide."""
    PAID = auto()
    """An absent line was executed, or that is unknown: after a day it is held as perhaps paid."""


def find_shortage(reading: BatchReading) -> Shortage:
    """Return what the files lack. An absent line is only believed where independent numbers agree."""
    r = reading
    if not r.unreported or r.status == BatchStatus.OVERDUE:  # what is overdue is held at once
        return Shortage.NONE
    if r.completed > r.outputs or (r.absent and r.is_damaged):
        return Shortage.PAID
    adds_up = r.total > 0 and (r.completed, r.failed, r.total) == (r.outputs, r.errors, r.outputs + r.errors)
    if not r.absent or adds_up:
        return Shortage.NONE
    if r.status in {BatchStatus.EXPIRED, BatchStatus.CANCELLED}:
        is_whole = 0 < r.completed == r.outputs
        return Shortage.NONE if is_whole or r.is_cancel_wanted else Shortage.LATE
    is_contradicted = not r.total or r.completed < r.outputs or r.failed < r.errors
    return Shortage.PAID if is_contradicted else Shortage.UNCLEAR


PATIENCE_S = 24 * 3600.0
"""Seconds for which incomplete results are read again before the absent lines are held as perhaps paid."""
LOOK_AGAIN_S = 3600.0
"""Seconds between two looks for results that are late, and for a batch that was given up."""
QUICK_LOOKS_S = 600.0
"""Seconds after the first reading for which incomplete results are read again sooner: most come a little late."""
FEWEST_READINGS = 10
"""Fewest incomplete readings before giving up: a suspended machine must not run out of patience while asleep."""
AGREEING_READINGS = 3
"""Readings with the same finding that are believed, once the first of them is two looks ago."""


class ReadingHistory(NamedTuple):
    """The earlier readings of a batch, each of which was incomplete."""

    readings: int
    first_at: float | None
    """When the first one was made (epoch seconds); None: there was none."""
    same: int
    """The last ones that found what this one finds."""
    same_since: float | None
    """When the first of those was made."""


def have_readings_agreed(history: ReadingHistory, now: float) -> bool:
    """Return whether enough readings, this one included, have found the same for long enough."""
    if history.same_since is None or history.same + 1 < AGREEING_READINGS:
        return False
    return now >= history.same_since + (AGREEING_READINGS - 1) * LOOK_AGAIN_S


def is_patience_left(shortage: Shortage, history: ReadingHistory, now: float) -> bool:
    """Return whether files that lack something are read again. Even where they seem whole they are, once."""
    if history.first_at is None:
        return True
    if shortage is Shortage.NONE or (shortage is Shortage.UNCLEAR and have_readings_agreed(history, now)):
        return False
    return now < history.first_at + PATIENCE_S or history.readings < FEWEST_READINGS


def classify_absent_line(status: str, shortage: Shortage, has_agreed: bool) -> tuple[FailureClass, str]:
    """Return the class and the code of a line that neither file holds, once the files are not read again.

    status: how its batch ended; has_agreed: whether the readings have agreed.
    """
    is_unclear = shortage is Shortage.UNCLEAR and not has_agreed
    if status == BatchStatus.OVERDUE or shortage is Shortage.PAID or is_unclear:
        return FailureClass.MISSING, "perhaps_paid"
    if status == BatchStatus.EXPIRED:
        return FailureClass.EXPIRED, "batch_expired"
    if status == BatchStatus.CANCELLED:
        return FailureClass.CANCELLED, "batch_cancelled"
    return FailureClass.SERVER, "no_result"


class SetupProblem(NamedTuple):
    """Why the job must stop, as a sentence for the user; false where it may go on, with "" for the sentence."""

    sentence: str = ""
    concerns_answers: bool = False
    """Whether it stops for answers of no use, which the brake may judge too, and not for a refusal."""

    def __bool__(self) -> bool:
        """Return whether there is one."""
        return bool(self.sentence)


def find_setup_problem(rules: RetryRules, counts: FailureCounts, bios: int, bios_of_job: int) -> SetupProblem:
    """Return why the job must stop: the setup was refused, or one reason fails too many lines.

    bios: accepted bios of this batch; bios_of_job: those of all batches so far.
    """
    lines = bios + sum(n for _, _, n in counts)
    for failure, code, n in counts:
        if _is_setup_fault(rules, failure, n, lines, bios_of_job):
            if failure in {FailureClass.SETUP, FailureClass.INVALID}:
                return SetupProblem(_describe_setup_problem(n, lines, "were refused", code))
            return find_answer_problem(Reason(code, n), lines)
    return SetupProblem()


def _is_setup_fault(rules: RetryRules, failure: FailureClass, n: int, lines: int, bios_of_job: int) -> bool:
    """Return whether `n` of `lines` lines failed for one reason that lies in the setup or the prompt."""
    if failure is FailureClass.SETUP and not bios_of_job:
        return True
    if failure is FailureClass.INVALID and not bios_of_job and n == lines > 1:  # a small first trial, refused entirely
        return True
    if n < rules.setup_lines or failure not in {FailureClass.SETUP, FailureClass.INVALID, FailureClass.UNUSABLE}:
        return False
    # Some unusable answers occur by chance with any prompt: of a job that has bios find_main_reason judges them.
    return not bios_of_job or (failure is not FailureClass.UNUSABLE and n > rules.setup_share * lines)


SUDDEN_SHARE = 0.5
"""Answers of no use for one reason stop the job where they are more than this share of a batch. Some occur by chance
with any prompt, but fewer."""
SUDDEN_RISE = 2.0
"""... unless the job has gone on with half that share before: then its lines are hard, and the user knows it."""


class Reason(NamedTuple):
    """Why answers are of no use: a code, and the lines to which it happened for the first time."""

    code: str
    lines: int


class ReasonHistory(NamedTuple):
    """What the job has seen of a reason before: answers that were of no use for it, and bios."""

    failed: int
    bios: int


def find_main_reason(rules: RetryRules, first: Iterable[Reason], lines: int) -> Reason | None:
    """Return the reason for which most of `lines` lines have no bio; None where there is none.

    first: the reasons with the lines that were never answered of no use before. The others do not count: retry shards
    are made of the hardest lines, and say nothing about the setup.
    """
    main = (reason for reason in first if reason.lines >= rules.setup_lines and reason.lines > SUDDEN_SHARE * lines)
    return next(main, None)


def is_reason_new(reason: Reason, lines: int, history: ReasonHistory) -> bool:
    """Return whether the job has not seen this reason so often before, in `lines` lines as in all its answers."""
    return reason.lines * (history.failed + history.bios) >= SUDDEN_RISE * history.failed * lines


def find_answer_problem(reason: Reason, lines: int) -> SetupProblem:
    """Return that the job must stop for a reason for which answers to many of `lines` lines were of no use."""
    return SetupProblem(_describe_setup_problem(reason.lines, lines, "gave unusable answers", reason.code), True)


def _describe_setup_problem(n: int, lines: int, what: str, code: str) -> str:
    return f"{n:,} of {lines:,} lines {what} ({code}); fix the setup or the prompt and run again"


def is_rate_limit_storm(rules: RetryRules, counts: FailureCounts, bios: int) -> bool:
    """Return whether rate limits hit so large a share of a batch (`storm_share`) that no line is charged for them."""
    lines = bios + sum(n for _, _, n in counts)
    limited = sum(n for failure, _, n in counts if failure is FailureClass.RATE_LIMIT)
    return limited > rules.storm_share * lines


@dataclass(frozen=True, slots=True)
class VerdictDecider:
    """Decides the failed lines of one batch."""

    rules: RetryRules
    jitter: Jitter
    now: float
    """The time of the decision, in epoch seconds."""
    storm: bool
    """Whether the batch met a storm of rate limits."""
    stopped: bool
    """Whether the job stops for its setup: lines that failed because of it are not charged."""
    cancelled: bool
    """Whether the user cancels the shard: lines that would be retried are held."""

    def decide_verdict(self, failure: FailureClass, attempts: int, tries: int, free: int) -> Verdict:
        """Return the verdict on one line.

        attempts: earlier attempts that counted; tries: earlier failures of this class that counted; free: those that
        did not.
        """
        verdict = self._failure_verdict(failure, attempts, tries, free)
        if self.cancelled and verdict.state in {ArtistState.READY, ArtistState.WAITING}:
            return Verdict(ArtistState.HELD, counted=verdict.counted)
        return verdict

    def _failure_verdict(self, failure: FailureClass, attempts: int, tries: int, free: int) -> Verdict:
        if self.stopped and failure in {FailureClass.SETUP, FailureClass.INVALID, FailureClass.UNUSABLE}:
            return Verdict(ArtistState.READY, counted=False)
        if failure is FailureClass.RATE_LIMIT and self.storm and free < FREE_STORMS:
            return storm_verdict(self.rules, self.now, self.jitter())
        if failure is FailureClass.SETUP:
            # A few lines were refused as if by the setup while others were answered: retry them like server errors.
            failure = FailureClass.SERVER
        return decide_line_verdict(self.rules, failure, tries, attempts, self.now, self.jitter())


def choose_batch_failure(classes: Collection[FailureClass]) -> FailureClass:
    """Return the class that decides about a batch that failed in validation, from the classes of all its errors.

    INVALID, where single lines are at fault, only if no error has another class.
    """
    if set(classes) == {FailureClass.INVALID}:
        return FailureClass.INVALID
    of_all = (FailureClass.ENQUEUED_LIMIT, FailureClass.QUOTA, FailureClass.SETUP)
    return next((failure for failure in of_all if failure in classes), FailureClass.SHARD_REFUSED)


def is_setup_refusal(rules: RetryRules, refused: int, lines: int) -> bool:
    """Return whether the setup is at fault where validation refused `refused` of the `lines` lines of a shard."""
    if refused == lines > 1:
        return True
    return refused >= rules.setup_lines and refused > rules.setup_share * lines


def is_setup_reason(rules: RetryRules, refused: int, bios_of_job: int) -> bool:
    """Return whether one reason for refusing lines lies in the setup: many lines of the job, and none has succeeded.

    refused: lines of all batches so far. The service names only a few lines of a batch, so that they add up slowly.
    """
    return refused >= rules.setup_lines and not bios_of_job


def is_shard_given_up(rules: RetryRules, refusals: int) -> bool:
    """Return whether a shard was refused more often than it may be retried."""
    tries = rules.policies[FailureClass.SHARD_REFUSED].tries
    return tries is not None and refusals > tries
