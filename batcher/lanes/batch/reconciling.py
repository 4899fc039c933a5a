"""Finding out what an interrupted call has done. An intent without an outcome is never guessed.

A batch is absent only when two complete listings, a grace apart by the server's clock, lack it, its input file is
deleted, and a look after that finds nothing either.
"""

from batcher import crashpoints
from batcher.config import Config
from batcher.core import events
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import ShardState
from batcher.core.remote import BatchListing, RemoteBatch
from batcher.lanes.context import LaneContext
from batcher.service.service import CallRefused
from batcher.state import batches, facts, intents, shards, strays, submissions
from batcher.state.db.transaction import Transaction
from batcher.state.submissions import Submission, find_submission, input_file_name

CLOCK_SKEW_S = 300.0
"""How far the service's clocks may disagree: a batch may seem older than the file that it was made of."""
LONGEST_GRACE_S = 3600.0
"""However late listings were seen to be, no lost answer waits longer."""
DATE_STEP_S = 1.0
"""A Date header tells whole seconds: two of them may be apart by so much less than they say."""
STRANGER = (
    "the service does not know the file that we have uploaded for shard {}, nor its batch; "
    "is OPENAI_API_KEY of the project that it was sent from?"
)


def absence_grace(tx: Transaction, config: Config) -> float:
    """How long absence must last: the setting, or twice the longest lag that a listing has shown so far."""
    learned = min(2 * facts.read_listing_lag(tx), LONGEST_GRACE_S)
    return max(config.api.reconcile_grace_s, learned)


