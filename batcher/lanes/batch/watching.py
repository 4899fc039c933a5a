"""Looking at the batches in flight: one listing for all, those that it lacks one by one, and whatever of ours it shows
that the state does not know.
"""

from collections.abc import Collection, Mapping

from batcher import crashpoints
from batcher.core import events
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import BatchStatus, is_terminal
from batcher.core.remote import BatchListing, RemoteBatch
from batcher.lanes.batch.ingest import LOOK_AGAIN_S
from batcher.lanes.batch.reconciling import CLOCK_SKEW_S, absence_grace
from batcher.lanes.context import LaneContext
from batcher.service.service import CallRefused, CallUnknown
from batcher.state import batches, facts, strays, submissions
from batcher.state.batches import KnownBatch
from batcher.state.db.transaction import Transaction
from batcher.state.submissions import find_submission

OVERDUE_S = 2 * 3600.0
"""How long after `expires_at` a batch may go on before it is given up as overdue."""
WINDOW_S = 24 * 3600.0
"""The window of a batch, where the service does not tell when it expires (OpenAI, guides/batch, 2026-07)."""
FILES_ASKED_FOR = 3
"""Input files that are asked for before a key is taken for another project's."""
STRANGER = (
    "the service knows none of our {} batches in flight, nor their files; "
    "is OPENAI_API_KEY of the project that they were sent from?"
)
OUTAGE = FailureClass.OUTAGE
STRAYS_FOR_S = 26 * 3600.0
"""How long after its submission was closed a batch of it may still come to light: it ends within a day."""


