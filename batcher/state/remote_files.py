"""Files at OpenAI that are ours to delete: recorded before they are deleted, and after."""

from typing import NamedTuple

from batcher.state.db.transaction import Transaction


class RemoteFileRow(NamedTuple):
    """A file at OpenAI that was not deleted yet."""

    file_id: str
    purpose: str
    shard: int | None
    tries: int
    error: str | None


def queue_file(tx: Transaction, file_id: str, purpose: str, shard: int) -> None:
    """Have a file at OpenAI deleted. purpose: batch or batch_output."""
    tx.fetch_all("queue_file", file_id=file_id, purpose=purpose, shard=shard, now=tx.now)


def record_file_deleted(tx: Transaction, file_id: str) -> None:
    """Record that a file is gone at OpenAI."""
    tx.fetch_all("file_deleted", file_id=file_id, now=tx.now)


def watch_for_orphan(tx: Transaction, submission: int, due: float) -> None:
    """Look at `due` (epoch seconds) for the file that an upload without an answer may have left."""
    tx.fetch_all("watch_orphan", submission=submission, due=due)


def load_files_left(tx: Transaction) -> list[RemoteFileRow]:
    """Return the files that were to be deleted and are still there."""
    return [RemoteFileRow(*row) for row in tx.fetch_all("files_left")]
