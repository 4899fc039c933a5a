"""`batcher sql` in a process of its own: tables that fit, JSON, CSV, and sentences for mistakes."""

import csv
import io
import json
from pathlib import Path

import pytest

from batcher.state.reports.views import VIEWS
from tests.support.kill_harness import Killing, Scenario
from tests.support.place import HEAD, Place


@pytest.fixture
def planned(place: Place) -> Place:
    """Return a folder in which two artists are planned; the name of one spans lines and turns colours on."""
    place.write(
        "jobs/bios/artists.csv", f'{HEAD}a1,"Ana\n\x1b[31m Albers, ""A""",1,German,1899\nb2,Bo,2,Swedish,1901\n'
    )
    assert place.run("plan").returncode == 0
    return place


def test_the_views_are_listed_without_a_state(place: Place) -> None:
    listed = place.run("sql", COLUMNS="80").stdout
    assert all(f"\n{view} " in listed for view in VIEWS)
    assert max(map(len, listed.splitlines())) <= 80
    assert "`batcher sql --describe lines` has the columns" in listed
    columns = place.run("sql", "--describe", "bios").stdout
    assert "cost_usd" in columns and "TIMESTAMPTZ" in columns
    told = json.loads(place.run("sql", "--json").stdout)
    assert [view["name"] for view in told["views"]] == list(VIEWS)
    assert "CREATE OR REPLACE VIEW open.lines" in place.run("sql", "--schema").stdout
    assert place.refused("sql", "--describe", "bio") == (
        "there is no view 'bio'; there are lines, shards, batches, attempts, bios, costs, quota, events"
    )


def test_an_answer_as_table_json_and_csv(planned: Place) -> None:
    question = "SELECT artist_id, artist_name, 1.50::DECIMAL(24, 12) AS usd, wait_until, [1] AS l FROM lines ORDER BY 1"
    table = planned.run("sql", question).stdout
    assert "a1" in table and "1.5" in table and "2 rows." in table
    assert "\x1b" not in table
    told = json.loads(planned.run("sql", question, "--json").stdout)
    assert told["columns"][2] == {"name": "usd", "type": "DECIMAL(24,12)"}
    assert told["rows"][0][1].endswith('Albers, "A"')
    assert told["rows"][1] == ["b2", "Bo", 1.5, None, [1]]
    assert told["is_cut"] is False
    rows = list(csv.reader(io.StringIO(planned.run("sql", question, "--csv").stdout)))
    assert rows[0] == ["artist_id", "artist_name", "usd", "wait_until", "l"]
    assert rows[2] == ["b2", "Bo", "1.5", "", "[1]"]
    moment = json.loads(planned.run("sql", "SELECT created_at FROM shards LIMIT 1", "--json").stdout)["rows"][0][0]
    assert moment.endswith("+00:00") and "T" in moment


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_table_fits_the_width(planned: Place, width: int) -> None:
    for view in VIEWS:
        table = planned.run("sql", f"FROM {view}", COLUMNS=str(width)).stdout
        assert max(map(len, table.splitlines())) <= width
    assert "No room for" in planned.run("sql", "FROM lines", COLUMNS=str(width)).stdout


def test_a_table_that_is_cut_says_so(planned: Place) -> None:
    assert "The first 1 row; --limit takes more." in planned.run("sql", "FROM lines", "--limit", "1").stdout
    ended = planned.run("sql", "FROM lines", "--limit", "1", "--csv")
    assert "the first 1 row;" in ended.stderr
    assert json.loads(planned.run("sql", "FROM lines", "--limit", "1", "--json").stdout)["is_cut"] is True


def test_mistakes_are_one_sentence_and_change_nothing(planned: Place) -> None:
    assert "at line 1, column 15" in planned.refused("sql", "SELECT * FORM lines")
    assert "ask one question that only reads" in planned.refused("sql", "DELETE FROM lines")
    assert "only the state is read" in planned.refused("sql", "FROM 'artists.csv'", "--json")
    assert "--schema" in planned.refused("sql", "--schema", "--json")
    assert "ask one of them" in planned.refused("sql", "FROM lines", "--schema")
    assert "--csv" in planned.refused("sql", "FROM lines", "--csv", "--json")
    assert "--csv" in planned.refused("sql", "--csv")
    assert "--limit" in planned.refused("sql", "FROM lines", "--limit", "0")


def test_without_a_plan(place: Place) -> None:
    assert "there is no plan" in place.refused("sql", "FROM lines")


def test_questions_are_answered_while_another_process_writes(tmp_path: Path) -> None:
    job = Killing(tmp_path, Scenario(settings={"service_s": [600, 900]}))
    question = ("sql", "SELECT state, count(*) FROM lines GROUP BY state")
    with job.serving():
        assert job.finish(job.start(("plan",))) == 0
        started = [job.start(command) for command in (("run",), question, question, (*question, "--json"))]
        assert [job.finish(process) for process in started] == [0, 0, 0, 0], job.output.read_text()
    assert set(job.outcome().states.values()) == {"done"}
