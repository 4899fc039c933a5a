"""Refreshing what the state knows of batches: one listing for all, and those that it lacks one by one.

A batch of ours that a listing shows and the state does not know is recorded as a stray.
"""

from collections.abc import Collection, Mapping

from batcher import crashpoints
from batcher.core import events
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import BatchStatus, is_terminal
from batcher.core.remote import BatchListing, RemoteBatch
from batcher.core.verdicts import LOOK_AGAIN_S
from batcher.lanes.batch.reconciling import CLOCK_SKEW_S, absence_grace
from batcher.lanes.context import LaneContext
from batcher.service.service import CallRefused, CallUnknown
from batcher.state import batches, facts, strays, submissions
from batcher.state.batches import KnownBatch
from batcher.state.db.transaction import Transaction
from batcher.state.submissions import find_submission

OVERDUE_S = 2 * 3600.0
"""Seconds after `expires_at` for which a batch may go on before it is given up as overdue."""
WINDOW_S = 24 * 3600.0
"""Seconds until a batch expires, where the service does not say when (OpenAI, guides/batch, 2026-07)."""
FILES_CHECKED = 3
"""Input files that are looked up before the key is judged to be another project's."""
FOREIGN_KEY = (
    "the service knows none of our {} batches in flight, nor their files; "
    "is OPENAI_API_KEY of the project that they were sent from?"
)
STRAYS_FOR_S = 26 * 3600.0
"""Seconds after a submission was closed for which its batch may still appear in a listing: it ends within a day."""


