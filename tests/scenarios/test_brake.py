"""The brake and the first wave in both lanes, against the sandbox: what a bad prompt costs, and how one goes on."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from batcher.catalog.prices import resolve_prices
from batcher.cli.base.session import Session
from batcher.cli.sending.pause import run_resume
from batcher.cli.tools.doctor import run_health_checks
from batcher.config import Config
from batcher.core import events
from batcher.core.actions import Finish, Wait
from batcher.core.brake import REMEDIES
from batcher.core.forecast import BEST_BATCH_S
from batcher.plan.pilot_draw import PilotWish
from batcher.sandbox import SandboxSettings
from batcher.state import pilots
from batcher.state.reports.status import Status, read_status
from batcher.state.snapshot import load_braked, load_snapshot, release_brake
from batcher.views.progress import CleanConsole, Display
from batcher.views.status import draw_status
from tests.support.direct_kit import Desk
from tests.support.protocol_kit import BATCH_S, Send, Trial, lost, nth
from tests.support.world import World, config_with, kept_open, write_table

BRAKE = {"max_unusable": 0.2, "window": 500, "first_wave": 0.1}
WAITS = "the first answers of prompt 1 have not been judged yet"


QUICK = SandboxSettings(validating_s=(10, 10), service_s=(100, 100), finalizing_s=(10, 10), cancelling_s=(5, 5))
"""Every batch has ended at the next poll."""


def _refuse_most(artist: Any, _bio: object) -> str | None:
    """Accept one in 17 answers, which is 6%."""
    return None if int(artist.artist_id[1:]) % 17 == 0 else "urgency is out of range"


def _config(per_shard: int = 20, brake: Mapping[str, object] = BRAKE) -> Config:
    return config_with(limits={"lines_per_shard": per_shard}, brake=brake, poll={"interval_s": 150})


def _spoil(world: World) -> None:
    world.job = replace(world.job, accept=_refuse_most)


def _mend(world: World) -> None:
    world.job = replace(world.job, accept=lambda *_: None)


def _bad_job(
    folder: Path, lines: int = 500, per_shard: int = 20, brake: Mapping[str, object] = BRAKE, kind: type[World] = World
) -> Any:
    """Return a released job of which 94% of the answers are refused."""
    world = kind(folder, QUICK, _config(per_shard, brake))
    _spoil(world)
    world.plan(write_table(folder / "artists.csv", lines, (1, 2, 3, 4, 5)))
    world.release()
    return world


def _executions(world: World) -> int:
    return int(str(world.rows("SELECT count(*) FROM attempts WHERE tokens_input > 0")[0][0]))


def _trips(world: World) -> bool:
    with world.store.read_transaction() as tx:
        return bool(load_braked(tx, world.config))


# --- what a bad prompt costs -----------------------------------------------------------------------------------------


def test_a_prompt_of_which_most_answers_are_refused_stops_at_8_percent_of_one_pass(tmp_path: Path) -> None:
    """Without a brake it takes 1,444 executions, three for most lines; the brake trips after 40."""
    world = _bad_job(tmp_path)
    end = world.act()
    assert end.asks
    assert "of the newest 40 answers of prompt 1 (9" in end.problem
    assert "not_accepted" in end.problem
    assert end.problem.endswith(REMEDIES)
    states = world.states()
    assert states.get("in_batch", 0) == states.get("dead", 0) == 0
    assert states["done"] + states["ready"] == 500
    assert _executions(world) == 40


def test_large_shards_stop_after_the_first_one(tmp_path: Path) -> None:
    world = _bad_job(tmp_path, per_shard=100)
    end = world.act()
    assert end.asks
    assert _executions(world) == 100
    assert world.states().get("dead", 0) == 0


def test_the_failures_of_a_large_batch_are_not_taken_for_its_newest_answers(tmp_path: Path) -> None:
    """Its bios are recorded before its failures, and the window is smaller than the batch: of 1,000 answers 10% are of
    no use, and those are the last 100 rows."""
    world = World(tmp_path, QUICK, _config(1_000, {**BRAKE, "window": 100, "first_wave": 1}))
    world.job = replace(world.job, accept=lambda artist, _: "no" if int(artist.artist_id[1:]) % 10 == 0 else None)
    world.plan(write_table(tmp_path / "artists.csv", 1_000, (1,)))
    world.release()
    assert world.act() == Finish()
    assert world.states() == {"done": 900, "dead": 100}


def test_a_prompt_with_few_bad_answers_runs_to_its_end(tmp_path: Path) -> None:
    """One in nine lines is refused for good. Their retries are all refused, and do not trip the brake."""
    world = World(tmp_path, QUICK, _config())
    world.job = replace(world.job, accept=lambda a, _b: "no" if int(a.artist_id[1:]) % 9 == 0 else None)
    world.plan(write_table(tmp_path / "artists.csv", 180, (1,)))
    world.release()
    assert world.act() == Finish()
    assert world.states() == {"done": 160, "dead": 20}


# --- the first wave --------------------------------------------------------------------------------------------------


def test_only_a_first_wave_is_sent_until_an_answer_was_judged(tmp_path: Path) -> None:
    world = World(tmp_path, QUICK, _config())
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
    world = World(tmp_path, never, config_with(limits={"lines_per_shard": 10}, brake=BRAKE, poll={"interval_s": 7_200}))
    world.plan(write_table(tmp_path / "artists.csv", 60, (1, 2)))
    world.release()
    world.act()
    waves = "SELECT count(*) FROM submissions AS n JOIN shards USING (shard) WHERE NOT retry GROUP BY {} ORDER BY {}"
    day = "((intended_at - (SELECT min(intended_at) FROM submissions)) // 86400)"
    assert world.rows(waves.format(day, day)) == [(1,), (2,), (3,)]


def test_a_second_process_does_not_widen_the_first_wave(tmp_path: Path) -> None:
    world = World(tmp_path, QUICK, _config())
    world.plan(write_table(tmp_path / "artists.csv", 300, (1,)))
    world.release()
    for _ in range(3):
        world.act(once=True)
    assert world.states() == {"in_batch": 20, "ready": 280}


def _judge_elsewhere(world: World) -> None:
    """Record thirty refused answers, as the other lane does meanwhile."""
    with world.store.transaction("as if the other lane judged") as tx:
        tx.con.execute(
            "INSERT INTO attempts (artist_id, lane, outcome, code, counted, happened_at, version, again) "
            "SELECT 'x' || i, 'direct', 'unusable', 'not_accepted', true, 1, 1, false FROM range(30) AS t(i)"
        )


# --- it holds at every moment, and after a kill ----------------------------------------------------------------------


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
    world = _bad_job(tmp_path, 100)
    first = world.act()
    spent = _executions(world)
    for _ in range(2):
        assert world.act() == first
    assert _executions(world) == spent
    assert _trips(world)


def test_what_is_in_flight_is_taken_in_before_the_question(tmp_path: Path) -> None:
    it = Trial(tmp_path, 60, {}, {}, limits={"lines_per_shard": 20}, brake={**BRAKE, "first_wave": 0.67})
    _spoil(it)
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
    world = _bad_job(tmp_path, 100)
    assert getattr(world.act(), "asks", False)
    with world.store.transaction("resume") as tx:
        release_brake(tx)
    assert not _trips(world)
    _mend(world)
    assert world.act() == Finish()
    assert world.states() == {"done": 100}


def test_after_resume_the_brake_trips_again_by_new_answers_to_new_lines(tmp_path: Path) -> None:
    world = _bad_job(tmp_path, 100)
    assert getattr(world.act(), "asks", False)
    before = _executions(world)
    with world.store.transaction("resume") as tx:
        release_brake(tx)
    assert getattr(world.act(), "asks", False)
    assert _executions(world) > before


def test_after_resume_a_first_wave_holds_until_an_answer_after_it_was_judged(tmp_path: Path) -> None:
    """All that is left must not go out before the brake can trip again."""
    world = _bad_job(tmp_path, 500)
    assert getattr(world.act(), "asks", False)
    assert _executions(world) == 40
    with world.store.transaction("resume") as tx:
        release_brake(tx)
    world.act(once=True)
    assert world.states()["in_batch"] <= 50
    end = world.act()
    assert end.asks
    assert "of prompt 1" in end.problem
    assert _executions(world) <= 40 + 3 * 50  # refused lines are retried beside them, and these do not count
    assert world.states().get("dead", 0) == 0


def test_answers_count_as_judged_where_nothing_was_resumed(tmp_path: Path) -> None:
    """Also those to lines that had an answer of no use before."""
    world = World(tmp_path, QUICK, _config())
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
    world = World(tmp_path, QUICK, _config(brake={**BRAKE, "max_unusable": 1}))
    _spoil(world)
    world.plan(write_table(tmp_path / "artists.csv", 300, (1,)), pilot=PilotWish(15, 1))
    with world.store.transaction("release_pilot") as tx:
        pilots.release_pilot(tx, 1)
    world.act()
    with world.store.read_transaction() as tx:
        answered = pilots.count_judged_answers(tx, 1)
    assert answered >= 15
    session = Session(world.config, world.store, Display(CleanConsole(stderr=True)), json=False)
    assert str(run_resume(session).drawn).endswith("the pilot counts as passed, and `batcher run` sends the rest")
    world.release()
    world.act(once=True)
    assert world.states()["in_batch"] <= 30


def test_resume_counts_even_where_a_clock_was_ahead(tmp_path: Path) -> None:
    world = _bad_job(tmp_path, 100)
    world.act()
    world.clock.now -= 7_200
    with world.store.transaction("resume") as tx:
        release_brake(tx)
    assert not _trips(world)


def test_resume_counts_where_the_clock_was_ahead_and_is_set_back(tmp_path: Path) -> None:
    world = _bad_job(tmp_path)
    world.clock.now += 30 * 86_400
    assert getattr(world.act(), "asks", False)
    world.clock.now -= 30 * 86_400
    with world.store.transaction("resume") as tx:
        release_brake(tx)
    assert getattr(world.act(), "asks", False)
    assert _executions(world) < 300


def test_good_answers_of_a_clock_that_was_ahead_do_not_hide_bad_ones(tmp_path: Path) -> None:
    world = World(tmp_path, QUICK, _config(50, {**BRAKE, "window": 100}))
    _mend(world)
    world.plan(write_table(tmp_path / "artists.csv", 1_000, (1,)))
    world.clock.now += 30 * 86_400
    world.release(4)
    world.act()
    assert world.states()["done"] == 200
    world.clock.now -= 30 * 86_400
    _spoil(world)
    world.release()
    assert getattr(world.act(), "asks", False)


def test_a_changed_prompt_goes_on_with_a_first_wave_of_its_own(tmp_path: Path) -> None:
    world = _bad_job(tmp_path, 200)
    assert getattr(world.act(), "asks", False)
    _mend(world)
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


def test_answers_that_are_judged_again_end_the_brake(tmp_path: Path) -> None:
    world = _bad_job(tmp_path, 100)
    world.act()
    assert _trips(world)
    with world.store.transaction("judge") as tx:
        tx.con.execute("UPDATE attempts SET outcome = 'bio' WHERE outcome = 'unusable'")
    assert not _trips(world)


def test_the_prompt_of_another_version_is_not_braked(tmp_path: Path) -> None:
    world = _bad_job(tmp_path, 100)
    world.act()
    with world.store.read_transaction() as tx:
        prompts = load_snapshot(tx, world.config, world.tools().prices).prompts
        assert {version: view.braked is not None for version, view in prompts.items()} == {1: True}


# --- what is told ----------------------------------------------------------------------------------------------------


def _told(world: World) -> tuple[Status, str]:
    with world.store.read_transaction() as tx:
        status = read_status(tx, world.config, resolve_prices)
    console = CleanConsole(file=io.StringIO(), width=400)
    console.print(draw_status(status))
    return status, console.file.getvalue()  # type: ignore[attr-defined]


def test_status_tells_the_brake_and_what_to_do(tmp_path: Path) -> None:
    world = _bad_job(tmp_path, 100)
    world.act()
    status, text = _told(world)
    (brake,) = status.brakes
    assert (brake.prompt, brake.answers, brake.unusable, brake.share) == (1, 20, 18, 0.9)
    assert [tuple(reason) for reason in brake.reasons] == [("not_accepted", 18)]
    assert "The brake: 18 of the newest 20 answers of prompt 1 (90%) were of no use (not_accepted 18)" in text
    assert f"{REMEDIES}." in text
    assert "After `batcher resume` it ends" in text
    with world.store.transaction("resume") as tx:
        release_brake(tx)
    status, text = _told(world)
    assert not status.brakes
    assert "brake" not in text


def test_status_tells_and_forecasts_the_first_wave(tmp_path: Path) -> None:
    world = World(tmp_path, QUICK, _config())
    world.plan(write_table(tmp_path / "artists.csv", 300, (1,)))
    world.release()
    before, text = _told(world)
    assert before.expectation.forecast.best_s == 2 * BEST_BATCH_S
    assert "first wave" not in text
    world.act(once=True)
    status, text = _told(world)
    assert status.first_wave == 30
    assert "A first wave is in flight; 280 released lines wait until some of its answers were judged." in text


def test_resume_says_which_brake_it_releases(tmp_path: Path) -> None:
    world = _bad_job(tmp_path, 100)
    world.act()
    session = Session(world.config, world.store, Display(CleanConsole(stderr=True)), json=False)
    told = run_resume(session)
    assert told.data["brake_released"] == [1]  # type: ignore[index]
    assert told.drawn == "0 pauses ended; the brake is released for prompt 1: only answers from now on count"
    assert not _trips(world)
    assert run_resume(session).data["brake_released"] == []  # type: ignore[index]


def test_the_doctor_tells_the_brake(tmp_path: Path) -> None:
    world = _bad_job(tmp_path, 100)
    assert not [f for f in run_health_checks(world.config, world.store, world.clock) if f.what == "brake"]
    world.act()
    (found,) = [f for f in run_health_checks(world.config, world.store, world.clock) if f.what == "brake"]
    assert found.level == "wrong"
    assert found.found.startswith("the brake: 18 of the newest 20 answers")
    assert found.todo == REMEDIES


# --- the direct lane -------------------------------------------------------------------------------------------------


def test_the_direct_lane_stops_at_a_bad_prompt_and_takes_in_its_calls(tmp_path: Path) -> None:
    world = Desk(tmp_path, config=_config())
    _spoil(world)
    world.plan(write_table(tmp_path / "table.csv", 200, (1,)))
    end = world.direct()
    assert end.asks
    assert end.problem.endswith(REMEDIES)
    assert 20 <= _executions(world) <= 24
    assert world.states().get("in_direct", 0) == 0
    assert world.states().get("dead", 0) == 0
    assert world.direct() == end
    with world.store.transaction("resume") as tx:
        release_brake(tx)
    _mend(world)
    assert world.direct() == Finish()
    assert world.states() == {"done": 200}


def test_the_direct_lane_heeds_what_the_batch_lane_has_judged(tmp_path: Path) -> None:
    world = _bad_job(tmp_path, 100, kind=Desk)
    world.act()
    before = _executions(world)
    assert world.direct().asks
    assert _executions(world) == before
    assert world.rows("SELECT count(*) FROM direct_calls") == [(0,)]


@pytest.mark.parametrize("share", [1, 0.2])
def test_the_direct_lane_runs_a_good_prompt_to_its_end(tmp_path: Path, share: float) -> None:
    world = Desk(tmp_path, config=_config(brake={**BRAKE, "max_unusable": share}))
    world.job = replace(world.job, accept=lambda a, _b: "no" if int(a.artist_id[1:]) % 9 == 0 else None)
    world.plan(write_table(tmp_path / "table.csv", 60, (1,)))
    assert world.direct() == Finish()
    assert world.states() == {"done": 53, "dead": 7}
