"""Questions to the documented views: what is answered, what is refused, and that only the state is open to them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from batcher.errors import InputError, StateError
from batcher.state.db.schema import load_migrations
from batcher.state.db.store import Store
from batcher.state.reports.query import run_query
from batcher.state.reports.views import VIEWS, create_views, describe_views, read_view_script
from tests.support.state_kit import Naps, held_open, plan_two_artists
from tests.support.world import ROOT, START, Clock


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a state with two artists that no test changes."""
    made = Store(tmp_path_factory.mktemp("job") / "state", Clock(), Naps())
    plan_two_artists(made)
    return made


def refused(store: Store, statement: str) -> str:
    with pytest.raises(InputError) as error:
        run_query(store, statement)
    text = str(error.value)
    assert "\n" not in text and "{" not in text
    return text


def test_every_view_and_every_column_has_its_comment() -> None:
    views = describe_views()
    assert [view.name for view in views] == list(VIEWS)
    for view in views:
        assert view.comment.endswith("."), view.name
        assert len(view.columns) > 5
        for column in view.columns:
            assert column.comment.endswith("."), f"{view.name}.{column.name}"


def test_times_have_a_zone_and_dollars_are_decimals() -> None:
    for view in describe_views():
        for column in view.columns:
            if column.name.endswith(("_at", "_until")):
                assert column.type == "TIMESTAMP WITH TIME ZONE", column
            elif column.name.endswith("_usd"):
                assert column.type == "DECIMAL(24,12)", column
            else:
                assert column.type in {"VARCHAR", "INTEGER", "BIGINT", "BOOLEAN"}, column


def test_a_question_is_answered_with_times_in_utc(planned: Store) -> None:
    with planned.transaction("event") as tx:
        tx.record_event("plan", "x")
    found = run_query(planned, "SELECT happened_at, kind FROM events")
    assert [column.name for column in found.columns] == ["happened_at", "kind"]
    assert [tuple(row) for row in found.rows] == [(datetime.fromtimestamp(START, UTC), "plan")]
    assert not found.is_cut


def test_an_answer_is_cut_where_it_has_more_rows_than_wanted(planned: Store) -> None:
    found = run_query(planned, "FROM lines", most_rows=1)
    assert (len(found.rows), found.is_cut) == (1, True)
    found = run_query(planned, "FROM lines", most_rows=2)
    assert (len(found.rows), found.is_cut) == (2, False)
    assert len(run_query(planned, "FROM range(5000)", most_rows=4999).rows) == 4999


