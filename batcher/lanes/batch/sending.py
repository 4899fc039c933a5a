"""Sending a shard: upload, then create, each once, between an intent and its outcome.

The client may not repeat `POST /batches`: a repetition can start a paid batch twice. An intent without an outcome is
reconciled (batcher/lanes/batch/reconciling.py), never guessed.
"""

from batcher import crashpoints
from batcher.core import events
from batcher.core.actions import Send
from batcher.core.admission import max_shard_cost
from batcher.core.decide import WAITING_TO_BE_SENT
from batcher.core.failures import FailureClass, classify_call_error
from batcher.core.lifecycle import ShardState
from batcher.core.remote import RemoteBatch
from batcher.core.room import Room
from batcher.core.snapshot import ShardView
from batcher.disk.shard_files import file_sha256, shard_path
from batcher.lanes.batch.refusals import RefusalHandler
from batcher.lanes.context import LaneContext
from batcher.service.service import CallRefused, CallUnknown
from batcher.state import facts, intents, quota_pauses, shards, strays, submissions, wishes
from batcher.state.db.transaction import Transaction
from batcher.state.shards import ShardRow
from batcher.state.snapshot import latest_valid_wait, load_budget, load_room
from batcher.state.submissions import Reservation, Submission, build_batch_metadata, input_file_name
from batcher.state.versions import load_version

FILE_FRESH_S = 25 * 24 * 3600.0
"""A kept input file older than this is uploaded again: it expires after 30 days."""


