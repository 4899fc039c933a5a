"""Sending a shard: upload, then create, each once, between an intent and its outcome.

The client may not repeat `POST /batches`: a repetition can start a paid batch twice. An intent without an outcome is
reconciled (batcher/lanes/batch/reconciling.py), never guessed.
"""

from typing import NamedTuple

from batcher import crashpoints
from batcher.core import events
from batcher.core.actions import Send
from batcher.core.admission import find_send_obstacle, max_shard_cost
from batcher.core.failures import FailureClass, classify_call_error
from batcher.core.lifecycle import ShardState
from batcher.core.retry import LONGEST_LOOK_WAIT_S
from batcher.disk.shard_files import is_shard_file_whole, shard_path
from batcher.lanes.batch.reconciling import absence_grace
from batcher.lanes.batch.refusals import RefusalHandler
from batcher.lanes.context import LaneContext
from batcher.service.service import CallError, CallRefused, CallUnknown
from batcher.state import batches, facts, intents, quota_pauses, remote_files, shards, strays, submissions
from batcher.state.db.transaction import Transaction
from batcher.state.shards import ShardRow
from batcher.state.snapshot import load_budget, load_room, load_send_gate, load_user_gate
from batcher.state.submissions import Reservation, Submission, build_batch_metadata, input_file_name
from batcher.state.versions import load_version

REPEATED_ANSWER = "the answer names batch {}, which was made before; the batch of this call is looked for"
FILE_FRESH_S = 25 * 24 * 3600.0
"""A kept input file older than this (seconds) is uploaded again: it expires after 30 days."""


class _Intent(NamedTuple):
    """What was intended with a shard."""

    shard: ShardRow
    submission: int | None
    """None: it is not sent now."""
    file_is_kept: bool = False
    file_is_doubted: bool = False


