"""Artists that were never sent are taken out of the plan, whatever their shard is at; the rest is sent as planned."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from batcher.core.actions import Action, Send
from batcher.core.decide import decide_actions
from batcher.core.snapshot import Snapshot
from batcher.lanes.batch.runner import BatchRunner
from batcher.plan.retry_shards import recut_parked_lines
from batcher.state import wishes
from batcher.state.wishes import UnsentChoice
from tests.support.planner_kit import check_files, ids_of
from tests.support.world import World, config_with, write_table


def planned_world(folder: Path) -> World:
    """Return a world with nine artists of one priority in three planned shards."""
    world = World(folder, config=config_with(limits={"lines_per_shard": 3}))
    world.plan(write_table(folder / "t.csv", 9, priorities=(1,)))
    return world


def forget(world: World, *artist_ids: str) -> UnsentChoice:
    with world.store.transaction("forget") as tx:
        wishes.choose_named_artists(tx, artist_ids)
        choice = wishes.forget_unsent_artists(tx)
    recut_parked_lines(world.store, world.job, world.config)
    return choice


def shard_states(world: World) -> Sequence[tuple[object, ...]]:
    return world.rows("SELECT shard, state, lines FROM shards ORDER BY shard")


def test_the_rest_of_a_planned_shard_stays_planned(tmp_path: Path) -> None:
    world = planned_world(tmp_path)
    assert forget(world, "a00001", "a00008") == UnsentChoice(2, 2, 0, 0)
    assert shard_states(world) == [
        (1, "stale", 3), (2, "planned", 3), (3, "stale", 3), (4, "planned", 3), (5, "planned", 1)
    ]  # fmt: skip
    assert (ids_of(world, 4), ids_of(world, 5)) == (["a00000", "a00002", "a00006"], ["a00007"])
    assert world.states() == {"ready": 7}
    check_files(world)
    world.release()
    world.act()
    assert world.states() == {"done": 7}
    assert len(world.sandbox.ledger.attempt_counts()) == 7
    assert world.rows("SELECT artist_id FROM events WHERE kind = 'forget' ORDER BY ALL") == [("a00001",), ("a00008",)]


def test_the_rest_of_a_released_shard_stays_released(tmp_path: Path) -> None:
    world = planned_world(tmp_path)
    world.release(1)
    assert forget(world, "a00001") == UnsentChoice(1, 0, 1, 0)
    world.act()
    assert world.states() == {"done": 2, "ready": 6}
    assert [state for _, state, _ in shard_states(world)] == ["stale", "planned", "planned", "settled"]


def test_the_file_of_an_uploaded_shard_is_deleted(tmp_path: Path) -> None:
    world = planned_world(tmp_path)
    world.release(1)
    file = world.service().upload_file(world.store.folder / "shards" / "shard-00001.jsonl", "one.jsonl", lambda _: None)
    with world.store.transaction("as if there was no room for its batch") as tx:
        tx.con.execute("UPDATE shards SET state = 'uploaded', file_id = ? WHERE shard = 1", [file.file_id])
    assert world.service().can_see_file(file.file_id)
    forget(world, "a00001")
    world.act()
    assert not world.service().can_see_file(file.file_id)
    assert world.states() == {"done": 2, "ready": 6}


def test_what_was_sent_stays(tmp_path: Path) -> None:
    """Choose artists that are done, in flight, and not sent: only the last are taken out."""
    world = planned_world(tmp_path)
    world.release(1)
    world.act()
    world.release(1)
    world.act(once=True)
    assert world.states() == {"done": 3, "in_batch": 3, "ready": 3}
    with world.store.read_transaction() as tx:
        chosen = wishes.choose_named_artists(tx, ["a00000", "a00003", "a00006", "nobody"])
    assert sorted((artist.artist_id, artist.was_sent) for artist in chosen) == [
        ("a00000", True), ("a00003", True), ("a00006", False)
    ]  # fmt: skip
    assert forget(world, "a00000", "a00003", "a00006") == UnsentChoice(1, 1, 0, 2)
    assert world.states() == {"done": 3, "in_batch": 3, "ready": 2}


def test_only_what_the_table_lacks_is_chosen(tmp_path: Path) -> None:
    world = planned_world(tmp_path)
    world.release(1)
    world.act()
    with world.store.transaction("forget") as tx:
        wishes.choose_artists_not_in_table(tx, iter(["a00004", "a00005", "another"]))
        assert wishes.forget_unsent_artists(tx) == UnsentChoice(4, 2, 0, 3)
    assert world.states() == {"done": 3, "ready": 2}
    with world.store.transaction("forget") as tx:
        wishes.choose_artists_not_in_table(tx, iter(["a00004", "a00005"]))
        assert wishes.forget_unsent_artists(tx) == UnsentChoice(0, 0, 0, 3)


def test_a_decision_that_was_made_before_sends_nothing_of_them(tmp_path: Path) -> None:
    """Take an artist out between the snapshot that decides to send its shard and the intent to do so."""
    world = planned_world(tmp_path)
    world.release()
    taken: list[UnsentChoice] = []

    def decide_late(snapshot: Snapshot, now: float) -> list[Action]:
        actions = decide_actions(snapshot, now)
        if not taken and any(isinstance(action, Send) for action in actions):
            taken.append(forget(world, "a00001"))
        return actions

    runner = BatchRunner(world.tools())
    runner.prepare_run()
    runner.run_until_idle(how=decide_late)
    assert taken == [UnsentChoice(1, 0, 1, 0)]
    assert world.states() == {"done": 8}
    assert len(world.sandbox.ledger.attempt_counts()) == 8


@pytest.mark.parametrize("code", ["cancelled_here", "missing"])
def test_a_held_line_was_sent_only_where_it_is_perhaps_paid(tmp_path: Path, code: str) -> None:
    world = planned_world(tmp_path)
    failure = "missing" if code == "missing" else "cancelled"
    with world.store.transaction("as a cancel or a lost batch leaves it") as tx:
        tx.con.execute(
            "UPDATE artists SET state = 'held', shard = NULL, failure = ?, code = ? WHERE artist_id = 'a00001'",
            [failure, code],
        )
    assert forget(world, "a00001").unsent == (0 if code == "missing" else 1)
