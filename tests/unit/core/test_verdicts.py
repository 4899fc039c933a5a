"""Verdicts on whole batches and shards: storms, the setup's fault, and when a refused shard is given up."""

from typing import Any

import pytest

from batcher.core.failures import FailureClass
from batcher.core.lifecycle import ArtistState
from batcher.core.retry import DEFAULT_POLICIES, RetryPolicy, RetryRules
from batcher.core.verdicts import (
    FEWEST_READINGS,
    FREE_STORMS,
    BatchReading,
    FailureCounts,
    ReadingHistory,
    Reason,
    ReasonHistory,
    SetupProblem,
    Shortage,
    Verdict,
    VerdictDecider,
    choose_batch_failure,
    classify_absent_line,
    find_answer_problem,
    find_main_reason,
    find_setup_problem,
    find_shortage,
    have_readings_agreed,
    is_patience_left,
    is_rate_limit_storm,
    is_reason_new,
    is_setup_reason,
    is_setup_refusal,
    is_shard_given_up,
)
from tests.support.world import config_with

F = FailureClass
RULES = RetryRules(DEFAULT_POLICIES)
NOW = 1_795_000_000.0
READY, WAITING, HELD, DEAD = ArtistState.READY, ArtistState.WAITING, ArtistState.HELD, ArtistState.DEAD


@pytest.mark.parametrize(
    ("classes", "decisive"),
    [
        ({F.INVALID}, F.INVALID),
        ({F.INVALID, F.SHARD_REFUSED}, F.SHARD_REFUSED),
        ({F.INVALID, F.SETUP}, F.SETUP),
        ({F.INVALID, F.ENQUEUED_LIMIT}, F.ENQUEUED_LIMIT),
        ({F.SETUP, F.QUOTA}, F.QUOTA),
        ({F.SETUP, F.QUOTA, F.ENQUEUED_LIMIT}, F.ENQUEUED_LIMIT),
        ({F.SHARD_REFUSED}, F.SHARD_REFUSED),
        ({F.SERVER}, F.SHARD_REFUSED),
    ],
)
def test_one_class_decides_about_a_failed_batch(classes: set[F], decisive: F) -> None:
    assert choose_batch_failure(classes) is decisive


@pytest.mark.parametrize(
    ("refused", "lines", "is_fault"),
    [
        (1, 1, False),  # a single line may be at fault itself
        (2, 2, True),
        (2, 3, False),
        (19, 100, False),
        (20, 100, True),
        (20, 400, False),  # 5% exactly
        (21, 400, True),
        (100, 50_000, False),
    ],
)
def test_many_refused_lines_of_a_shard_are_the_fault_of_the_setup(refused: int, lines: int, is_fault: bool) -> None:
    assert (RULES.setup_lines, RULES.setup_share) == (20, 0.05)
    assert is_setup_refusal(RULES, refused, lines) is is_fault


@pytest.mark.parametrize(
    ("refused", "bios_of_job", "is_fault"), [(19, 0, False), (20, 0, True), (20, 1, False), (2_000, 1, False)]
)
def test_one_reason_of_many_batches_is_the_fault_of_the_setup_until_a_line_succeeds(
    refused: int, bios_of_job: int, is_fault: bool
) -> None:
    assert is_setup_reason(RULES, refused, bios_of_job) is is_fault


