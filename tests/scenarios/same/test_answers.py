"""Rows that ask the same are one line, and its answer is given to all: what becomes of them with the line."""

from pathlib import Path

import pytest

from batcher.errors import JobError
from batcher.plan.retry_shards import recut_parked_lines
from batcher.sandbox import Faults, SandboxSettings
from batcher.state import wishes
from batcher.state.wishes import RetryFilter, request_cancel, retry_lines
from tests.support.direct_kit import Desk
from tests.support.same_kit import (
    asked,
    check_followers,
    followers,
    judged_by,
    plan_more,
    same_desk,
    told,
    write_rows,
)
from tests.support.world import bios_job

FAILING = SandboxSettings(faults=Faults(line_failures={"server": 1.0}))
ONCE = {"server": {"tries": 0}}


def finish(world: Desk, lane: str) -> None:
    """Send all, in one of the lanes."""
    world.release()
    if lane == "batch":
        world.act()
    else:
        world.direct()
    check_followers(world)


def bios(world: Desk) -> dict[object, object]:
    return {artist_id: data for artist_id, data in world.rows("SELECT artist_id, data FROM bios ORDER BY ALL")}  # noqa: C416 - mypy


@pytest.mark.parametrize("lane", ["batch", "direct"])
def test_rows_that_ask_the_same_are_asked_once(tmp_path: Path, lane: str) -> None:
    world = same_desk(tmp_path, priorities={5: 1})
    assert world.rows("SELECT sum(lines) FROM shards") == [(4,)]
    assert set(followers(world).values()) == {"a000", "a005", "a002", "a003"}  # a005 is more urgent
    finish(world, lane)
    assert (world.states(), asked(world)) == ({"done": 12}, {"a000": 1, "a005": 1, "a002": 1, "a003": 1})
    found = bios(world)
    assert len(found) == 12
    assert all(found[f"a{n:03d}"] == found[f"a{n % 4:03d}"] for n in range(12))
    assert len(set(found.values())) == 4
    spent = world.rows("SELECT (SELECT sum(cost_usd) FROM bios), (SELECT sum(cost_usd) FROM attempts)")[0]
    assert spent[0] == pytest.approx(spent[1])
    assert world.rows("SELECT count(*) FROM attempts") == [(4,)]


def test_without_the_setting_each_row_is_a_line(tmp_path: Path) -> None:
    world = same_desk(tmp_path, job={"dedupe": False})
    finish(world, "batch")
    assert (len(asked(world)), followers(world)) == (12, {})
    assert world.rows("SELECT count(request_hash) FROM artists") == [(0,)]


@pytest.mark.parametrize("lane", ["batch", "direct"])
def test_an_answer_that_is_refused_for_some_is_asked_for_them_once_more(tmp_path: Path, lane: str) -> None:
    """The check refuses it for two rows of one request and for one of another: one more line each, and no third."""
    refused = {"a004", "a008", "a009"}
    seen: dict[str, int] = {}

    def refuses(artist_id: str) -> bool:
        seen[artist_id] = seen.get(artist_id, 0) + 1
        return artist_id in refused and seen[artist_id] == 1

    world = same_desk(tmp_path, refuses=refuses)
    finish(world, lane)
    assert world.states() == {"done": 12}
    assert asked(world) == {"a000": 1, "a001": 1, "a002": 1, "a003": 1, "a004": 1, "a009": 1}
    assert {name: leader for name, leader in followers(world).items() if leader != f"a{int(name[1:]) % 4:03d}"} == {
        "a008": "a004"
    }


def test_a_line_that_is_given_up_takes_its_followers_along(tmp_path: Path) -> None:
    world = same_desk(tmp_path, settings=FAILING, retry=ONCE)
    finish(world, "batch")
    assert world.states() == {"dead": 12}
    message = world.rows("SELECT failure, message FROM artists WHERE artist_id = 'a004'")[0]
    assert message[0] == "server"
    assert str(message[1]).startswith("asks the same as a000: ")
    world.sandbox.update_faults({"line_failures": {}})
    with world.store.transaction("retry") as tx:
        retry_lines(tx, RetryFilter())
    check_followers(world)
    assert world.states() == {"ready": 12}
    finish(world, "batch")
    assert (world.states(), len(asked(world))) == ({"done": 12}, 4)


def test_one_that_alone_is_brought_back_becomes_a_line(tmp_path: Path) -> None:
    world = same_desk(tmp_path, settings=FAILING, retry=ONCE)
    finish(world, "batch")
    world.sandbox.update_faults({"line_failures": {}})
    with world.store.transaction("retry") as tx:
        retry_lines(tx, RetryFilter(artist_id="a004"))
    check_followers(world)
    finish(world, "batch")
    assert (world.states(), asked(world)) == ({"dead": 11, "done": 1}, {"a004": 1})


