"""Rows that ask the same, in later plans and after `redo` and `judge`: whatever is asked again is asked once."""

from dataclasses import replace
from pathlib import Path

import pytest

from batcher.catalog.prices import resolve_prices
from batcher.plan.pilot_draw import PilotWish
from batcher.plan.reversioning import give_todays_version
from batcher.review.judging import Judgement, judge_again
from batcher.state import redo
from batcher.state.redo import RedoFilter
from batcher.state.reports.status import read_artist
from batcher.views.plan import draw_plan, plan_to_json, summarise_plan
from batcher.views.status import draw_artist, draw_status
from tests.support.direct_kit import Desk
from tests.support.same_kit import (
    asked,
    check_followers,
    draw_plain,
    followers,
    judged_by,
    plan_more,
    same_desk,
    told,
    write_rows,
)
from tests.support.world import bios_job, counter

ALL_LINES = {"a000": 1, "a001": 1, "a002": 1, "a003": 1}


def finish(world: Desk) -> None:
    world.release()
    world.act()
    check_followers(world)


def ask_again(world: Desk, choice: RedoFilter) -> None:
    """Ask for bios again with today's prompt, as `redo` does."""
    with world.store.transaction("redo") as tx:
        redo.choose_redos(tx, choice)
        redo.redo_lines(tx)
        give_todays_version(tx, world.config, world.job, counter())
    check_followers(world)


def judge(world: Desk, revoke: bool) -> Judgement:
    made = judge_again(world.store, world.job, revoke, dry_run=False, progress=lambda _: None)
    check_followers(world)
    return made


def test_the_plan_tells_what_is_saved(tmp_path: Path) -> None:
    world = same_desk(tmp_path, rows=4)
    result, report = plan_more(world, write_rows(tmp_path / "more.csv", range(12)))
    summary = summarise_plan(report, world.config, resolve_prices, world.clock())
    told_json = plan_to_json(result, report, summary)
    assert (told_json["shared_rows"], told_json["answered_rows"], told_json["saved_lines"]) == (8, 0, 8)
    assert summary.saved_usd == pytest.approx((summary.expectation.dollars.expected or 0) * 2)
    assert "8 artists ask the same as another one and take its bio: 8 lines and about $0.00" in draw_plain(
        draw_plan(result, report, summary), 200
    )


def test_a_dry_run_tells_the_same_and_changes_nothing(tmp_path: Path) -> None:
    world = same_desk(tmp_path, rows=4)
    result, report = plan_more(world, write_rows(tmp_path / "more.csv", range(12)), dry_run=True)
    assert (tuple(result.shared), sum(part.lines for part in report.shared)) == ((8, 0), 8)
    assert (world.states(), followers(world)) == ({"ready": 4}, {})


def test_status_and_show_name_whose_answer_is_awaited(tmp_path: Path) -> None:
    world = same_desk(tmp_path, rows=5)

    def show() -> str:
        with world.store.read_transaction() as tx:
            found = read_artist(tx, "a004", resolve_prices)
        assert found is not None
        return draw_plain(draw_artist(found), 120)

    assert "1 of the open artists waits for the bio of another one, which asks the same." in draw_plain(
        draw_status(told(world)), 120
    )
    assert "asks the same as a000, whose bio is awaited" in show()
    finish(world)
    assert "asks the same as a000, whose bio this is, at no cost" in show()
    assert world.rows("SELECT count(*) FROM bios WHERE cost_usd = 0 AND tokens_output = 0") == [(1,)]


def test_another_prompt_compares_anew(tmp_path: Path) -> None:
    """By the new prompt the rows differ; of what is in flight the followers keep their place."""
    world = same_desk(tmp_path, rows=8)
    world.job = replace(world.job, template=world.job.template + "\nNumber: {artist_id}")
    own = replace(world.job, artist=type("Artist", (world.job.artist,), {"prompt_values": _values_with_id}))
    world.job = own
    result, _ = plan_more(world, tmp_path / "table.csv", replan=True)
    check_followers(world)
    assert (result.lines_planned, followers(world)) == (8, {})
    world.job = bios_job()
    result, _ = plan_more(world, tmp_path / "table.csv", replan=True)
    check_followers(world)
    assert (result.lines_planned, len(followers(world))) == (4, 4)
    finish(world)
    assert (world.states(), asked(world)) == ({"done": 8}, ALL_LINES)