@pytest.mark.parametrize(
    ("counts", "bios", "bios_of_job", "why"),
    [
        ([], 0, 0, ""),
        # refused as by the setup: one is enough until there is a bio, then many
        ([(F.SETUP, "no_key", 1)], 0, 0, "1 of 1 lines were refused (no_key)"),
        ([(F.SETUP, "no_key", 1), (F.SERVER, "x", 9)], 0, 0, "1 of 10 lines were refused (no_key)"),
        ([(F.SETUP, "no_key", 1)], 0, 1, ""),
        ([(F.SETUP, "no_key", 20)], 380, 380, ""),
        ([(F.SETUP, "no_key", 20)], 379, 379, "20 of 399 lines were refused (no_key)"),
        # a small first trial: all of it, and more than one line
        ([(F.INVALID, "bad", 1)], 0, 0, ""),
        ([(F.INVALID, "bad", 2)], 0, 0, "2 of 2 lines were refused (bad)"),
        ([(F.INVALID, "bad", 2)], 0, 1, ""),
        ([(F.INVALID, "bad", 2), (F.SERVER, "x", 1)], 0, 0, ""),
        ([(F.SERVER, "x", 2)], 0, 0, ""),
        ([(F.UNUSABLE, "refusal", 2)], 0, 0, ""),
        # many of any batch
        ([(F.UNUSABLE, "refusal", 19)], 0, 0, ""),
        ([(F.UNUSABLE, "refusal", 20)], 0, 0, "20 of 20 lines gave unusable answers (refusal)"),
        ([(F.UNUSABLE, "refusal", 2_000)], 0, 1, ""),
        ([(F.INVALID, "bad", 1_000)], 2_000, 2_000, "1,000 of 3,000 lines were refused (bad)"),
        ([(F.SERVER, "x", 2_000)], 0, 0, ""),
    ],
)
def test_one_reason_stops_the_job_when_it_is_the_setups(
    counts: FailureCounts, bios: int, bios_of_job: int, why: str
) -> None:
    remedy = "; fix the setup or the prompt and run again"
    told = SetupProblem(why and why + remedy, concerns_answers="gave unusable answers" in why)
    assert find_setup_problem(RULES, counts, bios, bios_of_job) == told


def test_when_one_reason_is_the_setups_fault_is_a_setting() -> None:
    twenty = [(F.INVALID, "bad", 20)]
    assert find_setup_problem(RULES, twenty, bios=379, bios_of_job=379).sentence.startswith(
        "20 of 399 lines were refused (bad)"
    )
    assert find_setup_problem(RULES, twenty, bios=380, bios_of_job=380).sentence == ""
    assert find_setup_problem(RULES, [(F.INVALID, "bad", 19)], bios=100, bios_of_job=100).sentence == ""
    settings = config_with(retry={"setup_lines": 30, "setup_share": 0.5}).retry.to_rules()
    assert (settings.setup_lines, settings.setup_share) == (30, 0.5)
    assert find_setup_problem(RULES._replace(setup_lines=30), twenty, bios=100, bios_of_job=100).sentence == ""
    assert find_setup_problem(RULES._replace(setup_share=0.5), twenty, bios=100, bios_of_job=100).sentence == ""


def test_a_sudden_reason_is_told_with_its_lines_and_the_remedy() -> None:
    told = "1,200 of 2,000 lines gave unusable answers (refusal); fix the setup or the prompt and run again"
    assert find_answer_problem(Reason("refusal", 1_200), 2_000) == (told, True)


@pytest.mark.parametrize(("refusals", "given_up"), [(1, False), (3, False), (4, True), (100, True)])
def test_a_shard_is_given_up_after_its_tries(refusals: int, given_up: bool) -> None:
    assert is_shard_given_up(RULES, refusals) is given_up
    for_ever = RULES._replace(policies={**DEFAULT_POLICIES, F.SHARD_REFUSED: RetryPolicy(60, 300, None)})
    assert not is_shard_given_up(for_ever, refusals)


@pytest.mark.parametrize(
    ("counts", "bios", "is_storm"),
    [
        ([], 0, False),
        ([(F.RATE_LIMIT, "a", 1)], 0, True),
        ([(F.RATE_LIMIT, "a", 5)], 95, False),  # 5% exactly
        ([(F.RATE_LIMIT, "a", 6)], 94, True),
        ([(F.RATE_LIMIT, "a", 3), (F.RATE_LIMIT, "b", 3)], 94, True),
        ([(F.RATE_LIMIT, "a", 6), (F.SERVER, "c", 100)], 0, True),
        ([(F.RATE_LIMIT, "a", 6), (F.SERVER, "c", 114)], 0, False),
        ([(F.SERVER, "c", 100)], 0, False),
    ],
)
def test_a_storm_is_a_share_of_the_batch(counts: FailureCounts, bios: int, is_storm: bool) -> None:
    assert is_rate_limit_storm(RULES, counts, bios) is is_storm


