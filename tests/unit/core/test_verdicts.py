"""Verdicts on whole batches and shards: storms, the setup's fault, and when a refused shard is given up."""

import pytest

from batcher.core.failures import FailureClass
from batcher.core.lifecycle import ArtistState
from batcher.core.retry import DEFAULT_POLICIES, RetryPolicy, RetryRules
from batcher.core.verdicts import (
    FREE_STORMS,
    FailureCounts,
    Verdict,
    VerdictDecider,
    choose_batch_failure,
    classify_missing_line,
    find_setup_problem,
    is_rate_limit_storm,
    is_setup_reason,
    is_setup_refusal,
    is_shard_given_up,
)

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
        ([(F.UNUSABLE, "refusal", 20)], 0, 0, "20 of 20 lines were answered of no use (refusal)"),
        ([(F.UNUSABLE, "refusal", 2_000)], 0, 1, ""),
        ([(F.INVALID, "bad", 1_000)], 2_000, 2_000, "1,000 of 3,000 lines were refused (bad)"),
        ([(F.SERVER, "x", 2_000)], 0, 0, ""),
    ],
)
def test_one_reason_stops_the_job_when_it_is_the_setups(
    counts: FailureCounts, bios: int, bios_of_job: int, why: str
) -> None:
    remedy = "; mend the setup or the prompt and run again"
    assert find_setup_problem(RULES, counts, bios, bios_of_job) == (why and why + remedy)


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
    ("status", "completed", "read", "counted", "expected"),
    [
        ("completed", 5, 5, True, (F.SERVER, "no_result")),
        ("completed", 6, 5, True, (F.MISSING, "perhaps_paid")),
        ("completed", 0, 5, False, (F.MISSING, "perhaps_paid")),
        ("overdue", 0, 0, True, (F.MISSING, "perhaps_paid")),
        ("expired", 5, 5, True, (F.EXPIRED, "batch_expired")),
        ("expired", 6, 5, True, (F.MISSING, "perhaps_paid")),
        ("cancelled", 5, 5, True, (F.CANCELLED, "batch_cancelled")),
        ("cancelled", 0, 0, False, (F.CANCELLED, "batch_cancelled")),
        ("failed", 0, 0, True, (F.SERVER, "no_result")),
    ],
)
def test_a_line_in_neither_file_has_the_class_of_its_batch(
    status: str, completed: int, read: int, counted: bool, expected: tuple[F, str]
) -> None:
    assert classify_missing_line(status, completed, read, counted) == expected
    if counted:
        assert classify_missing_line(status, completed, read) == expected