def _values_with_id(artist: object) -> dict[str, str]:
    values = bios_job().artist.prompt_values(artist)  # type: ignore[attr-defined]
    return {**values, "artist_id": artist.artist_id}  # type: ignore[attr-defined]


def test_a_line_whose_bio_exists_leaves_its_place(tmp_path: Path) -> None:
    world = same_desk(tmp_path, rows=8)
    done = tmp_path / "done.csv"
    done.write_text("artist_id,bio,sparse\na000,Known.,false\n", encoding="utf-8")
    plan_more(world, tmp_path / "table.csv", done=done)
    check_followers(world)
    assert followers(world) == {"a005": "a001", "a006": "a002", "a007": "a003"}
    finish(world)
    assert (world.states(), asked(world)) == (
        {"done": 7, "done_before": 1}, {"a001": 1, "a002": 1, "a003": 1, "a004": 1}
    )  # fmt: skip


def test_a_pilot_is_drawn_of_lines_alone(tmp_path: Path) -> None:
    world = same_desk(tmp_path, rows=4)
    plan_more(world, write_rows(tmp_path / "more.csv", range(40), kinds=20), pilot=PilotWish(6, 7))
    check_followers(world)
    assert world.rows("SELECT count(*), count(a.follows) FROM pilot_lines JOIN artists AS a USING (artist_id)") == [
        (6, 0)
    ]


def test_what_is_asked_again_is_asked_once(tmp_path: Path) -> None:
    world = same_desk(tmp_path)
    finish(world)
    ask_again(world, RedoFilter(prompt=1))
    assert (world.states(), len(followers(world))) == ({"ready": 12}, 8)
    finish(world)
    assert (world.states(), asked(world)) == ({"done": 12}, dict.fromkeys(ALL_LINES, 2))
    assert world.rows("SELECT count(*) FROM former_bios") == [(12,)]


def test_one_that_alone_is_asked_again_is_a_line(tmp_path: Path) -> None:
    world = same_desk(tmp_path)
    finish(world)
    ask_again(world, RedoFilter(artists=["a004"]))
    assert "a004" not in followers(world)
    finish(world)
    assert (world.states(), asked(world)) == ({"done": 12}, {**ALL_LINES, "a004": 1})


def test_the_answers_of_followers_are_judged_by_themselves(tmp_path: Path) -> None:
    world = same_desk(tmp_path)
    finish(world)
    world.job = judged_by(lambda artist_id: artist_id in {"a000", "a005"})
    made = judge(world, revoke=True)
    assert (made.counts.refused, made.revoked, world.states()) == (2, 2, {"done": 10, "held": 2})
    world.job = bios_job()
    ask_again(world, RedoFilter())
    finish(world)
    assert world.states() == {"done": 12}
    assert world.sandbox.ledger.usable_counts() == {**ALL_LINES, "a000": 2, "a005": 1}


def test_an_answer_that_is_accepted_late_is_given_to_the_followers(tmp_path: Path) -> None:
    world = same_desk(tmp_path, rows=8, refuses=lambda artist_id: artist_id == "a000", retry={"unusable": {"tries": 0}})
    finish(world)
    assert world.states() == {"dead": 2, "done": 6}
    world.job = bios_job()
    assert judge(world, revoke=False).accepted == 2
    assert (world.states(), asked(world)) == ({"done": 8}, ALL_LINES)


def test_one_that_is_asked_again_follows_a_line_that_is_under_way(tmp_path: Path) -> None:
    world = same_desk(tmp_path)
    finish(world)
    ask_again(world, RedoFilter(artists=["a000"]))
    world.release()
    world.act(once=True)
    ask_again(world, RedoFilter(artists=["a004", "a008", "a005"]))
    assert {name: followers(world).get(name) for name in ("a000", "a004", "a005", "a008")} == {
        "a000": None, "a004": "a000", "a005": None, "a008": "a000"
    }  # fmt: skip
    finish(world)
    assert (world.states(), asked(world)) == ({"done": 12}, {**ALL_LINES, "a000": 2, "a005": 1})
