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


class DueFile(NamedTuple):
    """A file at OpenAI that is to be deleted now."""

    file_id: str
    tries: int
    """How often its deletion failed."""


class PossibleOrphan(NamedTuple):
    """An upload without an answer, whose file may exist at OpenAI and is to be looked for now."""

    submission: int
    shard: int
    searches: int
    """How often it was looked for before."""


def queue_file(tx: Transaction, file_id: str, purpose: str, shard: int) -> None:
    """Have a file at OpenAI deleted. purpose: batch or batch_output."""
    tx.fetch_all("queue_file", file_id=file_id, purpose=purpose, shard=shard, now=tx.now)


def load_due_files(tx: Transaction) -> list[DueFile]:
    """Return the files that are to be deleted now, the longest due first, at most a hundred."""
    return [DueFile(*row) for row in tx.fetch_all("files_due", now=tx.now)]


def load_possible_orphans(tx: Transaction) -> list[PossibleOrphan]:
    """Return the uploads whose file is to be looked for now, at most a hundred."""
    return [PossibleOrphan(*row) for row in tx.fetch_all("orphans_due", now=tx.now)]


def count_due_files(tx: Transaction) -> int:
    """Return how many files are to be deleted or looked for now."""
    return int(tx.fetch_one("count_files_due", now=tx.now)[0])


def is_file_deleted(tx: Transaction, file_id: str | None) -> bool:
    """Return whether we have deleted this file at OpenAI."""
    return bool(tx.fetch_one("is_deleted", file_id=file_id)[0])


def record_file_deleted(tx: Transaction, file_id: str) -> None:
    """Record that a file is gone at OpenAI."""
    tx.fetch_all("file_deleted", file_id=file_id, now=tx.now)


def record_deletion_failure(tx: Transaction, file_id: str, retry_at: float, error: str) -> None:
    """Record that a file could not be deleted, and when to try next (epoch seconds)."""
    tx.fetch_all("file_not_deleted", file_id=file_id, next=retry_at, error=error)


def postpone_due_files(tx: Transaction, until: float) -> None:
    """Have no file that is due now deleted before `until` (epoch seconds)."""
    tx.fetch_all("postpone_files", now=tx.now, next=until)


def watch_for_orphan(tx: Transaction, submission: int, due: float) -> None:
    """Look at `due` (epoch seconds) for the file that an upload without an answer may have left."""
    tx.fetch_all("watch_orphan", submission=submission, due=due)


def record_orphan_search(tx: Transaction, submission: int, next_due: float | None) -> None:
    """Count a search for the file of an upload. next_due: when to search next (epoch seconds); None: never."""
    tx.fetch_all("looked_for_orphan", submission=submission, due=next_due)


def load_files_left(tx: Transaction) -> list[RemoteFileRow]:
    """Return the files that were to be deleted and are still there."""
    return [RemoteFileRow(*row) for row in tx.fetch_all("files_left")]
