"""A pilot in the batch lane: what is in flight at once, and what waits for its first answers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from batcher.core.actions import Finish
from batcher.core.decide import PILOT_ANSWERED, decide_pilot_actions
from batcher.lanes.batch.runner import BatchRunner
from batcher.plan.pilot_draw import PilotWish
from batcher.sandbox import Faults, SandboxSettings
from batcher.state import pilots
from tests.support.world import World, write_table


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Yield a planned job of 60 lines of three priorities, whose pilot of 12 is released."""
    made = World(tmp_path, SandboxSettings(faults=Faults(line_failures={"refusal": 0.3})))
    made.plan(write_table(tmp_path / "t.csv", 60), pilot=PilotWish(12, 1))
    with made.store.transaction("release_pilot") as tx:
        assert pilots.release_pilot(tx, 1) == 3
    yield made


def test_all_shards_of_a_pilot_are_in_flight_at_once(world: World) -> None:
    """They are more than the first wave of a prompt, a tenth of its lines."""
    world.act(once=True)
    assert world.rows("SELECT state, count(*) FROM shards WHERE pilot = 1 GROUP BY state") == [("in_flight", 3)]


def test_nothing_is_bought_again_before_the_first_answers(world: World) -> None:
    runner = BatchRunner(world.tools())
    runner.prepare_run()
    assert runner.run_until_idle(how=decide_pilot_actions) == Finish(PILOT_ANSWERED)
    assert set(world.sandbox.ledger.attempt_counts().values()) == {1}
    assert world.rows("SELECT count(*) FROM shards WHERE retry") == [(0,)]
    assert world.rows("SELECT count(*) FROM artists WHERE failure = 'unusable' AND shard IS NULL") != [(0,)]
    world.act()
    assert world.rows("SELECT count(*) FROM shards WHERE retry") != [(0,)]
    assert world.rows("SELECT count(*) FROM pilot_lines JOIN artists USING (artist_id) WHERE state = 'ready'") == [(0,)]
