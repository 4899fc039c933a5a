"""The state file: what it refuses to be, and that neither a refusal nor an illegal move changes anything."""

import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import pytest

from batcher.disk.locks import lane_lock
from batcher.disk.private_files import make_private_folder, open_private_file
from batcher.disk.result_archive import archive_result_file
from batcher.disk.shard_files import ShardWriter
from batcher.errors import IllegalTransitionError, StateError
from batcher.state import submissions
from batcher.state.db import checkpoint
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
        assert tx.fetch_one("measured") == (0, 0, 0, 0, 0, 0, 0)
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


@pytest.mark.parametrize("content", [b"garbage", b"garbage" * 10, b"garbage" * 10_000])
def test_a_file_that_is_no_database(store: Store, content: bytes) -> None:
    store.folder.mkdir()
    store.path.write_bytes(content)
    assert refusal(store) == (
        "state/state.duckdb is not a state of Batcher's; move it away, or set another [state] dir"
    )


@pytest.mark.parametrize("left", [0, 12, 1_000, 4_096, 8_192, 12_287])
def test_a_file_that_was_never_finished_counts_as_none(store: Store, left: int) -> None:
    """A kill, or a limit on the size of files, while DuckDB writes the headers of a new file."""
    store.folder.mkdir()
    duckdb.connect(str(store.path)).close()
    with store.path.open("r+b") as file:
        file.truncate(left)
    assert not store.exists()
    with pytest.raises(StateError, match="there is no plan"), store.read_transaction():
        pass
    with store.plan_transaction() as tx:
        tx.fetch_all("insert_run", run_id="r", now=tx.now)
    with store.read_transaction() as tx:
        assert tx.fetch_one("run")[0] == "r"


def test_a_file_that_another_plan_is_making_is_left_to_it(store: Store) -> None:
    """It is locked from the first moment: what is not finished yet is not what a dead process has left."""
    store.folder.mkdir()
    store.path.touch()
    holder = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    command = [sys.executable, "-c", holder, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        assert not checkpoint.remove_unfinished_file(store.path)
        assert store.path.exists()
        process.communicate(b"\n")
    assert checkpoint.remove_unfinished_file(store.path)
    assert not store.path.exists()


@pytest.mark.parametrize("limit", [5, 1_000, 5_000, 12_288, 100_000, 400_000, 700_000])
def test_a_limit_on_the_size_of_files_leaves_no_file(tmp_path: Path, naps: Naps, limit: int) -> None:
    store = Store(tmp_path / "folder" / "state", Clock(), naps)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))  # Python ignores the signal that comes with it
    try:
        with pytest.raises(StateError) as raised, store.plan_transaction() as tx:
            tx.con.execute("INSERT INTO facts SELECT 'fact ' || i, i, repeat('x', 40) FROM range(20000) r(i)")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(raised.value) == (
        f"{store.path} cannot be written: it is larger than this user may write; nothing was lost, raise the limit and "
        "run again"
    )
    assert list(tmp_path.iterdir()) == []


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


# --- interrupted -----------------------------------------------------------------------------------------------------


class Interrupted:
    """A connection of which one statement is ended by a Ctrl-C, as DuckDB does it."""

    def __init__(self, con: duckdb.DuckDBPyConnection, at: str) -> None:
        self._con, self._at = con, at

    def __getattr__(self, name: str) -> object:
        return getattr(self._con, name)

    def execute(self, sql: str, *rest: Any) -> object:
        self._con.execute(sql, *rest)
        if sql.startswith(self._at):
            raise RuntimeError("Query interrupted")
        return self._con


@pytest.mark.parametrize("at", ["ATTACH", "DETACH", "CHECKPOINT"])
@pytest.mark.parametrize("how", [Store.read_transaction, partial(Store.transaction, name="write")])
def test_ctrl_c_within_a_statement_of_the_store_itself_is_one(
    planned: Store,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
    how: Callable[[Store], AbstractContextManager[Transaction]],
) -> None:
    start = Engine._ensure_started
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_ensure_started", lambda engine: Interrupted(start(engine), at))
        patch.setattr("batcher.state.db.checkpoint.LOG_BYTES", 0)
        interrupted = Engine.detach_file

        def detach(engine: Engine) -> None:
            if at == "DETACH" and engine._engine is not None:
                monkeypatch.setattr(engine, "_engine", Interrupted(engine._engine, at))
            interrupted(engine)

        patch.setattr(Engine, "detach_file", detach)
        if at == "CHECKPOINT" and how is Store.read_transaction:
            enter(how(planned))  # it folds nothing
        else:
            with pytest.raises(KeyboardInterrupt), how(planned) as tx:
                if at == "CHECKPOINT":
                    tx.write_fact("x", 1)
    with planned.transaction("write", patience_s=0.0) as tx:
        tx.write_fact("y", 1)


