"""Transactions: neither an error, an interruption nor an illegal move changes anything."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from unittest import mock

import duckdb
import pytest

from batcher.errors import IllegalTransitionError, StateError
from batcher.state import submissions
from batcher.state.db.engine import Engine
from batcher.state.db.store import Store
from batcher.state.db.transaction import Transaction
from tests.support.state_kit import ARTIST, enter

# --- a disk that fails -----------------------------------------------------------------------------------------------


class FullDisk:
    """A connection whose commits fail."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con

    def __getattr__(self, name: str) -> object:
        return getattr(self._con, name)

    def commit(self) -> None:
        raise duckdb.IOException('IO Error: Could not write file "state.duckdb.wal": No space left on device')


def test_a_commit_that_fails_is_told_and_changed_nothing(planned: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    attach = Engine.attach_file
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "attach_file", lambda *a: FullDisk(attach(*a)))
        with pytest.raises(StateError) as raised, planned.transaction("write") as tx:
            tx.fetch_all("write_fact", fact="x", number=1, text=None)
    assert str(raised.value) == (
        f"{planned.path} cannot be written, the disk is full; nothing was lost, make room and run the same command "
        "again"
    )
    with planned.read_transaction() as tx:
        assert tx.read_fact("x") == 0


def test_a_statement_that_the_disk_refuses_is_told(planned: Store) -> None:
    with pytest.raises(StateError, match="the disk is full"), planned.transaction("write"):
        raise duckdb.IOException("IO Error: No space left on device")


def test_a_bug_is_not_taken_for_a_full_disk(planned: Store) -> None:
    with pytest.raises(duckdb.CatalogException), planned.transaction("write") as tx:
        tx.con.execute("SELECT * FROM nowhere")


# --- interrupted -----------------------------------------------------------------------------------------------------


class Interrupted:
    """A connection of which one statement is ended by a Ctrl-C, as DuckDB does it."""

    def __init__(self, con: duckdb.DuckDBPyConnection, at: str) -> None:
        self._con, self._at = con, at

    def __getattr__(self, name: str) -> object:
        return getattr(self._con, name)

    def execute(self, sql: str, *rest: Any) -> object:
        self._con.execute(sql, *rest)
        if sql.startswith(self._at):
            raise RuntimeError("Query interrupted")
        return self._con


@pytest.mark.parametrize("at", ["ATTACH", "DETACH", "CHECKPOINT"])
@pytest.mark.parametrize("how", [Store.read_transaction, partial(Store.transaction, name="write")])
def test_ctrl_c_within_a_statement_of_the_store_itself_is_one(
    planned: Store,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
    how: Callable[[Store], AbstractContextManager[Transaction]],
) -> None:
    start = Engine._ensure_started
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_ensure_started", lambda engine: Interrupted(start(engine), at))
        patch.setattr("batcher.state.db.checkpoint.LOG_BYTES", 0)
        interrupted = Engine.detach_file

        def detach(engine: Engine) -> None:
            if at == "DETACH" and engine._engine is not None:
                monkeypatch.setattr(engine, "_engine", Interrupted(engine._engine, at))
            interrupted(engine)

        patch.setattr(Engine, "detach_file", detach)
        if at == "CHECKPOINT" and how is Store.read_transaction:
            enter(how(planned))  # it folds nothing
        else:
            with pytest.raises(KeyboardInterrupt), how(planned) as tx:
                if at == "CHECKPOINT":
                    tx.write_fact("x", 1)
    with planned.transaction("write", patience_s=0.0) as tx:
        tx.write_fact("y", 1)


def test_another_error_of_the_same_kind_is_none(planned: Store) -> None:
    with pytest.raises(RuntimeError, match="a bug"), planned.transaction("write"):
        raise RuntimeError("a bug")


# --- transitions -----------------------------------------------------------------------------------------------------


def whole(tx: Transaction) -> object:
    return [tx.con.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall() for name in ("artists", "shards", "events")]


