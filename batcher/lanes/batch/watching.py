"""Refreshing what the state knows of batches: one listing for all, and those that it lacks one by one.

A batch of ours that a listing shows and the state does not know is recorded as a stray.
"""

from collections.abc import Collection, Mapping, Sequence

from batcher import crashpoints
from batcher.core import events
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import BatchStatus, is_terminal
from batcher.core.remote import BatchListing, Moment, RemoteBatch, seconds_between
from batcher.core.verdicts import LOOK_AGAIN_S
from batcher.lanes.batch.reconciling import CLOCK_SKEW_S, absence_grace, learn_listing_lag
from batcher.lanes.context import LaneContext
from batcher.service.service import CallError, CallRefused, CallUnknown
from batcher.state import batches, facts, strays, submissions
from batcher.state.batches import KnownBatch
from batcher.state.db.transaction import Transaction
from batcher.state.submissions import find_submission

OVERDUE_S = 2 * 3600.0
"""Seconds after `expires_at` for which a batch may go on before it is given up as overdue."""
WINDOW_S = 24 * 3600.0
"""Seconds until a batch expires, where the service does not say when (OpenAI, guides/batch, 2026-07)."""
QUIET_S = 600.0
"""Seconds without a change after which a batch is retrieved alone: some services never move a listing."""
FILES_CHECKED = 3
"""Input files that are looked up before the key is judged to be another project's."""
FOREIGN_KEY = (
    "the service knows none of the job's batches in flight ({}), nor their files; "
    "is {} of the project that they were sent from?"
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
            unproven = strays.load_unproven_creates(tx)
        if unproven.file_created_at is not None:
            floor = min(floor or unproven.file_created_at, unproven.file_created_at)
        running = [batch for batch in known.values() if batch.ended_at is None]
        listing = self._context.service.list_batches(floor - CLOCK_SKEW_S)
        listed = {batch.batch_id: batch for batch in listing.batches}
        seen: dict[str, RemoteBatch | None] = dict(listed)
        unlisted = [batch.batch_id for batch in running if batch.batch_id not in listed]
        may_be_late = not self._context.profile.runs_over_window
        look_now = Moment(self._context.clock(), listing.server_time)
        checked = _choose_checked_batches(running, listed, look_now, may_be_late)
        for batch_id in [*unlisted, *checked, *unread]:
            self._retrieve_batch(batch_id, seen)
        is_foreign = self._is_foreign_key(running, known.keys(), seen)
        with self._context.store.transaction("refresh", patience_s=None) as tx:
            look = Moment(tx.now, listing.server_time)
            answered = [batch for batch in running if batch.batch_id in seen]
            ended = [b for b in answered if self._update_batch(tx, b, seen[b.batch_id], look, is_foreign)]
            unseen = [batch for batch in running if batch.batch_id not in seen]
            silent = [batch for batch in unseen if may_be_late and _is_late(batch, None, look)]
            ended += [b for b in silent if self._give_up_doubted(tx, b, look, "the service says nothing of the batch")]
            outcomes = self._record_stray_batches(tx, listing, known.keys())
            self._restore_overdue_batches(tx, unread, seen)
            if unproven.creates:
                strays.postpone_unproven_creates(tx, tx.now + LOOK_AGAIN_S)
            for batch_id in checked:
                batches.record_batch_check(tx, batch_id)
            for batch in answered:
                is_listed = batch.batch_id in listed
                if is_listed or (seen[batch.batch_id] is not None and listing.proves_absence):
                    _follow_listing_lag(tx, batch, is_listed, look)
            outcomes += [events.ListingUnclear(each) for each in strays.record_listing_problems(tx, listing.problems)]
            if is_foreign:
                facts.stop_sending(tx, FOREIGN_KEY.format(len(running), self._context.profile.key_variables[0]))
            facts.record_poll(tx)
        self._report_progress(len(running) - len(ended), outcomes)

    def _retrieve_batch(self, batch_id: str, seen: dict[str, RemoteBatch | None]) -> None:
        """Put what the service says of one batch into `seen`; an error leaves that as it is and delays no other batch.

        A batch that is listed exists, even where retrieving it says otherwise.
        """
        try:
            found = self._context.service.retrieve_batch(batch_id)
        except CallError as error:
            if isinstance(error, CallRefused) and error.concerns_all_calls:
                raise
            self._context.notify(events.CallFailed(call="retrieve", reason=str(error)))
            return
        if found is not None or batch_id not in seen:
            seen[batch_id] = found

    def _is_foreign_key(
        self, running: list[KnownBatch], known: Collection[str], seen: Mapping[str, RemoteBatch | None]
    ) -> bool:
        """Return whether the key sees nothing of ours: then it is another project's, and no batch is gone."""
        gone = [batch for batch in running if batch.batch_id in seen and seen[batch.batch_id] is None]
        if not gone or any(seen.get(batch_id) is not None for batch_id in known):
            return False
        return not any(self._may_see_file(batch.input_file_id) for batch in gone[:FILES_CHECKED])

    def _may_see_file(self, file_id: str) -> bool:
        """Return whether the key may see a file. Only a 404 says that it may not."""
        try:
            return self._context.service.can_see_file(file_id)
        except CallError as error:
            if not error.may_concern_one_object:
                raise
            self._context.notify(events.CallFailed(call="files", reason=str(error)))
            return True

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
        self, tx: Transaction, known: KnownBatch, batch: RemoteBatch | None, look: Moment, is_foreign: bool
    ) -> bool:
        """Record what was seen of a batch; return whether it has ended just now."""
        if batch is None:
            return not is_foreign and self._give_up_doubted(tx, known, look, "the service does not know the batch")
        ended = batches.update_batch(tx, known, batch)
        may_be_late = not is_terminal(batch.status) and not self._context.profile.runs_over_window
        if not may_be_late or not _is_late(known, batch, look):
            return ended
        return self._give_up_doubted(tx, known, look, "the batch should have ended long ago")

    def _give_up_doubted(self, tx: Transaction, known: KnownBatch, look: Moment, why: str) -> bool:
        """Give a batch up once two looks, a grace apart, find that it should be; return whether that ends it.

        One such look may be an error of the service, or its clock may be wrong for a second.
        """
        passed = None if known.doubted is None else seconds_between(known.doubted, look)
        if passed is None or passed < 0:  # not doubted before, or a clock was set back: the grace begins now
            tx.record_event("missing", why, shard=known.shard, batch_id=known.batch_id)
        elif passed >= absence_grace(tx, self._context.config):
            return batches.update_batch(tx, known, _overdue_batch(known))
        since = look if passed is None or passed < 0 else known.doubted or look
        batches.record_batch_doubt(tx, known.batch_id, since)
        return False

    def _record_stray_batches(
        self, tx: Transaction, listing: BatchListing, known: Collection[str]
    ) -> list[events.Event]:
        """Record batches of ours that the state does not know, oldest first; return what became of each."""
        run = submissions.load_run_id(tx)
        outcomes: list[events.Event] = []
        for batch in sorted(listing.batches, key=lambda b: b.created_at):
            submission = find_submission(tx, batch, run) if batch.batch_id not in known else None
            if submission is not None:
                learn_listing_lag(tx, submission.absent, Moment(tx.now, listing.server_time))
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
                batches.postpone_cancel(tx, batch_id, tx.now + wait)
            return
        crashpoints.mark_reached("cancel.after")
        with self._context.store.transaction("record_cancel", patience_s=None) as tx:
            known = batches.load_known_batch(tx, batch_id)
            batches.record_cancel_request(tx, batch_id)
            tx.record_event("cancel", refused or "asked", shard=known.shard, batch_id=batch_id)
            if batch is not None:
                batches.update_batch(tx, known, batch)
        self._context.notify(events.CancelRequested(shard=known.shard, batch_id=batch_id))


