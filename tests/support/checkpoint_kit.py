"""What the tests of checkpoints share: a state with rows, and the files beside it."""

import io
from pathlib import Path

from batcher.state.db import checkpoint
from batcher.state.db.store import Store
from tests.support.world import Clock

PAGE = 4_096
BLOCK = 262_144
"""Bytes of a block in the files that DuckDB makes by default."""
ROWS = checkpoint.LOG_BYTES // 40
FILL = "INSERT INTO facts SELECT 'fact ' || i, i, repeat('x', 40) FROM range(?, ?) r(i)"


def fill(store: Store, first: int = 0, rows: int = ROWS) -> None:
    """Commit rows: by default enough for a log that is due to be folded."""
    with store.transaction("fill") as tx:
        tx.con.execute(FILL, [first, first + rows])


def count_facts(store: Store) -> int:
    """Return the number of facts; a state that another process holds is not waited for."""
    with store.transaction("look", patience_s=0.0) as tx:
        return int(tx.con.execute("SELECT count(*) FROM facts").fetchall()[0][0])


def plan_filled(path: Path) -> Store:
    """Return a state in this folder with rows in its file and none in its log."""
    store = Store(path, Clock(), lambda _seconds: None)
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
