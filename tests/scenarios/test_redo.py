"""Bios that are asked for again: the earlier one stays until another is accepted, whatever becomes of the line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from batcher.catalog.prices import resolve_prices
from batcher.collect.collect import CollectResult, collect_bios
from batcher.collect.conditions import build_condition_query
from batcher.core.actions import Finish
from batcher.errors import ConfigError, InputError
from batcher.plan.checks import build_todays_version, check_unsent_lines
from batcher.plan.reversioning import give_todays_version
from batcher.review.judging import Judgement, judge_again
from batcher.state import direct_calls, redo, strays, submissions
from batcher.state.asked_again import PromptLines, count_prompts
from batcher.state.direct_calls import CallRecord, LineClaim
from batcher.state.redo import RedoFilter
from batcher.state.reports.status import Status, read_artist, read_status
from batcher.state.wishes import RetryFilter, retry_lines
from tests.support.direct_kit import desk as direct_desk
from tests.support.planner_kit import SLOW_POLLS, TEN_LINES, Desk
from tests.support.results_kit import HOURS, LINES, Make
from tests.support.world import World, config_with, counter

EVERY = RedoFilter(prompt=1)


def ask_again(world: World, choice: RedoFilter = EVERY) -> list[PromptLines]:
    """Ask for bios again with today's prompt, as `redo` does."""
    with world.store.transaction("redo") as tx:
        redo.choose_redos(tx, choice)
        redo.redo_lines(tx)
        give_todays_version(tx, world.config, world.job, counter())
        return count_prompts(tx)


def collect(world: World) -> tuple[CollectResult, dict[str, Any]]:
    """Collect; return the report, and the rows by artist."""
    out, failed = world.folder / "bios.jsonl", world.folder / "failed.jsonl"
    report = collect_bios(world.store, world.job, out, failed, only_new=False)
    return report, {row["artist_id"]: row for row in map(orjson.loads, out.read_bytes().splitlines())}


def told(world: World) -> Status:
    with world.store.read_transaction() as tx:
        return read_status(tx, world.config, resolve_prices)