class IntentReconciler:
    """Closes open intents."""

    def __init__(self, context: LaneContext) -> None:
        self._context = context

    def reconcile_shard(self, shard: int) -> None:
        """Finds out what an intent without an outcome has done."""
        with self._context.store.read_transaction() as tx:
            row = shards.load_shard(tx, shard)
            if row.submission is None:
                return
            submission = submissions.load_submission(tx, row.submission)
            run = submissions.load_run_id(tx)
        if row.state is ShardState.UPLOADING:
            self._reconcile_upload(submission, input_file_name(run, shard, submission.submission))
        elif row.state is ShardState.CREATING:
            self._reconcile_create(submission, run)

    def _reconcile_upload(self, submission: Submission, name: str) -> None:
        orphans = self._context.service.find_files(name)
        with self._context.store.transaction("forget_upload", patience_s=None) as tx:
            intents.forget_upload(tx, submission, orphans, tx.now + absence_grace(tx, self._context.config))
        self._context.notify(events.UploadRepeated(shard=submission.shard))

    # --- create -----------------------------------------------------------------------------------------------------

    def _reconcile_create(self, submission: Submission, run: str) -> None:
        listing = self._list_batches(submission)
        if self._adopt_found_batches(submission, listing, run):
            return
        if not self._confirm_absence(submission, listing):
            return
        if not self._delete_input_file(submission):
            return
        # What came to light between the listing and the deletion is found here; a later one finds no file.
        if not self._adopt_found_batches(submission, self._list_batches(submission), run):
            self._record_absence(submission)

    def _list_batches(self, submission: Submission) -> BatchListing:
        """A complete listing that begins now, back to the input file by the service's own clock."""
        return self._context.service.list_batches((submission.file_created_at or 0.0) - CLOCK_SKEW_S)

    def _adopt_found_batches(self, submission: Submission, listing: BatchListing, run: str) -> bool:
        """Records every batch of this submission that the listing shows; whether there was one."""
        with self._context.store.read_transaction() as tx:
            found = strays.sort_best_first(_unrecorded_batches(tx, listing, run, submission))
        if not found:
            return False
        with self._context.store.transaction("adopt", patience_s=None) as tx:
            outcomes = [strays.record_found_batch(tx, submission, batch) for batch in found]
            facts.reset_unknown_calls(tx)
        for outcome in outcomes:
            self._context.notify(outcome)
        return True

    def _confirm_absence(self, submission: Submission, listing: BatchListing) -> bool:
        """Whether the batch has been absent for the grace; else writes down that it is absent now."""
        with self._context.store.transaction("absent_once", patience_s=None) as tx:
            grace = absence_grace(tx, self._context.config)
            passed = _absence_seconds(submission, listing.server_time, tx.now)
            if passed is not None and passed >= grace:
                return True
            if passed is None or passed < 0:  # never seen absent, or a clock was set back: the grace begins now
                tx.fetch_all(
                    "set_absent_since",
                    submission=submission.submission, at=listing.server_time, now=tx.now,
                )  # fmt: skip
                passed = 0.0
            shards.delay_shard(tx, submission.shard, tx.now + max(grace - passed, 0.01))
        self._context.notify(events.BatchSearched(shard=submission.shard))
        return False

    def _delete_input_file(self, submission: Submission) -> bool:
        """Deletes the input file, so that a late create names no file; whether that went well.

        A key that does not see a file that we have uploaded is another project's: what it does not list says nothing.
        """
        assert submission.file_id is not None
        if submission.delete_intended_at is None:
            if not self._context.service.can_see_file(submission.file_id):
                self._stop_for_foreign_key(submission)
                return False
            with self._context.store.transaction("intend_delete") as tx:
                tx.fetch_all("intend_delete", submission=submission.submission, now=tx.now)
        crashpoints.mark_reached("delete_input.before")
        try:
            self._context.service.delete_file(submission.file_id)
        except CallRefused as error:
            if error.concerns_all_calls:
                raise
            self._handle_delete_refusal(submission, error)
            return False
        crashpoints.mark_reached("delete_input.after")
        with self._context.store.transaction("input_deleted", patience_s=None) as tx:
            intents.record_input_deletion(tx, submission)
        return True

    def _handle_delete_refusal(self, submission: Submission, error: CallRefused) -> None:
        """The file is in use, perhaps: this shard waits, and is looked for again."""
        self._context.notify(events.CallFailed(call="delete", reason=str(error)))
        with self._context.store.transaction("delete_refused", patience_s=None) as tx:
            tx.fetch_all(
                "delay_shard",
                shard=submission.shard,
                until=tx.now + self._context.next_delay_seconds(FailureClass.OUTAGE, 2),
            )
            tx.record_event("delete_refused", str(error), shard=submission.shard, submission=submission.submission)

    def _stop_for_foreign_key(self, submission: Submission) -> None:
        with self._context.store.transaction("stranger", patience_s=None) as tx:
            tx.fetch_all(
                "delay_shard",
                shard=submission.shard,
                until=tx.now + self._context.next_delay_seconds(FailureClass.OUTAGE, 0),
            )
            facts.stop_sending(tx, STRANGER.format(submission.shard))

    def _record_absence(self, submission: Submission) -> None:
        """The batch does not exist. Another batch of the shard that came to light meanwhile takes its place."""
        with self._context.store.transaction("find_absent", patience_s=None) as tx:
            others = strays.load_sibling_batches(tx, submission.shard)
            if others:
                tx.move_shard(submission.shard, "record_create", f"adopted {others[0].batch_id}")
                strays.promote_batch(tx, submission.shard, others[0])
                strays.keep_best_batch(tx, submission.shard)
            else:
                intents.record_absent_batch(tx, submission)
        self._context.notify(events.BatchAbsent(shard=submission.shard))


def _unrecorded_batches(tx: Transaction, listing: BatchListing, run: str, submission: Submission) -> list[RemoteBatch]:
    """The batches of a listing that the state does not know and that this submission asked for."""
    known = batches.load_known_batches(tx)
    found = []
    for batch in listing.batches:
        if batch.batch_id in known:
            continue
        asked = find_submission(tx, batch, run)
        if asked is not None and asked.submission == submission.submission:
            found.append(batch)
    return found


def _absence_seconds(submission: Submission, server_time: float, now: float) -> float | None:
    """Seconds since a listing first lacked the batch: by the server's clock, by ours where it tells no time."""
    if submission.absent_since is None or submission.absent_since_local is None:
        return None
    if submission.absent_since and server_time:
        passed = server_time - submission.absent_since
        return max(0.0, passed - DATE_STEP_S) if passed >= 0 else passed
    return now - submission.absent_since_local
