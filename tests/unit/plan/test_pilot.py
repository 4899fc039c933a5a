"""The pilot of a plan: its lines in shards of their own, in front of all others, and what a later plan makes of it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from batcher.core.actions import Finish
from batcher.core.decide import decide_actions, decide_pilot_actions
from batcher.core.pilots import PilotStage
from batcher.lanes.batch.runner import BatchRunner
from batcher.plan.pilot_draw import PilotWish
from batcher.plan.pilot_plan import recut_with_pilot
from batcher.sandbox import Faults
from batcher.state import pilots
from batcher.state.pilots import PilotRow
from tests.support.planner_kit import Desk, check_files, ids_of, shards
from tests.support.world import counter

WISH = PilotWish(6, 1)


def _write_rows(desk: Desk, count: int) -> str:
    rows = (f"a{n:03d},Name {n},{1 + n % 2},{'fact ' * (n % 7)}" for n in range(count))
    return "artist_id,artist_name,priority,fact\n" + "\n".join(rows)


def _newest(desk: Desk, prompt: int = 1) -> PilotRow | None:
    with desk.world.store.read_transaction() as tx:
        return pilots.load_newest_pilot(tx, prompt)


def _stage(desk: Desk) -> PilotStage:
    newest = _newest(desk)
    assert newest is not None
    with desk.world.store.read_transaction() as tx:
        return pilots.load_pilot_progress(tx, newest, 0.9).stage


def _recut(desk: Desk, wish: PilotWish = WISH) -> None:
    world = desk.world
    recut_with_pilot(world.config, world.job, world.store, wish, counter(), lambda *_: None)


def _pilot_ids(desk: Desk) -> list[object]:
    return [row[0] for row in desk.world.rows("SELECT artist_id FROM pilot_lines ORDER BY artist_id")]


def test_a_pilot_is_cut_in_front_of_all_others(desk: Desk) -> None:
    result, report = desk.plan(desk.table(_write_rows(desk, 50)), pilot=WISH)
    assert (result.lines_planned, result.shards_cut) == (50, 8)
    assert _newest(desk) == PilotRow(1, 1, 1, 6, 1, 6, None)
    marked = desk.world.rows("SELECT shard, priority, lines, pilot FROM shards ORDER BY shard")
    assert marked[:3] == [(1, 1, 3, 1), (2, 2, 3, 1), (3, 1, 10, None)]
    assert [row[3] for row in marked[2:]] == [None] * 6
    assert sorted(ids_of(desk.world, 1) + ids_of(desk.world, 2)) == _pilot_ids(desk)
    in_shards = Counter(row[0] for row in desk.world.rows("SELECT shard FROM artists"))
    assert in_shards == {shard.shard: shard.lines for shard in report.shards}
    check_files(desk.world)


def test_the_weights_stand_for_every_line(desk: Desk) -> None:
    desk.plan(desk.table(_write_rows(desk, 50)), pilot=WISH)
    assert desk.world.rows("SELECT round(sum(weight), 9), count(DISTINCT stratum) FROM pilot_lines") == [(50.0, 2)]


def test_the_same_seed_gives_the_same_pilot_and_another_another(desk: Desk) -> None:
    table = desk.table(_write_rows(desk, 200))
    desk.plan(table, pilot=WISH)
    first = _pilot_ids(desk)
    _recut(desk)
    assert _pilot_ids(desk) == first
    _recut(desk, PilotWish(6, 2))
    assert _pilot_ids(desk) != first


@pytest.mark.parametrize("lines", [50, 51, 10_000])
def test_a_pilot_larger_than_what_is_unsent_is_all_of_it(desk: Desk, lines: int) -> None:
    desk.plan(desk.table(_write_rows(desk, 50)), pilot=PilotWish(lines, 1))
    assert len(_pilot_ids(desk)) == 50
    assert desk.world.rows("SELECT count(*) FROM shards WHERE pilot IS NULL") == [(0,)]
    check_files(desk.world)


def test_a_plan_of_fewer_lines_than_are_needed_has_none(desk: Desk) -> None:
    desk.plan(desk.table(_write_rows(desk, 50)), pilot=PilotWish(6, 1, fewest=51))
    assert _newest(desk) is None
    assert desk.world.rows("SELECT count(*) FROM shards WHERE pilot IS NOT NULL") == [(0,)]


def test_what_is_unsent_is_cut_again_without_the_table(desk: Desk) -> None:
    table = desk.table(_write_rows(desk, 50))
    desk.plan(table)
    table.unlink()
    desk.world.release(2)
    _recut(desk)
    assert [row[2] for row in shards(desk.world)] == ["stale"] * 6 + ["planned"] * 8
    assert desk.world.states() == {"ready": 50}
    assert desk.world.rows("SELECT count(*) FROM shards WHERE pilot = 1") == [(2,)]


def test_sent_lines_are_in_no_pilot(desk: Desk) -> None:
    desk.plan(desk.table(_write_rows(desk, 50)))
    desk.world.release(2)
    desk.world.act()
    done = {row[0] for row in desk.world.rows("SELECT artist_id FROM artists WHERE state = 'done'")}
    assert len(done) == 20
    _recut(desk, PilotWish(12, 1))
    assert len(_pilot_ids(desk)) == 12
    assert done.isdisjoint(_pilot_ids(desk))
    assert desk.world.rows("SELECT round(sum(weight), 9) FROM pilot_lines") == [(30.0,)]


def test_a_pilot_that_was_not_sent_is_forgotten_by_a_replan(desk: Desk) -> None:
    table = desk.table(_write_rows(desk, 50))
    desk.plan(table, pilot=WISH)
    desk.plan(table, replan=True)
    assert _newest(desk) is None
    assert desk.world.rows("SELECT count(*) FROM shards WHERE pilot IS NOT NULL") == [(0,)]
    assert _pilot_ids(desk) == []


def test_a_pilot_that_was_sent_outlives_a_replan(desk: Desk) -> None:
    table = desk.table(_write_rows(desk, 50))
    desk.plan(table, pilot=WISH)
    with desk.world.store.transaction("release") as tx:
        assert pilots.release_pilot(tx, 1) == 2
    desk.world.act()
    desk.plan(table, replan=True)
    newest = _newest(desk)
    assert newest is not None
    with desk.world.store.read_transaction() as tx:
        progress = pilots.load_pilot_progress(tx, newest, 0.9)
        assert pilots.count_judged_answers(tx, 1) == 6
    assert progress.stage is PilotStage.PASSED
    assert [(line.first_outcome, line.executed) for line in progress.lines] == [("bio", 1)] * 6
    assert all(line.bio and line.usd > 0 and line.input > 0 for line in progress.lines)


def _send_pilot_in_part(desk: Desk) -> Path:
    """Plan a pilot of two shards of three lines, and send the first; return the table."""
    table = desk.table(_write_rows(desk, 50))
    desk.plan(table, pilot=WISH)
    with desk.world.store.transaction("release") as tx:
        tx.fetch_all("release_shards", most=1)
    desk.world.act()
    return table


def test_lines_that_another_plan_has_taken_are_not_followed(desk: Desk) -> None:
    """Nothing of them was sent with the pilot, and the shards that hold them now were not released."""
    table = _send_pilot_in_part(desk)
    assert _stage(desk) is PilotStage.ASKED
    desk.plan(table, replan=True)
    assert _stage(desk) is PilotStage.PASSED


def test_lines_that_a_later_plan_puts_elsewhere_leave_their_pilot(desk: Desk) -> None:
    """The verdict rests on the lines that were sent."""
    sent = _send_pilot_in_part(desk)
    done = [row[0] for row in desk.world.rows("SELECT artist_id FROM artists WHERE state = 'done' ORDER BY 1")]
    assert len(done) == 3
    desk.plan(sent, replan=True)
    assert _pilot_ids(desk) == done
    assert _stage(desk) is PilotStage.PASSED


def test_a_line_with_a_judged_answer_stays_in_its_pilot(desk: Desk) -> None:
    """Cutting refused lines again with the same prompt takes nothing from the verdict."""
    desk.world.job = replace(desk.world.job, accept=lambda *_: "no")
    table = desk.table(_write_rows(desk, 50))
    desk.plan(table, pilot=WISH)
    with desk.world.store.transaction("release") as tx:
        pilots.release_pilot(tx, 1)
    runner = BatchRunner(desk.world.tools())
    runner.prepare_run()
    runner.run_until_idle(how=decide_pilot_actions)
    refused = _pilot_ids(desk)
    assert _stage(desk) is PilotStage.FAILED
    desk.plan(table, replan=True)
    assert _pilot_ids(desk) == refused
    assert _stage(desk) is PilotStage.FAILED


def test_lines_whose_bio_turns_up_leave_their_pilot_with_those_beside_them(desk: Desk) -> None:
    """A bio of one line is given by --done: the others of its planned shard are cut again, into an ordinary one."""
    table = _send_pilot_in_part(desk)
    done = [row[0] for row in desk.world.rows("SELECT artist_id FROM artists WHERE state = 'done'")]
    other = next(artist for artist in _pilot_ids(desk) if artist not in done)
    desk.plan(table, done=desk.table(f"artist_id,bio\n{other},A bio.\n", "done.csv"))
    assert desk.world.states() == {"done": 3, "done_before": 1, "ready": 46}
    assert _pilot_ids(desk) == sorted(map(str, done))
    assert _stage(desk) is PilotStage.PASSED


def test_the_number_of_a_pilot_is_never_given_again(desk: Desk) -> None:
    table = desk.table(_write_rows(desk, 50))
    desk.plan(table, pilot=WISH)
    desk.plan(table, replan=True)
    assert _newest(desk) is None
    desk.plan(table, replan=True, pilot=WISH)
    newest = _newest(desk)
    assert newest is not None
    assert newest.pilot == 2


def test_lines_that_were_sent_before_may_stay_as_they_were_planned(desk: Desk) -> None:
    """`run` draws its pilot from what was never sent; a retry that waits to be cut is not of it, nor cut again."""
    desk.plan(desk.table(_write_rows(desk, 50)))
    desk.world.release(2)
    desk.world.sandbox.settings = replace(desk.world.sandbox.settings, faults=Faults(line_failures={"refusal": 1.0}))
    loose = "SELECT artist_id, version FROM artists WHERE shard IS NULL ORDER BY 1"
    runner = BatchRunner(desk.world.tools())
    runner.prepare_run()
    runner.run_until_idle(how=lambda snapshot, now: [Finish()] if snapshot.loose else decide_actions(snapshot, now))
    waiting = desk.world.rows(loose)
    assert waiting
    _recut(desk, WISH._replace(retries=False))
    assert desk.world.rows(loose) == waiting
    assert {row[0] for row in waiting}.isdisjoint(_pilot_ids(desk))
    _recut(desk)
    assert desk.world.rows(loose) == []


def test_lines_that_wait_for_their_first_try_with_todays_prompt_may_be_drawn(desk: Desk) -> None:
    """Those that were tried with it stay as they were planned."""
    desk.plan(desk.table(_write_rows(desk, 50)))
    with desk.world.store.transaction("as if redone") as tx:
        tx.con.execute("UPDATE artists SET shard = NULL WHERE shard = 1")
        tx.con.execute("UPDATE shards SET state = 'settled' WHERE shard = 1")
        tx.con.execute(
            "INSERT INTO attempts (artist_id, lane, outcome, counted, happened_at, version, again) "
            "VALUES ('a000', 'batch', 'expired', false, 1, 1, false)"
        )
        assert pilots.count_untried_lines(tx, 1) == 9
        assert pilots.count_untried_lines(tx, 2) == 0
    _recut(desk, PilotWish(49, 1, retries=False))
    assert "a000" not in _pilot_ids(desk)
    assert len(_pilot_ids(desk)) == 49
    assert desk.world.rows("SELECT artist_id, version FROM artists WHERE shard IS NULL") == [("a000", 1)]
