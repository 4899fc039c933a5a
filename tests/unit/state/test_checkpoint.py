"""A process that dies while the log is folded in loses nothing: no kill leaves a file that DuckDB refuses.

A kill within the one write that matters cannot be timed from Python, so what it leaves is put together here: the first
page of what the checkpoint was about to write, over what stood there before.
"""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import duckdb
import pytest

from batcher.errors import StateError
from batcher.state.db import checkpoint
from batcher.state.db.engine import ROW_GROUP
from batcher.state.db.schema import SCHEMA_VERSION, load_migrations
from batcher.state.db.store import Store
from tests.support.world import Clock

PAGE = 4_096
BLOCK = 262_144
"""Bytes of a block in the files that DuckDB makes by default."""
ROWS = checkpoint.LOG_BYTES // 40
WHOLE = 7 * ROW_GROUP
FILL = "INSERT INTO facts SELECT 'fact ' || i, i, repeat('x', 40) FROM range(?, ?) r(i)"


def fill(store: Store, first: int = 0, rows: int = ROWS) -> None:
    """Commit rows: by default enough for a log that is due to be folded."""
    with store.transaction("fill") as tx:
        tx.con.execute(FILL, [first, first + rows])


def facts(store: Store) -> int:
    with store.transaction("look", patience_s=0.0) as tx:
        return int(tx.con.execute("SELECT count(*) FROM facts").fetchall()[0][0])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a state with rows in its file and none in its log."""
    store = Store(tmp_path / "state", Clock(), lambda _seconds: None)
    with store.plan_transaction():
        pass
    fill(store)
    assert not log_of(store).exists()
    return store


def log_of(store: Store) -> Path:
    return store.path.with_name("state.duckdb.wal")


def copy_of(store: Store) -> Path:
    return store.path.with_name("state.duckdb.before")


def put_copy(store: Store, before: bytes) -> None:
    """Write the copy that precedes a checkpoint of such a file: its headers and its one block of metadata."""
    with copy_of(store).open("wb") as target:
        pieces = [(0, checkpoint.HEADERS), (checkpoint.HEADERS, BLOCK)]
        checkpoint.write_backup(io.BytesIO(before), target, pieces)


def checkpointed(store: Store, folder: Path) -> bytes:
    """Return what the file holds once its log is folded; the state itself is not touched."""
    folder.mkdir()
    for path in (store.path, log_of(store)):
        shutil.copy(path, folder)
    with duckdb.connect(str(folder / store.path.name)) as con:
        con.execute("CHECKPOINT")
    return (folder / store.path.name).read_bytes()


def tear(store: Store, scratch: Path) -> None:
    """Leave the file as a process does that is killed while it writes the file's metadata."""
    after = checkpointed(store, scratch)
    before = store.path.read_bytes()
    assert (
        before[checkpoint.HEADERS : checkpoint.HEADERS + PAGE] != after[checkpoint.HEADERS : checkpoint.HEADERS + PAGE]
    )
    torn = checkpoint.HEADERS + PAGE
    put_copy(store, before)
    store.path.write_bytes(
        before[: checkpoint.HEADERS] + after[checkpoint.HEADERS : torn] + before[torn:] + bytes(PAGE)
    )


def test_what_a_kill_within_a_checkpoint_leaves_is_refused_by_duckdb_and_mended_by_us(
    store: Store, tmp_path: Path
) -> None:
    fill(store, ROWS, 10)
    tear(store, tmp_path / "scratch")
    with pytest.raises(duckdb.Error, match="Corrupt database file"):
        duckdb.connect(str(store.path), read_only=True)
    assert facts(store) == ROWS + 10
    assert not copy_of(store).exists()
    fill(store, 2 * ROWS)
    assert facts(store) == 2 * ROWS + 10


def blocks_of_metadata(file: bytes, log: bytes, folder: Path) -> list[int]:
    """Return the numbers of the blocks with metadata, as an engine sees them that opens the file and its log."""
    folder.mkdir()
    (folder / "state.duckdb").write_bytes(file)
    (folder / "state.duckdb.wal").write_bytes(log)
    with duckdb.connect(str(folder / "state.duckdb"), read_only=True) as con:
        return [row[0] for row in con.execute("SELECT block_id FROM pragma_metadata_info()").fetchall()]