class BatchWatcher:
    """Refreshes what the state knows of batches, and cancels those that it wants ended."""

    def __init__(self, context: LaneContext) -> None:
        self._context = context

    def refresh_batches(self) -> None:
        """One look at everything in flight."""
        with self._context.store.read_transaction() as tx:
            known = batches.load_known_batches(tx)
            (floor,) = tx.fetch_one("listing_floor", since=tx.now - STRAYS_FOR_S)
            unread = batches.load_unread_batches(tx)
        running = [batch for batch in known.values() if batch.ended_at is None]
        listing = self._context.service.list_batches((floor or 0.0) - CLOCK_SKEW_S)
        seen: dict[str, RemoteBatch | None] = {batch.batch_id: batch for batch in listing.batches}
        late = [batch for batch in running if batch.batch_id not in seen]
        for batch_id in [batch.batch_id for batch in late] + unread:
            self._retrieve_batch(batch_id, seen)
        stranger = self._is_foreign_key(running, known.keys(), seen)
        with self._context.store.transaction("refresh", patience_s=None) as tx:
            told_of = [batch for batch in running if batch.batch_id in seen]
            ended = [b for b in told_of if self._update_batch(tx, b, seen[b.batch_id], listing, stranger)]
            told = self._record_stray_batches(tx, listing, known.keys())
            self._restore_overdue_batches(tx, unread, seen)
            _record_listing_lag(tx, late, [seen.get(batch.batch_id) for batch in late], listing)
            if stranger:
                facts.stop_sending(tx, STRANGER.format(len(running)))
            facts.record_poll(tx)
        self._report_progress(len(running) - len(ended), told)

    def _retrieve_batch(self, batch_id: str, seen: dict[str, RemoteBatch | None]) -> None:
        """One batch that no listing showed. An error over it says nothing, and holds up none of the others."""
        try:
            seen[batch_id] = self._context.service.retrieve_batch(batch_id)
        except CallUnknown as error:
            self._context.notify(events.CallFailed(call="retrieve", reason=str(error)))

    def _is_foreign_key(
        self, running: list[KnownBatch], known: Collection[str], seen: Mapping[str, RemoteBatch | None]
    ) -> bool:
        """Whether the key sees nothing of ours: then it is another project's, and no batch is gone."""
        gone = [batch for batch in running if batch.batch_id in seen and seen[batch.batch_id] is None]
        if not gone or any(seen.get(batch_id) is not None for batch_id in known):
            return False
        return not any(self._context.service.can_see_file(batch.input_file_id) for batch in gone[:FILES_ASKED_FOR])

    def _restore_overdue_batches(
        self, tx: Transaction, unread: list[str], seen: Mapping[str, RemoteBatch | None]
    ) -> None:
        """Batches that were given up, and are there after all: their results are read like those of a late stray."""
        for batch_id in unread:
            batch = seen.get(batch_id)
            if batch is None or not is_terminal(batch.status):
                tx.fetch_all("look_later", batch_id=batch_id, next=tx.now + LOOK_AGAIN_S)
                continue
            tx.fetch_all("take_up_again", batch_id=batch_id, status=batch.status)
            batches.update_batch(tx, batches.load_known_batch(tx, batch_id), batch)
            tx.record_event("found_again", batch.status, batch_id=batch_id)

    def _update_batch(
        self, tx: Transaction, known: KnownBatch, batch: RemoteBatch | None, listing: BatchListing, stranger: bool
    ) -> bool:
        """Writes what was seen of a batch; whether it has ended just now."""
        now = listing.server_time or tx.now
        expires_at = (batch.expires_at if batch is not None else None) or known.created_at + WINDOW_S
        late = now > expires_at + OVERDUE_S
        if batch is None:
            return not stranger and self._handle_missing_batch(tx, known, now)
        if late and not is_terminal(batch.status):
            batch = _overdue_batch(known)
        return batches.update_batch(tx, known, batch)

    def _handle_missing_batch(self, tx: Transaction, known: KnownBatch, now: float) -> bool:
        """The service does not know the batch. One such answer may be a hiccup; it is believed after the grace."""
        if known.missing_since is None or now < known.missing_since:
            tx.fetch_all("set_missing", batch_id=known.batch_id, at=now)
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
            total, settled, ahead = tx.fetch_one("progress")
        self._context.notify(events.LinesProgressed(running=running, lines=total, done=settled + ahead))

    # --- cancelling -------------------------------------------------------------------------------------------------

    def cancel_batch(self, batch_id: str) -> None:
        """Carries out a wish to cancel. Asking twice does no harm, so a crash repeats it."""
        refused = ""
        crashpoints.mark_reached("cancel.before")
        try:
            batch = self._context.service.cancel_batch(batch_id)
        except CallRefused as error:
            if error.concerns_all_calls:
                raise
            batch, refused = None, str(error)
        except CallUnknown as error:  # asked again later, and nothing else waits for that
            self._context.notify(events.CallFailed(call="cancel", reason=str(error)))
            with self._context.store.transaction("cancel_unknown", patience_s=None) as tx:
                tx.fetch_all(
                    "cancel_later",
                    batch_id=batch_id,
                    until=tx.now + self._context.next_delay_seconds(OUTAGE, 0, error.wait_s),
                )
            return
        crashpoints.mark_reached("cancel.after")
        with self._context.store.transaction("record_cancel", patience_s=None) as tx:
            known = batches.load_known_batch(tx, batch_id)
            tx.fetch_all("cancel_asked", batch_id=batch_id, now=tx.now)
            tx.record_event("cancel", refused or "asked", shard=known.shard, batch_id=batch_id)
            if batch is not None:
                batches.update_batch(tx, known, batch)
        self._context.notify(events.CancelRequested(shard=known.shard, batch_id=batch_id))


def _record_listing_lag(
    tx: Transaction, late: list[KnownBatch], seen: list[RemoteBatch | None], listing: BatchListing
) -> None:
    """A batch that exists and is not listed shows how late listings are; absence must last twice as long as that."""
    if not listing.server_time:
        return
    lags = [listing.server_time - b.created_at for b, found in zip(late, seen, strict=True) if found is not None]
    if lags:
        facts.record_listing_lag(tx, max(lags))


def _overdue_batch(known: KnownBatch) -> RemoteBatch:
    """What stands for a batch that the service no longer tells of."""
    return RemoteBatch(known.batch_id, BatchStatus.OVERDUE, known.created_at, known.input_file_id)
