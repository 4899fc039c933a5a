"""Killed at random: a job that dies every moment, while answers are lost, ends complete and is paid once."""

from pathlib import Path

import pytest

from tests.kill_harness import told, under_fire


@pytest.mark.parametrize("seed", [1, 2])
def test_a_job_killed_at_random_is_paid_once_and_complete(tmp_path: Path, seed: int) -> None:
    _check(tmp_path, seed, 200)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 120))
def test_many_jobs_killed_at_random(tmp_path: Path, seed: int) -> None:
    _check(tmp_path, seed, 1_000)


def _check(folder: Path, seed: int, lines: int) -> None:
    figures = under_fire(seed, lines, folder)
    print(told(figures))
    assert figures["double executions"] == 0
    assert figures["lines lost"] == 0
    assert figures["kills"] > 0