def _is_late(known: KnownBatch, batch: RemoteBatch | None, look: Moment) -> bool:
    """Return whether a batch should have ended long before a look. batch: what the look shows of it, None: nothing."""
    expires_at = (batch.expires_at if batch is not None else None) or known.created_at + WINDOW_S
    return (look.server or look.ours) > expires_at + OVERDUE_S


def _choose_checked_batches(
    running: Sequence[KnownBatch], listed: Mapping[str, RemoteBatch], look: Moment, may_be_late: bool
) -> Sequence[str]:
    """Return the batches that are asked for by themselves although they are listed.

    They are the one that has not changed for the longest time, where that is long, and those that are about to be given
    up: a listing may lag behind, or never move. may_be_late: whether batches are given up at all.
    """
    late, quiet = list[str](), list[KnownBatch]()
    for batch in running:
        found = listed.get(batch.batch_id)
        if found is None or is_terminal(found.status):
            continue
        known, now = (batch.status, batch.completed, batch.failed), (found.status, found.completed, found.failed)
        if may_be_late and _is_late(batch, found, look):
            late.append(batch.batch_id)
        elif known == now and not 0 <= look.ours - batch.checked_at < QUIET_S:
            quiet.append(batch)
    return [batch.batch_id for batch in sorted(quiet, key=lambda b: b.checked_at)[:1]] + late


def _follow_listing_lag(tx: Transaction, known: KnownBatch, is_listed: bool, look: Moment) -> None:
    """Learn how late listings are from a batch that exists, beginning with the look that first lacked it.

    A batch counts as absent only after twice that time.
    """
    learn_listing_lag(tx, known.unlisted, look)
    if is_listed and known.unlisted is not None:
        batches.record_unlisted_batch(tx, known.batch_id, None)
    elif not is_listed and known.unlisted is None:
        batches.record_unlisted_batch(tx, known.batch_id, look)


def _overdue_batch(known: KnownBatch) -> RemoteBatch:
    """Return a batch that the service no longer knows, as overdue."""
    return RemoteBatch(known.batch_id, BatchStatus.OVERDUE, known.created_at, known.input_file_id)
