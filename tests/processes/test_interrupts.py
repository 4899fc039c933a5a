"""Ctrl-C within a statement ends a command as Ctrl-C does elsewhere."""

import os
import signal
import threading
from pathlib import Path

import duckdb
import pytest

from tests.support.world import World

PROGRESS = "SET enable_progress_bar = true; SET enable_progress_bar_print = false"
ENDLESS = "SELECT count(*) FROM range(1_000_000_000_000) AS a, range(1_000_000) AS b"


def press_ctrl_c_within(con: duckdb.DuckDBPyConnection) -> None:
    """Press it once a statement is running: DuckDB reports its progress from then on."""
    while con.query_progress() < 0:
        pass
    os.kill(os.getpid(), signal.SIGINT)


def test_within_a_statement(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.store.plan_transaction():
        pass
    with pytest.raises(KeyboardInterrupt), world.store.transaction("endless") as tx:
        tx.write_fact("half", 1.0)
        tx.con.execute(PROGRESS)
        threading.Thread(target=press_ctrl_c_within, args=(tx.con,), daemon=True).start()
        tx.con.execute(ENDLESS)
    with world.store.transaction("after") as tx:
        assert tx.fetch_all("facts") == []
