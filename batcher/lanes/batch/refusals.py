"""What follows when the service refuses a shard: at once (an HTTP error), or later (a batch that failed in validation).

Nothing was executed, so that no line is charged a try, except for one that validation names as invalid a second time.
"""

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
from batcher.core.lifecycle import ArtistState, ShardState
from batcher.core.model import Failure
from batcher.core.verdicts import choose_batch_failure, is_setup_reason, is_setup_refusal, is_shard_given_up
from batcher.disk.shard_files import is_shard_file_whole, shard_path
from batcher.lanes.context import LaneContext
from batcher.state import batches, facts, intents, quota_pauses, remote_files, results, shards, wishes
from batcher.state.batches import EndedBatch
from batcher.state.db.transaction import Transaction
from batcher.state.shards import ShardRow
from batcher.state.snapshot import load_room
from batcher.state.versions import load_version

FILE_PATIENCE_S = 3600.0
"""Seconds for which a shard waits for a file that the service has taken and does not find, before a refusal counts."""


class RefusalHandler:
    """Records a refusal and what follows from it."""

    def __init__(self, context: LaneContext) -> None:
        self._context = context

    def handle_failed_batch(self, batch: EndedBatch) -> None:
        """Handle a batch that failed in validation: nothing of it was executed."""
        errors = batches.parse_batch_errors(batch.errors) or [ErrorDetails(message="the batch failed without a reason")]
        first_of_class = {classify_batch_error(error): error for error in reversed(errors)}
        self._context.notify(events.ShardRefused(shard=batch.shard, reason=errors[0].message))
        with self._context.store.transaction("refuse_batch", patience_s=None) as tx:
            if not batches.settle_batch(tx, batch.batch_id):
                return
            tx.record_event("refused", errors[0].message, shard=batch.shard, batch_id=batch.batch_id)
            # Another batch of the shard decides about its lines, or this one was given up and they have their verdicts.
            if batch.stray or shards.load_shard(tx, batch.shard).state is not ShardState.ENDED:
                if FailureClass.ENQUEUED_LIMIT in first_of_class:
                    self._record_quota_sample(tx, batch.shard, first_of_class[FailureClass.ENQUEUED_LIMIT])
                return
            failure = choose_batch_failure(first_of_class.keys())
            if failure is FailureClass.INVALID:
                self._handle_refused_lines(tx, batch, errors)
            else:
                self._return_refused_shard(tx, batch, failure, first_of_class.get(failure, errors[0]))

    def _return_refused_shard(
        self, tx: Transaction, batch: EndedBatch, failure: FailureClass, error: ErrorDetails
    ) -> None:
        """Put the shard back to where it was before its batch was created; its file is kept."""
        intents.record_batch_refusal(tx, batch.submission, batch.shard, f"refused: {failure.value}", error.message)
        if failure is FailureClass.QUOTA:
            quota_pauses.record_quota_failure(
                tx, self._context.quota_rule, f"shard {batch.shard}", error.message, batch.recorded_at
            )
        else:
            self.handle_refusal(tx, batch.shard, failure, error)

    def handle_refusal(
        self, tx: Transaction, shard: int, failure: FailureClass, error: ErrorDetails, wait_s: float | None = None
    ) -> None:
        """Record what follows from a refusal of this class. The shard is `uploaded` and its lines are free.

        wait_s: the seconds of a Retry-After.
        """
        if failure is FailureClass.ENQUEUED_LIMIT:
            self._handle_full_queue(tx, shard, error, wait_s)
        elif failure is FailureClass.QUOTA:
            quota_pauses.record_quota_failure(
                tx, self._context.quota_rule, f"shard {shard}", error.message, wait_s=wait_s
            )
        elif failure is FailureClass.SETUP:
            self.stop_sending(tx, error)
        elif failure is FailureClass.SHARD_REFUSED:
            self._handle_shard_refusal(tx, shard, error, wait_s)
        else:
            self._record_quota_sample(tx, shard, error, of_room=False)
            delay_s = self._context.next_delay_seconds(FailureClass.RATE_LIMIT, 0, wait_s)
            facts.extend_wait(tx, facts.WaitFact.RATE, tx.now + delay_s)

    def stop_sending(self, tx: Transaction, error: ErrorDetails) -> None:
        """Send nothing more until the user has corrected what the service refuses."""
        reason = (error.message or error.code).rstrip(".")
        facts.stop_sending(tx, f"the service refused the request: {reason}")
        tx.record_event("stopped", reason)

    def _handle_full_queue(self, tx: Transaction, shard: int, error: ErrorDetails, wait_s: float | None) -> None:
        """Have all shards wait for the next batch of ours to end, or for the delay, whichever comes first."""
        n = facts.count_room_refusal(tx)
        delay_s = self._context.next_delay_seconds(FailureClass.ENQUEUED_LIMIT, n, wait_s)
        facts.set_wait(tx, facts.WaitFact.ROOM, tx.now + delay_s)
        self._record_quota_sample(tx, shard, error)

    def _record_quota_sample(self, tx: Transaction, shard: int, error: ErrorDetails, of_room: bool = True) -> None:
        """Record a refusal in the history of the quota.

        of_room: whether it was refused for the enqueued-token limit; only then the tokens in flight matter to it.
        """
        model = load_version(tx, shards.load_shard(tx, shard).version)[0].model
        limit = parse_enqueued_limit(error.message)
        reserved = load_room(tx, self._context.config).reserved if of_room else None
        detail = error.message or error.code
        quota_pauses.record_refusal_sample(tx, model, detail, shard=shard, limit_tokens=limit, reserved=reserved)

    def _handle_shard_refusal(self, tx: Transaction, shard: int, error: ErrorDetails, wait_s: float | None) -> None:
        """Retry this shard after a delay, or stop sending once it was refused too often."""
        is_missing = is_missing_file(error)
        if is_missing and remote_files.is_file_deleted(tx, shards.load_shard(tx, shard).file_id):
            shards.discard_uploaded_file(tx, shard)  # we deleted it, so that a late create would name no file
            return
        if is_missing and self._await_shard_file(tx, shard, wait_s):
            return
        refusals = shards.count_shard_refusal(tx, shard)
        if is_shard_given_up(self._context.rules, refusals):
            self.stop_sending(tx, error)
            return
        delay_s = self._context.next_delay_seconds(FailureClass.SHARD_REFUSED, refusals - 1, wait_s)
        shards.delay_shard(tx, shard, tx.now + delay_s)

    def _await_shard_file(self, tx: Transaction, shard: int, wait_s: float | None) -> bool:
        """Have a shard wait for its file to be found; return False where that has lasted too long.

        The file is kept, and no refusal counts meanwhile: a second upload would be found even later.
        """
        shards.doubt_shard_file(tx, shard)
        since = shards.load_shard(tx, shard).file_missing_since or tx.now
        if not 0 <= tx.now - since < FILE_PATIENCE_S:
            return False
        policy = self._context.rules.policies[FailureClass.SHARD_REFUSED]
        n = int((tx.now - since) // max(policy.base_s, 1.0))
        delay_s = self._context.next_delay_seconds(FailureClass.SHARD_REFUSED, n, wait_s)
        shards.delay_shard(tx, shard, tx.now + delay_s)
        return True

    def count_lost_file(self, tx: Transaction, shard: int) -> bool:
        """Count that the service has no such file any more; return whether the shard may be uploaded again."""
        if not is_shard_given_up(self._context.rules, shards.count_shard_refusal(tx, shard)):
            return True
        self.stop_sending(tx, ErrorDetails(message=f"it loses the files that it takes (shard {shard})"))
        return False

    def _handle_refused_lines(self, tx: Transaction, batch: EndedBatch, errors: Sequence[ErrorDetails]) -> None:
        """Cut a shard again without the lines that validation names, which go into one of their own for a second try.

        It costs nothing. Those that are named a second time are given up. Too many lines are the setup's fault.
        """
        row = shards.load_shard(tx, batch.shard)
        refused = self._failures_by_custom_id(row, errors)
        if not refused:  # the numbers name no lines of ours, or our copy of the file is gone: no line is at fault
            self._return_refused_shard(tx, batch, FailureClass.SHARD_REFUSED, errors[0])
            return
        again = results.load_lines_refused_before(tx, batch, FailureClass.INVALID) & refused.keys()
        if facts.read_stop_reason(tx):  # as for results: nothing is given up in a job that has stopped
            refused, again = {}, set()
        elif self._is_setup_at_fault(tx, batch, refused, row.lines, len(again)):
            self.stop_sending(tx, errors[0])
            refused, again = {}, set()
        for custom_id, failure in refused.items():
            results.record_refused_line(tx, batch, custom_id, failure, final=custom_id in again)
        intents.close_submission(tx, batch.submission, "lines refused")
        if wishes.is_cancel_requested(tx, batch.shard):
            shards.hold_shard_lines(tx, batch.shard)
            wishes.fulfil_wish(tx, batch.shard, "lines refused")
        shards.loosen_shard_lines(tx, batch.shard)
        shards.settle_shard(tx, batch.shard, f"lines refused: {len(refused):,}, tried again: {len(again):,}")
        shards.queue_shard_file(tx, batch.shard)

    def _is_setup_at_fault(
        self, tx: Transaction, batch: EndedBatch, refused: Mapping[str, Failure], lines: int, again: int
    ) -> bool:
        """Return whether the setup is at fault, and make lines ready again that were given up for the same reason.

        The service names only a few of a batch's lines. As long as nothing succeeds, those of earlier batches count
        with these. again: how many were refused before: a shard of such lines may be refused whole.
        """
        rules = self._context.rules
        if is_setup_refusal(rules, len(refused) - again, lines):
            return True
        code, n = Counter(failure.code for failure in refused.values()).most_common(1)[0]
        history = results.load_refusal_history(tx, batch, FailureClass.INVALID, code)
        if not is_setup_reason(rules, n + history.lines, history.bios_of_job):
            return False
        wishes.retry_lines(tx, wishes.RetryFilter(FailureClass.INVALID, states=(ArtistState.DEAD,), code=code))
        return True

    def _failures_by_custom_id(self, shard: ShardRow, errors: Sequence[ErrorDetails]) -> dict[str, Failure]:
        """Return the lines that `batch.errors` names by number (from 1), by custom_id.

        It is empty where our copy of the shard's file is gone or was changed.
        """
        by_line = {error.line: error for error in errors if error.line is not None}
        found: dict[str, Failure] = {}
        path = shard_path(self._context.store.folder, shard.shard)
        if not is_shard_file_whole(path, shard.sha256):
            return found
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                error = by_line.get(number)
                if error is not None:
                    found[orjson.loads(raw)["custom_id"]] = Failure(FailureClass.INVALID, error.code, error.message)
        return found
