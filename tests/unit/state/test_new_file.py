"""A new state file: it is written at its commit, needs no log, and is not mistaken for what was there."""

from pathlib import Path

import pytest

from batcher.errors import StateError
from batcher.state.db import checkpoint
from batcher.state.db.store import Store
from tests.support.checkpoint_kit import FILL, PAGE, ROWS, copy_of, count_facts, fill, log_of
from tests.support.world import Clock


def plan_rows(store: Store, rows: int = ROWS) -> None:
    with store.plan_transaction() as tx:
        tx.fetch_all("insert_run", run_id="r", now=tx.now)
        tx.con.execute(FILL, [0, rows])


def test_a_copy_without_its_state_file_is_not_put_over_a_new_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "state", Clock(), lambda _seconds: None)
    store.folder.mkdir()
    copy_of(store).write_bytes(b'{"file": 3, "log": 0}\nold')
    with pytest.raises(StateError, match=r"before is the copy of a state file that is gone; it is now .*\.unusable"):
        plan_rows(store)
    plan_rows(store)
    assert count_facts(store) == ROWS


def test_a_new_state_is_written_at_its_commit_and_needs_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header is written last: what a kill within that write leaves is no plan, and the next command makes one."""
    store = Store(tmp_path / "state", Clock(), lambda _seconds: None)
    was: dict[str, bytes] = {}
    monkeypatch.setattr("batcher.crashpoints.mark_reached", lambda name: was.update({name: store.path.read_bytes()}))
    plan_rows(store)
    assert list(was) == ["plan.commit.before", "plan.commit.after"]
    assert len(was["plan.commit.before"]) == checkpoint.HEADERS
    assert [path.name for path in store.folder.iterdir()] == ["state.duckdb"]
    assert count_facts(store) == ROWS
    written = store.path.read_bytes()
    for left in (checkpoint.HEADERS + PAGE, len(written) - PAGE, len(written)):
        store.path.write_bytes(was["plan.commit.before"] + written[checkpoint.HEADERS : left])
        with pytest.raises(StateError, match="there is no plan"), store.read_transaction():
            pass
        plan_rows(store, 2 * ROWS)
        assert count_facts(store) == 2 * ROWS


def test_only_a_new_state_is_written_so(filled: Store) -> None:
    """Neither a plan over an older one, nor what comes after a first plan in the same process."""
    before = filled.path.read_bytes()
    with filled.plan_transaction() as tx:
        tx.write_fact("x", 1)
    assert filled.path.read_bytes() == before
    assert log_of(filled).exists()
    new = Store(filled.folder.parent / "new", Clock(), lambda _seconds: None)
    plan_rows(new)
    before = new.path.read_bytes()
    fill(new, ROWS, 10)
    assert new.path.read_bytes() == before
    assert count_facts(new) == ROWS + 10
