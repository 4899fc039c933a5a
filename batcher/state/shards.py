"""Shards as rows of the state, and what is done to one of them alone."""

from typing import NamedTuple

from batcher.core.lifecycle import ShardState
from batcher.state.db.transaction import Transaction


class ShardRow(NamedTuple):
    """A shard as the runner handles it."""

    shard: int
    priority: int
    state: ShardState
    lines: int
    tokens: int
    sha256: str
    version: int
    refusals: int
    submission: int | None
    file_id: str | None
    file_created_at: float | None
    """In the service's clock."""
    retry: bool


def load_shard(tx: Transaction, shard: int) -> ShardRow:
    """One shard."""
    row = tx.fetch_one("shard", shard=shard)
    return ShardRow(row[0], row[1], ShardState(row[2]), *row[3:])


def next_shard_number(tx: Transaction) -> int:
    """Return the number of the next shard to be cut."""
    return int(tx.fetch_one("highest_shard")[0]) + 1


def delay_shard(tx: Transaction, shard: int, until: float) -> None:
    """Keep a shard from being handled before `until` (epoch seconds)."""
    tx.fetch_all("delay_shard", shard=shard, until=until)


def count_shard_refusal(tx: Transaction, shard: int) -> int:
    """Count a refusal of this shard by the service; return how many there are now."""
    return int(tx.fetch_one("count_refusal", shard=shard, until=0.0)[0])


def loosen_shard_lines(tx: Transaction, shard: int) -> None:
    """Take the ready lines out of a shard: they are gathered into another one."""
    tx.fetch_all("loosen_shard", shard=shard)


def set_shard_file(tx: Transaction, shard: int, file_id: str | None, created_at: float | None) -> None:
    """Record the file at OpenAI that a batch of this shard may use; None: there is none."""
    tx.fetch_all("set_shard_file", shard=shard, file_id=file_id, created_at=created_at)


def queue_shard_file(tx: Transaction, shard: int) -> None:
    """Have the shard's file at OpenAI deleted, where it has one."""
    tx.fetch_all("queue_shard_file", shard=shard, now=tx.now)


def mark_shard_stale(tx: Transaction, shard: int, why: str) -> None:
    """Make an unsent shard stale and have its file at OpenAI deleted. Its lines stay the caller's to place."""
    tx.move_shard(shard, "outdate", why)
    queue_shard_file(tx, shard)


def load_shard_states(tx: Transaction) -> dict[int, ShardState]:
    """Return the state of every shard."""
    return {int(shard): ShardState(state) for shard, state in tx.fetch_all("wishable_shards")}


def release_shards(tx: Transaction, most: int | None) -> int:
    """Release the most urgent planned shards, at most this many (None: all); return how many were released."""
    return len(tx.fetch_all("release_shards", most=most))


def load_unsent_shards(tx: Transaction) -> list[int]:
    """Return the released shards that are not sent, the most urgent first."""
    return [int(row[0]) for row in tx.fetch_all("shards_not_sent")]


def count_planned_shards(tx: Transaction) -> int:
    """Return how many shards are planned and not released."""
    return int(tx.fetch_one("count_planned")[0])