def test_dead_followers_take_the_answer_that_their_line_gets_later(tmp_path: Path) -> None:
    world = same_desk(tmp_path, settings=FAILING, retry=ONCE)
    finish(world, "batch")
    world.sandbox.update_faults({"line_failures": {}})
    with world.store.transaction("retry") as tx:
        retry_lines(tx, RetryFilter(artist_id="a000"))
    finish(world, "batch")
    assert (world.states(), asked(world)) == ({"dead": 9, "done": 3}, {"a000": 1})


def test_a_cancelled_line_holds_its_followers(tmp_path: Path) -> None:
    world = same_desk(tmp_path)
    world.release()
    world.act(once=True)
    with world.store.transaction("cancel") as tx:
        request_cancel(tx, [])
    world.act()
    check_followers(world)
    assert world.states() == {"held": 12}
    with world.store.transaction("retry") as tx:
        assert sum(row.lines for row in retry_lines(tx, RetryFilter()).lines) == 12
    finish(world, "batch")
    assert (world.states(), len(asked(world))) == ({"done": 12}, 4)


def test_what_the_state_has_is_given_to_rows_of_another_table(tmp_path: Path) -> None:
    """Of a done line the answer, at once; of one under way the place behind it; refused ones become lines."""
    world = same_desk(tmp_path, rows=3)
    world.release()
    world.act()
    plan_more(world, write_rows(tmp_path / "three.csv", range(4)))
    assert asked(world) == {"a000": 1, "a001": 1, "a002": 1}
    world.job = judged_by(lambda artist_id: artist_id == "a005")
    result, _ = plan_more(world, write_rows(tmp_path / "more.csv", range(12)))
    check_followers(world)
    assert (result.lines_planned, tuple(result.shared)) == (1, (7, 5))
    assert world.states() == {"done": 8, "ready": 4}
    assert followers(world) | {"a007": "a003", "a011": "a003"} == followers(world)
    world.job = judged_by(lambda _: False)
    finish(world, "batch")
    assert world.states() == {"done": 12}
    assert asked(world) == {"a000": 1, "a001": 1, "a002": 1, "a003": 1, "a005": 1}


def test_lines_that_were_planned_without_the_setting_are_found(tmp_path: Path) -> None:
    world = same_desk(tmp_path, rows=4, job={"dedupe": False})
    finish(world, "batch")
    config, world.config = world.config, same_desk(tmp_path / "other").config
    result, _ = plan_more(world, write_rows(tmp_path / "more.csv", range(8)))
    assert (result.lines_planned, tuple(result.shared)) == (0, (4, 4))
    assert (world.states(), len(asked(world))) == ({"done": 8}, 4)
    world.config = config


def test_an_error_of_the_check_keeps_what_was_paid(tmp_path: Path) -> None:
    """In the direct lane the answers of the lines are recorded; the followers have theirs once job.py is corrected."""
    world = same_desk(tmp_path)

    def refuses(artist_id: str) -> bool:
        if artist_id == "a004":
            raise ValueError("broken")
        return False

    world.job = judged_by(refuses)
    world.release()
    with pytest.raises(JobError, match="a004"):
        world.direct()
    assert world.states()["done"] >= 4
    world.job = bios_job()
    world.direct()
    check_followers(world)
    assert (world.states(), sum(asked(world).values())) == ({"done": 12}, 4)


def test_status_and_show_say_who_waits_for_whom(tmp_path: Path) -> None:
    world = same_desk(tmp_path)
    assert told(world).following == 8
    finish(world, "batch")
    assert told(world).following == 0


def forget(world: Desk, *artist_ids: str) -> None:
    with world.store.transaction("forget") as tx:
        wishes.choose_named_artists(tx, artist_ids)
        wishes.forget_unsent_artists(tx)
    recut_parked_lines(world.store, world.job, world.config)
    check_followers(world)


@pytest.mark.parametrize("released", [0, 1])
def test_a_follower_takes_the_place_of_a_line_that_is_forgotten(tmp_path: Path, released: int) -> None:
    world = same_desk(tmp_path)
    world.release(released)
    forget(world, "a000", "a005")
    assert followers(world) == {
        "a006": "a002", "a007": "a003", "a008": "a004", "a009": "a001", "a010": "a002", "a011": "a003"
    }  # fmt: skip
    assert world.states() == {"ready": 10}
    states = {str(state) for (state,) in world.rows("SELECT state FROM shards WHERE state <> 'stale'")}
    assert states <= ({"released"} if released else {"planned"})
    finish(world, "batch")
    assert (world.states(), asked(world)) == ({"done": 10}, {"a001": 1, "a002": 1, "a003": 1, "a004": 1})