def test_all_that_a_checkpoint_overwrites_in_place_is_copied(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst that a kill can leave: every block as the checkpoint has written it, those of metadata torn, and the
    headers of before. The metadata fills more than one block. Rows of whole groups are in the file as soon as they are
    committed, and the log only says where."""
    with store.transaction("fill") as tx:
        for n in range(400):
            columns = ", ".join(f"c{n}_{m} INTEGER" for m in range(20))
            tx.con.execute(f"CREATE TABLE t{n} ({columns})")
    was: dict[str, bytes] = {}
    sizes: dict[str, int] = {}

    def look(name: str) -> None:
        sizes[name] = store.path.stat().st_size
        if name == "fold.before":
            was.update(file=store.path.read_bytes(), log=log_of(store).read_bytes(), copy=copy_of(store).read_bytes())

    monkeypatch.setattr("batcher.crashpoints.mark_reached", look)
    with store.transaction("fill") as tx:
        for n in range(0, 400, 60):
            tx.con.execute(f"INSERT INTO t{n} (c{n}_0) FROM range(5)")
        for n in range(1, 400, 3):
            tx.con.execute(f"DROP TABLE t{n}")
        tx.con.execute("DELETE FROM facts WHERE number % 3 = 0")
    with store.transaction("fill") as tx:
        tx.con.execute("INSERT INTO t0 (c0_0, c0_1) SELECT i, i * i FROM range(?) r(i)", [WHOLE])
        tx.con.execute(FILL, [ROWS, 2 * ROWS])
    assert sizes["fill.commit.before"] < sizes["fill.commit.after"]
    left = facts(store)
    blocks = blocks_of_metadata(was["file"], was["log"], tmp_path / "seen")
    assert len(blocks) > 1
    after = store.path.read_bytes()
    torn = bytearray(was["file"][: checkpoint.HEADERS] + after[checkpoint.HEADERS :] + was["file"][len(after) :])
    for start in (checkpoint.HEADERS + block * BLOCK for block in blocks):
        torn[start + PAGE : start + BLOCK] = was["file"][start + PAGE : start + BLOCK]
    store.path.write_bytes(torn)
    log_of(store).write_bytes(was["log"])
    copy_of(store).write_bytes(was["copy"])
    assert facts(store) == left
    with store.transaction("look") as tx:
        tables = tx.con.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 't%'").fetchall()
        assert tables == [(400 - 133,)]
        whole = tx.con.execute("SELECT count(*), sum(c0_1) FROM t0 WHERE c0_1 IS NOT NULL").fetchall()
        assert whole == [(WHOLE, sum(n * n for n in range(WHOLE)))]


def test_a_look_mends_too(store: Store, tmp_path: Path) -> None:
    with store.transaction("run") as tx:
        tx.fetch_all("insert_run", run_id="r", now=tx.now)
    tear(store, tmp_path / "scratch")
    with store.read_transaction() as tx:
        assert tx.con.execute("SELECT count(*) FROM facts").fetchall() == [(ROWS,)]


def test_a_mending_that_is_killed_is_done_again(store: Store, tmp_path: Path) -> None:
    fill(store, ROWS, 10)
    before = store.path.read_bytes()
    tear(store, tmp_path / "scratch")
    with store.path.open("r+b") as file:
        file.write(before[: checkpoint.HEADERS + 100])
    assert facts(store) == ROWS + 10


def test_a_copy_whose_fold_took_effect_is_taken_away(store: Store, tmp_path: Path) -> None:
    fill(store, ROWS, 10)
    put_copy(store, store.path.read_bytes())
    store.path.write_bytes(checkpointed(store, tmp_path / "scratch"))
    log_of(store).unlink()
    assert facts(store) == ROWS + 10
    assert not copy_of(store).exists()


def test_a_copy_of_somebody_who_is_at_work_is_left_alone(store: Store) -> None:
    put_copy(store, store.path.read_bytes())
    holder = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(store.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        with pytest.raises(StateError, match="has been held by another process"):
            facts(store)
        assert copy_of(store).exists()
        process.stdin.close()
    assert facts(store) == ROWS
    assert not copy_of(store).exists()


def test_the_file_is_ours_alone_while_it_is_copied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor of the file that is closed too early would release the lock."""
    seen = []

    def look(name: str) -> None:
        if name.startswith("fold."):
            seen.append(name)
            code = f"import fcntl; fcntl.lockf(open({str(store.path)!r}, 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
            tried = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
            assert "BlockingIOError" in tried.stderr

    monkeypatch.setattr("batcher.crashpoints.mark_reached", look)
    fill(store, ROWS)
    assert seen == ["fold.before", "fold.after"]


def test_duckdb_folds_nothing_in_by_itself(store: Store) -> None:
    before = store.path.read_bytes()
    fill(store, ROWS, 10)
    assert log_of(store).stat().st_size < checkpoint.LOG_BYTES
    assert store.path.read_bytes() == before
    assert facts(store) == ROWS + 10


def test_the_log_stays_short(store: Store) -> None:
    longest = 0
    for n in range(1, 31):
        fill(store, n * ROWS, ROWS // 5)
        longest = max(longest, log_of(store).stat().st_size if log_of(store).exists() else 0)
        assert not copy_of(store).exists()
    assert longest <= checkpoint.LOG_BYTES
    assert facts(store) == ROWS + 30 * (ROWS // 5)


def test_a_log_is_folded_in_by_its_own_size_however_large_the_file(store: Store) -> None:
    assert not checkpoint.is_due(store.path)
    with store.path.open("r+b") as file:
        os.truncate(file.fileno(), 1 << 30)
    log_of(store).write_bytes(bytes(checkpoint.LOG_BYTES))
    assert not checkpoint.is_due(store.path)
    log_of(store).write_bytes(bytes(checkpoint.LOG_BYTES + 1))
    assert checkpoint.is_due(store.path)


def test_a_disk_without_room_for_the_copy_costs_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("batcher.state.db.checkpoint.write_backup", full)
        fill(store, ROWS)
        assert not copy_of(store).exists()
        assert not store.path.with_name("state.duckdb.copying").exists()
        assert facts(store) == 2 * ROWS
    fill(store, 2 * ROWS, 1)
    assert not log_of(store).exists()
    assert facts(store) == 2 * ROWS + 1


def test_a_checkpoint_that_fails_costs_nothing(store: Store) -> None:
    store._engine._ensure_started().execute("SET debug_checkpoint_abort = 'after_free_list_write'")
    fill(store, ROWS)
    assert copy_of(store).exists()
    assert facts(store) == 2 * ROWS
    assert not copy_of(store).exists()
    assert not log_of(store).exists()


def test_a_folder_that_cannot_be_written_is_read_all_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put_copy(store, store.path.read_bytes())
    opened = Path.open

    def refuse(path: Path, mode: str = "r", *rest: object) -> object:
        if path == store.path and "+" in mode:
            raise PermissionError(13, "Permission denied")
        return opened(path, mode, *rest)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    assert facts(store) == ROWS
    assert copy_of(store).exists()


def file_of(store: Store, options: str) -> Store:
    """Make the state file with other options of DuckDB's, as another program might."""
    store.folder.mkdir()
    with duckdb.connect() as con:
        con.execute(f"ATTACH '{store.path}' AS made ({options}); USE made")
        for script in load_migrations():
            con.execute(script)
        con.execute("INSERT INTO meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION)])
        con.execute("INSERT INTO runs VALUES ('r', 1.0)")
    return store


def test_the_copy_is_made_of_blocks_of_the_size_that_the_file_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 16_384
    small = file_of(Store(tmp_path / "small", Clock(), lambda _seconds: None), f"BLOCK_SIZE {size}")
    fill(small)
    was: dict[str, bytes] = {}

    def look(name: str) -> None:
        if name == "fold.before":
            was.update(file=small.path.read_bytes(), log=log_of(small).read_bytes(), copy=copy_of(small).read_bytes())

    monkeypatch.setattr("batcher.crashpoints.mark_reached", look)
    fill(small, ROWS)
    after = small.path.read_bytes()
    torn = bytearray(was["file"][: checkpoint.HEADERS] + after[checkpoint.HEADERS :] + was["file"][len(after) :])
    starts = [checkpoint.HEADERS + n * size for n in blocks_of_metadata(was["file"], was["log"], tmp_path / "seen")]
    assert any(after[start : start + PAGE] != was["file"][start : start + PAGE] for start in starts)
    for start in starts:
        torn[start + PAGE : start + size] = was["file"][start + PAGE : start + size]
    small.path.write_bytes(torn)
    log_of(small).write_bytes(was["log"])
    copy_of(small).write_bytes(was["copy"])
    assert facts(small) == 2 * ROWS
    assert len(was["copy"]) < checkpoint.HEADERS + 20 * size


def every_way(folder: Path) -> Iterator[AbstractContextManager[object]]:
    """Each way of opening the state, by a process of its own."""
    for way in (Store.plan_transaction, Store.read_transaction, Store.dry_run_transaction):
        yield way(Store(folder, Clock(), lambda _seconds: None))
    yield Store(folder, Clock(), lambda _seconds: None).transaction("write")


def check_refused(store: Store, version: int) -> None:
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    for way in every_way(store.folder):
        with pytest.raises(StateError) as raised, way:
            pass
        assert str(raised.value) == (
            f"{store.path} is of DuckDB's storage version {version}, this Batcher was tested with 999: "
            "upgrade Batcher, or set another [state] dir"
        )
        assert {path.name: path.read_bytes() for path in store.folder.iterdir()} == before


@pytest.mark.parametrize("version", [68, 998, 1000])
def test_a_file_with_the_number_of_another_storage_version_is_refused(store: Store, version: int) -> None:
    """The file stays as it is, although its folder holds a copy that would be restored."""
    fill(store, ROWS, 10)
    put_copy(store, store.path.read_bytes())
    with store.path.open("r+b") as file:
        file.seek(12)
        file.write(version.to_bytes(8, "little"))
    check_refused(store, version)


def test_a_file_of_an_older_storage_version_is_refused_although_duckdb_reads_it(tmp_path: Path) -> None:
    check_refused(file_of(Store(tmp_path / "old", Clock(), lambda _seconds: None), "STORAGE_VERSION 'v1.4.0'"), 67)


def test_a_new_file_is_of_the_storage_version_that_was_tested(store: Store) -> None:
    assert checkpoint.check_storage_version(store.path)
    assert not checkpoint.check_storage_version(store.path.with_name("nowhere"))


# --- a new state -----------------------------------------------------------------------------------------------------


def plan_rows(store: Store, rows: int = ROWS) -> None:
    with store.plan_transaction() as tx:
        tx.fetch_all("insert_run", run_id="r", now=tx.now)
        tx.con.execute("INSERT INTO facts SELECT 'fact ' || i, i, repeat('x', 40) FROM range(?) r(i)", [rows])


def test_a_new_state_is_written_at_its_commit_and_needs_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header is written last: what a kill within that write leaves is no plan, and the next command makes one."""
    store = Store(tmp_path / "state", Clock(), lambda _seconds: None)
    was: dict[str, bytes] = {}
    monkeypatch.setattr("batcher.crashpoints.mark_reached", lambda name: was.update({name: store.path.read_bytes()}))
    plan_rows(store)
    assert list(was) == ["plan.commit.before", "plan.commit.after"]
    assert len(was["plan.commit.before"]) == checkpoint.HEADERS
    assert [path.name for path in store.folder.iterdir()] == ["state.duckdb"]
    assert facts(store) == ROWS
    written = store.path.read_bytes()
    for left in (checkpoint.HEADERS + PAGE, len(written) - PAGE, len(written)):
        store.path.write_bytes(was["plan.commit.before"] + written[checkpoint.HEADERS : left])
        with pytest.raises(StateError, match="there is no plan"), store.read_transaction():
            pass
        plan_rows(store, 2 * ROWS)
        assert facts(store) == 2 * ROWS


def test_only_a_new_state_is_written_so(store: Store) -> None:
    """Neither a plan over an older one, nor what comes after a first plan in the same process."""
    before = store.path.read_bytes()
    with store.plan_transaction() as tx:
        tx.write_fact("x", 1)
    assert store.path.read_bytes() == before
    assert log_of(store).exists()
    new = Store(store.folder.parent / "new", Clock(), lambda _seconds: None)
    plan_rows(new)
    before = new.path.read_bytes()
    fill(new, ROWS, 10)
    assert new.path.read_bytes() == before
    assert facts(new) == ROWS + 10
