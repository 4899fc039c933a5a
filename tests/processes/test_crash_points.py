"""Killed safely: a process that dies at any of the named points, and is started again, ends as if it had not died."""

import fcntl
import os
import pickle
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from tests.support.crash_table import EFFECTS, SCENARIOS, effects, points, scenario_of
from tests.support.kill_harness import Killing, Outcome
from tests.support.world import ROOT


def run(folder: Path, name: str, crash_at: Collection[str] = ()) -> tuple[Outcome, set[str]]:
    """One run of a scenario; how it ended, and the points at which it died."""
    job = Killing(folder, SCENARIOS[name])
    with job.serving():
        died = job.run(crash_at)
    return job.outcome(), died


@pytest.fixture
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    """How a scenario ends when nothing dies; run once for all workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "undisturbed"
    folder.mkdir(exist_ok=True)

    def outcome(name: str) -> Outcome:
        kept = folder / f"{name}.pickle"
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                kept.write_bytes(pickle.dumps(run(folder / name, name)[0]))
        found = pickle.loads(kept.read_bytes())
        assert isinstance(found, Outcome)
        return found

    return outcome


def check_deaths(folder: Path, name: str, crash_at: Collection[str], undisturbed: Outcome) -> set[str]:
    """Check that a job that dies at these points ends as if it had not; return at which of them it died."""
    outcome, died = run(folder, name, crash_at)
    assert died <= {*crash_at}
    assert outcome == undisturbed, f"after deaths at {sorted(died)}"
    assert outcome.twice == 0
    assert set(outcome.states.values()) == {"done"}
    return died


@pytest.mark.parametrize("name", SCENARIOS)
def test_processes_killed_at_each_point_end_as_if_they_had_not_been(
    tmp_path: Path, name: str, undisturbed: Callable[[str], Outcome]
) -> None:
    """The process that goes on after a death dies at the next point; what it does not reach has a job of its own."""
    left = {point for point in points() if scenario_of(point) == name}
    while left:
        died = check_deaths(tmp_path / f"{len(left)} left", name, left, undisturbed(name))
        assert died, f"the scenario {name!r} does not reach {sorted(left)}"
        left -= died


def test_every_point_has_a_scenario() -> None:
    missing = [point for point in points() if scenario_of(point) not in SCENARIOS]
    assert not missing, f"no scenario reaches {missing}: add one to tests/support/crash_table.py"


@pytest.mark.soak
@pytest.mark.parametrize("point", points())
def test_a_process_killed_at_one_point_ends_as_if_it_had_not_been(
    tmp_path: Path, point: str, undisturbed: Callable[[str], Outcome]
) -> None:
    name = scenario_of(point)
    assert check_deaths(tmp_path, name, [point], undisturbed(name)) == {point}


def test_every_effect_stands_between_its_two_points() -> None:
    found = effects()
    assert {effect.call for effect in found} == EFFECTS
    for effect in found:
        name = effect.before.removesuffix(".before")
        assert name and effect.before == f"{name}.before", f"{effect.where}: no point before the effect"
        assert effect.after == f"{name}.after", f"{effect.where}: no point {name}.after after the effect"
    names = [effect.before for effect in found]
    assert len(names) == len(set(names)), "two effects share their points"


def test_every_point_stands_in_the_document() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    names = {point.split(".")[0] for point in points()}
    missing = sorted(name for name in names if f"`{name}`" not in text)
    assert not missing, f"docs/reliability.md does not tell what repairs {', '.join(missing)}"
