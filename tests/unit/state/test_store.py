"""The state file: what it refuses to be, and that neither a refusal nor an illegal move changes anything."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import duckdb
import pytest

from batcher.disk.locks import lane_lock
from batcher.errors import IllegalTransitionError, StateError
from batcher.state import submissions
from batcher.state.db.engine import RETRY_S, Engine
from batcher.state.db.schema import SCHEMA_VERSION, load_migrations
from batcher.state.db.store import Store
from batcher.state.db.transaction import MEMORY_MB, STAGING_MB, Transaction, load_statements
from tests.support.world import ROOT, Clock


class Naps:
    """A sleep that only counts, and may do something at a time."""

    def __init__(self) -> None:
        self.slept = 0.0
        self.at: dict[int, subprocess.Popen[str]] = {}

    def __call__(self, seconds: float) -> None:
        self.slept += seconds
        process = self.at.get(round(self.slept / RETRY_S))
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def store(tmp_path: Path, naps: Naps) -> Store:
    return Store(tmp_path / "state", Clock(), naps)


@pytest.fixture
def planned(store: Store) -> Store:
    """Return a state with a run, two artists and a planned shard."""
    with store.plan_transaction() as tx:
        tx.fetch_all("insert_run", run_id="r", now=tx.now)
        tx.con.execute(ARTIST.format(columns="artist_id, shard", values="'a', 1"))
        tx.con.execute(ARTIST.format(columns="artist_id, shard", values="'b', 1"))
        tx.con.execute(SHARD.format(columns="shard", values="1"))
    return store


ARTIST = (
    "INSERT INTO artists (seq, custom_id, artist_name, priority, data, state, {columns}) "
    "VALUES (1, 'x', 'X', 3, '{{}}', 'ready', {values})"
)
SHARD = (
    "INSERT INTO shards (priority, retry, version, state, lines, tokens, bytes, sha256, created_at, {columns}) "
    "VALUES (3, false, 1, 'planned', 2, 2, 2, '', 0, {values})"
)


def refusal(store: Store) -> str:
    """Return the sentence with which every way of opening the state refuses; the state must stay as it is."""
    before = {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}
    sentences = set()
    for opened in (
        store.plan_transaction(),
        store.with_folder(store.folder).transaction("write"),  # a process of its own: ours has seen the file sound
        store.read_transaction(),
        store.dry_run_transaction(),
    ):
        with pytest.raises(StateError) as raised:
            enter(opened)
        sentences.add(str(raised.value).replace(f"{store.folder}", "state"))
    assert {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()} == before
    (sentence,) = sentences
    return sentence


def enter(context: AbstractContextManager[object]) -> None:
    with context:
        pass


# --- the schema ------------------------------------------------------------------------------------------------------


def schema(con: duckdb.DuckDBPyConnection) -> object:
    here = "WHERE database_name = current_database() ORDER BY ALL"
    return [
        con.execute(f"SELECT table_name, sql FROM duckdb_tables() {here}").fetchall(),
        con.execute(f"SELECT table_name, constraint_text FROM duckdb_constraints() {here}").fetchall(),
        con.execute(f"SELECT sequence_name FROM duckdb_sequences() {here}").fetchall(),
    ]


def test_the_schema_is_the_sum_of_the_migrations(store: Store) -> None:
    enter(store.plan_transaction())
    with duckdb.connect() as con, store.transaction("look") as tx:
        for script in load_migrations():
            con.execute(script)
        assert schema(tx.con) == schema(con)
    assert len(load_migrations()) == SCHEMA_VERSION


@pytest.mark.parametrize("how", ["reading", "transaction", "planning"])
def test_a_file_of_an_older_schema_is_brought_up_to_date_by_whatever_comes_first(store: Store, how: str) -> None:
    store.folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(store.path)) as con:
        con.execute(load_migrations()[0])
        con.execute("INSERT INTO meta VALUES ('schema_version', '1')")
        con.execute("INSERT INTO runs VALUES ('r', 1.0)")
    opened = {
        "reading": store.read_transaction,
        "transaction": lambda: store.transaction("x"),
        "planning": store.plan_transaction,
    }[how]
    with opened() as tx:
        assert tx.fetch_one("run") == ("r", 1.0)
        assert tx.fetch_one("measured") == (0,) * 9
        assert tx.con.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchall() == [
            (str(SCHEMA_VERSION),)
        ]


def test_hashes_of_whole_lines_are_forgotten(store: Store) -> None:
    """The hashes of older lines cover more, so they are not compared: none of these lines may stop a running job."""
    store.folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(store.path)) as con:
        for script in load_migrations()[:3]:
            con.execute(script)
        con.execute("INSERT INTO meta VALUES ('schema_version', '3'); INSERT INTO runs VALUES ('r', 1.0)")
        con.execute(ARTIST.format(columns="artist_id, line_hash", values="'a', 7"))
    with store.read_transaction() as tx:
        assert tx.con.execute("SELECT artist_id, line_hash FROM artists").fetchall() == [("a", None)]


def test_the_longest_line_of_each_shard_is_found_in_an_older_state(store: Store) -> None:
    store.folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(store.path)) as con:
        for script in load_migrations()[:4]:
            con.execute(script)
        con.execute("INSERT INTO meta VALUES ('schema_version', '4'); INSERT INTO runs VALUES ('r', 1.0)")
        for shard in (1, 2):
            con.execute(SHARD.format(columns="shard", values=f"{shard}"))
        for artist, tokens in (("a", 7), ("b", 300_000)):
            con.execute(ARTIST.format(columns="artist_id, tokens, shard", values=f"'{artist}', {tokens}, 1"))
    with store.read_transaction() as tx:
        assert tx.con.execute("SELECT shard, longest FROM shards ORDER BY shard").fetchall() == [(1, 300_000), (2, 0)]


def test_planning_again_changes_nothing_by_itself(planned: Store) -> None:
    before = planned.path.read_bytes()
    enter(planned.plan_transaction())
    assert planned.path.read_bytes() == before


def test_planning_makes_folder_file_and_schema_at_once(store: Store) -> None:
    with store.plan_transaction() as tx:
        tx.fetch_all("insert_run", run_id="r", now=tx.now)
    with store.read_transaction() as tx:
        assert tx.fetch_one("run")[0] == "r"


def test_planning_that_fails_leaves_only_what_was_there(tmp_path: Path, naps: Naps) -> None:
    store = Store(tmp_path / "one" / "two", Clock(), naps)
    undone: list[str] = []
    with pytest.raises(ZeroDivisionError), store.plan_transaction() as tx:
        tx.undo.callback(undone.append, "undone")
        raise ZeroDivisionError
    assert undone == ["undone"]
    assert list(tmp_path.iterdir()) == []


def test_what_was_committed_is_not_undone(store: Store) -> None:
    undone: list[str] = []
    with store.plan_transaction() as tx:
        tx.undo.callback(undone.append, "undone")
    assert undone == []
    assert store.path.exists()


# --- files that are no state -----------------------------------------------------------------------------------------


def test_no_plan_was_made(store: Store) -> None:
    with (
        pytest.raises(StateError, match=r"there is no plan in .*state; run `batcher plan` first"),
        store.read_transaction(),
    ):
        pass


def test_a_plan_that_was_killed_before_its_commit_counts_as_none(store: Store) -> None:
    enter(store.plan_transaction())
    with pytest.raises(StateError, match="there is no plan"), store.read_transaction():
        pass
    store.path.unlink()
    duckdb.connect(str(store.path)).close()
    with pytest.raises(StateError, match="there is no plan"), store.read_transaction():
        pass


def test_a_newer_schema(planned: Store) -> None:
    with planned.transaction("future") as tx:
        tx.con.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    assert (
        refusal(planned) == f"state/state.duckdb is of schema 99, this Batcher knows {SCHEMA_VERSION}: upgrade Batcher"
    )


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE songs (name VARCHAR)",
        "CREATE TABLE artists (x INTEGER); CREATE TABLE shards (x INTEGER); CREATE TABLE meta (x INTEGER)",
        "CREATE TABLE artists (x INTEGER); CREATE TABLE shards (x INTEGER); "
        "CREATE TABLE meta (key VARCHAR, value VARCHAR)",
        "CREATE TABLE artists (x INTEGER); CREATE TABLE shards (x INTEGER); CREATE TABLE runs (x INTEGER); "
        "CREATE TABLE meta AS SELECT 1 AS key, 4 AS value",
        f"CREATE TABLE meta AS SELECT 'schema_version' AS key, '{SCHEMA_VERSION}' AS value; "
        "CREATE TABLE runs AS SELECT 1 AS a",
    ],
)
def test_a_foreign_duckdb_file(store: Store, sql: str) -> None:
    store.folder.mkdir()
    with duckdb.connect(str(store.path)) as con:
        con.execute(sql)
    assert refusal(store) == (
        "state/state.duckdb is a DuckDB file of something else; move it away, or set another [state] dir"
    )


@pytest.mark.parametrize("content", [b"", b"garbage", b"garbage" * 10_000])
def test_a_file_that_is_no_database(store: Store, content: bytes) -> None:
    store.folder.mkdir()
    store.path.write_bytes(content)
    assert refusal(store) == (
        "state/state.duckdb is not a state of Batcher's; move it away, or set another [state] dir"
    )


def test_a_folder_in_its_place(store: Store) -> None:
    store.path.mkdir(parents=True)
    assert refusal(store) == (
        "state/state.duckdb is a folder where the state file should be; move it away, or set another [state] dir"
    )


def test_a_state_folder_that_cannot_be_made(tmp_path: Path, naps: Naps) -> None:
    (tmp_path / "file").write_text("x")
    for folder, why in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "state", "Not a directory")):
        store = Store(folder, Clock(), naps)
        with pytest.raises(StateError) as raised:
            enter(store.plan_transaction())
        assert str(raised.value) == f"the state folder {folder} cannot be made: {why}; set another [state] dir"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_state_folder_without_the_right_to_write(planned: Store) -> None:
    planned.path.chmod(0o400)
    with pytest.raises(StateError, match="permission denied; mend the rights"), planned.transaction("write"):
        pass


# --- locked ----------------------------------------------------------------------------------------------------------

HOLDER = (
    "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read(); con.close()"
)


@pytest.fixture
def holder(planned: Store) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the state open for writing."""
    command = [sys.executable, "-c", HOLDER, str(planned.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.stdin is not None and not process.stdin.closed:
            process.stdin.close()


def test_a_state_held_by_another_process_is_waited_for(
    planned: Store, naps: Naps, holder: subprocess.Popen[str]
) -> None:
    naps.at[3] = holder
    with planned.transaction("write") as tx:
        tx.write_fact("x", 1)
    assert naps.slept == pytest.approx(3 * RETRY_S)


def test_patience_with_it_ends(planned: Store, naps: Naps, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(StateError) as raised, planned.transaction("write", patience_s=10 * RETRY_S):
        pass
    assert 10 * RETRY_S <= naps.slept <= 11 * RETRY_S + 0.001
    assert re.fullmatch(r".*state\.duckdb has been held by another process for \d+ s", str(raised.value))


def test_a_lane_has_one_owner(planned: Store, naps: Naps) -> None:
    told: list[str] = []
    with lane_lock(planned.folder, "batch", told.append, naps, None):
        with (
            pytest.raises(StateError, match=f"process {os.getpid()} is at work on this state"),
            lane_lock(planned.folder, "batch", told.append, naps, 1.0),
        ):
            pass
        with lane_lock(planned.folder, "direct", told.append, naps, 0.0):
            pass
    assert told == [f"process {os.getpid()} is at work on this state; waiting for it to end"]
    with lane_lock(planned.folder, "batch", told.append, naps, 0.0):
        pass


def test_a_lock_that_the_folder_does_not_take(planned: Store, naps: Naps, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StateError, match=r"cannot be opened: No such file or directory"):
        enter(lane_lock(planned.folder / "nowhere", "batch", print, naps, 0.0))

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("batcher.disk.locks.fcntl.flock", refuse)
    with pytest.raises(StateError, match=r"cannot be locked: No locks available; set \[state\] dir"):
        enter(lane_lock(planned.folder, "batch", print, naps, 0.0))


# --- a disk that fails -----------------------------------------------------------------------------------------------


class FullDisk:
    """A connection whose commits fail."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con

    def __getattr__(self, name: str) -> object:
        return getattr(self._con, name)

    def commit(self) -> None:
        raise duckdb.IOException('IO Error: Could not write file "state.duckdb.wal": No space left on device')


def test_a_commit_that_fails_is_told_and_changed_nothing(planned: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    attach = Engine.attach_file
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "attach_file", lambda *a: FullDisk(attach(*a)))
        with pytest.raises(StateError) as raised, planned.transaction("write") as tx:
            tx.fetch_all("write_fact", fact="x", number=1, text=None)
    assert str(raised.value) == (
        f"{planned.path} cannot be written, the disk is full; nothing was lost, make room and run the same command "
        "again"
    )
    with planned.read_transaction() as tx:
        assert tx.read_fact("x") == 0


def test_a_statement_that_the_disk_refuses_is_told(planned: Store) -> None:
    with pytest.raises(StateError, match="the disk is full"), planned.transaction("write"):
        raise duckdb.IOException("IO Error: No space left on device")


def test_a_bug_is_not_taken_for_a_full_disk(planned: Store) -> None:
    with pytest.raises(duckdb.CatalogException), planned.transaction("write") as tx:
        tx.con.execute("SELECT * FROM nowhere")


# --- transitions -----------------------------------------------------------------------------------------------------


def whole(tx: Transaction) -> object:
    return [tx.con.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall() for name in ("artists", "shards", "events")]


@pytest.mark.parametrize("event", ["intend_upload", "record_upload", "record_create", "settle", "end", "find_absent"])
def test_an_illegal_move_of_a_shard_raises_and_changes_nothing(planned: Store, event: str) -> None:
    with planned.transaction("before") as tx:
        before = whole(tx)
    with pytest.raises(IllegalTransitionError, match="shard 1 is not in a state that can"):  # noqa: SIM117 - the state
        with planned.transaction("illegal") as tx:  # is left by the error
            tx.con.execute("UPDATE artists SET priority = 9")
            tx.move_shard(1, event)
    with planned.transaction("after") as tx:
        assert whole(tx) == before


def test_a_move_of_lines_takes_only_those_that_may_move(planned: Store) -> None:
    with planned.transaction("held") as tx:
        tx.con.execute("UPDATE artists SET state = 'held', failure = 'cancelled' WHERE artist_id = 'a'")
    with planned.transaction("claim") as tx:
        assert submissions.claim_shard_lines(tx, 1, 5) == 1
        states = tx.con.execute("SELECT artist_id, state FROM artists ORDER BY 1").fetchall()
        assert states == [("a", "held"), ("b", "in_batch")]


ILLEGAL = [
    "UPDATE artists SET state = 'happy' WHERE artist_id = 'a'",
    "UPDATE artists SET state = 'in_batch' WHERE artist_id = 'a'",  # without a submission
    "UPDATE artists SET submission = 1 WHERE artist_id = 'a'",  # without being in a batch
    "UPDATE artists SET state = 'in_batch', submission = 1, shard = NULL WHERE artist_id = 'a'",
    "UPDATE artists SET state = 'waiting' WHERE artist_id = 'a'",  # without a time
    "UPDATE artists SET wait_until = 1 WHERE artist_id = 'a'",  # without waiting
    "UPDATE artists SET state = 'dead' WHERE artist_id = 'a'",  # without a reason
    "UPDATE artists SET state = 'held' WHERE artist_id = 'a'",
    "UPDATE artists SET state = 'skipped' WHERE artist_id = 'a'",
    "UPDATE artists SET priority = 0 WHERE artist_id = 'a'",
    "UPDATE shards SET state = 'lost'",
    "UPDATE shards SET state = 'uploading'",  # without a submission
    "UPDATE shards SET state = 'in_flight'",
    "UPDATE shards SET submission = 1",  # without being under way
    "UPDATE shards SET state = 'uploaded'",  # without a file
    "UPDATE shards SET state = 'creating', submission = 1",
    "UPDATE shards SET lines = 0",
    ARTIST.format(columns="artist_id", values="'a'"),  # a second artist of this id
    "INSERT INTO bios (artist_id, data, lane) VALUES ('a', '{}', 'bus')",
    "INSERT INTO pauses (pause, scope, reason, since) VALUES (1, 'some', 'x', 0)",
    "INSERT INTO quota_samples (happened_at, source, model) VALUES (0, 'rumour', 'x')",
]


@pytest.mark.parametrize("sql", ILLEGAL)
def test_rows_that_may_not_be_are_refused(planned: Store, sql: str) -> None:
    with pytest.raises(duckdb.ConstraintException), planned.transaction("illegal") as tx:
        tx.con.execute(sql)


# --- facts -----------------------------------------------------------------------------------------------------------


def test_facts_are_read_once_in_a_transaction_and_only_a_new_one_is_written(planned: Store) -> None:
    with planned.transaction("first") as tx:
        tx.write_fact("number", 0)
        tx.write_fact("text", text="one")
    with planned.transaction("again") as tx, mock.patch.object(Transaction, "fetch_all", wraps=tx.fetch_all) as run:
        assert (
            tx.read_fact("number"),
            tx.read_text_fact("text"),
            tx.read_fact("unset"),
            tx.read_text_fact("unset"),
        ) == (0, "one", 0, "")
        tx.write_fact("number", 0)
        tx.write_fact("text", text="one")
        assert [call.args for call in run.call_args_list] == [("facts",)]
        tx.write_fact("text", text="two")
        tx.write_fact("unset", 0)
        assert tx.read_text_fact("text") == "two"
        assert [call.args for call in run.call_args_list][1:] == [("write_fact",), ("insert_fact",)]
    with planned.read_transaction() as tx:
        assert tx.read_text_fact("text") == "two"
        assert tx.con.execute("SELECT number FROM facts WHERE name = 'unset'").fetchall() == [(0,)]


# --- statements ------------------------------------------------------------------------------------------------------


def source() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "batcher").rglob("*.py")))


def test_every_statement_named_in_the_code_exists() -> None:
    named = set(
        re.findall(
            r"""(?:\.fetch_all|\.fetch_one|\.count_changed|\.move_lines|load_statements\(\)\[)\(?\s*"(\w+)\"""",
            source(),
        )
    )
    assert len(named) > 80
    assert named - set(load_statements()) == set()


def test_every_statement_is_used() -> None:
    code = source()
    assert [name for name in load_statements() if f'"{name}"' not in code] == []


def test_no_name_is_given_twice() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "batcher/state/sql").glob("*.sql")]
    names = re.findall(r"(?m)^-- name: (\w+)$", "\n".join(texts))
    assert sorted(names) == sorted(load_statements())


def limit_of(tx: Transaction) -> float:
    """Return the memory limit in MB; DuckDB reports it in MiB, rounded."""
    ((text,),) = tx.con.execute("SELECT current_setting('memory_limit')").fetchall()
    return float(text.removesuffix(" MiB")) * 1.048576


def test_a_plan_has_memory_by_its_rows_and_what_comes_after_it_has_all(store: Store) -> None:
    with store.plan_transaction() as tx:
        assert limit_of(tx) == pytest.approx(STAGING_MB, abs=0.1)
        for rows, room in ((1_000_000, 200), (1_000_001, 400), (2_000_001, 512), (0, 200)):
            tx.set_memory_limit(rows)
            assert limit_of(tx) == pytest.approx(room, abs=0.1)
        tx.fetch_all("insert_run", run_id="r", now=tx.now)
    with store.transaction("x") as tx:
        assert limit_of(tx) == pytest.approx(MEMORY_MB, abs=0.1)
    with store.dry_run_transaction() as tx:
        assert limit_of(tx) == pytest.approx(STAGING_MB, abs=0.1)
    with pytest.raises(ZeroDivisionError), store.plan_transaction():
        raise ZeroDivisionError
    with store.read_transaction() as tx:
        assert limit_of(tx) == pytest.approx(MEMORY_MB, abs=0.1)


def test_what_does_not_fit_into_memory_goes_to_the_state_folder(planned: Store) -> None:
    """And not to where the command was started, which may be anywhere."""
    with planned.read_transaction() as tx:
        ((folder,),) = tx.con.execute("SELECT current_setting('temp_directory')").fetchall()
    assert folder == str(planned.folder / "spill")
