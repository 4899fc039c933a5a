"""Finding out what an interrupted call has done. An intent without an outcome is never guessed.

A batch is absent only when two complete listings, a grace apart by the server's clock and by ours, lack it, its input
file is deleted, and a complete listing after that lacks it too.
"""

from batcher import crashpoints
from batcher.config.sections import Config
from batcher.core import events
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import ShardState
from batcher.core.remote import BatchListing, Moment, RemoteBatch, RemoteFile, seconds_between
from batcher.lanes.context import LaneContext
from batcher.service.service import CallError, CallRefused
from batcher.state import batches, facts, intents, shards, strays, submissions, wishes
from batcher.state.db.transaction import Transaction
from batcher.state.submissions import Submission, find_submission, input_file_name

CLOCK_SKEW_S = 300.0
"""Seconds by which the service's clocks may differ: a batch may seem older than the file that it was made of."""
LONGEST_GRACE_S = 3600.0
"""Longest grace in seconds, however late listings have proved to be."""
PROOF_PATIENCE_S = 26 * 3600.0
"""Seconds from the first look that proves nothing of a create to the one after which its batch is not waited for. One
that exists has ended by then, and what holds for this long does not pass, such as listings that never say where they
end. It is not counted from the create: after a standstill of days the first look may be a bad one."""
FOREIGN_KEY = (
    "the service does not know the file that we have uploaded for shard {}, nor its batch; "
    "is {} of the project that it was sent from?"
)


def absence_grace(tx: Transaction, config: Config) -> float:
    """Return how long absence must last (seconds): the setting, or twice the longest lag that a listing has shown."""
    learned = min(2 * facts.read_listing_lag(tx), LONGEST_GRACE_S)
    return max(config.api.reconcile_grace_s, learned)


def learn_listing_lag(tx: Transaction, lacking: Moment | None, showing: Moment) -> None:
    """Learn how late listings are from a batch that exists: when a listing first lacked it, and when one showed it.

    showing: the last look, where the batch is known to exist and no listing has shown it yet.
    """
    if lacking is not None:
        facts.record_listing_lag(tx, seconds_between(lacking, showing))


def find_possible_files(context: LaneContext, name: str) -> list[RemoteFile]:
    """Return the files that lost uploads have left under a name; none where the service cannot say.

    A file without a batch costs nothing and expires, so that nothing waits for this. Raises CallRefused for our key.
    """
    try:
        return context.service.find_files(name)
    except CallError as error:
        if isinstance(error, CallRefused) and error.refuses_key:
            raise
        context.notify(events.CallFailed(call="files", reason=str(error)))
        return []


