"""The state file as it is planned, waited for and kept open: patience, renewal and memory."""

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batcher.errors import StateError
from batcher.state.db.engine import RETRY_S
from batcher.state.db.store import Store
from batcher.state.db.transaction import MEMORY_MB, STAGING_MB, Transaction
from tests.support.state_kit import Naps, enter, held_open
from tests.support.world import Clock

# --- a plan ----------------------------------------------------------------------------------------------------------


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


# --- locked ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def holder(planned: Store) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the state open for writing."""
    with held_open(planned.path) as process:
        yield process


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


def test_threads_of_one_process_take_turns(planned: Store) -> None:
    """DuckDB refuses at once a file that its own process has attached; a thread is to wait, as a process does."""
    other = Store(planned.folder / ".." / planned.folder.name, Clock(), Clock().sleep)
    with ThreadPoolExecutor(1) as thread:
        with planned.transaction("write") as tx:
            tx.write_fact("x", 1)
            with pytest.raises(StateError, match=r"has been held by another thread for 0 s$"):
                thread.submit(lambda: enter(other.read_transaction(patience_s=0.01))).result()
            reads = thread.submit(lambda: read_fact(other, "x"))
            assert not reads.done()
        assert reads.result() == 1


def read_fact(store: Store, name: str) -> float | None:
    with store.read_transaction() as tx:
        return tx.read_fact(name)


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


# --- memory ----------------------------------------------------------------------------------------------------------


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
