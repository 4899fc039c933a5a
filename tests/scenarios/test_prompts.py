"""The prompt that a bio was asked with: in the file of `collect`, and for lines that are asked again."""

from pathlib import Path

import orjson
import pytest

from batcher.collect.collect import collect_bios
from batcher.errors import BatcherError, InputError, JobError
from batcher.plan.checks import build_todays_version, find_outdated_lines
from batcher.plan.reversioning import give_todays_version
from batcher.state.asked_again import PromptLines, count_prompts
from batcher.state.versions import register_wider_version
from batcher.state.wishes import RetryFilter, retry_lines
from tests.support.planner_kit import SLOW_POLLS, TEN_LINES, Desk, lines_of, snapshot
from tests.support.world import config_with, counter

HEAD = "artist_id,artist_name\n"


def collected(desk: Desk) -> dict[str, int | None]:
    """Return the number of the prompt of each bio, by artist, as `collect` writes it."""
    out = desk.folder / "bios.jsonl"
    collect_bios(desk.world.store, desk.world.job, out, None, only_new=False)
    rows = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    return {row["artist_id"]: row["prompt_version"] for row in rows}


def test_each_bio_is_collected_with_the_number_of_its_prompt(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    earlier = desk.table('{"artist_id": "a", "bio": "Ana was."}\n', "done.jsonl")
    desk.plan(desk.table(HEAD + "a,Ana\nb,Bo\n"), done=earlier)
    desk.world.release()
    desk.world.act()
    desk.write_job(user="Painter: {artist_name}")
    desk.plan(desk.table(HEAD + "a,Ana\nb,Bo\nc,Cy\n"))
    desk.world.release()
    desk.world.act()
    assert collected(desk) == {"a": None, "b": 1, "c": 2}


def test_more_room_for_an_answer_is_no_other_prompt(tmp_path: Path) -> None:
    desk = Desk(tmp_path, config_with(retry={"more_room": 1_200}, limits=TEN_LINES, poll=SLOW_POLLS))
    desk.plan(desk.table(HEAD + "".join(f"a{n},Ana\n" for n in range(20))))
    desk.world.sandbox.update_faults({"line_failures": {"length": 0.3}})
    desk.world.release()
    desk.world.act()
    assert desk.world.rows("SELECT DISTINCT version FROM bios ORDER BY 1") == [(1,), (2,)]
    assert set(collected(desk).values()) == {1}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Return a job of which some of twenty lines are dead, and the service takes all from now on."""
    made = Desk(tmp_path, config_with(limits=TEN_LINES, poll=SLOW_POLLS))
    made.plan(made.table("artist_id,artist_name,fact\n" + "".join(f"a{n:02},Ana,Fact {n}\n" for n in range(20))))
    made.world.sandbox.update_faults({"line_failures": {"content_policy": 0.15}})
    made.world.release()
    made.world.act()
    made.world.sandbox.update_faults({"line_failures": {}})
    assert made.world.states()["dead"] > 1
    return made


def bring_back(desk: Desk) -> list[PromptLines]:
    """Bring dead lines back with today's prompt, as `retry` does."""
    world = desk.world
    with world.store.transaction("retry") as tx:
        retry_lines(tx, RetryFilter())
        give_todays_version(tx, world.config, world.job, counter())
        return count_prompts(tx)


def test_lines_come_back_with_todays_prompt_and_are_sent_with_it(desk: Desk) -> None:
    desk.write_job(user="Painter: {artist_name}, known for: {fact}, and no more than that")
    dead = desk.world.rows("SELECT artist_id, tokens, bytes, line_hash FROM artists WHERE state = 'dead' ORDER BY 1")
    assert bring_back(desk) == [(2, len(dead), len(dead))]
    now = desk.world.rows("SELECT artist_id, tokens, bytes, line_hash FROM artists WHERE state = 'ready' ORDER BY 1")
    for was, line in zip(dead, now, strict=True):
        assert (was[0], was[1] < line[1], was[2] < line[2], was[3] != line[3]) == (line[0], True, True, True)  # type: ignore[operator]
    desk.world.act()
    assert desk.world.states() == {"done": 20}
    assert desk.world.rows("SELECT version, count(*) FROM bios GROUP BY 1 ORDER BY 1") == [
        (1, 20 - len(dead)),
        (2, len(dead)),
    ]
    last = lines_of(desk.world, 3)[0]["body"]["messages"][1]["content"]
    assert last.startswith("Painter: Ana, known for: Fact")
    assert desk.world.rows("SELECT sum(tokens), sum(bytes) FROM artists WHERE shard = 3") == desk.world.rows(
        "SELECT tokens, bytes FROM shards WHERE shard = 3"
    )


def test_the_same_prompt_is_no_other_one(desk: Desk) -> None:
    dead = desk.world.states()["dead"]
    assert bring_back(desk) == [(1, dead, 0)]
    assert desk.world.rows("SELECT count(*) FROM versions") == [(1,)]


def test_a_line_with_more_room_for_the_same_prompt_keeps_it(desk: Desk) -> None:
    with desk.world.store.transaction("as if cut off") as tx:
        assert register_wider_version(tx, 1, 1_200) == 2
        tx.con.execute("UPDATE artists SET version = 2, line_hash = NULL WHERE state = 'dead'")
    dead = desk.world.states()["dead"]
    assert bring_back(desk) == [(1, dead, 0)]
    assert desk.world.rows("SELECT DISTINCT version, line_hash FROM artists WHERE state = 'ready'") == [(2, None)]
    desk.world.act()
    assert desk.world.states() == {"done": 20}


@pytest.mark.parametrize(
    ("edit", "kind", "sentence"),
    [
        (
            {"user": "Artist: {artist_name} " + "and so on " * 40_000},
            InputError,
            r"artist a\d\d: one line of .* is over the enqueued-token limit .* \(\d more such lines\); nothing was",
        ),
        ({"id_type": "int"}, JobError, r"artist a\d\d: job.py refuses a row that was planned, column artist_id"),
    ],
)
def test_a_line_that_cannot_be_asked_again_changes_nothing(
    desk: Desk, edit: dict[str, str], kind: type[BatcherError], sentence: str
) -> None:
    desk.world.config = config_with(limits={**TEN_LINES, "enqueued_tokens": 20_000}, poll=SLOW_POLLS)
    desk.write_job(**edit)
    before = snapshot(desk.world)
    with pytest.raises(kind, match=sentence):
        bring_back(desk)
    assert snapshot(desk.world) == before


def test_what_was_never_sent_is_told_apart_from_what_was(desk: Desk) -> None:
    """Count a line that was brought back with its own prompt as sent: that was the user's word."""
    desk.write_job(user="Painter: {artist_name}")
    with desk.world.store.transaction("retry") as tx:
        retry_lines(tx, RetryFilter())
        today = build_todays_version(desk.world.config, desk.world.job)
        assert find_outdated_lines(tx, today) == ""
        tx.con.execute("DELETE FROM attempts WHERE artist_id = (SELECT min(artist_id) FROM asked_again)")
        assert find_outdated_lines(tx, today).startswith("1 unsent line was planned with another prompt; `batcher plan")
