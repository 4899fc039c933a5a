"""The first wave: only a part is sent until an answer was judged, at the start and after a resume, pilot or replan."""

from dataclasses import replace
from pathlib import Path

from batcher.commands.base.session import Session
from batcher.commands.sending.pause import run_resume
from batcher.core.actions import Finish, Wait
from batcher.plan.pilot_draw import PilotWish
from batcher.plan.reversioning import give_todays_version
from batcher.sandbox import SandboxSettings
from batcher.state import pilots, redo
from batcher.state.redo import RedoFilter
from batcher.state.snapshot import release_brake
from batcher.views.progress import CleanConsole, Display
from tests.support.brake_kit import BRAKE, QUICK, bad_job, brake_config, count_executions, fix, spoil
from tests.support.world import World, config_with, counter, write_table

WAITS = "the first answers of prompt 1 have not been judged yet"


# --- at the start ----------------------------------------------------------------------------------------------------


def test_only_a_first_wave_is_sent_until_an_answer_was_judged(tmp_path: Path) -> None:
    world = World(tmp_path, QUICK, brake_config())
    world.plan(write_table(tmp_path / "artists.csv", 300, (1,)))
    world.release()
    waits = world.act(once=True)
    assert isinstance(waits, Wait)
    assert waits.reason == f"shard 2: {WAITS}"
    assert world.states() == {"in_batch": 20, "ready": 280}
    assert world.act() == Finish()
    assert world.states() == {"done": 300}
    sent = [shard for (shard,) in world.rows("SELECT shard FROM submissions ORDER BY intended_at, shard")]
    assert sent == list(range(1, 16))


def test_a_job_whose_batches_all_expire_does_not_go_out_one_shard_after_another(tmp_path: Path) -> None:
    """Six shards: one, then two, then three; each line is tried as often as without a first wave."""
    never = SandboxSettings(service_s=(10**6, 10**6))
    config = config_with(limits={"lines_per_shard": 10}, brake=BRAKE, poll={"interval_s": 21_600})
    world = World(tmp_path, never, config)
    world.plan(write_table(tmp_path / "artists.csv", 60, (1, 2)))
    world.release()
    world.act()
    waves = "SELECT count(*) FROM submissions AS n JOIN shards USING (shard) WHERE NOT retry GROUP BY {} ORDER BY {}"
    day = "((intended_at - (SELECT min(intended_at) FROM submissions)) // 86400)"
    assert world.rows(waves.format(day, day)) == [(1,), (2,), (3,)]


def test_a_second_process_does_not_widen_the_first_wave(tmp_path: Path) -> None:
    world = World(tmp_path, QUICK, brake_config())
    world.plan(write_table(tmp_path / "artists.csv", 300, (1,)))
    world.release()
    for _ in range(3):
        world.act(once=True)
    assert world.states() == {"in_batch": 20, "ready": 280}


# --- how one goes on -------------------------------------------------------------------------------------------------


def test_after_resume_a_first_wave_holds_until_an_answer_after_it_was_judged(tmp_path: Path) -> None:
    """All that is left must not go out before the brake can trip again."""
    world = bad_job(tmp_path, 500)
    assert getattr(world.act(), "asks", False)
    assert count_executions(world) == 40
    with world.store.transaction("resume") as tx:
        release_brake(tx)
    world.act(once=True)
    assert world.states()["in_batch"] <= 50
    end = world.act()
    assert end.asks
    assert "of prompt 1" in end.problem
    assert count_executions(world) <= 40 + 3 * 50  # refused lines are retried beside them, and these do not count
    assert world.states().get("dead", 0) == 0


def test_answers_count_as_judged_where_nothing_was_resumed(tmp_path: Path) -> None:
    """Also those to lines that had an answer of no use before."""
    world = World(tmp_path, QUICK, brake_config())
    world.plan(write_table(tmp_path / "artists.csv", 300, (1,)))
    with world.store.transaction("as if a retry was judged") as tx:
        tx.con.execute(
            "INSERT INTO attempts (artist_id, lane, outcome, counted, happened_at, version, again) "
            "VALUES ('x1', 'direct', 'bio', true, 1, 1, true)"
        )
    world.release()
    world.act(once=True)
    assert world.states() == {"in_batch": 300}