def _decider(storm: bool = False, stopped: bool = False, cancelled: bool = False) -> VerdictDecider:
    return VerdictDecider(RULES, lambda: 0.0, NOW, storm, stopped, cancelled)


@pytest.mark.parametrize(
    ("decider", "failure", "free", "verdict"),
    [
        (_decider(), F.RATE_LIMIT, 0, Verdict(WAITING, NOW + 60)),
        (_decider(storm=True), F.RATE_LIMIT, 0, Verdict(WAITING, NOW + 60, counted=False)),
        (_decider(storm=True), F.RATE_LIMIT, FREE_STORMS - 1, Verdict(WAITING, NOW + 60, counted=False)),
        (_decider(storm=True), F.RATE_LIMIT, FREE_STORMS, Verdict(WAITING, NOW + 60)),
        (_decider(), F.SETUP, 0, Verdict(WAITING, NOW + 0.5)),  # like a server error
        (_decider(stopped=True), F.SETUP, 0, Verdict(READY, counted=False)),
        (_decider(), F.INVALID, 0, Verdict(DEAD)),
        (_decider(stopped=True), F.INVALID, 0, Verdict(READY, counted=False)),
        (_decider(stopped=True), F.UNUSABLE, 0, Verdict(READY, counted=False)),
        (_decider(stopped=True), F.SERVER, 0, Verdict(WAITING, NOW + 0.5)),
        (_decider(cancelled=True), F.SERVER, 0, Verdict(HELD)),
        (_decider(cancelled=True), F.QUOTA, 0, Verdict(HELD, counted=False)),
        (_decider(cancelled=True), F.INVALID, 0, Verdict(DEAD)),
        (_decider(stopped=True, cancelled=True), F.INVALID, 0, Verdict(HELD, counted=False)),
    ],
)
def test_the_batch_changes_the_verdict_on_a_line(
    decider: VerdictDecider, failure: F, free: int, verdict: Verdict
) -> None:
    assert decider.decide_verdict(failure, attempts=0, tries=0, free=free) == verdict


@pytest.mark.parametrize(
    ("first", "lines", "main"),
    [
        ([], 50, None),
        ([Reason("a", 50)], 50, Reason("a", 50)),
        ([Reason("a", 26), Reason("b", 24)], 50, Reason("a", 26)),
        ([Reason("a", 25), Reason("b", 25)], 50, None),  # half is not most
        ([Reason("a", 19)], 19, None),  # a few hard lines stop nothing
        ([Reason("a", 20)], 20, Reason("a", 20)),
        ([Reason("a", 20)], 41, None),  # a retry shard: the others were of no use before
    ],
)
def test_the_main_reason_is_that_of_most_lines_of_a_batch(first: list[Reason], lines: int, main: Reason | None) -> None:
    assert find_main_reason(RULES, first, lines) == main


@pytest.mark.parametrize(
    ("reason", "lines", "history", "is_new"),
    [
        (Reason("a", 50), 50, ReasonHistory(0, 0), True),
        (Reason("a", 50), 50, ReasonHistory(0, 50), True),
        (Reason("a", 50), 50, ReasonHistory(50, 50), True),
        (Reason("a", 50), 50, ReasonHistory(51, 49), False),
        (Reason("a", 30), 50, ReasonHistory(29, 71), True),
        (Reason("a", 30), 50, ReasonHistory(31, 69), False),  # the job is like that
    ],
)
def test_a_reason_is_new_where_the_job_has_not_seen_half_as_much_of_it(
    reason: Reason, lines: int, history: ReasonHistory, is_new: bool
) -> None:
    assert is_reason_new(reason, lines, history) is is_new


