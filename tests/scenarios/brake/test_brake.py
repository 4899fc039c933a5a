"""The brake stops the batch lane at a bad prompt, also during an upload and after a kill, until the user resumes."""

from pathlib import Path

import httpx2

from batcher.core import events
from batcher.core.actions import Finish
from batcher.core.brake import REMEDIES
from batcher.state.snapshot import load_snapshot, release_brake
from batcher.state.versions import load_version, register_version
from tests.support.brake_kit import (
    BRAKE,
    QUICK,
    bad_job,
    brake_config,
    count_executions,
    fix,
    refuse_every,
    spoil,
    trips,
)
from tests.support.protocol_kit import BATCH_S, Send, Trial, lost, nth
from tests.support.world import World, kept_open, write_table

# --- what a bad prompt costs -----------------------------------------------------------------------------------------


def test_a_prompt_of_which_most_answers_are_refused_stops_at_8_percent_of_one_pass(tmp_path: Path) -> None:
    """Without a brake it takes 1,444 executions, three for most lines; the brake trips after 40."""
    world = bad_job(tmp_path)
    end = world.act()
    assert end.asks
    assert "of the newest 40 answers of prompt 1 (9" in end.problem
    assert "not_accepted" in end.problem
    assert end.problem.endswith(REMEDIES)
    states = world.states()
    assert states.get("in_batch", 0) == states.get("dead", 0) == 0
    assert states["done"] + states["ready"] == 500
    assert count_executions(world) == 40


def test_large_shards_stop_after_the_first_one(tmp_path: Path) -> None:
    world = bad_job(tmp_path, per_shard=100)
    end = world.act()
    assert end.asks
    assert count_executions(world) == 100
    assert world.states().get("dead", 0) == 0


def test_the_failures_of_a_large_batch_are_not_taken_for_its_newest_answers(tmp_path: Path) -> None:
    """Its bios are recorded before its failures, and the window is smaller than the batch: of 1,000 answers 10% are of
    no use, and those are the last 100 rows."""
    world = World(tmp_path, QUICK, brake_config(1_000, {**BRAKE, "window": 100, "first_wave": 1}))
    refuse_every(world, 10)
    world.plan(write_table(tmp_path / "artists.csv", 1_000, (1,)))
    world.release()
    assert world.act() == Finish()
    assert world.states() == {"done": 900, "dead": 100}


def test_a_prompt_with_few_bad_answers_runs_to_its_end(tmp_path: Path) -> None:
    """One in nine lines is refused for good. Their retries are all refused, and do not trip the brake."""
    world = World(tmp_path, QUICK, brake_config())
    refuse_every(world, 9)
    world.plan(write_table(tmp_path / "artists.csv", 180, (1,)))
    world.release()
    assert world.act() == Finish()
    assert world.states() == {"done": 160, "dead": 20}


# --- it holds at every moment, and after a kill ----------------------------------------------------------------------


def _judge_elsewhere(world: World) -> None:
    """Record thirty refused answers, as the other lane does meanwhile."""
    with world.store.transaction("as if the other lane judged") as tx:
        tx.con.execute(
            "INSERT INTO attempts (artist_id, lane, outcome, code, counted, happened_at, version, again) "
            "SELECT 'x' || i, 'direct', 'unusable', 'not_accepted', true, 1, 1, false FROM range(30) AS t(i)"
        )


def test_a_brake_that_trips_during_an_upload_keeps_the_create_back(tmp_path: Path) -> None:
    """The other lane judges answers while a file goes up: the file is kept, and no batch is created of it."""
    it = Trial(tmp_path, 60, {}, {}, limits={"lines_per_shard": 20}, brake={**BRAKE, "first_wave": 1})
    with kept_open(it.store):
        it.once_told(events.UploadStarted, lambda: _judge_elsewhere(it))
        end = it.act()
        assert isinstance(end, Finish)
        assert end.asks
        assert it.batches() == []
        assert it.rows("SELECT shard FROM shards WHERE state = 'uploaded'") == [(1,)]
        assert it.rows("SELECT count(*) FROM submissions WHERE ended_at IS NULL") == [(0,)]
        with it.store.transaction("resume") as tx:
            release_brake(tx)
        assert it.act() == Finish()
        assert it.states() == {"done": 60}
        assert len(it.input_files()) == 0


def test_a_create_that_was_lost_while_the_brake_trips_is_not_made_again(tmp_path: Path) -> None:
    """The service never saw it: the shard is found to have no batch, and waits with its file."""
    it = Trial(tmp_path, 60, {}, {}, limits={"lines_per_shard": 20}, brake={**BRAKE, "first_wave": 1})

    def lose(request: httpx2.Request, _send: Send) -> httpx2.Response:
        _judge_elsewhere(it)
        raise httpx2.ReadTimeout("The read operation timed out", request=request)

    it.rule = nth("POST", "/batches", 1, lose)
    with kept_open(it.store):
        for _ in range(2):  # and so does the next process
            end = it.act()
            assert isinstance(end, Finish)
            assert end.asks
            assert it.batches() == []
        assert it.rows("SELECT state, count(*) FROM artists GROUP BY 1") == [("ready", 60)]
        assert it.rows("SELECT count(*) FROM submissions WHERE create_intended_at IS NOT NULL") == [(1,)]


