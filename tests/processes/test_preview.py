"""`preview`: what is shown is what is sent, and looking changes nothing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.place import GOOD, HEAD, Place


def look(place: Place, *arguments: str, **environment: str) -> dict[str, Any]:
    """Return the answer of `preview --json`, and check that the folder is as it was."""
    before = place.files()
    ended = place.run("preview", *arguments, "--json", **environment)
    assert ended.returncode == 0, ended.stderr
    assert place.files() == before
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def shard_lines(place: Place) -> Sequence[str]:
    files = sorted((place.folder / ".batcher" / "shards").glob("*.jsonl"))
    return [line for path in files for line in path.read_text(encoding="utf-8").splitlines(keepends=True)]


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/responses"])
def test_the_line_that_is_shown_is_the_line_that_plan_writes(place: Place, endpoint: str) -> None:
    """Show every artist before the plan (from the table) and after it (from the state), with all kinds of text."""
    rows = 'é/1,"Ana ""A"" Albers",1,German,1899\nb2,Bo Berg,2,Swedish,1901\nc3,Čy {braces},2,,\n'
    place.write("jobs/bios/artists.csv", HEAD + rows)
    settings = {"BATCHER_MODEL__ENDPOINT": endpoint, "BATCHER_MODEL__PARAMETERS__REASONING_EFFORT": "low"}
    before = look(place, "--sample", "3", **settings)
    assert [artist["source"] for artist in before["artists"]] == ["table"] * 3
    planned = place.run("plan", "--json", **settings)
    assert planned.returncode == 0, planned.stderr
    after = look(place, "--sample", "3", **settings)
    assert [(artist["source"], artist["state"]) for artist in after["artists"]] == [("plan", "ready")] * 3
    written = shard_lines(place)
    for told in (before, after):
        assert sorted(artist["line"] for artist in told["artists"]) == sorted(written)
        assert all(artist["request"] == json.loads(artist["line"]) for artist in told["artists"])
    tokens = sum(row["tokens"] for row in json.loads(planned.stdout)["shards"])
    assert sum(artist["tokens"] for artist in after["artists"]) == tokens
    one = after["artists"][0]
    assert one["tokens"] == one["constant_tokens"] + one["artist_tokens"]
    assert 0 < one["expected_usd"] < one["most_usd"]


def test_the_most_urgent_is_shown_where_nobody_is_named(place: Place) -> None:
    place.write("jobs/bios/artists.csv", HEAD + "b2,Bo Berg,2,Swedish,1901\na1,Ana Albers,1,German,1899\n")
    assert [artist["artist_id"] for artist in look(place)["artists"]] == ["a1"]
    assert place.run("plan").returncode == 0
    assert [artist["artist_id"] for artist in look(place)["artists"]] == ["a1"]
    assert [artist["artist_id"] for artist in look(place, "b2", "a1", "b2")["artists"]] == ["b2", "a1"]


def test_the_text_holds_prompt_schema_and_parameters_unbroken(place: Place) -> None:
    place.write("jobs/bios/system.md", "One line of a prompt that is wider than any terminal: " + "word " * 60 + "end.")
    shown = place.run("preview", "a1").stdout
    assert "word " * 60 + "end." in shown
    assert '"bio": {' in shown
    assert "max_completion_tokens: 4000" in shown
    assert "a1 (Ana Albers), priority 1, from artists.csv" in shown
    assert "Born: 1899" in shown


def test_an_artist_of_the_table_that_is_not_planned_is_shown_from_the_table(place: Place) -> None:
    assert place.run("plan").returncode == 0
    place.write("jobs/bios/artists.csv", GOOD + "c3,Cy Cole,1,,\n")
    assert [artist["source"] for artist in look(place, "c3", "a1")["artists"]] == ["table", "plan"]


def test_another_table_can_be_looked_at_before_it_is_planned(place: Place) -> None:
    place.write(
        "other.jsonl", '{"artist_id": "z9", "artist_name": "Zed"}\n{"artist_id": "a1", "artist_name": "Anna"}\n'
    )
    assert place.run("plan").returncode == 0
    told = look(place, "a1", "--input", "other.jsonl")
    assert [(artist["source"], artist["artist_name"]) for artist in told["artists"]] == [("table", "Anna")]
    assert "z9" not in json.dumps(look(place)["artists"])


def test_lines_that_were_planned_with_another_prompt_are_told(place: Place) -> None:
    assert place.run("plan").returncode == 0
    assert look(place)["notes"] == []
    system = place.folder / "jobs" / "bios" / "system.md"
    place.write("jobs/bios/system.md", system.read_text(encoding="utf-8") + "\n- Mention no birds.")
    told = look(place)
    (note,) = told["notes"]
    assert "2 unsent lines in 2 shards were planned with another prompt" in note
    assert "`batcher plan --replan`" in note
    assert "Mention no birds." in told["artists"][0]["request"]["body"]["messages"][0]["content"]
    assert place.run("plan", "--replan").returncode == 0
    told = look(place)
    assert told["notes"] == []
    assert told["artists"][0]["line"] in shard_lines(place)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["albers"], "jobs/bios/artists.csv has no artist 'albers'; similar: a1 (Ana Albers)"),
        (["Anna"], "jobs/bios/artists.csv has no artist 'Anna'; similar: a1 (Ana Albers)"),
        (["a1", "?"], "jobs/bios/artists.csv has no artist '?'"),
        (["a1", "--sample", "2"], "artists and --sample are both given; name the artists, or let --sample choose them"),
        (["--input", "no.csv"], "no.csv does not exist; check the name, or [job] input in batcher.toml"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(place: Place, arguments: list[str], sentence: str) -> None:
    assert place.refused("preview", *arguments, "--json") == sentence


def test_an_unknown_artist_of_a_plan_is_told_with_those_like_it(place: Place) -> None:
    assert place.run("plan").returncode == 0
    told = place.refused("preview", "berg")
    assert told == "neither the plan nor jobs/bios/artists.csv has an artist 'berg'; similar: b2 (Bo Berg)"


def test_a_row_that_cannot_be_a_line_is_refused_as_plan_refuses_it(place: Place) -> None:
    place.write("jobs/bios/artists.csv", HEAD + "a1,Ana Albers,0,German,1899\n")
    assert place.refused("plan").startswith(place.refused("preview"))


def test_columns_that_the_job_does_not_use_are_named(place: Place) -> None:
    place.write("jobs/bios/artists.csv", "artist_id,artist_name,priority,body,subject\na1,Ana,1,text,more\n")
    assert look(place)["unused_columns"] == ["body", "subject"]
    assert "The job does not use these columns of the table: body, subject." in place.run("preview").stdout
    told = json.loads(place.run("plan", "--dry-run", "--json").stdout)
    assert told["unused_columns"] == ["body", "subject"]
    assert "The job does not use these columns of the table: body, subject." in place.run("plan").stdout
    place.write("jobs/bios/artists.csv", "artist_id,artist_name,priority,,subject\na1,Ana,1,text,more\n")
    told = place.run("preview").stdout
    assert "The job does not use these columns of the table: (without a name), subject." in told
    place.write("jobs/bios/artists.csv", "artist_id,artist_name,priority,\na1,Ana,1,text\n")
    assert "The job does not use this column of the table: (without a name)." in place.run("preview").stdout
    place.write("jobs/bios/artists.csv", GOOD)
    assert look(place)["unused_columns"] == []
    (place.folder / "jobs" / "bios" / "artists.csv").unlink()
    told = look(place)
    assert told["artists"][0]["artist_id"] == "a1"
    assert "does not exist" in told["notes"][0]


def test_a_sample_reaches_from_the_shortest_row_to_the_longest(place: Place, tmp_path: Path) -> None:
    rows = "".join(f"a{n},{'N' * (1 + n)},1,,\n" for n in range(9))
    place.write("jobs/bios/artists.csv", HEAD + rows)
    for _ in range(2):
        assert [a["artist_id"] for a in look(place, "--sample", "3")["artists"]] == ["a0", "a4", "a8"]
        assert [a["artist_id"] for a in look(place, "--sample", "1")["artists"]] == ["a4"]
        assert len(look(place, "--sample", "50")["artists"]) == 9
        assert place.run("plan").returncode == 0
