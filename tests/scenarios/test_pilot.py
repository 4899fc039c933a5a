"""A pilot in the batch lane: what is in flight at once, and what waits for its first answers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from batcher.core.actions import Finish, Wait
from batcher.core.decide import PILOT_ANSWERED, decide_pilot_actions
from batcher.core.pilots import PilotStage
from batcher.lanes.batch.runner import BatchRunner
from batcher.plan.pilot_draw import PilotWish
from batcher.plan.pilot_plan import recut_with_pilot
from batcher.plan.retry_shards import recut_parked_lines
from batcher.sandbox import Faults, SandboxSettings
from batcher.state import pilots, redo, wishes
from batcher.state.pilots import PilotProgress
from batcher.state.redo import RedoFilter
from tests.support.direct_kit import desk
from tests.support.planner_kit import SLOW_POLLS, TEN_LINES, Desk
from tests.support.world import World, config_with, counter, write_table


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


def _plan_pilot(folder: Path, settings: SandboxSettings | None = None) -> World:
    """Return a planned job of 60 lines, whose pilot of 12 is not released."""
    world = World(folder, settings or SandboxSettings(), config_with(limits=TEN_LINES, poll=SLOW_POLLS))
    world.plan(write_table(folder / "t.csv", 60, (1,)), pilot=PilotWish(12, 1))
    return world


def _release(world: World, pilot: int = 1) -> None:
    with world.store.transaction("release_pilot") as tx:
        assert pilots.release_pilot(tx, pilot)


def _follow(world: World) -> Finish | Wait:
    runner = BatchRunner(world.tools())
    runner.prepare_run()
    return runner.run_until_idle(how=decide_pilot_actions)


def _progress(world: World, prompt: int | None = None) -> PilotProgress:
    with world.store.read_transaction() as tx:
        pilot = pilots.load_newest_pilot(tx, prompt)
        assert pilot is not None
        return pilots.load_pilot_progress(tx, pilot, 0.9)


def test_a_pilot_from_which_a_line_is_forgotten_goes_on_with_the_others(tmp_path: Path) -> None:
    world = _plan_pilot(tmp_path)
    ((artist,),) = world.rows("SELECT min(artist_id) FROM pilot_lines")
    with world.store.transaction("forget") as tx:
        wishes.choose_named_artists(tx, [str(artist)])
        wishes.forget_unsent_artists(tx)
    recut_parked_lines(world.store, world.job, world.config)
    assert _progress(world).stage is PilotStage.ASKED
    _release(world)
    assert _follow(world) == Finish(PILOT_ANSWERED)
    progress = _progress(world)
    assert (progress.stage, progress.tally.judged) == (PilotStage.PASSED, 11)
    assert world.states() == {"done": 11, "ready": 48}


def test_a_pilot_from_which_all_lines_are_forgotten_is_over(tmp_path: Path) -> None:
    world = _plan_pilot(tmp_path)
    _release(world)
    lines = [str(row[0]) for row in world.rows("SELECT artist_id FROM pilot_lines")]
    with world.store.transaction("forget") as tx:
        wishes.choose_named_artists(tx, lines)
        assert wishes.forget_unsent_artists(tx).unsent == 12
    with world.store.read_transaction() as tx:
        assert pilots.load_newest_pilot(tx) is None
    assert world.rows("SELECT count(*) FROM shards WHERE pilot IS NOT NULL") == [(0,)]
    assert world.states() == {"ready": 48}


def test_a_pilot_that_was_cancelled_before_it_was_sent_is_still_to_be_asked(tmp_path: Path) -> None:
    world = _plan_pilot(tmp_path)
    _release(world)
    with world.store.transaction("cancel") as tx:
        wishes.request_cancel(tx, [])
    _follow(world)
    assert (_progress(world).stage, _progress(world).tally.judged) == (PilotStage.ASKED, 0)
    assert world.states() == {"ready": 60}


def test_the_answers_of_a_pilot_count_where_the_clock_was_set_back(tmp_path: Path) -> None:
    world = _plan_pilot(tmp_path)
    world.clock.now -= 3 * 86_400
    _release(world)
    assert _follow(world) == Finish(PILOT_ANSWERED)
    assert (_progress(world).stage, _progress(world).tally.judged) == (PilotStage.PASSED, 12)


@pytest.mark.parametrize("days", [10, -10])
def test_answers_of_the_direct_lane_count_whatever_the_clock_was_when_the_pilot_was_drawn(
    tmp_path: Path, days: int
) -> None:
    world = desk(tmp_path, 24)
    world.direct(max_lines=4)
    world.clock.now += days * 86_400
    recut_with_pilot(world.config, world.job, world.store, PilotWish(12, 1), counter(), lambda *_: None)
    world.clock.now -= days * 86_400
    _release(world)
    world.direct()
    assert (_progress(world).stage, _progress(world).tally.judged) == (PilotStage.PASSED, 12)


def test_answers_that_were_recorded_before_a_pilot_was_drawn_do_not_count(tmp_path: Path) -> None:
    """Ask for bios again in a pilot that is drawn by a clock which is behind the one that recorded them."""
    world = desk(tmp_path, 12)
    world.direct(max_lines=4)
    with world.store.transaction("redo") as tx:
        redo.choose_redos(tx, RedoFilter(prompt=1))
        redo.redo_lines(tx)
    world.clock.now -= 10 * 86_400
    recut_with_pilot(world.config, world.job, world.store, PilotWish(12, 1), counter(), lambda *_: None)
    assert world.rows("SELECT count(*) FROM attempts JOIN pilot_lines USING (artist_id)") == [(4,)]
    assert _progress(world).tally.judged == 0


def test_the_first_answer_of_a_line_stays_the_first_where_the_clock_was_set_back(tmp_path: Path) -> None:
    world = _plan_pilot(tmp_path)
    _release(world)
    accepting, world.job = world.job, replace(world.job, accept=lambda *_: "no")
    _follow(world)
    world.clock.now -= 86_400
    world.job = accepting
    with world.store.transaction("resume") as tx:
        pilots.resume_failed_pilots(tx, 0.9)
    world.act()
    assert (_progress(world).tally.accepted, _progress(world).tally.bios) == (0, 12)


def test_a_pilot_whose_lines_expire_asks_the_user(tmp_path: Path) -> None:
    world = _plan_pilot(tmp_path, SandboxSettings(service_s=(10**6, 10**6)))
    _release(world)
    world.act()
    progress = _progress(world)
    assert progress.stage is PilotStage.FAILED
    assert progress.tally.judged < 6


def test_resume_goes_on_with_the_failed_pilot_of_an_earlier_prompt(tmp_path: Path) -> None:
    """Fail a pilot, pass one of another prompt, and go back to the first prompt; only then is there a question."""
    desk = Desk(tmp_path, config_with(limits=TEN_LINES, poll=SLOW_POLLS))
    rows = "".join(f"a{n:02},Ana,Fact {n}\n" for n in range(60))
    table = desk.table(f"artist_id,artist_name,fact\n{rows}")
    desk.plan(table, pilot=PilotWish(10, 1))
    _release(desk.world)
    desk.world.job = replace(desk.world.job, accept=lambda *_: "no")
    _follow(desk.world)
    desk.write_job(user="Painter: {artist_name}, {fact}")
    desk.plan(table, replan=True, pilot=PilotWish(10, 1))
    _release(desk.world, 2)
    _follow(desk.world)
    assert (_progress(desk.world, 1).stage, _progress(desk.world, 2).stage) == (PilotStage.FAILED, PilotStage.PASSED)
    with desk.world.store.transaction("resume") as tx:
        assert pilots.resume_failed_pilots(tx, 0.9) == []
    desk.write_job()
    desk.plan(table, replan=True)
    with desk.world.store.transaction("resume") as tx:
        assert pilots.resume_failed_pilots(tx, 0.9) == [1]
    assert _progress(desk.world, 1).stage is not PilotStage.FAILED
