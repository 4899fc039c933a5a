"""Deleting at OpenAI what is needed no more: input files of settled shards, output files, orphans of lost uploads.

Under the lock, and only files of this run whose submission is closed. What cannot be deleted now is tried later.
"""

from batcher import crashpoints
from batcher.core.failures import FailureClass
from batcher.lanes.batch.reconciling import absence_grace
from batcher.lanes.context import LaneContext
from batcher.service.service import CallError, CallRefused
from batcher.state import remote_files, submissions
from batcher.state.db.transaction import StateRow
from batcher.state.submissions import input_file_name

ORPHAN_LOOKS = 3
"""How often a file is looked for that a lost upload may have left; then it expires by itself (30 days)."""
LATER = 10.0
"""Each look comes so many times later than the one before."""


class RemoteFileCleaner:
    """Deletes what is due."""

    def __init__(self, context: LaneContext) -> None:
        self._context = context

    def clean_remote_files(self) -> None:
        """Looks for orphans that are due, and deletes files that are."""
        with self._context.store.read_transaction() as tx:
            orphans, files, run = (
                tx.fetch_all("orphans_due", now=tx.now),
                tx.fetch_all("files_due", now=tx.now),
                submissions.load_run_id(tx),
            )
        for submission, shard, looks in orphans:
            self._find_orphan_files(submission, shard, looks, input_file_name(run, shard, submission))
        if files:
            self._delete_due_files(files)

    def _find_orphan_files(self, submission: int, shard: int, looks: int, name: str) -> None:
        found = self._context.service.find_files(name)
        with self._context.store.transaction("orphan_looked_for", patience_s=None) as tx:
            for file in found:
                remote_files.queue_file(tx, file.file_id, "batch", shard)
            over = bool(found) or looks + 1 >= ORPHAN_LOOKS
            due = None if over else tx.now + max(1.0, absence_grace(tx, self._context.config)) * LATER ** (looks + 1)
            tx.fetch_all("looked_for_orphan", submission=submission, due=due)

    def _delete_due_files(self, due: list[StateRow]) -> None:
        done: list[str] = []
        failed: tuple[str, int, CallError] | None = None
        for file_id, tries in due:
            try:
                crashpoints.mark_reached("delete.before")
                self._context.service.delete_file(file_id)
                crashpoints.mark_reached("delete.after")
            except CallError as error:
                failed = (file_id, tries, error)
                break
            done.append(file_id)
        with self._context.store.transaction("clean", patience_s=None) as tx:
            for file_id in done:
                remote_files.record_file_deleted(tx, file_id)
            if failed is None:
                return
            file_id, tries, why = failed
            if not isinstance(why, CallRefused) or why.asks_to_wait:  # the others would fare no better now
                wait = self._context.next_delay_seconds(FailureClass.OUTAGE, 0, why.wait_s)
                tx.fetch_all("postpone_files", now=tx.now, next=tx.now + wait)
            wait = self._context.next_delay_seconds(FailureClass.OUTAGE, tries, why.wait_s)
            tx.fetch_all("file_not_deleted", file_id=file_id, next=tx.now + wait, error=str(why))