def _reading(
    status: str, counts: tuple[int, int, int], outputs: int, errors: int, absent: int, **more: Any
) -> BatchReading:
    """Return a reading; counts: total, completed, failed."""
    return BatchReading(status, *counts, outputs, errors, more.pop("unreported", absent), absent, **more)


DONE, EXPIRED, CANCELLED, OVERDUE = "completed", "expired", "cancelled", "overdue"


@pytest.mark.parametrize(
    ("reading", "shortage"),
    [
        (_reading(DONE, (12, 12, 0), 12, 0, 0), Shortage.NONE),
        (_reading(DONE, (12, 12, 0), 9, 3, 0), Shortage.NONE),  # failed lines are counted as completed, too
        (_reading(DONE, (0, 0, 0), 12, 0, 0, is_damaged=True), Shortage.NONE),  # a line of garbage among all of ours
        (_reading(DONE, (11, 10, 1), 10, 1, 1), Shortage.NONE),  # the service never had the line, by its own counts
        (_reading(DONE, (1, 1, 0), 1, 0, 1), Shortage.NONE),
        (_reading(DONE, (12, 12, 0), 11, 0, 1), Shortage.PAID),
        (_reading(DONE, (12, 12, 0), 11, 0, 0, unreported=1), Shortage.PAID),  # a late answer is wanted, too
        (_reading(DONE, (12, 11, 1), 11, 0, 0, unreported=1), Shortage.NONE),
        (_reading(DONE, (12, 11, 1), 11, 0, 0, unreported=1, is_damaged=True), Shortage.NONE),  # nothing to decide
        (_reading(DONE, (0, 0, 0), 0, 0, 12), Shortage.PAID),
        (_reading(DONE, (12, 0, 0), 6, 0, 6), Shortage.PAID),
        (_reading(DONE, (12, 0, 12), 6, 0, 6), Shortage.PAID),
        (_reading(DONE, (12, 5, 0), 6, 0, 6), Shortage.PAID),
        (_reading(DONE, (0, 0, 0), 6, 0, 6), Shortage.PAID),
        (_reading(DONE, (0, 0, 0), 0, 0, 12), Shortage.PAID),  # no counts agree with no answers, and prove nothing
        (_reading(EXPIRED, (12, 1, 0), 1, 0, 11), Shortage.NONE),
        (_reading(DONE, (12, 6, 0), 6, 2, 4), Shortage.PAID),  # fewer failed than the error file holds
        (_reading(DONE, (12, 11, 1), 11, 0, 1, is_damaged=True), Shortage.PAID),
        (_reading(DONE, (12, 11, 1), 11, 0, 1), Shortage.UNCLEAR),  # the error file does not hold the failed line
        (_reading(DONE, (12, 6, 0), 6, 0, 6), Shortage.UNCLEAR),
        (_reading(DONE, (12, 0, 0), 0, 0, 12), Shortage.UNCLEAR),
        (_reading("failed", (12, 0, 0), 0, 0, 12), Shortage.UNCLEAR),
        (_reading(EXPIRED, (12, 0, 0), 0, 0, 12), Shortage.LATE),
        (_reading(EXPIRED, (12, 0, 12), 0, 0, 12), Shortage.LATE),
        (_reading(EXPIRED, (0, 0, 0), 6, 0, 6), Shortage.LATE),
        (_reading(EXPIRED, (12, 6, 0), 6, 0, 6), Shortage.NONE),
        (_reading(EXPIRED, (12, 7, 0), 6, 0, 6), Shortage.PAID),
        (_reading(EXPIRED, (12, 6, 0), 6, 0, 6, is_damaged=True), Shortage.PAID),
        (_reading(CANCELLED, (12, 0, 0), 0, 0, 12), Shortage.LATE),
        (_reading(CANCELLED, (12, 0, 0), 0, 0, 12, is_cancel_wanted=True), Shortage.NONE),
        (_reading(CANCELLED, (12, 1, 0), 0, 0, 12, is_cancel_wanted=True), Shortage.PAID),
        (_reading(OVERDUE, (12, 12, 0), 0, 0, 12), Shortage.NONE),
    ],
)
def test_an_absent_line_is_believed_where_numbers_agree(reading: BatchReading, shortage: Shortage) -> None:
    assert find_shortage(reading) is shortage


