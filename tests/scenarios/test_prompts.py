"""The prompt that a bio was asked with: in the file of `collect`, and for lines that are asked again."""

from pathlib import Path

import orjson

from batcher.collect.collect import collect_bios
from tests.support.planner_kit import SLOW_POLLS, TEN_LINES, Desk
from tests.support.world import config_with

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