@pytest.mark.parametrize("event", ["intend_upload", "record_upload", "record_create", "settle", "end", "find_absent"])
def test_an_illegal_move_of_a_shard_raises_and_changes_nothing(planned: Store, event: str) -> None:
    with planned.transaction("before") as tx:
        before = whole(tx)
    with pytest.raises(IllegalTransitionError, match="shard 1 is not in a state that can"):  # noqa: SIM117 - the state
        with planned.transaction("illegal") as tx:  # is left by the error
            tx.con.execute("UPDATE artists SET priority = 9")
            tx.move_shard(1, event)
    with planned.transaction("after") as tx:
        assert whole(tx) == before


def test_a_move_of_lines_takes_only_those_that_may_move(planned: Store) -> None:
    with planned.transaction("held") as tx:
        tx.con.execute("UPDATE artists SET state = 'held', failure = 'cancelled' WHERE artist_id = 'a'")
    with planned.transaction("claim") as tx:
        assert submissions.claim_shard_lines(tx, 1, 5) == 1
        states = tx.con.execute("SELECT artist_id, state FROM artists ORDER BY 1").fetchall()
        assert states == [("a", "held"), ("b", "in_batch")]


ILLEGAL = [
    "UPDATE artists SET state = 'happy' WHERE artist_id = 'a'",
    "UPDATE artists SET state = 'in_batch' WHERE artist_id = 'a'",  # without a submission
    "UPDATE artists SET submission = 1 WHERE artist_id = 'a'",  # without being in a batch
    "UPDATE artists SET state = 'in_batch', submission = 1, shard = NULL WHERE artist_id = 'a'",
    "UPDATE artists SET state = 'waiting' WHERE artist_id = 'a'",  # without a time
    "UPDATE artists SET wait_until = 1 WHERE artist_id = 'a'",  # without waiting
    "UPDATE artists SET state = 'dead' WHERE artist_id = 'a'",  # without a reason
    "UPDATE artists SET state = 'held' WHERE artist_id = 'a'",
    "UPDATE artists SET state = 'skipped' WHERE artist_id = 'a'",
    "UPDATE artists SET priority = 0 WHERE artist_id = 'a'",
    "UPDATE shards SET state = 'lost'",
    "UPDATE shards SET state = 'uploading'",  # without a submission
    "UPDATE shards SET state = 'in_flight'",
    "UPDATE shards SET submission = 1",  # without being under way
    "UPDATE shards SET state = 'uploaded'",  # without a file
    "UPDATE shards SET state = 'creating', submission = 1",
    "UPDATE shards SET lines = 0",
    ARTIST.format(columns="artist_id", values="'a'"),  # a second artist of this id
    "INSERT INTO bios (artist_id, data, lane) VALUES ('a', '{}', 'bus')",
    "INSERT INTO pauses (pause, scope, reason, since) VALUES (1, 'some', 'x', 0)",
    "INSERT INTO quota_samples (happened_at, source, model) VALUES (0, 'rumour', 'x')",
]


@pytest.mark.parametrize("sql", ILLEGAL)
def test_rows_that_may_not_be_are_refused(planned: Store, sql: str) -> None:
    with pytest.raises(duckdb.ConstraintException), planned.transaction("illegal") as tx:
        tx.con.execute(sql)


# --- facts -----------------------------------------------------------------------------------------------------------


def test_facts_are_read_once_in_a_transaction_and_only_a_new_one_is_written(planned: Store) -> None:
    with planned.transaction("first") as tx:
        tx.write_fact("number", 0)
        tx.write_fact("text", text="one")
    with planned.transaction("again") as tx, mock.patch.object(Transaction, "fetch_all", wraps=tx.fetch_all) as run:
        assert (
            tx.read_fact("number"),
            tx.read_text_fact("text"),
            tx.read_fact("unset"),
            tx.read_text_fact("unset"),
        ) == (0, "one", 0, "")
        tx.write_fact("number", 0)
        tx.write_fact("text", text="one")
        assert [call.args for call in run.call_args_list] == [("facts",)]
        tx.write_fact("text", text="two")
        tx.write_fact("unset", 0)
        assert tx.read_text_fact("text") == "two"
        assert [call.args for call in run.call_args_list][1:] == [("write_fact",), ("insert_fact",)]
    with planned.read_transaction() as tx:
        assert tx.read_text_fact("text") == "two"
        assert tx.con.execute("SELECT number FROM facts WHERE name = 'unset'").fetchall() == [(0,)]