class BatchWatcher:
    """Refreshes what the state knows of batches, and cancels those that are to end."""

    def __init__(self, context: LaneContext) -> None:
        self._context = context

    def refresh_batches(self) -> None:
        """Record what the service says of every batch in flight, and of batches of ours that it shows besides."""
        with self._context.store.read_transaction() as tx:
            known = batches.load_known_batches(tx)
            floor = batches.load_listing_floor(tx, since=tx.now - STRAYS_FOR_S)
            unread = batches.load_unread_batches(tx)
        running = [batch for batch in known.values() if batch.ended_at is None]
        listing = self._context.service.list_batches(floor - CLOCK_SKEW_S)
        seen: dict[str, RemoteBatch | None] = {batch.batch_id: batch for batch in listing.batches}
        late = [batch for batch in running if batch.batch_id not in seen]
        for batch_id in [batch.batch_id for batch in late] + unread:
            self._retrieve_batch(batch_id, seen)
        is_foreign = self._is_foreign_key(running, known.keys(), seen)
        with self._context.store.transaction("refresh", patience_s=None) as tx:
            answered = [batch for batch in running if batch.batch_id in seen]
            ended = [b for b in answered if self._update_batch(tx, b, seen[b.batch_id], listing, is_foreign)]
            outcomes = self._record_stray_batches(tx, listing, known.keys())
            self._restore_overdue_batches(tx, unread, seen)
            _record_listing_lag(tx, late, [seen.get(batch.batch_id) for batch in late], listing)
            if is_foreign:
                facts.stop_sending(tx, FOREIGN_KEY.format(len(running)))
            facts.record_poll(tx)
        self._report_progress(len(running) - len(ended), outcomes)

    def _retrieve_batch(self, batch_id: str, seen: dict[str, RemoteBatch | None]) -> None:
        """Add one batch that the listing lacks to `seen`; an error leaves it out and does not delay the others."""
        try:
            seen[batch_id] = self._context.service.retrieve_batch(batch_id)
        except CallUnknown as error:
            self._context.notify(events.CallFailed(call="retrieve", reason=str(error)))

    def _is_foreign_key(
        self, running: list[KnownBatch], known: Collection[str], seen: Mapping[str, RemoteBatch | None]
    ) -> bool:
        """Return whether the key sees nothing of ours: then it is another project's, and no batch is gone."""
        gone = [batch for batch in running if batch.batch_id in seen and seen[batch.batch_id] is None]
        if not gone or any(seen.get(batch_id) is not None for batch_id in known):
            return False
        return not any(self._context.service.can_see_file(batch.input_file_id) for batch in gone[:FILES_CHECKED])

    def _restore_overdue_batches(
        self, tx: Transaction, unread: list[str], seen: Mapping[str, RemoteBatch | None]
    ) -> None:
        """Reopen batches that were given up and exist after all: their results are read like those of a late stray."""
        for batch_id in unread:
            batch = seen.get(batch_id)
            if batch is None or not is_terminal(batch.status):
                batches.postpone_batch(tx, batch_id, tx.now + LOOK_AGAIN_S)
                continue
            batches.reopen_batch(tx, batch_id, batch.status)
            batches.update_batch(tx, batches.load_known_batch(tx, batch_id), batch)
            tx.record_event("found_again", batch.status, batch_id=batch_id)

    def _update_batch(
        self, tx: Transaction, known: KnownBatch, batch: RemoteBatch | None, listing: BatchListing, is_foreign: bool
    ) -> bool:
        """Record what was seen of a batch; return whether it has ended just now."""
        now = listing.server_time or tx.now
        expires_at = (batch.expires_at if batch is not None else None) or known.created_at + WINDOW_S
        late = now > expires_at + OVERDUE_S
        if batch is None:
            return not is_foreign and self._handle_missing_batch(tx, known, now)
        if late and not is_terminal(batch.status):
            batch = _overdue_batch(known)
        return batches.update_batch(tx, known, batch)

    def _handle_missing_batch(self, tx: Transaction, known: KnownBatch, now: float) -> bool:
        """Record that the service does not know a batch; return whether that ends it.

        One such answer may be an error of the service; the batch is given up when it is still missing after the grace.
        """
        if known.missing_since is None or now < known.missing_since:
            batches.record_missing_batch(tx, known.batch_id, now)
            tx.record_event(
                "missing", "the service does not know the batch", shard=known.shard, batch_id=known.batch_id
            )
            return False
        if now - known.missing_since < absence_grace(tx, self._context.config):
            return False
        return batches.update_batch(tx, known, _overdue_batch(known))

    def _record_stray_batches(
        self, tx: Transaction, listing: BatchListing, known: Collection[str]
    ) -> list[events.Event]:
        """Record batches of ours that the state does not know, oldest first; return what became of each."""
        run = submissions.load_run_id(tx)
        outcomes: list[events.Event] = []
        for batch in sorted(listing.batches, key=lambda b: b.created_at):
            submission = find_submission(tx, batch, run) if batch.batch_id not in known else None
            if submission is not None:
                outcomes.append(strays.record_found_batch(tx, submission, batch))
        return outcomes

    def _report_progress(self, running: int, outcomes: list[events.Event]) -> None:
        """Report what was found, and how far the lines are: settled ones, and those that running batches have done."""
        for outcome in outcomes:
            self._context.notify(outcome)
        with self._context.store.read_transaction() as tx:
            progress = batches.load_line_progress(tx)
        self._context.notify(
            events.LinesProgressed(running=running, lines=progress.lines, done=progress.settled + progress.executed)
        )

    def cancel_batch(self, batch_id: str) -> None:
        """Ask the service to cancel a batch. After a crash it is asked twice, which does no harm."""
        refused = ""
        crashpoints.mark_reached("cancel.before")
        try:
            batch = self._context.service.cancel_batch(batch_id)
        except CallRefused as error:
            if error.concerns_all_calls:
                raise
            batch, refused = None, str(error)
        except CallUnknown as error:  # it is retried later, and nothing else waits for that
            self._context.notify(events.CallFailed(call="cancel", reason=str(error)))
            with self._context.store.transaction("cancel_unknown", patience_s=None) as tx:
                wait = self._context.next_delay_seconds(FailureClass.OUTAGE, 0, error.wait_s)
                batches.postpone_batch(tx, batch_id, tx.now + wait)
            return
        crashpoints.mark_reached("cancel.after")
        with self._context.store.transaction("record_cancel", patience_s=None) as tx:
            known = batches.load_known_batch(tx, batch_id)
            batches.record_cancel_request(tx, batch_id)
            tx.record_event("cancel", refused or "asked", shard=known.shard, batch_id=batch_id)
            if batch is not None:
                batches.update_batch(tx, known, batch)
        self._context.notify(events.CancelRequested(shard=known.shard, batch_id=batch_id))


def _record_listing_lag(
    tx: Transaction, late: list[KnownBatch], seen: list[RemoteBatch | None], listing: BatchListing
) -> None:
    """Record how late listings are, by the batches that exist and are not listed.

    A batch counts as absent only after twice that time.
    """
    if not listing.server_time:
        return
    lags = [listing.server_time - b.created_at for b, found in zip(late, seen, strict=True) if found is not None]
    if lags:
        facts.record_listing_lag(tx, max(lags))


def _overdue_batch(known: KnownBatch) -> RemoteBatch:
    """Return a batch that the service no longer knows, as overdue."""
    return RemoteBatch(known.batch_id, BatchStatus.OVERDUE, known.created_at, known.input_file_id)
