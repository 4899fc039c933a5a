"""What the tests of the state file share: a sleep that counts, a small plan, and another process that has it open."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from batcher.state.db.engine import RETRY_S
from batcher.state.db.store import Store

ARTIST = (
    "INSERT INTO artists (seq, custom_id, artist_name, priority, data, state, {columns}) "
    "VALUES (1, 'x', 'X', 3, '{{}}', 'ready', {values})"
)
SHARD = (
    "INSERT INTO shards (priority, retry, version, state, lines, tokens, bytes, sha256, created_at, {columns}) "
    "VALUES (3, false, 1, 'planned', 2, 2, 2, '', 0, {values})"
)
HOLDER = (
    "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read(); con.close()"
)


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


def plan_two_artists(store: Store) -> None:
    """Write a run, two artists and a planned shard."""
    with store.plan_transaction() as tx:
        tx.fetch_all("insert_run", run_id="r", now=tx.now)
        tx.con.execute(ARTIST.format(columns="artist_id, shard", values="'a', 1"))
        tx.con.execute(ARTIST.format(columns="artist_id, shard", values="'b', 1"))
        tx.con.execute(SHARD.format(columns="shard", values="1"))


@contextmanager
def held_open(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Have another process keep a state file open for writing, until its input is closed or the block ends."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.stdin is not None and not process.stdin.closed:
            process.stdin.close()


def enter(context: AbstractContextManager[object]) -> None:
    """Enter a context and leave it."""
    with context:
        pass