def test_a_create_that_took_effect_while_the_brake_trips_is_adopted_and_taken_in(tmp_path: Path) -> None:
    it = Trial(tmp_path, 60, {}, {}, limits={"lines_per_shard": 20}, brake={**BRAKE, "first_wave": 1})

    def lose(request: httpx2.Request, send: Send) -> httpx2.Response:
        _judge_elsewhere(it)
        return lost(request, send)

    it.rule = nth("POST", "/batches", 1, lose)
    with kept_open(it.store):
        end = it.act()
        assert isinstance(end, Finish)
        assert end.asks
        assert len(it.batches()) == 1
        assert it.states() == {"done": 20, "ready": 40}


def test_a_killed_process_leaves_the_brake_where_it_is(tmp_path: Path) -> None:
    """Each process finds it again by the answers: nothing but them is kept."""
    world = bad_job(tmp_path, 100)
    first = world.act()
    spent = count_executions(world)
    for _ in range(2):
        assert world.act() == first
    assert count_executions(world) == spent
    assert trips(world)


def test_what_is_in_flight_is_taken_in_before_the_question(tmp_path: Path) -> None:
    it = Trial(tmp_path, 60, {}, {}, limits={"lines_per_shard": 20}, brake={**BRAKE, "first_wave": 0.67})
    spoil(it)
    with kept_open(it.store):
        it.act(once=True)
        assert it.states() == {"in_batch": 40, "ready": 20}
        it.clock.sleep(BATCH_S * 2)
        end = it.act()
        assert isinstance(end, Finish)
        assert end.asks
        assert it.rows("SELECT count(*) FROM batches WHERE settled_at IS NULL") == [(0,)]
        assert it.rows("SELECT count(*) FROM attempts") == [(40,)]


# --- how one goes on -------------------------------------------------------------------------------------------------


def test_after_resume_only_new_answers_count(tmp_path: Path) -> None:
    world = bad_job(tmp_path, 100)
    assert getattr(world.act(), "asks", False)
    with world.store.transaction("resume") as tx:
        release_brake(tx)
    assert not trips(world)
    fix(world)
    assert world.act() == Finish()
    assert world.states() == {"done": 100}


def test_after_resume_the_brake_trips_again_by_new_answers_to_new_lines(tmp_path: Path) -> None:
    world = bad_job(tmp_path, 100)
    assert getattr(world.act(), "asks", False)
    before = count_executions(world)
    with world.store.transaction("resume") as tx:
        release_brake(tx)
    assert getattr(world.act(), "asks", False)
    assert count_executions(world) > before


def test_resume_counts_even_where_a_clock_was_ahead(tmp_path: Path) -> None:
    world = bad_job(tmp_path, 100)
    world.act()
    world.clock.now -= 7_200
    with world.store.transaction("resume") as tx:
        release_brake(tx)
    assert not trips(world)


def test_resume_counts_where_the_clock_was_ahead_and_is_set_back(tmp_path: Path) -> None:
    world = bad_job(tmp_path)
    world.clock.now += 30 * 86_400
    assert getattr(world.act(), "asks", False)
    world.clock.now -= 30 * 86_400
    with world.store.transaction("resume") as tx:
        release_brake(tx)
    assert getattr(world.act(), "asks", False)
    assert count_executions(world) < 300


def test_good_answers_of_a_clock_that_was_ahead_do_not_hide_bad_ones(tmp_path: Path) -> None:
    world = World(tmp_path, QUICK, brake_config(50, {**BRAKE, "window": 100}))
    fix(world)
    world.plan(write_table(tmp_path / "artists.csv", 1_000, (1,)))
    world.clock.now += 30 * 86_400
    world.release(4)
    world.act()
    assert world.states()["done"] == 200
    world.clock.now -= 30 * 86_400
    spoil(world)
    world.release()
    assert getattr(world.act(), "asks", False)


def test_answers_that_are_judged_again_end_the_brake(tmp_path: Path) -> None:
    world = bad_job(tmp_path, 100)
    world.act()
    assert trips(world)
    with world.store.transaction("judge") as tx:
        tx.con.execute("UPDATE attempts SET outcome = 'bio' WHERE outcome = 'unusable'")
    assert not trips(world)


def test_the_prompt_of_another_version_is_not_braked(tmp_path: Path) -> None:
    world = bad_job(tmp_path, 100)
    world.act()
    with world.store.transaction("as if a shard was cut with another prompt") as tx:
        version, constant_tokens = load_version(tx, 1)
        assert register_version(tx, version._replace(system="Be brief."), constant_tokens) == 2
        tx.con.execute("UPDATE shards SET version = 2 WHERE shard = 5")
    with world.store.read_transaction() as tx:
        prompts = load_snapshot(tx, world.config, world.tools().prices).prompts
        assert {version: view.braked is not None for version, view in prompts.items()} == {1: True, 2: False}
