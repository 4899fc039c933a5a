"""Deleting files at OpenAI that are no longer needed: input files of settled shards, output files, lost uploads.

Only the holder of the lane's lock deletes, and only files of this run whose submission is closed. What cannot be
deleted now is tried later.
"""

from batcher import crashpoints
from batcher.core.failures import FailureClass
from batcher.lanes.batch.reconciling import absence_grace, find_possible_files
from batcher.lanes.context import LaneContext
from batcher.service.service import CallError, CallRefused
from batcher.state import remote_files, submissions
from batcher.state.remote_files import DueFile, PossibleOrphan
from batcher.state.submissions import input_file_name

ORPHAN_SEARCHES = 3
"""Searches for a file that a lost upload may have left. After the last one the file is left to expire (30 days)."""
ORPHAN_BACKOFF = 10.0
"""Factor by which the wait before each search for an orphan is longer than the one before."""


class RemoteFileCleaner:
    """Deletes files at OpenAI that are due."""

    def __init__(self, context: LaneContext) -> None:
        self._context = context

    def clean_remote_files(self) -> None:
        """Search for orphans that are due, and delete the files that are."""
        with self._context.store.read_transaction() as tx:
            orphans, files = remote_files.load_possible_orphans(tx), remote_files.load_due_files(tx)
            run = submissions.load_run_id(tx)
        for orphan in orphans:
            self._search_orphan(orphan, input_file_name(run, orphan.shard, orphan.submission))
        if files:
            self._delete_due_files(files)

    def _search_orphan(self, orphan: PossibleOrphan, name: str) -> None:
        found = find_possible_files(self._context, name)
        with self._context.store.transaction("orphan_looked_for", patience_s=None) as tx:
            for file in found:
                remote_files.queue_file(tx, file.file_id, "batch", orphan.shard)
            searches = orphan.searches + 1
            next_due = None
            if not found and searches < ORPHAN_SEARCHES:
                next_due = tx.now + max(1.0, absence_grace(tx, self._context.config)) * ORPHAN_BACKOFF**searches
            remote_files.record_orphan_search(tx, orphan.submission, next_due)

    def _delete_due_files(self, due: list[DueFile]) -> None:
        deleted: list[str] = []
        failed: tuple[DueFile, CallError] | None = None
        for file in due:
            try:
                crashpoints.mark_reached("delete.before")
                self._context.service.delete_file(file.file_id)
                crashpoints.mark_reached("delete.after")
            except CallError as error:
                failed = (file, error)
                break
            deleted.append(file.file_id)
        with self._context.store.transaction("clean", patience_s=None) as tx:
            for file_id in deleted:
                remote_files.record_file_deleted(tx, file_id)
            if failed is None:
                return
            file, why = failed
            if not isinstance(why, CallRefused) or why.asks_to_wait:  # the other files would fail too
                wait = self._context.next_delay_seconds(FailureClass.OUTAGE, 0, why.wait_s)
                remote_files.postpone_due_files(tx, tx.now + wait)
            wait = self._context.next_delay_seconds(FailureClass.OUTAGE, file.tries, why.wait_s)
            remote_files.record_deletion_failure(tx, file.file_id, tx.now + wait, str(why))
