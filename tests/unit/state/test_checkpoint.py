"""A process that dies while the log is folded in loses nothing: no kill leaves a file that DuckDB refuses.

A kill within the one write that matters cannot be timed from Python, so what it leaves is put together here: the first
page of what the checkpoint was about to write, over what stood there before.
"""

import errno
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path

import duckdb
import pytest

from batcher.errors import StateError
from batcher.state.db import checkpoint
from batcher.state.db.engine import ROW_GROUP, Engine
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
        checkpoint.write_blocks(io.BytesIO(before), target, pieces)


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
        patch.setattr("batcher.state.db.checkpoint.write_blocks", full)
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


def use_16_kb_blocks(store: Store, _patch: pytest.MonkeyPatch) -> None:
    file_of(store, "BLOCK_SIZE 16384")


def use_an_older_storage(store: Store, _patch: pytest.MonkeyPatch) -> None:
    file_of(store, "STORAGE_VERSION 'v1.4.0'")


def use_another_duckdb(store: Store, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("batcher.state.db.checkpoint.TRIED_ENGINES", frozenset({"2.0.0"}))
    file_of(store, "BLOCK_SIZE 262144")


@pytest.fixture(params=[use_16_kb_blocks, use_an_older_storage, use_another_duckdb])
def untried(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a state of which nobody has tried whether a copy of its blocks is enough."""
    store = Store(tmp_path / "untried", Clock(), lambda _seconds: None)
    request.param(store, monkeypatch)
    fill(store)
    assert not log_of(store).exists()
    return store


def fold_and_keep(store: Store, monkeypatch: pytest.MonkeyPatch, first: int) -> dict[str, bytes]:
    """Fill until a fold; return the file, the log and the copy as they were before its checkpoint."""
    was: dict[str, bytes] = {}

    def look(name: str) -> None:
        if name == "fold.before":
            was.update(file=store.path.read_bytes(), log=log_of(store).read_bytes(), copy=copy_of(store).read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr("batcher.crashpoints.mark_reached", look)
        fill(store, first)
    assert was
    return was


def test_where_the_copy_of_blocks_was_not_tried_the_whole_state_is_copied(
    untried: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the checkpoint did to file and log, before or after it took effect."""
    was = fold_and_keep(untried, monkeypatch, ROWS)
    assert was["copy"].endswith(was["file"] + was["log"])
    after = untried.path.read_bytes()
    for n, (file, log) in enumerate(
        [
            (was["file"], was["log"]),
            (bytes(20_000) + after[20_000:], was["log"]),
            (after[:100_000], was["log"][:10]),
            (after + bytes(500_000), b""),
            (after, None),
        ]
    ):
        untried.path.write_bytes(file)
        log_of(untried).unlink(missing_ok=True)
        if log is not None:
            log_of(untried).write_bytes(log)
        copy_of(untried).write_bytes(was["copy"])
        with untried.read_transaction() as tx:  # it folds nothing
            assert tx.con.execute("SELECT count(*) FROM facts").fetchall() == [(2 * ROWS,)], n
        assert not copy_of(untried).exists()
        assert (untried.path.read_bytes(), log_of(untried).read_bytes()) == (was["file"], was["log"])
    fill(untried, 2 * ROWS)
    assert facts(untried) == 3 * ROWS


def test_what_was_tried_is_what_this_environment_has(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every fold copies the whole file: right, and slow where the job is large."""
    assert duckdb.__version__ in checkpoint.TRIED_ENGINES
    was = fold_and_keep(store, monkeypatch, ROWS)
    assert len(was["copy"]) < checkpoint.HEADERS + BLOCK + 100


# --- what makes the copy safe ----------------------------------------------------------------------------------------


def test_the_copy_is_on_the_disk_before_it_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes before it has its name, and its name before the checkpoint begins."""
    done: list[str] = []
    sync, rename = os.fsync, Path.replace

    def look_at_sync(descriptor: int) -> None:
        synced = os.fstat(descriptor).st_ino
        copies = [store.path.with_name("state.duckdb.copying"), copy_of(store)]
        found = [path for path in copies if path.exists() and path.stat().st_ino == synced]
        done.extend(f"sync {path.name} of {path.stat().st_size}" for path in found)
        if store.folder.stat().st_ino == synced:
            done.append("sync state")
        sync(descriptor)

    def look_at_rename(path: Path, target: Path) -> Path:
        done.append(f"rename {path.name} of {path.stat().st_size}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", look_at_sync)
    monkeypatch.setattr(Path, "replace", look_at_rename)
    monkeypatch.setattr("batcher.crashpoints.mark_reached", done.append)
    fill(store, ROWS)
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


def test_a_whole_copy_is_gone_from_the_disk_before_the_file_is_given_free(
    untried: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be put back over what came later."""
    done: list[object] = []
    monkeypatch.setattr("batcher.state.db.checkpoint.sync_path", lambda _path: done.append(copy_of(untried).exists()))
    monkeypatch.setattr(Engine, "detach_file", partialmethod(detach_after, done))
    fill(untried, ROWS)
    assert done[:3] == [True, False, "detach"]


DETACH = Engine.detach_file


def detach_after(engine: Engine, done: list[object]) -> None:
    done.append("detach")
    DETACH(engine)


@pytest.mark.parametrize("end", ["good", "refused", "interrupted"])
def test_the_file_is_detached_before_a_descriptor_of_it_is_closed(
    store: Store, monkeypatch: pytest.MonkeyPatch, end: str
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
                engine = store._engine._engine
                attached.append(engine is not None and "state" in repr(engine.execute("SHOW DATABASES").fetchall()))

    def interrupt(name: str) -> None:
        if name == "fold.before":
            raise KeyboardInterrupt

    monkeypatch.setattr("batcher.state.db.checkpoint.backup_state_file", look)
    if end == "refused":
        store._engine._ensure_started().execute("SET debug_checkpoint_abort = 'after_free_list_write'")
    if end == "interrupted":
        monkeypatch.setattr("batcher.crashpoints.mark_reached", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fill(store, ROWS)
    else:
        fill(store, ROWS)
    assert attached == [False]
    monkeypatch.undo()
    assert facts(store) == 2 * ROWS


# --- a copy that cannot be used --------------------------------------------------------------------------------------

CONTENTS = [
    b"",
    b"\n",
    b"garbage",
    b"\x80\x81\n",
    b"[]\n",
    b"{}\n",
    b"7\n",
    b"null\n",
    b"[[0, 12288], 7]\n" + bytes(12_288),
    b"[[0, 12288]]\n" + bytes(12_287),
    b"[[0, 12288]]\n" + bytes(12_289),
    b"[[0, 4096], [12288, 262144]]\n" + bytes(4_096 + 262_144),
    b'[[0, 12288], [12288, "x"]]\n' + bytes(12_288),
    b"[[0, 12288], [12288, -1], [12288, 1]]\n" + bytes(12_288),
    b"[[0, 12288], [0.5, 1]]\n" + bytes(12_289),
    b"[[0, 12288], [-1, 1]]\n" + bytes(12_289),
    b'{"file": 10}\n' + bytes(10),
    b'{"file": 10, "log": 1}\n' + bytes(10),
    b'{"file": 11, "log": -1}\n' + bytes(10),
    b'{"file": true, "log": 0}\n' + bytes(1),
    b"[" * 100_000,
]


@pytest.mark.parametrize("content", [*CONTENTS, None], ids=lambda content: repr(content)[:40])
def test_a_copy_that_cannot_be_read_is_told_and_moved_away(store: Store, content: bytes | None) -> None:
    fill(store, ROWS, 10)
    before = store.path.read_bytes()
    for name in ("state.duckdb.before.unusable", "state.duckdb.before.unusable-2"):
        if content is None:
            copy_of(store).mkdir()
        else:
            copy_of(store).write_bytes(content)
        with pytest.raises(StateError) as raised:
            facts(store)
        assert str(raised.value) == f"{copy_of(store)} cannot be read; it is now {name}, run the same command again"
        assert store.path.read_bytes() == before
        assert facts(store) == ROWS + 10
        moved = store.folder / name
        assert moved.is_dir() if content is None else moved.read_bytes() == content


def test_a_copy_without_its_state_file_is_not_put_over_a_new_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "state", Clock(), lambda _seconds: None)
    store.folder.mkdir()
    copy_of(store).write_bytes(b'{"file": 3, "log": 0}\nold')
    with pytest.raises(StateError, match=r"before is the copy of a state file that is gone; it is now .*\.unusable"):
        plan_rows(store)
    plan_rows(store)
    assert facts(store) == ROWS


def test_a_copy_that_the_disk_does_not_let_us_put_back_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put_copy(store, store.path.read_bytes())

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("batcher.state.db.checkpoint._put_back", refuse)
        with pytest.raises(StateError, match=r"cannot be repaired from state\.duckdb\.before: the disk is full"):
            facts(store)
    assert facts(store) == ROWS


# --- file and log ----------------------------------------------------------------------------------------------------


def test_a_file_and_a_log_of_different_times_are_told_as_such(store: Store) -> None:
    fill(store, ROWS, 10)
    old = store.path.read_bytes(), log_of(store).read_bytes()
    fill(store, 2 * ROWS)
    fill(store, 3 * ROWS, 10)
    new = store.path.read_bytes(), log_of(store).read_bytes()
    for file, log in ((old[0], new[1]), (new[0], old[1])):
        store.path.write_bytes(file)
        log_of(store).write_bytes(log)
        with pytest.raises(StateError) as raised:
            facts(store)
        assert str(raised.value) == (
            f"{store.path} and its log beside it (.wal) are of different times, as after a copy of one without the "
            "other; put back the whole state folder as it was at one time"
        )


def test_a_log_that_was_damaged_is_told_as_such(store: Store) -> None:
    fill(store, ROWS, 10)
    log = bytearray(log_of(store).read_bytes())
    log[100:200] = bytes(100)
    log_of(store).write_bytes(log)
    with pytest.raises(
        StateError, match=r"state\.duckdb has a log beside it \(\.wal\) that was damaged, by a power cut"
    ):
        facts(store)


def header_checksum(page: bytearray) -> int:
    """Return what DuckDB writes before each header: `Checksum` in its src/common/checksum.cpp."""
    result = 5381
    for at in range(8, len(page), 8):
        result ^= int.from_bytes(page[at : at + 8], "little") * 0xBF58476D1CE4E5B9 % (1 << 64)
    return result


def test_a_file_of_a_newer_storage_version_is_told_as_such(store: Store) -> None:
    page = bytearray(store.path.read_bytes()[:PAGE])
    assert header_checksum(page) == int.from_bytes(page[:8], "little")
    page[12:20] = (1000).to_bytes(8, "little")
    page[:8] = header_checksum(page).to_bytes(8, "little")
    with store.path.open("r+b") as file:
        file.write(page)
    with pytest.raises(StateError) as raised:
        facts(store)
    assert str(raised.value) == (f"{store.path} was written by a newer DuckDB than this Batcher knows; upgrade Batcher")


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
