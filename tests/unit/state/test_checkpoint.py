"""A process that dies while the log is folded in loses nothing: no kill leaves a file that DuckDB refuses.

A kill within the one write that matters cannot be timed from Python, so what it leaves is put together here: the first
page of what the checkpoint was about to write, over what stood there before.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from batcher.errors import StateError
from batcher.state.db import checkpoint
from batcher.state.db.engine import ROW_GROUP
from batcher.state.db.store import Store
from tests.support.checkpoint_kit import BLOCK, FILL, PAGE, ROWS, copy_of, count_facts, fill, log_of, put_copy
from tests.support.state_kit import held_open

WHOLE = 7 * ROW_GROUP


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
    filled: Store, tmp_path: Path
) -> None:
    fill(filled, ROWS, 10)
    tear(filled, tmp_path / "scratch")
    with pytest.raises(duckdb.Error, match="Corrupt database file"):
        duckdb.connect(str(filled.path), read_only=True)
    assert count_facts(filled) == ROWS + 10
    assert not copy_of(filled).exists()
    fill(filled, 2 * ROWS)
    assert count_facts(filled) == 2 * ROWS + 10


def blocks_of_metadata(file: bytes, log: bytes, folder: Path) -> list[int]:
    """Return the numbers of the blocks with metadata, as an engine sees them that opens the file and its log."""
    folder.mkdir()
    (folder / "state.duckdb").write_bytes(file)
    (folder / "state.duckdb.wal").write_bytes(log)
    with duckdb.connect(str(folder / "state.duckdb"), read_only=True) as con:
        return [row[0] for row in con.execute("SELECT block_id FROM pragma_metadata_info()").fetchall()]


def test_all_that_a_checkpoint_overwrites_in_place_is_copied(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst that a kill can leave: every block as the checkpoint has written it, those of metadata torn, and the
    headers of before. The metadata fills more than one block. Rows of whole groups are in the file as soon as they are
    committed, and the log only says where."""
    with filled.transaction("fill") as tx:
        for n in range(400):
            columns = ", ".join(f"c{n}_{m} INTEGER" for m in range(20))
            tx.con.execute(f"CREATE TABLE t{n} ({columns})")
    was: dict[str, bytes] = {}
    sizes: dict[str, int] = {}

    def look(name: str) -> None:
        sizes[name] = filled.path.stat().st_size
        if name == "fold.before":
            was.update(
                file=filled.path.read_bytes(), log=log_of(filled).read_bytes(), copy=copy_of(filled).read_bytes()
            )

    monkeypatch.setattr("batcher.crashpoints.mark_reached", look)
    with filled.transaction("fill") as tx:
        for n in range(0, 400, 60):
            tx.con.execute(f"INSERT INTO t{n} (c{n}_0) FROM range(5)")
        for n in range(1, 400, 3):
            tx.con.execute(f"DROP TABLE t{n}")
        tx.con.execute("DELETE FROM facts WHERE number % 3 = 0")
    with filled.transaction("fill") as tx:
        tx.con.execute("INSERT INTO t0 (c0_0, c0_1) SELECT i, i * i FROM range(?) r(i)", [WHOLE])
        tx.con.execute(FILL, [ROWS, 2 * ROWS])
    assert sizes["fill.commit.before"] < sizes["fill.commit.after"]
    left = count_facts(filled)
    blocks = blocks_of_metadata(was["file"], was["log"], tmp_path / "seen")
    assert len(blocks) > 1
    after = filled.path.read_bytes()
    torn = bytearray(was["file"][: checkpoint.HEADERS] + after[checkpoint.HEADERS :] + was["file"][len(after) :])
    for start in (checkpoint.HEADERS + block * BLOCK for block in blocks):
        torn[start + PAGE : start + BLOCK] = was["file"][start + PAGE : start + BLOCK]
    filled.path.write_bytes(torn)
    log_of(filled).write_bytes(was["log"])
    copy_of(filled).write_bytes(was["copy"])
    assert count_facts(filled) == left
    with filled.transaction("look") as tx:
        tables = tx.con.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 't%'").fetchall()
        assert tables == [(400 - 133,)]
        whole = tx.con.execute("SELECT count(*), sum(c0_1) FROM t0 WHERE c0_1 IS NOT NULL").fetchall()
        assert whole == [(WHOLE, sum(n * n for n in range(WHOLE)))]


