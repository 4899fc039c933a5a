"""`forget` as a user types it: beside a running `poll`, after a table was added by mistake, and where it refuses."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.place import GOOD, HEAD, Place
from tests.support.shop import Shop, open_shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop in which nothing has been done."""
    with open_shop(tmp_path) as made:
        yield made


def test_a_table_that_was_added_by_mistake_is_taken_out_again(shop: Shop) -> None:
    """Plan two artists, look, and send them; add the demo's 410 by mistake, and take them out beside a `poll`."""
    (shop.folder / "mine.csv").write_text(
        HEAD + "z1,Zoe Zorn,1,Swiss,1890\nz2,Zed Zorn,1,Swiss,1891\n", encoding="utf-8"
    )
    assert shop.shell("batcher preview --input mine.csv").returncode == 0
    assert shop.shell("batcher plan --input mine.csv").returncode == 0
    shop.sandbox.update_settings({"service_s": (3_000, 4_000)})
    assert shop.shell("batcher submit").returncode == 0
    assert shop.shell("batcher plan --json").returncode == 0  # the table of the last plan: nothing is added
    refused = shop.shell("batcher plan --input jobs/bios/artists.csv")
    assert (refused.returncode, "--add agrees" in refused.stderr) == (2, True)
    added = json.loads(shop.shell("batcher plan --input jobs/bios/artists.csv --add --json").stdout)
    assert added["states"] == {"in_batch": 2, "ready": 410}
    with subprocess.Popen(
        [sys.executable, "-m", "batcher", "poll", "--json"],
        cwd=shop.folder, env=shop.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as poll:  # fmt: skip
        asked = shop.shell("batcher forget --not-in-table --input mine.csv")
        assert asked.returncode == 2
        assert "410 artists that were never sent would leave the plan" in asked.stderr
        told = json.loads(shop.shell("batcher forget --not-in-table --input mine.csv --yes --json").stdout)
        assert (told["forgotten"], told["sent"]) == (410, 0)
        states = json.loads(poll.communicate(timeout=120)[0].splitlines()[-1])["states"]
    assert sum(states.values()) == 2
    assert len(shop.sandbox.ledger.attempt_counts()) == 2
    sent = shop.shell("batcher forget --artist z1 --yes")
    assert sent.returncode == 2
    assert "artist 'z1' was sent (it is " in sent.stderr


def test_the_edited_prompt_is_seen_before_it_is_sent(shop: Shop) -> None:
    """Repeat the session of a prompt that was edited after the plan: look, be refused, cut again, and look again."""
    assert shop.shell("batcher plan --limit 20").returncode == 0
    before = json.loads(shop.shell("batcher preview --json").stdout)
    shop.shell('echo "- NEWPROMPT." >> jobs/bios/system.md')
    look = json.loads(shop.shell("batcher preview --json").stdout)
    assert "20 unsent lines" in look["notes"][0]
    assert "NEWPROMPT" in look["artists"][0]["line"]
    assert "NEWPROMPT" not in before["artists"][0]["line"]
    refused = shop.shell("batcher submit")
    assert (refused.returncode, "planned with another prompt" in refused.stderr) == (2, True)
    assert not shop.sandbox.ledger.attempt_counts()
    again = json.loads(shop.shell("batcher plan --replan --json").stdout)
    assert (again["artists_new"], again["lines_planned"]) == (0, 20)
    look = json.loads(shop.shell("batcher preview --json").stdout)
    assert look["notes"] == []
    files = "".join(path.read_text(encoding="utf-8") for path in (shop.folder / ".batcher" / "shards").glob("*.jsonl"))
    assert look["artists"][0]["line"] in files
    assert shop.shell("batcher submit && batcher poll").returncode == 0
    assert len(shop.sandbox.ledger.attempt_counts()) == 20


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name artists by --artist, or choose those that left the table by --not-in-table"),
        (["--artist", "a1", "--not-in-table"], "name artists by --artist, or choose those that left the table"),
        (["--artist", "a1", "--input", "t.csv"], "--input names the table of --not-in-table, which is not given"),
        (["--artist", "berg"], "the plan has no artist 'berg'; similar: b2 (Bo Berg)"),
        (["--artist", "a1", "--artist", "d4"], "artist 'd4' is done_before, so nothing will be sent for it; leave it"),
        (["--artist", "a1"], "1 artist that was never sent would leave the plan (of 1 planned shard, whose other "
                             "lines, if any, stay); nothing was changed, --yes agrees"),
        (["--not-in-table", "--input", "no.csv"], "no.csv does not exist; check the name"),
        (["--not-in-table", "--input", "bad.csv"], "bad.csv, row 2, column priority must be a whole number"),
        (["--not-in-table", "--input", "none.csv"], "none.csv has no artists; name another table by --input"),
    ],
)  # fmt: skip
def test_what_cannot_be_forgotten_is_one_sentence(place: Place, arguments: list[str], sentence: str) -> None:
    place.write("jobs/bios/artists.csv", GOOD + "d4,Di Dorn,1,,\n")
    place.write("done.csv", "artist_id,bio,summary,sparse\nd4,Was.,Was.,false\n")
    place.write("bad.csv", HEAD + "a1,Ana Albers,one,German,1899\n")
    place.write("none.csv", HEAD)
    assert place.run("plan", "--done", "done.csv").returncode == 0
    assert place.refused("forget", *arguments, "--json").startswith(sentence)


def test_the_table_of_the_last_plan_tells_who_has_left_it(place: Place) -> None:
    place.write("jobs/bios/artists.csv", GOOD + "c3,Cy Cole,2,,\n")
    assert place.run("plan").returncode == 0
    place.write("jobs/bios/artists.csv", GOOD)
    assert "1 planned artist is not in this table" in " ".join(place.run("plan").stdout.split())
    told = place.run("forget", "--not-in-table", "--yes")
    assert told.stdout == (
        "1 artist that was never sent left the plan (of 1 planned shard, whose other lines, if any, stay).\n"
    )
    again = place.run("forget", "--not-in-table")
    assert (again.returncode, again.stdout) == (0, "Nobody is to be taken out of the plan.\n")
    plan = json.loads(place.run("plan", "--json").stdout)
    assert plan["states"] == {"ready": 2}
    assert [shard["lines"] for shard in plan["shards"]] == [1, 1]
    assert "there is no plan in" in Place(_empty(place)).refused("forget", "--artist", "a1")


def _empty(place: Place) -> Path:
    folder = place.folder.parent / "empty"
    folder.mkdir()
    return folder
