"""What follows when the service refuses a shard, at once (HTTP) or later (a batch that failed). No line pays."""

from collections import Counter
from collections.abc import Mapping, Sequence

import orjson

from batcher.core import events
from batcher.core.failures import (
    ErrorDetails,
    FailureClass,
    classify_batch_error,
    is_missing_file,
    parse_enqueued_limit,
)
from batcher.core.lifecycle import ArtistState
from batcher.core.model import Failure
from batcher.disk.shard_files import file_sha256, shard_path
from batcher.lanes.batch.ingest import Ingestion
from batcher.lanes.context import LaneContext
from batcher.state import batches, facts, intents, quota_pauses, remote_files, shards, wishes
from batcher.state.batches import EndedBatch
from batcher.state.db.transaction import Transaction
from batcher.state.quota_pauses import record_quota_failure
from batcher.state.shards import ShardRow
from batcher.state.snapshot import load_room
from batcher.state.versions import load_version


class RefusalHandler:
    """Writes down a refusal and what follows from it."""

    def __init__(self, context: LaneContext, ingestion: Ingestion) -> None:
        self._context, self._ingestion = context, ingestion

    def handle_failed_batch(self, batch: EndedBatch) -> None:
        """A batch that failed in validation: nothing was executed."""
        troubles = batches.parse_batch_errors(batch.errors) or [
            ErrorDetails(message="the batch failed without a reason")
        ]
        classes = {classify_batch_error(trouble): trouble for trouble in reversed(troubles)}
        self._context.notify(events.ShardRefused(shard=batch.shard, reason=troubles[0].message))
        with self._context.store.transaction("refuse_batch", patience_s=None) as tx:
            if not batches.settle_batch(tx, batch.batch_id):
                return
            tx.record_event("refused", troubles[0].message, shard=batch.shard, batch_id=batch.batch_id)
            if batch.stray:  # another batch of the shard decides its lines
                if FailureClass.ENQUEUED_LIMIT in classes:
                    self._record_quota_sample(tx, batch.shard, classes[FailureClass.ENQUEUED_LIMIT])
                return
            if set(classes) == {FailureClass.INVALID}:
                self._handle_refused_lines(tx, batch, troubles)
                return
            failure = next(
                (f for f in (FailureClass.ENQUEUED_LIMIT, FailureClass.QUOTA, FailureClass.SETUP) if f in classes),
                FailureClass.SHARD_REFUSED,
            )
            trouble = classes.get(failure, troubles[0])
            self._return_refused_shard(tx, batch, failure, trouble)

    def _return_refused_shard(
        self, tx: Transaction, batch: EndedBatch, failure: FailureClass, trouble: ErrorDetails
    ) -> None:
        """The shard is as before; its file is kept."""
        intents.close_submission(tx, batch.submission, f"refused: {failure.value}")
        tx.move_shard(batch.shard, "refuse_batch", trouble.message)
        if failure is FailureClass.QUOTA:
            record_quota_failure(tx, self._ingestion.quota_rule, f"shard {batch.shard}", batch.recorded_at)
        else:
            self.handle_refusal(tx, batch.shard, failure, trouble)

    def handle_refusal(
        self, tx: Transaction, shard: int, failure: FailureClass, trouble: ErrorDetails, wait_s: float | None = None
    ) -> None:
        """What a refusal of this class brings. The shard is `uploaded` and its lines are free."""
        if failure is FailureClass.ENQUEUED_LIMIT:
            self._handle_full_queue(tx, shard, trouble, wait_s)
        elif failure is FailureClass.QUOTA:
            record_quota_failure(tx, self._ingestion.quota_rule, f"shard {shard}", wait_s=wait_s)
        elif failure is FailureClass.SETUP:
            self.stop_sending(tx, trouble)
        elif failure is FailureClass.SHARD_REFUSED:
            self._handle_shard_refusal(tx, shard, trouble, wait_s)
        else:
            self._record_quota_sample(tx, shard, trouble, of_room=False)
            facts.extend_wait(
                tx, facts.Wait.RATE, tx.now + self._context.next_delay_seconds(FailureClass.RATE_LIMIT, 0, wait_s)
            )

    def stop_sending(self, tx: Transaction, trouble: ErrorDetails) -> None:
        """Nothing more is sent until the user has mended it."""
        why = trouble.message or trouble.code
        facts.stop_sending(tx, f"the service refuses us: {why}")
        tx.record_event("stopped", why)

    def _handle_full_queue(self, tx: Transaction, shard: int, trouble: ErrorDetails, wait_s: float | None) -> None:
        """The queue is full: all wait for the next batch of ours to end, or for the backoff, whichever comes first."""
        n = facts.count_room_refusal(tx)
        tx.write_fact(
            "blocked_until", tx.now + self._context.next_delay_seconds(FailureClass.ENQUEUED_LIMIT, n, wait_s)
        )
        self._record_quota_sample(tx, shard, trouble)

    def _record_quota_sample(self, tx: Transaction, shard: int, trouble: ErrorDetails, of_room: bool = True) -> None:
        """A refusal for the history of the quota. One that is not of the room for tokens tells nothing of it."""
        model = load_version(tx, shards.load_shard(tx, shard).version)[0].model
        limit = parse_enqueued_limit(trouble.message)
        reserved = load_room(tx, self._context.config).reserved if of_room else None
        detail = trouble.message or trouble.code
        quota_pauses.record_refusal_sample(tx, model, detail, shard=shard, limit_tokens=limit, reserved=reserved)

    def _handle_shard_refusal(self, tx: Transaction, shard: int, trouble: ErrorDetails, wait_s: float | None) -> None:
        missing = is_missing_file(trouble)
        if missing and remote_files.is_file_deleted(tx, shards.load_shard(tx, shard).file_id):
            shards.discard_uploaded_file(tx, shard)  # we deleted it ourselves, so that a late create would name no file
            return
        refusals = shards.count_shard_refusal(tx, shard)
        tries = self._context.rules.policies[FailureClass.SHARD_REFUSED].tries
        if tries is not None and refusals > tries:
            self.stop_sending(tx, trouble)
            return
        tx.fetch_all(
            "delay_shard",
            shard=shard,
            until=tx.now + self._context.next_delay_seconds(FailureClass.SHARD_REFUSED, refusals - 1, wait_s),
        )
        if missing:
            shards.discard_uploaded_file(tx, shard)

    def _handle_refused_lines(self, tx: Transaction, batch: EndedBatch, troubles: Sequence[ErrorDetails]) -> None:
        """Single lines are at fault: they die, the others are cut again. Many of them are a fault of the setup."""
        row = shards.load_shard(tx, batch.shard)
        wrong = self._failures_by_custom_id(row, troubles)
        if not wrong:  # the numbers are no lines of ours, or our copy of the file is gone: nobody is at fault
            self._return_refused_shard(tx, batch, FailureClass.SHARD_REFUSED, troubles[0])
            return
        if self._is_setup_fault(tx, wrong, row.lines):
            self.stop_sending(tx, troubles[0])
            wrong = {}
        for line_id, failure in wrong.items():
            tx.move_lines(
                "refuse_line", "give_up",
                custom_id=line_id, submission=batch.submission, failure=failure.failure.value,
                code=failure.code, message=failure.message,
            )  # fmt: skip
            tx.fetch_all("record_refused_line", custom_id=line_id, batch_id=batch.batch_id, now=tx.now)
        intents.close_submission(tx, batch.submission, "lines refused")
        if wishes.is_cancel_requested(tx, batch.shard):
            tx.move_lines("hold_shard_lines", "hold", shard=batch.shard)
            wishes.fulfil_wish(tx, batch.shard, "lines refused")
        shards.loosen_shard_lines(tx, batch.shard)
        tx.move_shard(batch.shard, "settle", f"{len(wrong)} lines refused")
        shards.queue_shard_file(tx, batch.shard)

    def _is_setup_fault(self, tx: Transaction, wrong: Mapping[str, Failure], lines: int) -> bool:
        """Whether the setup is at fault. The service names so many lines and no more: as long as nothing succeeds, what
        earlier batches lost by the same reason counts with these, and comes back."""
        rules = self._context.rules
        if len(wrong) == lines > 1 or (len(wrong) >= rules.setup_lines and len(wrong) > rules.setup_share * lines):
            return True
        code, n = Counter(failure.code for failure in wrong.values()).most_common(1)[0]
        (before,) = tx.fetch_one("dead_by_code", failure=FailureClass.INVALID.value, code=code)
        if n + before < rules.setup_lines or tx.fetch_one("bios_of_job")[0]:
            return False
        wishes.retry_lines(tx, wishes.RetryFilter(FailureClass.INVALID, states=(ArtistState.DEAD,), code=code))
        return True

    def _failures_by_custom_id(self, shard: ShardRow, troubles: Sequence[ErrorDetails]) -> dict[str, Failure]:
        """The custom_ids of the lines that `batch.errors` names by number (from 1), with their failures."""
        by_line = {trouble.line: trouble for trouble in troubles if trouble.line is not None}
        found: dict[str, Failure] = {}
        path = shard_path(self._context.store.folder, shard.shard)
        if not path.exists() or file_sha256(path) != shard.sha256:
            return found
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                trouble = by_line.get(number)
                if trouble is not None:
                    found[orjson.loads(raw)["custom_id"]] = Failure(FailureClass.INVALID, trouble.code, trouble.message)
        return found
