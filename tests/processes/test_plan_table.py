"""The plan knows its table: the commands that read it again, and what they do with another one."""

import json
import re
from typing import Any

from tests.support.place import GOOD, HEAD, Place

MORE = HEAD + "".join(f"m{n},Max Number {n},3,,\n" for n in range(5))


def plan(place: Place, *arguments: str) -> dict[str, Any]:
    ended = place.run("plan", *arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_a_plain_plan_reads_the_table_of_the_last_one(place: Place) -> None:
    place.write("more.csv", MORE)
    place.write("done.csv", "artist_id,bio,summary,sparse\nm0,Was.,Was.,false\n")
    assert plan(place, "--input", "more.csv", "--done", "done.csv")["states"] == {"done_before": 1, "ready": 4}
    again = plan(place)
    assert (again["rows_read"], again["artists_new"]) == (5, 0)
    place.write("more.csv", MORE + "m9,Max Nine,3,,\n")
    assert plan(place)["artists_new"] == 1


def test_another_table_is_asked_about(place: Place) -> None:
    place.write("more.csv", MORE)
    plan(place)
    said = place.refused("plan", "--input", "more.csv")
    assert said == (
        "this job was planned from jobs/bios/artists.csv (--input goes on with it), and more.csv is another table, "
        "whose artists would be added to the plan; nothing was changed, --add agrees"
    )
    assert place.refused("plan", "--input", "mor.csv") == (
        "mor.csv does not exist; check the name, or [job] input in batcher.toml"
    )
    assert plan(place, "--input", "more.csv", "--dry-run")["artists_new"] == 5
    assert plan(place)["artists_new"] == 0
    assert plan(place, "--input", "more.csv", "--add")["artists_new"] == 5
    assert plan(place)["rows_read"] == 5  # more.csv is the table of the last plan now


def test_a_table_that_batcher_toml_names_anew_is_another_table(place: Place) -> None:
    place.write("more.csv", MORE)
    plan(place)
    settings = (place.folder / "batcher.toml").read_text(encoding="utf-8")
    place.write("batcher.toml", re.sub('(?m)^input = "[^"]*"', 'input = "more.csv"', settings))
    assert "more.csv is another table" in place.refused("plan")
    assert "more.csv is another table" in place.refused("run", OPENAI_API_KEY="sk-none")
    assert plan(place, "--input", "jobs/bios/artists.csv")["artists_new"] == 0
    assert plan(place, "--input", "more.csv", "--add")["artists_new"] == 5


def test_after_a_limit_nobody_is_taken_in_unless_it_is_said(place: Place) -> None:
    place.write("jobs/bios/artists.csv", GOOD + MORE.removeprefix(HEAD))
    assert plan(place, "--limit", "1")["artists_new"] == 1
    again = plan(place)
    assert (again["artists_new"], again["left_out"]) == (0, 6)
    told = " ".join(place.run("plan").stdout.split())
    assert "6 artists are left out of this table: `--limit N` takes N of them in, `--all` all." in told
    assert plan(place, "--limit", "2")["artists_new"] == 2
    assert plan(place)["artists_new"] == 0
    assert (plan(place, "--all")["artists_new"], plan(place)["left_out"]) == (4, 0)
    assert place.refused("plan", "--limit", "1", "--all").startswith("--limit and --all are both given")


def test_the_project_may_move(place: Place) -> None:
    place.write("more.csv", MORE)
    plan(place, "--input", "more.csv")
    moved = place.folder.parent / "moved"
    place.folder.rename(moved)
    place.folder = moved
    assert (plan(place)["rows_read"], plan(place)["artists_new"]) == (5, 0)