def test_resume_of_a_failed_pilot_starts_the_rest_with_a_first_wave(tmp_path: Path) -> None:
    world = World(tmp_path, QUICK, brake_config(brake={**BRAKE, "max_unusable": 1}))
    spoil(world)
    world.plan(write_table(tmp_path / "artists.csv", 300, (1,)), pilot=PilotWish(15, 1))
    with world.store.transaction("release_pilot") as tx:
        pilots.release_pilot(tx, 1)
    world.act()
    with world.store.read_transaction() as tx:
        answered = pilots.count_judged_answers(tx, 1)
    assert answered >= 15
    session = Session(world.config, world.store, Display(CleanConsole(stderr=True)), json=False)
    assert str(run_resume(session).draw()).endswith(
        "the pilot of prompt 1 counts as passed, and `batcher run` sends the rest"
    )
    world.release()
    world.act(once=True)
    assert world.states()["in_batch"] <= 30


def test_a_changed_prompt_goes_on_with_a_first_wave_of_its_own(tmp_path: Path) -> None:
    world = bad_job(tmp_path, 200)
    assert getattr(world.act(), "asks", False)
    fix(world)
    world.job = replace(world.job, system=world.job.system + "\nWrite of urgency.")
    world.plan(tmp_path / "artists.csv", replan=True)
    world.release()
    waits = world.act(once=True)
    assert isinstance(waits, Wait)
    assert waits.reason.endswith("the first answers of prompt 2 have not been judged yet")
    assert world.states()["in_batch"] == 20
    assert world.act() == Finish()
    assert world.states() == {"done": 200}
    assert world.rows("SELECT DISTINCT version FROM bios ORDER BY 1") == [(1,), (2,)]


# --- lines that are asked for again -----------------------------------------------------------------------------------


def _redo(folder: Path, lines: int, settings: SandboxSettings = QUICK) -> World:
    """Return a job of done lines, one shard of them all, that are asked for again with another prompt."""
    world = World(folder, QUICK, brake_config(lines))
    world.plan(write_table(folder / "artists.csv", lines, (1,)))
    world.release()
    world.act()
    assert world.states() == {"done": lines}
    world.sandbox.update_settings({"service_s": settings.service_s})
    world.job = replace(world.job, system=world.job.system + "\nWrite of urgency.")
    with world.store.transaction("redo") as tx:
        redo.choose_redos(tx, RedoFilter(prompt=1))
        redo.redo_lines(tx)
        give_todays_version(tx, world.config, world.job, counter())
    return world


REDONE = "SELECT lines FROM shards WHERE version = 2 ORDER BY shard"


def test_lines_that_are_asked_for_again_with_a_bad_prompt_go_in_a_first_wave(tmp_path: Path) -> None:
    world = _redo(tmp_path, 400)
    world.job = replace(world.job, accept=lambda *_: "urgency is out of range")
    assert getattr(world.act(), "asks", False)
    assert world.rows(REDONE) == [(40,)]
    assert world.states() == {"ready": 400}


def test_the_rest_of_what_is_asked_for_again_follows_the_first_answers(tmp_path: Path) -> None:
    world = _redo(tmp_path, 400)
    assert world.act() == Finish()
    assert world.rows(REDONE) == [(40,), (360,)]
    assert world.rows("SELECT DISTINCT version FROM bios") == [(2,)]


def test_a_first_wave_of_loose_lines_that_expires_is_followed_by_a_larger_one(tmp_path: Path) -> None:
    world = _redo(tmp_path, 400, SandboxSettings(service_s=(10**9, 10**9)))
    world.config = config_with(limits={"lines_per_shard": 400}, brake=BRAKE, poll={"interval_s": 21_600})
    world.act()
    assert world.states() == {"dead": 400}
    assert [int(str(lines)) for (lines,) in world.rows(REDONE)][:2] == [40, 80]
