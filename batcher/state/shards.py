"""Shards as rows of the state, and what is done to one of them alone."""

from typing import NamedTuple

from batcher.core.lifecycle import SENDABLE_STATES, ShardState
from batcher.core.snapshot import ShardView
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
    file_missing_since: float | None
    """Since when (our clock) the service refuses to find the file."""
    retry: bool
    longest: int
    """Counted tokens of its longest line."""

    def to_view(self) -> ShardView:
        """Return the shard as a decision sees it, without the time until which it waits."""
        return ShardView(
            self.shard, self.priority, self.state, self.lines, self.tokens, version=self.version, longest=self.longest
        )


def load_shard(tx: Transaction, shard: int) -> ShardRow:
    """Return one shard."""
    row = ShardRow(*tx.fetch_one("shard", shard=shard))
    return row._replace(state=ShardState(row.state))


def next_shard_number(tx: Transaction) -> int:
    """Return the number of the next shard to be cut."""
    return int(tx.fetch_one("highest_shard")[0]) + 1


def delay_shard(tx: Transaction, shard: int, until: float) -> None:
    """Keep a shard from being handled before `until` (epoch seconds)."""
    tx.fetch_all("delay_shard", shard=shard, until=until)


def count_shard_refusal(tx: Transaction, shard: int) -> int:
    """Count a refusal of this shard by the service; return how many there are now."""
    return int(tx.fetch_one("count_refusal", shard=shard, until=0.0)[0])


def forget_refusals(tx: Transaction) -> None:
    """Count the refusals of every shard from 0 again."""
    tx.fetch_all("forget_refusals")


def doubt_shard_file(tx: Transaction, shard: int) -> None:
    """Record that the service does not find the file that it has given us for a shard, now or for longer."""
    tx.fetch_all("doubt_file", shard=shard, now=tx.now)


def trust_shard_file(tx: Transaction, shard: int) -> None:
    """Record that the service has found the file of a shard, and forget how often it had not."""
    tx.fetch_all("trust_file", shard=shard)


def loosen_shard_lines(tx: Transaction, shard: int) -> None:
    """Take the ready lines out of a shard: they are gathered into another one."""
    tx.fetch_all("loosen_shard", shard=shard)


def hold_shard_lines(tx: Transaction, shard: int) -> None:
    """Hold the ready lines of a shard that the user has cancelled."""
    tx.move_lines("hold_shard_lines", "hold", shard=shard)


def set_shard_file(tx: Transaction, shard: int, file_id: str | None, created_at: float | None) -> None:
    """Record the file at OpenAI that a batch of this shard may use; None: there is none."""
    tx.fetch_all("set_shard_file", shard=shard, file_id=file_id, created_at=created_at)


def queue_shard_file(tx: Transaction, shard: int) -> None:
    """Have the shard's file at OpenAI deleted, where it has one."""
    tx.fetch_all("queue_shard_file", shard=shard, now=tx.now)


def discard_uploaded_file(tx: Transaction, shard: int) -> None:
    """Have the file of an uploaded shard deleted at OpenAI, and the shard uploaded again."""
    queue_shard_file(tx, shard)
    tx.move_shard(shard, "lose_file")
    set_shard_file(tx, shard, None, None)


def settle_shard(tx: Transaction, shard: int, details: str = "") -> None:
    """Record that every line of a shard has its verdict. details: for the event in the history."""
    tx.move_shard(shard, "settle", details)


def mark_shard_stale(tx: Transaction, shard: int, why: str) -> None:
    """Make an unsent shard stale and have its file at OpenAI deleted. The caller decides where its lines go."""
    tx.move_shard(shard, "outdate", why)
    queue_shard_file(tx, shard)


def dissolve_shard(tx: Transaction, shard: int, why: str) -> None:
    """Mark an unsent shard stale that loses lines.

    The other lines of a released shard are loosened, and become retries. Those of a planned shard stay parked in it
    until they are cut into another one.
    """
    state = load_shard(tx, shard).state
    if state is ShardState.STALE:
        return
    mark_shard_stale(tx, shard, why)
    if state is not ShardState.PLANNED:
        loosen_shard_lines(tx, shard)


def split_shard(tx: Transaction, shard: int) -> None:
    """Split a shard that can never fit: its lines become loose, and are gathered into smaller ones.

    A shard that another command has taken away meanwhile is left alone.
    """
    if load_shard(tx, shard).state not in SENDABLE_STATES:
        return
    queue_shard_file(tx, shard)
    tx.move_shard(shard, "split")
    loosen_shard_lines(tx, shard)


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


def load_open_wishes(tx: Transaction) -> dict[int, ShardState]:
    """Return the shards that are to be cancelled and have not come to their end, with their states."""
    return {int(shard): ShardState(state) for shard, state in tx.fetch_all("open_wishes")}
