"""A job with names of its own: its columns stand in every table that is read and written."""

from pathlib import Path

import duckdb
import pytest

from batcher.collect.collect import collect_bios
from batcher.collect.conditions import build_condition_query, describe_columns
from batcher.errors import InputError
from batcher.job.loading import load_job
from batcher.job.schema import COLLECT_COLUMNS, FAILED_COLUMNS
from tests.support.job_kit import ROW_JOB, write_ticket_job
from tests.support.world import World

NAMED_JOB = ROW_JOB.replace("\n\nclass Row", '\nNAME = "subject"\nPRIORITY = "urgency"\n\n\nclass Row')
TABLE = "ticket_id,subject,Body text,urgency\n7,Printer,It is on fire,1\n8,Mouse,It squeaks,\n9,Desk,,2\n"
DONE = "ticket_id,label\n7,fire\n"


def planned(folder: Path, source: str) -> World:
    """Return a world with two tickets, one of which is labelled, and a row that is skipped."""
    world = World(folder)
    world.job = load_job(write_ticket_job(folder, source))
    (folder / "tickets.csv").write_text(TABLE, encoding="utf-8")
    (folder / "done.csv").write_text(DONE, encoding="utf-8")
    world.plan(folder / "tickets.csv", done=folder / "done.csv", skip_bad_rows=True)
    return world


def columns_of(path: Path) -> list[str]:
    return [str(column[0]) for column in duckdb.execute(f"SELECT * FROM '{path}'").description or []]


@pytest.mark.parametrize(
    ("source", "names"),
    [(ROW_JOB, ["ticket_id"]), (NAMED_JOB, ["ticket_id", "subject", "urgency"])],
)
def test_the_columns_of_the_files_are_those_of_the_job(tmp_path: Path, source: str, names: list[str]) -> None:
    world = planned(tmp_path, source)
    labels, rest = tmp_path / "labels.parquet", tmp_path / "rest.csv"
    collected = collect_bios(world.store, world.job, labels, rest, only_new=False)
    assert (collected.bios, collected.failed, collected.notes) == (1, 1, [])
    assert columns_of(labels) == [*names, "label", *COLLECT_COLUMNS]
    assert columns_of(rest) == [*names, *FAILED_COLUMNS]
    assert duckdb.execute(f"SELECT ticket_id, label FROM '{labels}'").fetchall() == [("7", "fire")]


def test_a_row_without_a_name_is_known_by_its_id(tmp_path: Path) -> None:
    world = planned(tmp_path, ROW_JOB)
    found = world.rows("SELECT artist_id, artist_name, priority FROM artists WHERE state <> 'skipped' ORDER BY 1")
    assert found == [("7", "7", 3), ("8", "8", 3)]


def test_names_and_priorities_are_taken_from_the_fields_of_the_job(tmp_path: Path) -> None:
    world = planned(tmp_path, NAMED_JOB)
    found = world.rows("SELECT artist_id, artist_name, priority FROM artists WHERE state <> 'skipped' ORDER BY 1")
    assert found == [("7", "Printer", 1), ("8", "Mouse", 3)]


def test_a_condition_names_the_columns_of_the_job(tmp_path: Path) -> None:
    world = planned(tmp_path, NAMED_JOB)
    assert describe_columns(world.job).startswith("label, ticket_id, subject, urgency, model, ")
    with world.store.read_transaction() as tx:
        query = build_condition_query(tx, world.job, "label = 'fire' AND urgency = 1 AND subject LIKE 'P%'")
        assert tx.con.execute(query).fetchall() == [("7",)]
        query = build_condition_query(tx, world.job, "artist_id = '7'")
        with pytest.raises(duckdb.BinderException, match="artist_id"):
            tx.con.execute(query)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("ticket_id,Body text\n7,x\n7,y\n", "row 3: ticket_id '7' is already in row 2; fix the table"),
        ("Body text\nx\n", "has no column ticket_id; its columns are Body text: rename one"),
        ("ticket_id,Body text\n,x\n", "row 2, column ticket_id is empty; fix the table"),
        ("ticket_id,Body text,urgency\n7,x,0\n", "row 2 (7): column urgency: must be 1 (the most urgent) or more"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_by_its_own_column(tmp_path: Path, table: str, sentence: str) -> None:
    world = World(tmp_path)
    source = ROW_JOB.replace("\n\nclass Row", '\nPRIORITY = "urgency"\n\n\nclass Row')
    world.job = load_job(write_ticket_job(tmp_path, source))
    path = tmp_path / "tickets.csv"
    path.write_text(table, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        world.plan(path)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("done", "sentence"),
    [
        ("artist_id,label\n7,fire\n", "row 2: column ticket_id is missing or empty"),
        ("ticket_id,label\n7,fire\n7,ice\n", "row 3: ticket_id '7' is already in row 2; keep one of them"),
    ],
)
def test_what_is_wrong_with_answers_that_exist_is_said_by_its_own_column(
    tmp_path: Path, done: str, sentence: str
) -> None:
    world = World(tmp_path)
    world.job = load_job(write_ticket_job(tmp_path))
    (tmp_path / "tickets.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "done.csv").write_text(done, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        world.plan(tmp_path / "tickets.csv", done=tmp_path / "done.csv", skip_bad_rows=True)
    assert sentence in str(raised.value)
