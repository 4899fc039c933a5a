"""Killed at random: a job that dies every moment, while answers are lost, ends complete and is paid once."""

from pathlib import Path

import pytest

from tests.support.kill_harness import Killing, Scenario, told, under_fire


@pytest.mark.parametrize("seed", [1, 2])
def test_a_job_killed_at_random_is_paid_once_and_complete(tmp_path: Path, seed: int) -> None:
    _check(tmp_path, seed, 200)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 120))
def test_many_jobs_killed_at_random(tmp_path: Path, seed: int) -> None:
    _check(tmp_path, seed, 1_000)


def test_a_direct_lane_killed_at_random_is_paid_once_and_complete(tmp_path: Path) -> None:
    """Answers are stored, so that one whose process died is found and not bought again."""
    scenario = Scenario(
        commands=(("direct", "--unreleased", "--workers", "3"),), lines=60, per_shard=20, faults={"slow_s": 0.05}
    )
    job = Killing(tmp_path, scenario)
    with job.serving():
        assert job.done(("plan",)) == 0
        job.run_under_fire(7, lambda dice: dice.uniform(0.5, 1.5))
    outcome = job.outcome()
    assert job.deaths > 0
    assert set(outcome.states.values()) == {"done"}
    assert set(outcome.executions.values()) == {1}


def _check(folder: Path, seed: int, lines: int) -> None:
    figures = under_fire(seed, lines, folder)
    print(told(figures))
    assert figures["double executions"] == 0
    assert figures["lines lost"] == 0
    assert figures["kills"] > 0
