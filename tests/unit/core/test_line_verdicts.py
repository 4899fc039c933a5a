"""The verdict on one failed line: how often it goes again, when, and what it costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.failures import FailureClass
from batcher.core.lifecycle import ArtistState
from batcher.core.retry import DEFAULT_POLICIES, RetryPolicy, RetryRules, retry_delay_seconds
from batcher.core.verdicts import Verdict, decide_line_verdict, storm_verdict
from tests.support.examples import examples

F = FailureClass
RULES = RetryRules(DEFAULT_POLICIES)
NOW = 1_795_000_000.0
READY, WAITING, HELD, DEAD = ArtistState.READY, ArtistState.WAITING, ArtistState.HELD, ArtistState.DEAD


@pytest.mark.parametrize(
    ("failure", "states"),
    [
        (F.RATE_LIMIT, [WAITING] * 5 + [DEAD, DEAD]),
        (F.SERVER, [WAITING] * 3 + [DEAD, DEAD]),
        (F.EXPIRED, [READY] * 3 + [DEAD, DEAD]),
        (F.UNUSABLE, [READY] * 2 + [DEAD, DEAD]),
        (F.INVALID, [DEAD, DEAD]),
    ],
)
def test_a_line_goes_again_as_often_as_its_class_allows(failure: F, states: list[ArtistState]) -> None:
    verdicts = [decide_line_verdict(RULES, failure, tries, tries, NOW, 0.0) for tries in range(len(states))]
    assert [v.state for v in verdicts] == states
    assert all(v.counted for v in verdicts)
    for tries, verdict in enumerate(verdicts):
        expected = (
            NOW + retry_delay_seconds(DEFAULT_POLICIES[failure], tries, 0.0) if verdict.state is WAITING else None
        )
        assert verdict.wait_until == expected


@pytest.mark.parametrize("failure", [F.QUOTA, F.SETUP, F.ENQUEUED_LIMIT, F.SHARD_REFUSED, F.CALL, F.OUTAGE])
@pytest.mark.parametrize(("tries", "attempts"), [(0, 0), (3, 7), (100, 100)])
def test_what_is_no_fault_of_the_line_costs_it_nothing(failure: F, tries: int, attempts: int) -> None:
    assert decide_line_verdict(RULES, failure, tries, attempts, NOW, 0.5) == Verdict(READY, None, counted=False)


@pytest.mark.parametrize("failure", [F.CANCELLED, F.MISSING])
@pytest.mark.parametrize(("tries", "attempts"), [(0, 0), (3, 7), (100, 100)])
def test_what_is_perhaps_paid_or_was_cancelled_is_held(failure: F, tries: int, attempts: int) -> None:
    assert decide_line_verdict(RULES, failure, tries, attempts, NOW, 0.5).state is HELD


@pytest.mark.parametrize("failure", [F.RATE_LIMIT, F.SERVER, F.EXPIRED, F.UNUSABLE])
def test_eight_attempts_in_all_whatever_the_classes(failure: F) -> None:
    assert decide_line_verdict(RULES, failure, 0, 6, NOW, 0.0).state in {READY, WAITING}
    assert decide_line_verdict(RULES, failure, 0, 7, NOW, 0.0).state is DEAD
    assert decide_line_verdict(RULES, failure, 0, 70, NOW, 0.0).state is DEAD


def test_the_table_is_a_setting() -> None:
    rules = RULES._replace(policies={**DEFAULT_POLICIES, F.SERVER: RetryPolicy(10, 20, None)}, max_attempts=100)
    assert decide_line_verdict(rules, F.SERVER, 98, 98, NOW, 0.0) == Verdict(WAITING, NOW + 20)
    assert decide_line_verdict(rules, F.SERVER, 99, 99, NOW, 0.0).state is DEAD
    assert decide_line_verdict(RULES._replace(max_attempts=1), F.EXPIRED, 0, 0, NOW, 0.0).state is DEAD
    wide = RULES._replace(jitter_share=0.5)
    assert decide_line_verdict(wide, F.RATE_LIMIT, 0, 0, NOW, 0.5) == Verdict(WAITING, NOW + 45)


@given(st.lists(st.sampled_from(F), min_size=8, max_size=40), st.floats(0, 1, exclude_max=True))
@examples(500)
def test_a_line_that_always_fails_comes_to_an_end(failures: list[F], jitter: float) -> None:
    counted: list[F] = []
    for failure in failures:
        verdict = decide_line_verdict(RULES, failure, counted.count(failure), len(counted), NOW, jitter)
        assert (verdict.wait_until is None) == (verdict.state is not WAITING)
        if verdict.state in {HELD, DEAD}:
            break
        counted += [failure] if verdict.counted else []
    assert len(counted) < RULES.max_attempts
    assert all(counted.count(f) <= (DEFAULT_POLICIES[f].tries or 0) for f in counted)


def test_in_a_storm_all_wait_the_base_delay_and_none_pays() -> None:
    assert RULES.storm_share == 0.05
    assert storm_verdict(RULES, NOW, 0.0) == Verdict(WAITING, NOW + 60, counted=False)
    assert storm_verdict(RULES, NOW, 0.5) == Verdict(WAITING, NOW + 57, counted=False)
