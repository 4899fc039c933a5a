"""Killed at random: a job that dies every moment, while answers are lost, ends complete and is paid once."""

from dataclasses import fields
from pathlib import Path

import pytest

from batcher.sandbox import Dialect, Faults
from tests.support.kill_harness import Killing, Scenario, told, under_fire
from tests.support.mixture import Verdict, draw_mixture, soak_seed
from tests.support.shared_clock import SharedClock


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


NOT_MIXED = {
    "poison": "its lines are dead, which the lasting kinds of line_failures are as well",
    "transient_failures": "a failure that lasts is none of the service's",
    "slow_s": "real seconds",
    "redirect_posts": "no job can be done where every POST is refused",
    "page_size": "the default is small enough",
}


def test_the_mixtures_hold_every_dialect_and_fault() -> None:
    drawn = [draw_mixture(seed) for seed in range(200)]
    names = {each.name for kind in (Faults, Dialect) for each in fields(kind)}
    mixed = {name for mixture in drawn for name in (*mixture.faults, *mixture.dialect)}
    assert mixed == names - set(NOT_MIXED)
    sizes = [len(mixture.faults) + len(mixture.dialect) for mixture in drawn]
    assert min(sizes) < 6 and max(sizes) > 12
    assert draw_mixture(7) == drawn[7]


def test_a_shared_clock_is_moved_by_whoever_sleeps(tmp_path: Path) -> None:
    one = SharedClock.create(tmp_path / "clock", 1_000.0)
    other = SharedClock(tmp_path / "clock")
    other.sleep(86_400.0)
    assert 87_400.0 <= one() <= other() < 87_500.0


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 1010))
def test_jobs_in_mixtures_of_dialects_and_faults(tmp_path: Path, seed: int) -> None:
    _check_mixture(soak_seed(tmp_path, 500, seed))


def _check_mixture(verdict: Verdict) -> None:
    assert verdict.problem == "", verdict
    assert verdict.figures["done"] > 0


def _check(folder: Path, seed: int, lines: int) -> None:
    figures = under_fire(seed, lines, folder)
    print(told(figures))
    assert figures["double executions"] == 0
    assert figures["lines lost"] == 0
    assert figures["kills"] > 0
