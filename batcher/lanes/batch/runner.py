"""The acting process: looks, asks `decide` what to do, does it, and looks again.

Each effect stands between an intent and its outcome, both committed. The state is open only for the moment of a
transaction; nobody sleeps or calls the service holding it.
"""

from collections.abc import Callable

from batcher.core import events
from batcher.core.actions import (
    INTERRUPTED,
    Action,
    Cancel,
    Clean,
    Finish,
    Gather,
    Ingest,
    Reconcile,
    Refresh,
    Send,
    Split,
    Wait,
    Withdraw,
)
from batcher.core.decide import WAITING_TO_BE_SENT, decide_actions
from batcher.core.failures import FailureClass, classify_call_error
from batcher.core.lifecycle import BatchStatus
from batcher.core.snapshot import Snapshot
from batcher.disk.result_archive import remove_result_leftovers
from batcher.errors import JobError
from batcher.lanes.batch.cleaning import RemoteFileCleaner
from batcher.lanes.batch.ingest import Ingestion
from batcher.lanes.batch.reconciling import IntentReconciler
from batcher.lanes.batch.refusals import RefusalHandler
from batcher.lanes.batch.sending import ShardSender
from batcher.lanes.batch.watching import BatchWatcher
from batcher.lanes.context import LaneContext
from batcher.plan.retry_shards import cut_retry_shard, recut_parked_lines
from batcher.service.service import CallError
from batcher.state import facts, shards, wishes
from batcher.state.quota_pauses import record_quota_failure
from batcher.state.snapshot import load_snapshot

Decide = Callable[[Snapshot, float], list[Action]]


class BatchRunner:
    """Acts on one state until there is nothing left to do, or once around."""

    def __init__(self, context: LaneContext) -> None:
        self._context = context
        self._ingestion = Ingestion(context)
        self._refusals = RefusalHandler(context)
        self._sending = ShardSender(context, self._refusals)
        self._reconciling = IntentReconciler(context)
        self._watching = BatchWatcher(context)
        self._cleaning = RemoteFileCleaner(context)

    def prepare_run(self) -> None:
        """Forgets what an earlier command stopped for: the user has started this one to go on."""
        remove_result_leftovers(self._context.store.folder)
        with self._context.store.transaction("begin") as tx:
            facts.clear_stop_reason(tx)
            facts.forget_poll(tx)
            tx.fetch_all("unread_now")
        try:
            recut_parked_lines(self._context.store, self._context.job, self._context.config)
        except JobError as error:  # they stay as they are; what is in flight needs no job
            self._context.notify(events.LinesParked(reason=str(error)))

    def run_until_idle(self, once: bool = False, how: Decide = decide_actions) -> Finish | Wait:
        """Acts until `how` finishes; once: only until there is something to wait for. What it ended with."""
        while True:
            for action in self._decide_actions(how):
                if self._context.interrupted():
                    return Finish(INTERRUPTED)
                if isinstance(action, Finish) or (once and isinstance(action, Wait)):
                    return action
                if isinstance(action, Wait):
                    self._sleep_until_due(action)
                elif refused := self._perform_action(action):
                    return refused

    def _decide_actions(self, how: Decide) -> list[Action]:
        with self._context.store.read_transaction(patience_s=None) as tx:
            snapshot, now = load_snapshot(tx, self._context.config, self._context.prices), tx.now
        return how(snapshot, now)

    def _sleep_until_due(self, wait: Wait) -> None:
        left = wait.until - self._context.clock()
        self._context.notify(events.WaitStarted(until=wait.until, reason=wait.reason))
        if left > 0:
            # However long the wait, what other commands wish is seen within a poll interval.
            self._context.sleep(min(left, self._context.config.poll.interval_s))

    def _perform_action(self, action: Action) -> Finish | None:
        """Does one thing; what it ends with where the service refuses us.

        A call that fails here has changed nothing, or is repeated by its own rules.
        """
        try:
            self._dispatch_action(action)
        except CallError as error:
            return self._handle_call_failure(action, error)
        return None

    def _dispatch_action(self, action: Action) -> None:
        match action:
            case Send():
                self._sending.send_shard(action)
            case Gather():
                self._gather_shard(action.priority)
            case Split():
                self._split_shard(action.shard)
            case _:
                self._dispatch_followup(action)

    def _dispatch_followup(self, action: Action) -> None:
        """What concerns things that were sent."""
        match action:
            case Reconcile():
                self._reconciling.reconcile_shard(action.shard)
            case Cancel():
                self._watching.cancel_batch(action.batch_id)
            case Withdraw():
                with self._context.store.transaction("withdraw") as tx:
                    wishes.withdraw_shard(tx, action.shard)
            case Ingest():
                self._ingest_batch(action.batch_id)
            case Refresh():
                self._watching.refresh_batches()
            case Clean():
                self._cleaning.clean_remote_files()

    def _handle_call_failure(self, action: Action, error: CallError) -> Finish | None:
        """The service is out, or refuses us: a row says until when, and nobody pays."""
        failure = classify_call_error(error.details)
        self._context.notify(events.CallFailed(call=type(action).__name__.lower(), reason=str(error)))
        with self._context.store.transaction("call_failed", patience_s=None) as tx:
            if failure is FailureClass.SETUP:
                self._refusals.stop_sending(tx, error.details)
                return Finish(facts.read_stop_reason(tx))
            if failure is FailureClass.QUOTA:
                # And what is no sending waits as in an outage.
                record_quota_failure(tx, self._context.quota_rule, "a call", wait_s=error.wait_s)
            n = facts.count_outage(tx)
            until = tx.now + self._context.next_delay_seconds(FailureClass.OUTAGE, n, error.wait_s)
            facts.set_wait(tx, facts.Wait.OUTAGE, until)
            if error.wait_s is not None:  # what the service asked for outlives this process
                facts.extend_wait(tx, facts.Wait.ASKED, until)
            tx.record_event("outage", str(error))
        return None

    def _ingest_batch(self, batch_id: str) -> None:
        loaded = self._ingestion.load_batch(batch_id)
        batch = loaded.batch
        if batch.settled_at is not None:
            return
        # Some services count the lines of a batch that failed in validation as failed.
        executed = batch.output_file_id or batch.error_file_id or batch.completed
        if batch.status == BatchStatus.FAILED and not executed:
            self._refusals.handle_failed_batch(batch)
            return
        summary = self._ingestion.ingest_batch(loaded)
        if summary is not None:
            self._context.notify(
                events.BatchSettled(
                    shard=summary.shard,
                    batch_id=batch_id,
                    status=summary.status,
                    bios=summary.bios,
                    failures=summary.failures,
                    anomalies=summary.anomalies,
                )
            )

    def _gather_shard(self, priority: int) -> None:
        context = self._context
        gathered = cut_retry_shard(context.store, context.job, context.config, priority)
        if gathered is not None:
            shard, lines = gathered
            context.notify(events.RetryShardCut(shard=shard, priority=priority, lines=lines))

    def _split_shard(self, shard: int) -> None:
        """Cuts a shard that can never fit: its lines become loose, and are gathered into smaller ones."""
        with self._context.store.transaction("split") as tx:
            if shards.load_shard(tx, shard).state not in WAITING_TO_BE_SENT:
                return  # another command took it away meanwhile
            shards.queue_shard_file(tx, shard)
            tx.move_shard(shard, "split")
            shards.loosen_shard_lines(tx, shard)
