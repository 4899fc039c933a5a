"""Where nobody has tried whether a copy of blocks is enough, the whole state is copied before its log is folded in."""

from functools import partialmethod
from pathlib import Path

import duckdb
import pytest

from batcher.state.db import checkpoint
from batcher.state.db.engine import Engine
from batcher.state.db.schema import SCHEMA_VERSION, load_migrations
from batcher.state.db.store import Store
from tests.support.checkpoint_kit import BLOCK, ROWS, copy_of, count_facts, fill, log_of
from tests.support.world import Clock


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
    assert count_facts(untried) == 3 * ROWS


def test_what_was_tried_is_what_this_environment_has(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every fold copies the whole file: right, and slow where the job is large."""
    assert duckdb.__version__ in checkpoint.TRIED_ENGINES
    was = fold_and_keep(filled, monkeypatch, ROWS)
    assert len(was["copy"]) < checkpoint.HEADERS + BLOCK + 100


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