@pytest.mark.parametrize(
    "statement",
    [
        "SHOW TABLES",
        "DESCRIBE lines",
        "SUMMARIZE shards",
        "FROM open.lines",
        "VALUES (1)",
        "WITH a AS (SELECT 1) FROM a;",
        "SELECT 1 UNION SELECT 2",
        "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a WHERE n < 3) FROM a",
        "FROM duckdb_columns() WHERE schema_name = 'open'",
        "-- which\nFROM lines",
        "SELECT unnest([1, 2])",
    ],
)
def test_what_only_reads_is_answered(job: Store, statement: str) -> None:
    assert run_query(job, statement).rows


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM lines",
        "DELETE FROM state.main.artists",
        "UPDATE state.main.artists SET priority = 1",
        "DROP VIEW lines",
        "INSERT INTO state.main.meta VALUES ('a', 'b')",
        "CREATE TABLE state.main.t AS SELECT 1",
        "CREATE TEMP TABLE t (a INT)",
        "WITH x AS (DELETE FROM state.main.artists RETURNING 1) SELECT * FROM x",
        "ALTER TABLE state.main.meta ADD COLUMN b INT",
        "WITH x AS (INSERT INTO state.main.meta VALUES ('a', 'b') RETURNING 1) SELECT * FROM x",
        "SELECT nextval('state.main.event_numbers')",
        "CHECKPOINT state",
        "FROM checkpoint('state')",
        "FROM force_checkpoint('state')",
        "DETACH state",
        "USE state",
        "BEGIN",
        "COMMIT",
        "PREPARE a AS SELECT 1",
        "EXPLAIN ANALYZE DELETE FROM state.main.artists",
        "PRAGMA enable_profiling",
        "CALL pragma_version()",
        "VACUUM",
    ],
)
def test_nothing_is_written_to_the_state(job: Store, statement: str) -> None:
    before = job.path.read_bytes()
    refused(job, statement)
    assert job.path.read_bytes() == before
    assert len(run_query(job, "FROM lines").rows) == 2


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder with files that a question could read, as the working directory; no file of it changes."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name, content in {"x.csv": "a\nsecret\n", "x.json": '{"a": "secret"}', "x.txt": "secret"}.items():
        (folder / name).write_text(content, encoding="utf-8")
    with duckdb.connect(str(folder / "x.duckdb")) as con:
        con.execute("CREATE TABLE t AS SELECT 'secret' AS a")
        con.execute(f"COPY (SELECT 'secret' AS a) TO '{folder / 'x.parquet'}'")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.chdir(folder)
    yield folder
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "statement",
    [
        "FROM 'x.csv'",
        "FROM 'x.json'",
        "FROM 'x.parquet'",
        "FROM read_csv('x.csv')",
        "FROM read_json('x.json')",
        "FROM read_parquet('x.parquet')",
        "FROM read_text('x.txt')",
        "FROM read_blob('x.txt')",
        "FROM glob('*')",
        "FROM sniff_csv('x.csv')",
        "FROM parquet_metadata('x.parquet')",
        "FROM read_duckdb('x.duckdb')",
        "FROM query('FROM read_text(''x.txt'')')",
        "FROM query_table('x.csv')",
        "SELECT (SELECT content FROM read_text('x.txt'))",
        "FROM lines WHERE artist_id IN (SELECT a FROM 'x.csv')",
        "WITH a AS (FROM read_csv('x.csv')) FROM a",
        "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''x.txt'')'))",
        "ATTACH 'x.duckdb'",
        "COPY (SELECT 1) TO 'y.csv'",
        "COPY lines TO 'y.csv'",
        "EXPORT DATABASE 'y'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "LOAD 'x.txt'",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "RESET memory_limit",
        "SET temp_directory = '.'",
        "SET threads = 8",
        "FROM enable_logging('QueryLog', storage_path = 'y')",
        "FROM 'https://127.0.0.1:1/x.csv'",
        "FROM enable_profiling()",
        "IMPORT DATABASE 'y'",
        "FROM pandas_scan(1)",
        "FROM arrow_scan(1, 2, 3)",
        "CREATE SECRET s (TYPE s3)",
        "FROM job",
        "FROM files",
        "FROM statement",
    ],
)
def test_no_file_no_setting_and_no_variable_is_open_to_a_question(job: Store, files: Path, statement: str) -> None:
    assert "secret" not in refused(job, statement)


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("SELECT * FORM lines", 'the SQL cannot be run: syntax error at or near "lines", at line 1, column 15'),
        ("SELECT priority\nFROM lines\nWHERE naem = 1", 'column "naem" not found in FROM clause, at line 3, column 7'),
        ("SELECT 'é', colour FROM lines", "at line 1, column 13; similar: "),
        ("FROM line", "name line does not exist, at line 1, column 6; the views are lines, shards, batches, "),
        ("SELECT 'x'::INT", "Could not convert string 'x' to INT32, at line 1, column 11"),
        ("SELECT ?", "a parameter without a value"),
        ("SELECT $a", "a parameter without a value"),
        ("", "there is none"),
        ("-- nothing", "there is none"),
        ("SELECT 1; SELECT 2", "there are several"),
        ("FROM read_csv('x')", "read_csv() cannot be used here: only the state is read, no file and no setting"),
        ("FROM 'x.csv'", "only the state is read"),
        ("WITH x AS (DELETE FROM state.main.artists RETURNING 1) FROM x", "this changes something"),
        ("SELECT st_point(1, 2)", "in the spatial extension"),
        ("PIVOT lines ON state USING count(*)", "ask one question that only reads"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(job: Store, statement: str, sentence: str) -> None:
    assert sentence in refused(job, statement)


def test_a_question_that_takes_too_long_is_ended_and_the_state_is_free_again(planned: Store) -> None:
    endless = "SELECT count(*) FROM range(1000000000) AS a, range(1000000000) AS b WHERE a.range % 7 = b.range % 11"
    with pytest.raises(InputError, match=r"more than 0\.05 s and was ended"):
        run_query(planned, endless, longest_s=0.05)
    with planned.transaction("after") as tx:
        tx.record_event("plan", "x")


def test_a_question_that_needs_too_much_memory_is_refused_and_writes_no_file(job: Store) -> None:
    before = {path.name for path in job.folder.iterdir()}
    assert "needs more memory" in refused(job, "SELECT list(range) FROM range(200000000)")
    assert {path.name for path in job.folder.iterdir()} == before


def test_a_question_waits_for_the_process_that_writes(planned: Store, naps: object) -> None:
    with held_open(planned.path) as process:
        naps.at = {2: process}  # type: ignore[attr-defined]
        assert len(run_query(planned, "FROM lines").rows) == 2
    assert naps.slept > 0  # type: ignore[attr-defined]


def test_a_store_can_be_written_after_a_question(planned: Store) -> None:
    """The settings that a question locks are those of an engine of its own."""
    with planned.transaction("before") as tx:
        tx.record_event("plan", "x")
    run_query(planned, "FROM lines")
    with planned.transaction("after") as tx:
        tx.record_event("plan", "y")
    assert len(run_query(planned, "FROM events").rows) == 2


def test_without_a_plan_there_is_nothing_to_ask(store: Store) -> None:
    with pytest.raises(StateError, match="there is no plan"):
        run_query(store, "FROM lines")


def test_the_script_makes_the_views_in_a_copy_that_duckdb_alone_opens(job: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy.duckdb"
    with duckdb.connect(str(copy)) as con:
        con.execute(f"ATTACH '{job.path}' AS state (READ_ONLY)")
        con.execute("COPY FROM DATABASE state TO copy")
    script = tmp_path / "views.sql"
    script.write_text(read_view_script(), encoding="utf-8")
    for _ in range(2):  # run twice, it makes them again
        command = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute(open(sys.argv[2]).read())"
        subprocess.run([sys.executable, "-c", command, str(copy), str(script)], check=True)
    with duckdb.connect(str(copy), read_only=True) as con:
        for view in VIEWS:
            rows = con.execute(f"SELECT * FROM open.{view}").fetchall()
            assert [tuple(row) for row in run_query(job, f"FROM {view}").rows] == rows
        missing = con.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = 'open' AND comment IS NULL"
        ).fetchall()
    assert missing == []


def test_the_state_file_itself_has_no_views(job: Store) -> None:
    """Each transaction reads the catalog of the file: see docs/decisions/0012-views-beside-the-state.md."""
    run_query(job, "FROM lines")
    with job.read_transaction() as tx:
        found = tx.con.execute("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchall()
    assert found == [(0,)]


def test_every_migration_leaves_what_the_views_read() -> None:
    with duckdb.connect() as con:
        for script in load_migrations():
            con.execute(script)
        con.execute(read_view_script())
    assert (ROOT / "docs" / "reference" / "views.md").exists()


@pytest.mark.parametrize("view", VIEWS)
def test_no_view_compares_every_row_with_every_other(job: Store, view: str) -> None:
    """A million lines would take days."""
    with job.read_transaction() as tx:
        create_views(tx.con)
        plan = str(tx.con.execute(f"EXPLAIN FROM {view}").fetchall())
    assert "Hash Join" in plan or view in {"quota", "events"}
    assert not re.search("Nested Loop|Nl Join|Cross Product|Merge Join", plan)