class ShardSender:
    """Uploads and creates."""

    def __init__(self, context: LaneContext, refusals: RefusalHandler) -> None:
        self._context, self._refusals = context, refusals

    def send_shard(self, action: Send) -> None:
        """Starts one shard: from its file on disk, or from the one that is kept at OpenAI."""
        with self._context.store.transaction("intend_send") as tx:
            shard = shards.load_shard(tx, action.shard)
            reservation = self._reserve_tokens(tx, shard, action)
            if reservation is None:
                return
            submission, kept = self._write_send_intent(tx, shard, reservation)
            if submission is None:
                return
            model = load_version(tx, shard.version)[0].model
            quota_pauses.record_quota_sample(tx, "submission", model, reservation, shard=shard.shard)
        if kept or self._upload_shard_file(shard, submission):
            self._create_batch(submission)

    def _reserve_tokens(self, tx: Transaction, shard: ShardRow, action: Send) -> Reservation | None:
        """The reservation; None when in this very transaction it may not be sent any more (promise 3).

        Other commands write between the look that decided it and now: a pause, a plan that cut the shard again.
        """
        room = load_room(tx, self._context.config)
        if (
            shard.state not in WAITING_TO_BE_SENT
            or self._is_sending_blocked(tx, room)
            or action.reserved > room.headroom
        ):
            return None
        budget = load_budget(tx, self._context.config, self._context.prices, room)
        view = ShardView(shard.shard, shard.priority, shard.state, shard.lines, shard.tokens, version=shard.version)
        cost = max_shard_cost(view, budget)
        left = budget.max_usd - budget.spent_usd - budget.in_flight_usd
        if budget.max_usd > 0 and (cost is None or cost > left):
            return None
        after = room.headroom - action.reserved
        return Reservation(action.reserved, room.limit, room.reserved, after, cost or 0.0)

    def _is_sending_blocked(self, tx: Transaction, room: Room) -> bool:
        """Whether nothing may be sent any more: paused, or an earlier shard of the same decision was refused (none
        overtakes it), has shown that nothing can be sent, or that the service wants to be left alone."""
        latest = latest_valid_wait(tx, self._context.config)
        away = any(facts.read_wait(tx, wait, latest) > tx.now for wait in (facts.Wait.ASKED, facts.Wait.OUTAGE))
        return self._is_sending_paused(tx) or away or room.blocked_until > tx.now or bool(facts.read_stop_reason(tx))

    def _is_sending_paused(self, tx: Transaction) -> bool:
        pauses = quota_pauses.load_open_pauses(tx, latest_valid_wait(tx, self._context.config))
        return any(p.scope == "all" and (p.until is None or p.until > tx.now) for p in pauses)

    def _write_send_intent(self, tx: Transaction, shard: ShardRow, reservation: Reservation) -> tuple[int | None, bool]:
        """Writes the intent; the submission, and whether the file is at OpenAI already."""
        if shard.state is ShardState.UPLOADED:
            fresh = tx.now - (shard.file_created_at or 0.0) < FILE_FRESH_S
            if fresh and not intents.is_file_deleted(tx, shard.file_id):
                return intents.intend_resubmission(tx, shard, reservation), True
            shards.discard_uploaded_file(tx, shard.shard)
        return intents.intend_upload(tx, shard, reservation), False

    # --- upload -----------------------------------------------------------------------------------------------------

    def _upload_shard_file(self, shard: ShardRow, submission: int) -> bool:
        """Uploads the file and writes the intent to create; whether it went well."""
        path = shard_path(self._context.store.folder, shard.shard)
        if not path.exists() or file_sha256(path) != shard.sha256:
            self._handle_damaged_file(shard, submission)
            return False
        self._context.notify(events.UploadStarted(shard=shard.shard, lines=shard.lines, bytes=path.stat().st_size))
        crashpoints.mark_reached("upload.before")
        try:
            file = self._context.service.upload_file(
                path, self._upload_file_name(submission, shard.shard), self._report_bytes_sent
            )
        except CallRefused as error:
            self._handle_upload_refusal(submission, error)
            return False
        except CallUnknown as error:
            self._context.notify(events.CallFailed(call="upload", reason=str(error)))
            self._delay_after_unknown(shard.shard, error)
            return False
        crashpoints.mark_reached("upload.after")
        with self._context.store.transaction("record_upload", patience_s=None) as tx:
            intents.record_upload(tx, submissions.load_submission(tx, submission), file)
            wanted = not (self._is_sending_paused(tx) or wishes.is_cancel_requested(tx, shard.shard))
            if wanted:
                intents.intend_create(tx, shards.load_shard(tx, shard.shard), submission)
            else:  # an upload takes its time, and somebody has said stop meanwhile
                intents.close_submission(tx, submission, "stopped before its batch was asked for")
        return wanted

    def _report_bytes_sent(self, sent: int) -> None:
        self._context.notify(events.BytesSent(bytes=sent))

    def _upload_file_name(self, submission: int, shard: int) -> str:
        with self._context.store.read_transaction() as tx:
            return input_file_name(submissions.load_run_id(tx), shard, submission)

    def _handle_damaged_file(self, shard: ShardRow, submission: int) -> None:
        """The file on disk is not what was planned: its lines are rendered and cut again."""
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

    def _delay_after_unknown(self, shard: int, error: CallUnknown) -> None:
        """Quickly at first, then as in an outage; as long as the service asks for."""
        with self._context.store.transaction("call_unknown", patience_s=None) as tx:
            n = facts.count_unknown_call(tx)
            shards.delay_shard(tx, shard, tx.now + self._context.next_call_delay_seconds(n))
            self._record_retry_after(tx, error)

    def _record_retry_after(self, tx: Transaction, error: CallUnknown) -> None:
        if error.wait_s is not None:
            facts.extend_wait(
                tx, facts.Wait.ASKED, tx.now + self._context.next_delay_seconds(FailureClass.OUTAGE, 0, error.wait_s)
            )

    # --- create -----------------------------------------------------------------------------------------------------

    def _create_batch(self, submission: int) -> None:
        with self._context.store.read_transaction() as tx:
            row = submissions.load_submission(tx, submission)
            version, _ = load_version(tx, shards.load_shard(tx, row.shard).version)
            metadata = build_batch_metadata(submissions.load_run_id(tx), row)
        assert row.file_id is not None
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
        self._record_created_batch(row, batch)

    def _record_created_batch(self, row: Submission, batch: RemoteBatch) -> None:
        with self._context.store.transaction("record_create", patience_s=None) as tx:
            intents.record_create(tx, row, batch, "created")
            strays.keep_best_batch(tx, row.shard)
            facts.reset_unknown_calls(tx)
        self._context.notify(events.BatchCreated(shard=row.shard, batch_id=batch.batch_id))

    def _handle_create_refusal(self, row: Submission, error: CallRefused) -> None:
        failure = classify_call_error(error.details)
        self._context.notify(events.ShardRefused(shard=row.shard, reason=str(error)))
        with self._context.store.transaction("refuse_create", patience_s=None) as tx:
            intents.record_create_refusal(tx, row, failure.value)
            self._refusals.handle_refusal(tx, row.shard, failure, error.details, error.wait_s)