def test_another_error_of_the_same_kind_is_none(planned: Store) -> None:
    with pytest.raises(RuntimeError, match="a bug"), planned.transaction("write"):
        raise RuntimeError("a bug")


# --- for months ------------------------------------------------------------------------------------------------------


def test_the_engine_is_started_anew_from_time_to_time(planned: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps some KB of each file that it had attached until it ends."""
    monkeypatch.setattr("batcher.state.db.engine.RENEW_AFTER", 3)
    engines = []
    for n in range(8):
        with planned.transaction("look") as tx:
            tx.write_fact("n", n)
            engines.append(planned._engine._engine)
    assert len({id(engine) for engine in engines}) == 3
    with planned.read_transaction() as tx:
        assert tx.read_fact("n") == 7


# --- whose files they are --------------------------------------------------------------------------------------------


def rights(folder: Path) -> dict[str, int]:
    """Return the rights of a folder and of all in it."""
    found = {str(path.relative_to(folder)): path for path in (folder, *folder.rglob("*"))}
    return {name: stat.S_IMODE(path.stat().st_mode) for name, path in found.items()}


@pytest.fixture(params=[0o000, 0o022, 0o377])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_what_is_in_the_state_folder_is_its_owners_alone(tmp_path: Path, naps: Naps, umask: int) -> None:
    store = Store(tmp_path / "state", Clock(), naps)
    within: list[dict[str, int]] = []
    after: list[dict[str, int]] = []
    with mock.patch("batcher.crashpoints.mark_reached", lambda name: within.append(rights(store.folder))):
        with store.plan_transaction() as tx:
            tx.fetch_all("insert_run", run_id="r", now=tx.now)
            writer = ShardWriter(store.folder, 1, 1)
            writer.write_lines(b"{}", 1, 1)
            writer.close()
        after.append(rights(store.folder))
        with store.transaction("few") as tx:
            tx.write_fact("x", 1)
        after.append(rights(store.folder))
        with store.transaction("many") as tx:
            tx.con.execute("INSERT INTO facts SELECT 'fact ' || i, i, repeat('x', 40) FROM range(2000) r(i)")
        with lane_lock(store.folder, "batch", print, naps, 0.0):
            make_private_folder(store.folder / "results")
            with open_private_file(store.folder / "results" / "b_output.jsonl") as file:
                file.write(b"{}")
            archive_result_file(store.folder / "results" / "b_output.jsonl")
            after.append(rights(store.folder))
    assert "state.duckdb.wal" in after[1] and "state.duckdb.before" in within[-1]
    assert {"shards/shard-00001.jsonl", "batch.lock", "results/b_output.jsonl.gz"} < set(after[2])
    assert all(found["."] == 0o700 for found in within)
    ours = [{name: mode for name, mode in found.items() if name not in DUCKDBS} for found in within]
    wrong = {
        f"{name} {mode:o}"
        for found in (*ours, *after)
        for name, mode in found.items()
        if mode != (0o600 if "." in name.strip(".") else 0o700)
    }
    assert wrong == set()


DUCKDBS = {"state.duckdb", "state.duckdb.wal"}
"""The files that DuckDB makes by the umask. They are restricted once it has let go of them."""


def test_a_folder_of_an_earlier_version_is_restricted_by_whoever_acts_next(planned: Store) -> None:
    """What is not Batcher's in it is left as it is, and so is what a link leads to."""
    elsewhere = planned.folder.parent / "elsewhere"
    elsewhere.write_text("x")
    for name in (
        "shards/shard-00001.jsonl",
        "results/b_output.jsonl.gz",
        "batch.lock",
        "state.duckdb.before.unusable",
        "notes.txt",
    ):
        path = planned.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (planned.folder / "results" / "link").symlink_to(elsewhere)
    (planned.folder / "direct.lock").symlink_to(elsewhere)
    for path in (planned.folder, *planned.folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    before = rights(planned.folder)
    later = planned.with_folder(planned.folder)
    enter(later.read_transaction())
    assert rights(planned.folder) == before
    enter(later.transaction("write"))
    changed = {name for name, mode in rights(planned.folder).items() if mode != before[name]}
    assert changed == set(before) - {"notes.txt", "results/link", "direct.lock"}
    assert set(rights(planned.folder).values()) == {0o700, 0o600, 0o644}


def test_a_folder_that_is_everybodys_stays_so(planned: Store) -> None:
    planned.folder.chmod(0o1777)
    enter(planned.with_folder(planned.folder).transaction("write"))
    assert stat.S_IMODE(planned.folder.stat().st_mode) == 0o1777


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
