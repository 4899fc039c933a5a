"""Sending a shard: what the decision has seen is checked again in the transaction of the intent (promise 3)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from batcher.core.actions import Send
from batcher.lanes.batch.refusals import RefusalHandler
from batcher.lanes.batch.sending import ShardSender
from batcher.state import facts, quota_pauses, shards, wishes
from batcher.state.db.transaction import Transaction
from tests.support.protocol_kit import Trial, trial
from tests.support.world import kept_open

RESERVED = 5_000
Change = Callable[[Transaction], object]


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Trial]:
    """Return a job of one shard, with a budget that it keeps."""
    with ExitStack() as stack:
        job = trial(tmp_path, budget={"max_usd": 1.0})
        stack.enter_context(kept_open(job.store))
        yield job


def send(it: Trial) -> None:
    tools = it.tools()
    ShardSender(tools, RefusalHandler(tools)).send_shard(Send(1, RESERVED, 0))


def spent(tx: Transaction) -> None:
    tx.con.execute("INSERT INTO direct_calls VALUES (1, 'a00000', 1, 1.0, ?, ?, 'lost')", [tx.now, tx.now])


CHANGES: dict[str, Change] = {
    "paused": lambda tx: quota_pauses.pause_sending(tx, "all", "by hand", None, "by hand"),
    "stopped": lambda tx: facts.stop_sending(tx, "the key was refused"),
    "refused for its rate": lambda tx: facts.extend_wait(tx, facts.WaitFact.RATE, tx.now + 60),
    "refused for the limit": lambda tx: facts.set_wait(tx, facts.WaitFact.ROOM, tx.now + 60),
    "asked to wait": lambda tx: facts.set_wait(tx, facts.WaitFact.ASKED, tx.now + 60),
    "withdrawn": lambda tx: wishes.request_cancel(tx, [1]),
    "cancelled": lambda tx: tx.fetch_all("insert_wish", shard=1, now=tx.now),
    "cut again": lambda tx: shards.mark_shard_stale(tx, 1, "another plan"),
    "budget used": spent,
}


def test_a_shard_that_may_be_sent_is_sent(it: Trial) -> None:
    send(it)
    assert len(it.batches()) == 1
    assert it.rows("SELECT reserved FROM submissions") == [(RESERVED,)]


@pytest.mark.parametrize("change", CHANGES)
def test_what_another_command_has_done_since_the_look_keeps_a_shard_back(it: Trial, change: str) -> None:
    with it.store.transaction("test") as tx:
        CHANGES[change](tx)
    send(it)
    assert it.batches() == [] and it.rows("SELECT * FROM submissions") == []
    assert it.states() == {"ready": 6}


def test_room_that_has_shrunk_since_the_look_keeps_a_shard_back(it: Trial) -> None:
    with it.store.transaction("test") as tx:
        quota_pauses.record_refusal_sample(tx, it.config.model.name, limit_tokens=RESERVED)  # 80% of it may be used
    send(it)
    assert it.batches() == [] and it.rows("SELECT * FROM submissions") == []