class IntentReconciler:
    """Closes intents that have no outcome."""

    def __init__(self, context: LaneContext) -> None:
        self._context = context

    def reconcile_shard(self, shard: int) -> None:
        """Find out what an intent without an outcome has done."""
        with self._context.store.read_transaction() as tx:
            row = shards.load_shard(tx, shard)
            if row.submission is None:
                return
            submission = submissions.load_submission(tx, row.submission)
            run = submissions.load_run_id(tx)
        if row.state is ShardState.UPLOADING:
            orphans = find_possible_files(self._context, input_file_name(run, shard, submission.submission))
            with self._context.store.transaction("forget_upload", patience_s=None) as tx:
                intents.forget_upload(tx, submission, orphans, tx.now + absence_grace(tx, self._context.config))
            self._context.notify(events.UploadRepeated(shard=shard))
        elif row.state is ShardState.CREATING:
            self._reconcile_create(submission, run)

    def _reconcile_create(self, submission: Submission, run: str) -> None:
        profile = self._context.profile
        if not profile.has("list_batches"):  # nothing will ever show whether it exists
            self._hold_create(submission)
            return
        listing = self._list_batches(submission)
        if self._adopt_found_batches(submission, listing, run):
            return
        if not self._confirm_absence(submission, listing):
            return
        if not profile.has("delete_files"):  # a create that is late would still find its file
            self._hold_create(submission)
            return
        if not self._delete_input_file(submission):
            return
        # A batch that was created between the listing and the deletion is found here; a later create finds no file.
        listing = self._list_batches(submission)
        if not self._adopt_found_batches(submission, listing, run) and self._confirm_absence(submission, listing):
            self._record_absence(submission)

    def _list_batches(self, submission: Submission) -> BatchListing:
        """Return a listing that begins now, back to the input file by the service's own clock."""
        return self._context.service.list_batches((submission.file_created_at or 0.0) - CLOCK_SKEW_S)

    def _adopt_found_batches(self, submission: Submission, listing: BatchListing, run: str) -> bool:
        """Record every batch of this submission that the listing shows; return whether there was one."""
        with self._context.store.read_transaction() as tx:
            found = strays.sort_best_first(_unrecorded_batches(tx, listing, run, submission))
        if not found:
            return False
        with self._context.store.transaction("adopt", patience_s=None) as tx:
            outcomes = [strays.record_found_batch(tx, submission, batch) for batch in found]
            learn_listing_lag(tx, submission.absent, Moment(tx.now, listing.server_time))
            facts.reset_unknown_calls(tx)
        for outcome in outcomes:
            self._context.notify(outcome)
        return True

    def _confirm_absence(self, submission: Submission, listing: BatchListing) -> bool:
        """Return whether the batch has been absent for the grace; else have it searched for again later.

        A listing that is not complete says nothing: neither that the batch is absent now, nor that it is not. Where
        that lasts until the batch would have ended, its lines are held.
        """
        event: events.Event = events.BatchSearched(shard=submission.shard)
        with self._context.store.transaction("absent_once", patience_s=None) as tx:
            problems = strays.record_listing_problems(tx, listing.problems)
            grace, look = absence_grace(tx, self._context.config), Moment(tx.now, listing.server_time)
            passed = None if submission.absent is None else seconds_between(submission.absent, look)
            if listing.proves_absence and passed is not None and passed >= grace:
                return True
            if not listing.proves_absence:
                event = self._record_unclear_look(tx, submission) or event
            elif passed is None or passed < 0:  # never seen absent, or a clock was set back: the grace begins now
                submissions.record_batch_absence(tx, submission.submission, look)
                self._delay_search(tx, submission, grace)
            else:
                self._delay_search(tx, submission, grace - passed)
        for problem in problems:
            self._context.notify(events.ListingUnclear(reason=problem))
        self._context.notify(event)
        return False

    def _record_unclear_look(self, tx: Transaction, submission: Submission) -> events.Event | None:
        """Have the batch searched for again after a delay, or give the create up; return the event of the latter."""
        waited_s = submissions.record_unclear_look(tx, submission)
        if waited_s >= PROOF_PATIENCE_S:
            return self._give_up_create(tx, submission)
        n = int(waited_s // max(self._context.rules.policies[FailureClass.OUTAGE].base_s, 1.0))
        self._delay_search(tx, submission, self._context.next_delay_seconds(FailureClass.OUTAGE, n))
        return None

    def _delay_search(self, tx: Transaction, submission: Submission, delay_s: float) -> None:
        """Have the batch searched for again after a delay (seconds)."""
        shards.delay_shard(tx, submission.shard, tx.now + max(delay_s, 0.01))

    def _hold_create(self, submission: Submission) -> None:
        """Hold the lines of a create at a service that cannot say whether its batch exists."""
        with self._context.store.transaction("hold_create", patience_s=None) as tx:
            outcome = self._give_up_create(tx, submission)
        self._context.notify(outcome)

    def _give_up_create(self, tx: Transaction, submission: Submission) -> events.Event:
        """Hold the lines of a create of which nothing shows what it did; return the event to report.

        Another batch of the shard that was found meanwhile takes its place.
        """
        if strays.adopt_sibling_batch(tx, submission.shard):
            return events.BatchSearched(shard=submission.shard)
        held = intents.give_up_create(tx, submission)
        wishes.fulfil_wish(tx, submission.shard, intents.UNPROVEN)
        return events.CreateGivenUp(shard=submission.shard, lines=held)

    def _delete_input_file(self, submission: Submission) -> bool:
        """Delete the input file, so that a late create names no file; return whether it is deleted.

        A key that does not see a file that we have uploaded is another project's, so what it does not list may exist.
        """
        if submission.file_id is None:
            raise ValueError(f"submission {submission.submission} has no input file")
        try:
            if submission.delete_intended_at is None:
                if not self._context.service.can_see_file(submission.file_id):
                    self._stop_for_key(submission)
                    return False
                with self._context.store.transaction("intend_delete") as tx:
                    submissions.intend_file_deletion(tx, submission.submission)
            crashpoints.mark_reached("delete_input.before")
            self._context.service.delete_file(submission.file_id)
        except CallError as error:
            if not error.may_concern_one_object:
                raise
            self._handle_kept_file(submission, error)
            return False
        crashpoints.mark_reached("delete_input.after")
        with self._context.store.transaction("input_deleted", patience_s=None) as tx:
            intents.record_input_deletion(tx, submission)
        return True

    def _handle_kept_file(self, submission: Submission, error: CallError) -> None:
        """Have this shard alone wait and search again: its file is perhaps in use, or no look at one is served."""
        with self._context.store.transaction("delete_refused", patience_s=None) as tx:
            tx.record_event("delete_refused", str(error), shard=submission.shard, submission=submission.submission)
            given_up = self._record_unclear_look(tx, submission)
        self._context.notify(given_up or events.CallFailed(call="delete", reason=str(error)))

    def _stop_for_key(self, submission: Submission) -> None:
        """Send nothing more: the key does not see what we have uploaded."""
        with self._context.store.transaction("stranger", patience_s=None) as tx:
            wait = self._context.next_delay_seconds(FailureClass.OUTAGE, 0)
            shards.delay_shard(tx, submission.shard, tx.now + wait)
            facts.stop_sending(tx, FOREIGN_KEY.format(submission.shard, self._context.profile.key_variables[0]))

    def _record_absence(self, submission: Submission) -> None:
        """Record that the batch does not exist. Another batch of the shard that was found meanwhile takes its place."""
        with self._context.store.transaction("find_absent", patience_s=None) as tx:
            if not strays.adopt_sibling_batch(tx, submission.shard):
                intents.record_absent_batch(tx, submission)
        self._context.notify(events.BatchAbsent(shard=submission.shard))


def _unrecorded_batches(tx: Transaction, listing: BatchListing, run: str, submission: Submission) -> list[RemoteBatch]:
    """Return the batches of a listing that the state does not know and that this submission created."""
    known = batches.load_known_batches(tx)
    found = []
    for batch in listing.batches:
        if batch.batch_id in known:
            continue
        creator = find_submission(tx, batch, run)
        if creator is not None and creator.submission == submission.submission:
            found.append(batch)
    return found
