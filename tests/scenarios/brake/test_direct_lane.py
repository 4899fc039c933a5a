"""The brake stops the direct lane too, by the answers of both lanes."""

from pathlib import Path

import pytest

from batcher.core.actions import Finish
from batcher.core.brake import REMEDIES
from batcher.state.snapshot import release_brake
from tests.support.brake_kit import BRAKE, bad_job, brake_config, count_executions, fix, refuse_every, spoil
from tests.support.direct_kit import Desk
from tests.support.world import write_table


def test_the_direct_lane_stops_at_a_bad_prompt_and_takes_in_its_calls(tmp_path: Path) -> None:
    world = Desk(tmp_path, config=brake_config())
    spoil(world)
    world.plan(write_table(tmp_path / "table.csv", 200, (1,)))
    end = world.direct()
    assert end.asks
    assert end.problem.endswith(REMEDIES)
    assert 20 <= count_executions(world) <= 24
    assert world.states().get("in_direct", 0) == 0
    assert world.states().get("dead", 0) == 0
    assert world.direct() == end
    with world.store.transaction("resume") as tx:
        release_brake(tx)
    fix(world)
    assert world.direct() == Finish()
    assert world.states() == {"done": 200}


def test_the_direct_lane_heeds_what_the_batch_lane_has_judged(tmp_path: Path) -> None:
    world = bad_job(tmp_path, 100, kind=Desk)
    world.act()
    before = count_executions(world)
    assert world.direct().asks
    assert count_executions(world) == before
    assert world.rows("SELECT count(*) FROM direct_calls") == [(0,)]


@pytest.mark.parametrize("share", [1, 0.2])
def test_the_direct_lane_runs_a_good_prompt_to_its_end(tmp_path: Path, share: float) -> None:
    world = Desk(tmp_path, config=brake_config(brake={**BRAKE, "max_unusable": share}))
    refuse_every(world, 9)
    world.plan(write_table(tmp_path / "table.csv", 60, (1,)))
    assert world.direct() == Finish()
    assert world.states() == {"done": 53, "dead": 7}
