"""Ctrl-C within a statement ends a command as Ctrl-C does elsewhere."""

import os
import signal
import subprocess
import sys
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


HEEDING = "import os, signal, sys, threading; signal.signal(signal.SIGINT, signal.default_int_handler); "
PRESS = "os.kill(os.getpid(), signal.SIGINT)"


def run_interrupted(before: str) -> subprocess.CompletedProcess[str]:
    """Run `batcher --help` in a process of its own, which heeds the signal also in the background of a shell.

    before: Python that has Ctrl-C pressed.
    """
    program = f"{HEEDING}{before}; sys.argv = ['batcher', '--help']; from batcher.__main__ import main; main()"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_while_modules_are_imported() -> None:
    finder = f"type('Finder', (), {{'find_spec': lambda *of: of[1] == 'typer' and {PRESS} or None}})()"
    ended = run_interrupted(f"sys.meta_path.insert(0, {finder})")
    assert ended.returncode == 130
    assert ended.stderr == "batcher: interrupted; run the same command again to go on\n"


def test_when_all_is_said() -> None:
    ended = run_interrupted(f"threading._register_atexit(lambda: {PRESS})")
    assert ended.returncode == -signal.SIGINT
    assert "Usage" in ended.stdout
    assert ended.stderr == ""