H = 3600.0


@pytest.mark.parametrize(
    ("history", "agreed"),
    [
        (ReadingHistory(0, None, 0, None), False),
        (ReadingHistory(1, NOW - 9 * H, 1, NOW - 9 * H), False),
        (ReadingHistory(2, NOW - 9 * H, 2, NOW - 2 * H), True),
        (ReadingHistory(9, NOW - 9 * H, 9, NOW - 2 * H + 1), False),
        (ReadingHistory(9, NOW - 9 * H, 0, None), False),
    ],
)
def test_three_readings_over_two_hours_agree(history: ReadingHistory, agreed: bool) -> None:
    assert have_readings_agreed(history, NOW) is agreed


FRESH = ReadingHistory(1, NOW - 60, 1, NOW - 60)
SAME = ReadingHistory(5, NOW - 3 * H, 5, NOW - 3 * H)
DAY = ReadingHistory(FEWEST_READINGS, NOW - 24 * H, 0, None)
ASLEEP = ReadingHistory(FEWEST_READINGS - 1, NOW - 24 * H, 0, None)


@pytest.mark.parametrize(
    ("shortage", "history", "is_left"),
    [
        (Shortage.NONE, ReadingHistory(0, None, 0, None), True),  # once more in any case
        (Shortage.NONE, FRESH, False),
        (Shortage.UNCLEAR, FRESH, True),
        (Shortage.UNCLEAR, SAME, False),
        (Shortage.UNCLEAR, DAY, False),
        (Shortage.LATE, SAME, True),
        (Shortage.LATE, DAY, False),
        (Shortage.PAID, SAME, True),
        (Shortage.PAID, ASLEEP, True),
        (Shortage.PAID, DAY, False),
        (Shortage.PAID, DAY._replace(first_at=NOW - 24 * H + 1), True),
    ],
)
def test_incomplete_files_are_read_again_for_a_day_at_most(
    shortage: Shortage, history: ReadingHistory, is_left: bool
) -> None:
    assert is_patience_left(shortage, history, NOW) is is_left


PERHAPS_PAID, NO_RESULT = (F.MISSING, "perhaps_paid"), (F.SERVER, "no_result")


@pytest.mark.parametrize(
    ("status", "shortage", "agreed", "expected"),
    [
        (DONE, Shortage.NONE, False, NO_RESULT),
        (DONE, Shortage.UNCLEAR, True, NO_RESULT),
        (DONE, Shortage.UNCLEAR, False, PERHAPS_PAID),
        (DONE, Shortage.PAID, True, PERHAPS_PAID),
        ("failed", Shortage.NONE, False, NO_RESULT),
        (OVERDUE, Shortage.NONE, True, PERHAPS_PAID),
        (EXPIRED, Shortage.NONE, False, (F.EXPIRED, "batch_expired")),
        (EXPIRED, Shortage.LATE, False, (F.EXPIRED, "batch_expired")),
        (EXPIRED, Shortage.PAID, True, PERHAPS_PAID),
        (CANCELLED, Shortage.NONE, False, (F.CANCELLED, "batch_cancelled")),
        (CANCELLED, Shortage.PAID, False, PERHAPS_PAID),
    ],
)
def test_a_line_in_neither_file_has_the_class_of_its_batch(
    status: str, shortage: Shortage, agreed: bool, expected: tuple[F, str]
) -> None:
    assert classify_absent_line(status, shortage, agreed) == expected
