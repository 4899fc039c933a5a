"""What is no state, or cannot be one: each is refused in a sentence, and stays as it is."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from batcher.errors import StateError
from batcher.state.db import checkpoint
from batcher.state.db.schema import SCHEMA_VERSION
from batcher.state.db.store import Store
from tests.support.state_kit import Naps, enter
from tests.support.world import Clock


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
    with pytest.raises(StateError, match="permission denied; fix the rights"), planned.transaction("write"):
        pass