def test_a_look_mends_too(filled: Store, tmp_path: Path) -> None:
    with filled.transaction("run") as tx:
        tx.fetch_all("insert_run", run_id="r", now=tx.now)
    tear(filled, tmp_path / "scratch")
    with filled.read_transaction() as tx:
        assert tx.con.execute("SELECT count(*) FROM facts").fetchall() == [(ROWS,)]


def test_a_mending_that_is_killed_is_done_again(filled: Store, tmp_path: Path) -> None:
    fill(filled, ROWS, 10)
    before = filled.path.read_bytes()
    tear(filled, tmp_path / "scratch")
    with filled.path.open("r+b") as file:
        file.write(before[: checkpoint.HEADERS + 100])
    assert count_facts(filled) == ROWS + 10


def test_a_copy_whose_fold_took_effect_is_taken_away(filled: Store, tmp_path: Path) -> None:
    fill(filled, ROWS, 10)
    put_copy(filled, filled.path.read_bytes())
    filled.path.write_bytes(checkpointed(filled, tmp_path / "scratch"))
    log_of(filled).unlink()
    assert count_facts(filled) == ROWS + 10
    assert not copy_of(filled).exists()


def test_a_copy_of_somebody_who_is_at_work_is_left_alone(filled: Store) -> None:
    put_copy(filled, filled.path.read_bytes())
    with held_open(filled.path):
        with pytest.raises(StateError, match="has been held by another process"):
            count_facts(filled)
        assert copy_of(filled).exists()
    assert count_facts(filled) == ROWS
    assert not copy_of(filled).exists()