def check_bios(world: World) -> None:
    """Check that exactly the lines that are done, or are asked for again, have a bio, and none has two."""
    assert world.rows(
        "SELECT count(*) FROM artists AS a FULL JOIN bios AS b USING (artist_id) WHERE a.artist_id IS NULL "
        "OR (a.state IN ('done', 'done_before') OR a.redo_after IS NOT NULL) <> (b.artist_id IS NOT NULL)"
    ) == [(0,)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Return a job of twenty bios of prompt 1, whose prompt was edited since."""
    made = Desk(tmp_path, config_with(limits=TEN_LINES, poll=SLOW_POLLS))
    made.plan(made.table("artist_id,artist_name,fact\n" + "".join(f"a{n:02},Ana,Fact {n}\n" for n in range(20))))
    made.world.release()
    made.world.act()
    assert made.world.states() == {"done": 20}
    made.write_job(user="Painter: {artist_name}, {fact}")
    return made


def test_each_bio_is_replaced_by_one_of_todays_prompt_and_kept_as_a_former_one(desk: Desk) -> None:
    world = desk.world
    _, before = collect(world)
    assert ask_again(world) == [(2, 20, 20)]
    assert world.states() == {"ready": 20}
    report, rows = collect(world)
    assert rows == before
    assert (report.bios, report.open, report.redone_open) == (20, 0, 20)
    assert told(world).asked_again == {"ready": 20}
    check_bios(world)
    assert world.act() == Finish()
    check_bios(world)
    report, rows = collect(world)
    assert {row["prompt_version"] for row in rows.values()} == {2}
    assert (report.bios, report.redone_open, told(world).asked_again) == (20, 0, {})
    kept = world.rows("SELECT artist_id, data, reason, moved_at > 0 FROM former_bios ORDER BY 1")
    assert kept == [(name, orjson.dumps({"bio": row["bio"]}).decode(), "redo", True) for name, row in before.items()]
    assert world.rows("SELECT version, outcome, count(*) FROM attempts GROUP BY ALL ORDER BY 1") == [
        (1, "bio", 20),
        (2, "bio", 20),
    ]


def test_a_new_bio_is_collected_as_new(desk: Desk) -> None:
    collect(desk.world)
    ask_again(desk.world, RedoFilter(artists=["a03"]))
    desk.world.act()
    new = collect_bios(desk.world.store, desk.world.job, desk.folder / "new.jsonl", None, only_new=True)
    assert new.bios == 1


def test_a_line_that_dies_or_is_held_keeps_its_earlier_bio(desk: Desk) -> None:
    world = desk.world
    _, before = collect(world)
    ask_again(world)
    world.sandbox.update_faults({"line_failures": {"content_policy": 0.3}})
    world.act()
    dead = world.states()["dead"]
    assert 0 < dead < 20
    report, rows = collect(world)
    assert (report.bios, report.dead, report.redone_dead, report.failed) == (20, 0, dead, 0)
    assert told(world).asked_again == {"dead": dead}
    names = [str(row[0]) for row in world.rows("SELECT artist_id FROM artists WHERE state = 'dead'")]
    assert all(rows[name] == before[name] for name in names)
    check_bios(world)
    with world.store.read_transaction() as tx:
        shown = read_artist(tx, names[0], resolve_prices)
    assert shown is not None and shown.bio is not None and shown.asked_again
    world.sandbox.update_faults({"line_failures": {}})
    with world.store.transaction("retry") as tx:
        retry_lines(tx, RetryFilter())
    world.act()
    assert {row["prompt_version"] for row in collect(world)[1].values()} == {2}
    check_bios(world)


def test_every_line_has_all_its_tries_again(desk: Desk) -> None:
    ask_again(desk.world)
    assert desk.world.rows("SELECT sum(attempts)::INTEGER FROM artists") == [(0,)]
    assert desk.world.rows("SELECT count(*) FROM attempts WHERE counted") == [(0,)]
    desk.world.act()
    assert desk.world.rows("SELECT DISTINCT attempts FROM bios") == [(1,)]


def test_what_was_asked_again_and_not_sent_is_of_the_prompt_of_its_day(desk: Desk) -> None:
    """Ask for a new plan where the prompt was edited once more before the line was sent."""
    ask_again(desk.world)
    desk.write_job(user="Sculptor: {artist_name}, {fact}")
    table = desk.folder / "t.csv"
    assert "20 unsent lines were planned with another prompt" in desk.refused(ConfigError, table)
    desk.plan(table, replan=True)
    desk.world.release()
    desk.world.act()
    assert {row["prompt_version"] for row in collect(desk.world)[1].values()} == {3}
    check_bios(desk.world)


def test_a_bio_of_an_earlier_run_can_be_asked_for_and_no_plan_takes_that_back(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    table, done = (
        desk.table("artist_id,artist_name\na,Ana\nb,Bo\n"),
        desk.table('{"artist_id": "a", "bio": "A"}\n', "d.jsonl"),
    )
    desk.plan(table, done=done)
    assert ask_again(desk.world, RedoFilter(artists=["a"])) == [(1, 1, 1)]
    desk.plan(table, done=done)
    assert desk.world.states() == {"ready": 2}
    check_bios(desk.world)
    desk.world.release()
    desk.world.act()
    assert desk.world.states() == {"done": 2}
    assert desk.world.rows("SELECT data, lane, version FROM former_bios") == [('{"bio":"A"}', "earlier", None)]
    check_bios(desk.world)


def _replace_earlier_bio(folder: Path) -> Desk:
    """Return a job of two bios that were both made now, that of the artist a in the place of one of an earlier run."""
    desk = Desk(folder)
    table = desk.table("artist_id,artist_name\na,Ana\nb,Bo\n")
    desk.plan(table, done=desk.table('{"artist_id": "a", "bio": "A"}\n', "d.jsonl"))
    ask_again(desk.world, RedoFilter(artists=["a"]))
    desk.world.release()
    desk.world.act()
    assert desk.world.states() == {"done": 2}
    return desk


def _judge_again(world: World, refuses: Callable[[str], bool], revoke: bool = True) -> Judgement:
    """Judge with a check that refuses these texts."""
    job = replace(world.job, accept=lambda _, bio: "no" if refuses(bio.bio) else None)
    made = judge_again(world.store, job, revoke, dry_run=False, progress=lambda _: None)
    check_bios(world)
    return made


def test_a_bio_of_an_earlier_run_comes_back_where_its_successor_is_revoked(tmp_path: Path) -> None:
    world = _replace_earlier_bio(tmp_path).world
    made = _judge_again(world, lambda _: True)
    assert (made.revoked, made.put_back) == (2, 1)
    assert world.states() == {"done_before": 1, "held": 1}
    assert world.rows("SELECT artist_id, data, lane, version FROM bios") == [("a", '{"bio":"A"}', "earlier", None)]
    assert world.rows("SELECT artist_id FROM events WHERE kind = 'put_back'") == [("a",)]
    report, rows = collect(world)
    assert (report.bios, report.held, rows["a"]["bio"]) == (1, 1, "A")
    assert _judge_again(world, lambda _: True).put_back == 0
    assert ask_again(world, RedoFilter(artists=["a"])) == [(1, 1, 1)]
    world.act()
    assert world.rows("SELECT lane FROM bios WHERE artist_id = 'a'") == [("batch",)]


def test_a_bio_of_an_earlier_run_comes_back_after_a_kill_between_the_two_steps(tmp_path: Path) -> None:
    world = _replace_earlier_bio(tmp_path).world
    with world.store.transaction("as after the first step") as tx:
        tx.con.execute("INSERT INTO former_bios SELECT *, 'revoked', 0 FROM bios")
        tx.con.execute("DELETE FROM bios")
        tx.con.execute("UPDATE attempts SET outcome = 'unusable'")
        tx.con.execute("UPDATE artists SET state = 'held', failure = 'unusable', code = 'revoked'")
    made = _judge_again(world, lambda _: True, revoke=False)
    assert (made.revoked, made.put_back, world.states()) == (0, 1, {"done_before": 1, "held": 1})


def test_a_former_bio_of_this_job_that_is_accepted_goes_before_one_of_an_earlier_run(tmp_path: Path) -> None:
    desk = _replace_earlier_bio(tmp_path)
    world = desk.world
    ((first,),) = world.rows("SELECT data FROM bios WHERE artist_id = 'a'")
    desk.write_job(user="Painter: {artist_name}, {fact}")
    ask_again(world, RedoFilter(artists=["a"]))
    world.act()
    ((second,),) = world.rows("SELECT data FROM bios WHERE artist_id = 'a'")
    assert first != second
    made = _judge_again(world, lambda text: text == orjson.loads(str(second))["bio"])
    assert (made.revoked, made.put_back, world.states()) == (1, 0, {"done": 2})
    assert world.rows("SELECT data FROM bios WHERE artist_id = 'a'") == [(first,)]


def test_the_direct_lane_replaces_bios_too(tmp_path: Path) -> None:
    world = direct_desk(tmp_path)
    world.direct()
    first = world.rows("SELECT artist_id, call FROM bios ORDER BY 1")
    ask_again(world, RedoFilter(artists=["a00001", "a00002"]))
    world.direct()
    assert world.states() == {"done": 12}
    assert world.rows("SELECT artist_id FROM former_bios ORDER BY 1") == [("a00001",), ("a00002",)]
    changed = set(world.rows("SELECT artist_id, call FROM bios")) - set(first)
    assert {str(name) for name, _ in changed} == {"a00001", "a00002"}
    assert {call for _, call in changed} == {13, 14}
    check_bios(world)


def test_a_late_answer_of_before_is_of_the_bio_that_exists(make: Make) -> None:
    """Find a second batch of the old shard after the bios were asked for again."""
    bench = make()
    wish = bench.batch.request
    bench.world.service().create_batch(wish.input_file_id, wish.endpoint, dict(wish.metadata or {}))
    late = list(bench.world.sandbox.lifecycle.batches.values())[-1]
    del bench.world.sandbox.lifecycle.batches[late.id]  # not seen yet
    bench.world.clock.sleep(3 * HOURS)
    bench.act()
    assert bench.world.states() == {"done": LINES}
    bios = bench.world.rows("SELECT * FROM bios ORDER BY 1")
    ask_again(bench.world)
    bench.world.sandbox.lifecycle.batches[late.id] = late
    bench.world.sandbox.run_due_events()
    found = bench.world.service().retrieve_batch(late.id)
    assert found is not None
    with bench.world.store.transaction("late") as tx:
        strays.record_found_batch(tx, submissions.load_submission(tx, 1), found)
    bench.world.act(once=True)
    assert bench.outcomes() == {"bio": LINES, "repeated": LINES}
    assert bench.world.rows("SELECT * FROM bios ORDER BY 1") == bios
    bench.world.act()
    assert bench.world.states() == {"done": LINES}
    assert bench.outcomes() == {"bio": 2 * LINES, "repeated": LINES}
    check_bios(bench.world)


def test_a_line_with_more_room_is_asked_again_with_todays_settings(tmp_path: Path) -> None:
    """Ask again for bios whose answers had been cut off: nothing that sends may be stopped by their version."""
    desk = Desk(tmp_path, config_with(limits=TEN_LINES, poll=SLOW_POLLS, retry={"more_room": 1200}))
    world = desk.world
    desk.plan(desk.table("artist_id,artist_name,fact\n" + "".join(f"a{n:02},Ana,Fact {n}\n" for n in range(20))))
    world.sandbox.update_faults({"line_failures": {"length": 0.5}})
    world.release()
    world.act()
    world.sandbox.update_faults({"line_failures": {}})
    with world.store.transaction("retry") as tx:
        retry_lines(tx, RetryFilter())
    world.act()
    assert world.states() == {"done": 20}
    assert world.rows("SELECT count(*) FROM artists WHERE version = 2") != [(0,)]
    ask_again(world)
    with world.store.read_transaction() as tx:
        check_unsent_lines(tx, build_todays_version(world.config, world.job))
    assert world.act() == Finish()
    assert world.states() == {"done": 20}


def claim(world: World) -> LineClaim:
    """Return the claim of the one line that the direct lane may send."""
    with world.store.transaction("load") as tx:
        (line,) = direct_calls.load_candidates(tx, direct_calls.Selection(), 1, 10, 9e12).lines
    return LineClaim(line, 10, 0.0)


@pytest.mark.parametrize("is_revoked", [False, True])
@pytest.mark.parametrize(("outcome", "recorded"), [("bio", "repeated"), ("server", "server")])
def test_the_answer_of_a_call_from_before_decides_nothing(
    desk: Desk, outcome: str, recorded: str, is_revoked: bool
) -> None:
    """Answer a call that began before the bio was asked for again, while the line waits for another call."""
    world = desk.world
    with world.store.transaction("as before its bio came") as tx:
        tx.con.execute("UPDATE artists SET state = 'ready', shard = NULL WHERE artist_id = 'a07'")
    first_claim = claim(world)
    with world.store.transaction("claim") as tx:
        (old,) = direct_calls.record_claims(tx, [first_claim])
        tx.con.execute("UPDATE artists SET state = 'done' WHERE artist_id = 'a07'")  # by a batch that was found late
        if is_revoked:
            tx.con.execute("DELETE FROM bios WHERE artist_id = 'a07'")
            tx.con.execute(
                "UPDATE artists SET state = 'held', failure = 'unusable', code = 'revoked' WHERE artist_id = 'a07'"
            )
    before = world.rows("SELECT * FROM bios ORDER BY 1")
    ask_again(world, RedoFilter(artists=["a07"]))
    second_claim = claim(world)
    with world.store.transaction("claim") as tx:
        (new,) = direct_calls.record_claims(tx, [second_claim])
    data, state = ('{"bio":"of before"}', None) if outcome == "bio" else (None, "ready")
    with world.store.transaction("answer") as tx:
        direct_calls.record_answers(tx, [CallRecord(old, "a07", outcome, data=data, state=state, version=1)])
    assert world.states() == {"done": 19, "in_direct": 1}
    assert world.rows("SELECT * FROM bios ORDER BY 1") == before
    assert world.rows(f"SELECT outcome, version, counted FROM attempts WHERE call = {old}") == [(recorded, 1, False)]
    with world.store.transaction("answer") as tx:
        direct_calls.record_answers(tx, [CallRecord(new, "a07", "bio", data='{"bio":"of now"}', version=2)])
    assert world.states() == {"done": 20}
    assert world.rows("SELECT data, version, call FROM bios WHERE artist_id = 'a07'") == [('{"bio":"of now"}', 2, new)]
    check_bios(world)


@pytest.mark.parametrize("in_two_steps", [False, True])
def test_a_line_whose_new_bio_is_revoked_takes_its_former_one_again(desk: Desk, in_two_steps: bool) -> None:
    world = desk.world
    old = world.rows("SELECT artist_id, data, batch_id FROM bios ORDER BY 1")
    ask_again(world, RedoFilter(artists=["a03", "a07"]))
    assert world.act() == Finish()
    new = {orjson.loads(str(data))["bio"] for (data,) in world.rows("SELECT data FROM bios WHERE version = 2")}
    assert len(new) == 2
    untouched = judge_again(world.store, world.job, True, False, lambda _: None)
    assert (untouched.accepted, untouched.revoked, world.states()) == (0, 0, {"done": 20})
    strict = replace(world.job, accept=lambda _, bio: "bad" if bio.bio in new or in_two_steps else None)
    made = judge_again(world.store, strict, True, False, lambda _: None)
    if in_two_steps:
        assert made.revoked == 20 and world.states() == {"held": 20}
        fair = replace(world.job, accept=lambda _, bio: "bad" if bio.bio in new else None)
        made = judge_again(world.store, fair, False, False, lambda _: None)
        assert made.accepted == 20
    else:
        assert (made.revoked, made.accepted) == (2, 2)
    assert world.states() == {"done": 20}
    assert world.rows("SELECT artist_id, data, batch_id FROM bios ORDER BY 1") == old
    check_bios(world)
    wrong = (
        "SELECT count(*) FROM artists AS a WHERE attempts <> (SELECT count(*) FROM attempts AS t WHERE "
        "t.artist_id = a.artist_id AND t.counted)"
    )
    assert world.rows(wrong) == [(0,)]


def matching(desk: Desk, condition: str) -> list[str]:
    """Return the artists whose bios a condition would ask for again."""
    world = desk.world
    with world.store.transaction("as if") as tx:
        query = build_condition_query(tx, world.job, condition)
        redo.choose_redos(tx, RedoFilter(query=query))
        return [str(row[0]) for row in tx.con.execute("SELECT artist_id FROM asked_again ORDER BY n").fetchall()]


def test_a_condition_speaks_of_the_collected_columns(desk: Desk) -> None:
    assert matching(desk, "artist_id >= 'a18' AND prompt_version = 1 -- the last") == ["a18", "a19"]
    assert matching(desk, "length(bio) < 1") == []
    assert len(matching(desk, "lane = 'batch' AND cost_usd < 1 AND completed_at > '2026-01-01'")) == 20


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("artist_id IN (SELECT artist_id FROM artists)", "queries and files cannot be named in it"),
        ("EXISTS (FROM '/etc/passwd')", "queries and files cannot be named in it"),
        ("EXISTS (FROM read_text('/etc/passwd'))", "queries and files cannot be named in it"),
        ("true) UNION SELECT artist_id FROM artists WHERE (true", "it must be one condition, such as priority = 1"),
        ("true) ORDER BY (1", "it must be one condition, such as priority = 1"),
        ("true); DELETE FROM bios; SELECT (1", "Only SELECT statements can be"),
        ("true); SELECT (1", "it must be one condition, such as priority = 1"),
        ("1=1) OR (1=1", "its parentheses do not match; it must be one condition, such as priority = 1"),
        ("false) /* ( */ OR (true", "its parentheses do not match"),
        ("false -- (\n) OR (true --", "its parentheses do not match"),
        ("false) OR (bio = ')'", "its parentheses do not match"),
        ("true /*", "unterminated"),
        ("priority = ?", "it has a parameter without a value"),
        ("row_number() OVER () > 1", "it looks at one row at a time"),
        ("priority =", "syntax error"),
        (" ", "it must be one condition, such as priority = 1"),
    ],
)
def test_a_condition_is_a_condition_and_nothing_else(desk: Desk, condition: str, why: str) -> None:
    with pytest.raises(InputError) as raised:
        matching(desk, condition)
    assert str(raised.value).startswith(f"--where {condition!r} cannot be used: {why}")


@pytest.mark.parametrize("condition", ["nothing = 1", "bio::INTEGER = 1", "no_function(bio)"])
def test_a_condition_that_cannot_be_run_is_refused(desk: Desk, condition: str) -> None:
    with pytest.raises(InputError):
        matching(desk, condition)


def test_without_a_choice_the_revoked_ones_are_asked_again(desk: Desk) -> None:
    world = desk.world
    with world.store.transaction("as if revoked") as tx:
        tx.con.execute("INSERT INTO former_bios SELECT *, 'revoked', 0 FROM bios WHERE artist_id = 'a07'")
        tx.con.execute("DELETE FROM bios WHERE artist_id = 'a07'")
        tx.con.execute(
            "UPDATE artists SET state = 'held', failure = 'unusable', code = 'revoked' WHERE artist_id = 'a07'"
        )
    assert ask_again(world, RedoFilter()) == [(2, 1, 1)]
    assert world.states() == {"done": 19, "ready": 1}
    check_bios(world)
    world.act()
    assert world.states() == {"done": 20}
    assert world.rows("SELECT reason FROM former_bios") == [("revoked",)]


def test_a_job_that_was_read_again_counts_every_line_of_it(desk: Desk) -> None:
    """Reserve and forecast what is asked for again as any other line."""
    ask_again(desk.world)
    status = told(desk.world)
    assert status.expectation.dollars.most is not None and status.expectation.dollars.most > 0
    desk.world.act(once=True)
    assert float(str(desk.world.rows("SELECT sum(reserved_usd) FROM submissions WHERE ended_at IS NULL")[0][0])) > 0
