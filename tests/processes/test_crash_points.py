"""Killed safely: a process that dies at any of the named points, and is started again, ends as if it had not died."""

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.crash_table import EFFECTS, SCENARIOS, effects, points, scenario_of
from tests.support.kill_harness import Killing, Outcome
from tests.support.world import ROOT


def run(folder: Path, name: str, crash_at: str = "") -> tuple[Outcome, int]:
    """One run of a scenario; how it ended, and how often it died."""
    job = Killing(folder, SCENARIOS[name])
    with job.serving():
        job.run(crash_at)
    return job.outcome(), job.deaths


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


@pytest.mark.parametrize("point", points())
def test_a_process_killed_at_a_point_ends_as_if_it_had_not_been(
    tmp_path: Path, point: str, undisturbed: Callable[[str], Outcome]
) -> None:
    name = scenario_of(point)
    assert name, f"no scenario reaches {point}: add one to tests/support/crash_table.py"
    outcome, deaths = run(tmp_path, name, point)
    assert deaths == 1, f"the scenario {name!r} does not reach {point}"
    assert outcome == undisturbed(name)
    assert outcome.twice == 0
    assert set(outcome.states.values()) == {"done"}


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