def test_the_file_is_ours_alone_while_it_is_copied(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor of the file that is closed too early would release the lock."""
    seen = []

    def look(name: str) -> None:
        if name.startswith("fold."):
            seen.append(name)
            code = f"import fcntl; fcntl.lockf(open({str(filled.path)!r}, 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
            tried = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
            assert "BlockingIOError" in tried.stderr

    monkeypatch.setattr("batcher.crashpoints.mark_reached", look)
    fill(filled, ROWS)
    assert seen == ["fold.before", "fold.after"]


def test_duckdb_folds_nothing_in_by_itself(filled: Store) -> None:
    before = filled.path.read_bytes()
    fill(filled, ROWS, 10)
    assert log_of(filled).stat().st_size < checkpoint.LOG_BYTES
    assert filled.path.read_bytes() == before
    assert count_facts(filled) == ROWS + 10


def test_the_log_stays_short(filled: Store) -> None:
    longest = 0
    for n in range(1, 31):
        fill(filled, n * ROWS, ROWS // 5)
        longest = max(longest, log_of(filled).stat().st_size if log_of(filled).exists() else 0)
        assert not copy_of(filled).exists()
    assert longest <= checkpoint.LOG_BYTES
    assert count_facts(filled) == ROWS + 30 * (ROWS // 5)


def test_a_log_is_folded_in_by_its_own_size_however_large_the_file(filled: Store) -> None:
    assert not checkpoint.is_due(filled.path)
    with filled.path.open("r+b") as file:
        os.truncate(file.fileno(), 1 << 30)
    log_of(filled).write_bytes(bytes(checkpoint.LOG_BYTES))
    assert not checkpoint.is_due(filled.path)
    log_of(filled).write_bytes(bytes(checkpoint.LOG_BYTES + 1))
    assert checkpoint.is_due(filled.path)


def test_a_disk_without_room_for_the_copy_costs_nothing(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("batcher.state.db.checkpoint.write_blocks", full)
        fill(filled, ROWS)
        assert not copy_of(filled).exists()
        assert not filled.path.with_name("state.duckdb.copying").exists()
        assert count_facts(filled) == 2 * ROWS
    fill(filled, 2 * ROWS, 1)
    assert not log_of(filled).exists()
    assert count_facts(filled) == 2 * ROWS + 1


def test_a_checkpoint_that_fails_costs_nothing(filled: Store) -> None:
    filled._engine._ensure_started().execute("SET debug_checkpoint_abort = 'after_free_list_write'")
    fill(filled, ROWS)
    assert copy_of(filled).exists()
    assert count_facts(filled) == 2 * ROWS
    assert not copy_of(filled).exists()
    assert not log_of(filled).exists()


def test_a_folder_that_cannot_be_written_is_read_all_the_same(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put_copy(filled, filled.path.read_bytes())
    opened = Path.open

    def refuse(path: Path, mode: str = "r", *rest: object) -> object:
        if path == filled.path and "+" in mode:
            raise PermissionError(13, "Permission denied")
        return opened(path, mode, *rest)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    assert count_facts(filled) == ROWS
    assert copy_of(filled).exists()


# --- what makes the copy safe ----------------------------------------------------------------------------------------


def test_the_copy_is_on_the_disk_before_it_counts(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes before it has its name, and its name before the checkpoint begins."""
    done: list[str] = []
    sync, rename = os.fsync, Path.replace

    def look_at_sync(descriptor: int) -> None:
        synced = os.fstat(descriptor).st_ino
        copies = [filled.path.with_name("state.duckdb.copying"), copy_of(filled)]
        found = [path for path in copies if path.exists() and path.stat().st_ino == synced]
        done.extend(f"sync {path.name} of {path.stat().st_size}" for path in found)
        if filled.folder.stat().st_ino == synced:
            done.append("sync state")
        sync(descriptor)

    def look_at_rename(path: Path, target: Path) -> Path:
        done.append(f"rename {path.name} of {path.stat().st_size}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", look_at_sync)
    monkeypatch.setattr(Path, "replace", look_at_rename)
    monkeypatch.setattr("batcher.crashpoints.mark_reached", done.append)
    fill(filled, ROWS)
    size = checkpoint.HEADERS + BLOCK + len(b"[[0, 12288], [12288, 262144]]\n")
    assert done == [
        "fill.commit.before",
        "fill.commit.after",
        f"sync state.duckdb.copying of {size}",
        f"rename state.duckdb.copying of {size}",
        "sync state",
        "fold.before",
        "fold.after",
    ]


@pytest.mark.parametrize("end", ["good", "refused", "interrupted"])
def test_the_file_is_detached_before_a_descriptor_of_it_is_closed(
    filled: Store, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Closing one releases the lock of an engine that has it attached: two processes could write at once."""
    attached: list[bool] = []
    keep = checkpoint.backup_state_file

    @contextmanager
    def look(path: Path, layout: checkpoint.FileLayout) -> Iterator[checkpoint.Backup]:
        with keep(path, layout) as backup:
            try:
                yield backup
            finally:  # the descriptor is closed by the outer one
                engine = filled._engine._engine
                attached.append(engine is not None and "state" in repr(engine.execute("SHOW DATABASES").fetchall()))

    def interrupt(name: str) -> None:
        if name == "fold.before":
            raise KeyboardInterrupt

    monkeypatch.setattr("batcher.state.db.checkpoint.backup_state_file", look)
    if end == "refused":
        filled._engine._ensure_started().execute("SET debug_checkpoint_abort = 'after_free_list_write'")
    if end == "interrupted":
        monkeypatch.setattr("batcher.crashpoints.mark_reached", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fill(filled, ROWS)
    else:
        fill(filled, ROWS)
    assert attached == [False]
    monkeypatch.undo()
    assert count_facts(filled) == 2 * ROWS