class ShardSender:
    """Uploads shards and creates their batches."""

    def __init__(self, context: LaneContext, refusals: RefusalHandler) -> None:
        self._context, self._refusals = context, refusals

    def send_shard(self, action: Send) -> None:
        """Send one shard: from its file on disk, or from the one that is kept at OpenAI."""
        intent = self._intend_sending(action)
        if intent.file_is_doubted:  # nothing was written yet: the service is asked for the file first
            intent = self._intend_sending(action, self._is_file_gone(intent.shard))
        if intent.submission is None:
            return
        if intent.file_is_kept or self._upload_shard_file(intent.shard, intent.submission):
            self._create_batch(intent.submission)

    def _intend_sending(self, action: Send, file_is_gone: bool | None = None) -> _Intent:
        """Write the intent to send a shard, where it may still be sent.

        file_is_gone: whether the service says that it has no such file; None: it was not asked.
        """
        with self._context.store.transaction("intend_send") as tx:
            shard = shards.load_shard(tx, action.shard)
            if file_is_gone is None and self._is_file_doubted(tx, shard):
                return _Intent(shard, None, file_is_doubted=True)
            reservation = self._reserve_tokens(tx, shard, action)
            if reservation is None or (file_is_gone and not self._refusals.count_lost_file(tx, shard.shard)):
                return _Intent(shard, None)
            file_is_kept = not file_is_gone and self._has_usable_file(tx, shard)
            if file_is_kept:
                submission = intents.intend_resubmission(tx, shard, reservation)
            else:
                if shard.state is ShardState.UPLOADED:
                    shards.discard_uploaded_file(tx, shard.shard)
                submission = intents.intend_upload(tx, shard, reservation)
            if submission is not None:
                model = load_version(tx, shard.version)[0].model
                quota_pauses.record_submission_sample(tx, model, shard.shard, reservation)
            return _Intent(shard, submission, file_is_kept)

    def _is_file_doubted(self, tx: Transaction, shard: ShardRow) -> bool:
        """Return whether the service has refused to find the shard's kept file for longer than the grace.

        A file that was uploaded just now is not found at once everywhere: until then the create is tried again.
        """
        since = shard.file_missing_since
        if shard.state is not ShardState.UPLOADED or since is None:
            return False
        return not 0 <= tx.now - since < absence_grace(tx, self._context.config)

    def _is_file_gone(self, shard: ShardRow) -> bool:
        """Return whether the service says that the shard's file does not exist. Raises CallRefused for our key."""
        if shard.file_id is None:
            return True
        try:
            return not self._context.service.can_see_file(shard.file_id)
        except CallError as error:  # it does not say so
            if isinstance(error, CallRefused) and error.refuses_key:
                raise
            self._context.notify(events.CallFailed(call="files", reason=str(error)))
            return False

    def _reserve_tokens(self, tx: Transaction, shard: ShardRow, action: Send) -> Reservation | None:
        """Return the reservation; None when in this very transaction the shard may not be sent any more (promise 3).

        Other commands write between the snapshot that decided it and now: a pause, a plan that cut the shard again.
        """
        config = self._context.config
        room, view = load_room(tx, config), shard.to_view()
        budget = load_budget(tx, config, self._context.prices, room)
        gate = load_send_gate(tx, config, [shard.version])
        if find_send_obstacle(gate, view, tx.now, reserved=action.reserved, room=room, budget=budget):
            return None
        after = room.headroom - action.reserved
        return Reservation(action.reserved, room.limit, room.reserved, after, max_shard_cost(view, budget) or 0.0)

    def _has_usable_file(self, tx: Transaction, shard: ShardRow) -> bool:
        """Return whether the shard's file is at OpenAI, and is not about to expire there."""
        if shard.state is not ShardState.UPLOADED:
            return False
        is_fresh = tx.now - (shard.file_created_at or 0.0) < FILE_FRESH_S
        return is_fresh and not remote_files.is_file_deleted(tx, shard.file_id)

    def _upload_shard_file(self, shard: ShardRow, submission: int) -> bool:
        """Upload the file and write the intent to create; return whether the batch is to be created."""
        context = self._context
        path = shard_path(context.store.folder, shard.shard)
        if not is_shard_file_whole(path, shard.sha256):
            self._cut_damaged_shard(shard, submission)
            return False
        context.notify(events.UploadStarted(shard=shard.shard, lines=shard.lines, bytes=path.stat().st_size))
        with context.store.read_transaction() as tx:
            name = input_file_name(submissions.load_run_id(tx), shard.shard, submission)
        crashpoints.mark_reached("upload.before")
        try:
            file = context.service.upload_file(path, name, lambda sent: context.notify(events.BytesSent(bytes=sent)))
        except CallRefused as error:
            self._handle_upload_refusal(submission, error)
            return False
        except CallUnknown as error:
            context.notify(events.CallFailed(call="upload", reason=str(error)))
            with context.store.transaction("call_unknown", patience_s=None) as tx:
                # Shortly at first, then as in an outage.
                delay_s = context.next_call_delay_seconds(facts.count_unknown_call(tx))
                shards.delay_shard(tx, shard.shard, tx.now + delay_s)
                self._record_retry_after(tx, error)
            return False
        crashpoints.mark_reached("upload.after")
        with context.store.transaction("record_upload", patience_s=None) as tx:
            intents.record_upload(tx, submissions.load_submission(tx, submission), file)
            uploaded = shards.load_shard(tx, shard.shard)
            # An upload takes its time, in which the user, a quota failure or the brake may have stopped the sending.
            gate = load_user_gate(tx, context.config, uploaded.version)
            obstacle = find_send_obstacle(gate, uploaded.to_view(), tx.now)
            if obstacle:
                intents.close_submission(tx, submission, "stopped before its batch was asked for")
            else:
                intents.intend_create(tx, uploaded, submission)
        return not obstacle

    def _cut_damaged_shard(self, shard: ShardRow, submission: int) -> None:
        """Have the lines of a shard rendered and cut again, because its file on disk is not what was planned."""
        with self._context.store.transaction("file_damaged", patience_s=None) as tx:
            intents.forget_upload(tx, submissions.load_submission(tx, submission), [])
            shards.mark_shard_stale(tx, shard.shard, "its file on disk is missing or was changed")
            shards.loosen_shard_lines(tx, shard.shard)

    def _handle_upload_refusal(self, submission: int, error: CallRefused) -> None:
        failure = classify_call_error(error.details)
        with self._context.store.transaction("upload_refused", patience_s=None) as tx:
            row = submissions.load_submission(tx, submission)
            intents.forget_upload(tx, row, [])
            if failure is FailureClass.SHARD_REFUSED:
                refusals = shards.count_shard_refusal(tx, row.shard)
                tries = self._context.rules.policies[failure].tries
                if tries is not None and refusals > tries:
                    self._refusals.stop_sending(tx, error.details)
                wait = self._context.next_delay_seconds(failure, refusals - 1, error.wait_s)
                shards.delay_shard(tx, row.shard, tx.now + wait)
            else:
                self._refusals.handle_refusal(tx, row.shard, failure, error.details, error.wait_s)

    def _record_retry_after(self, tx: Transaction, error: CallUnknown) -> None:
        """Have nothing sent before the time that the service asked to wait for, and no call made for a part of it."""
        if error.wait_s is not None:
            for wait, asked_s in (
                (facts.WaitFact.RATE, error.wait_s),
                (facts.WaitFact.ASKED, min(error.wait_s, LONGEST_LOOK_WAIT_S)),
            ):
                delay_s = self._context.next_delay_seconds(FailureClass.OUTAGE, 0, asked_s)
                facts.extend_wait(tx, wait, tx.now + delay_s)

    def _create_batch(self, submission: int) -> None:
        with self._context.store.read_transaction() as tx:
            row = submissions.load_submission(tx, submission)
            version, _ = load_version(tx, shards.load_shard(tx, row.shard).version)
            metadata = build_batch_metadata(submissions.load_run_id(tx), row)
        if row.file_id is None:
            raise ValueError(f"submission {submission} has no input file")
        crashpoints.mark_reached("create.before")
        try:
            batch = self._context.service.create_batch(row.file_id, version.endpoint.value, metadata)
        except CallRefused as error:
            self._handle_create_refusal(row, error)
            return
        except CallUnknown as error:
            self._context.notify(events.CallFailed(call="create", reason=str(error)))
            with self._context.store.transaction("create_unknown", patience_s=None) as tx:
                tx.record_event("create_unknown", str(error), shard=row.shard, submission=row.submission)
                self._record_retry_after(tx, error)
            return
        crashpoints.mark_reached("create.after")
        with self._context.store.transaction("record_create", patience_s=None) as tx:
            # An answer that names an earlier batch says nothing of this call (a gateway has repeated it, perhaps): the
            # intent stays open, and is reconciled like one without an answer.
            repeated = batches.find_known_batch(tx, batch.batch_id)
            why = REPEATED_ANSWER.format(batch.batch_id)
            if repeated is not None:
                tx.record_event("create_unknown", why, shard=row.shard, submission=row.submission)
            else:
                intents.record_create(tx, row, batch, "created")
                strays.keep_best_batch(tx, row.shard)
                facts.reset_unknown_calls(tx)
        if repeated is not None:
            self._context.notify(events.CallFailed(call="create", reason=why))
        else:
            self._context.notify(events.BatchCreated(shard=row.shard, batch_id=batch.batch_id))

    def _handle_create_refusal(self, row: Submission, error: CallRefused) -> None:
        failure = classify_call_error(error.details)
        self._context.notify(events.ShardRefused(shard=row.shard, reason=str(error)))
        with self._context.store.transaction("refuse_create", patience_s=None) as tx:
            intents.record_create_refusal(tx, row, failure.value)
            self._refusals.handle_refusal(tx, row.shard, failure, error.details, error.wait_s)
