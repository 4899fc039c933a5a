"""The acting process: it loads a snapshot, has the next actions decided, performs them, and starts over.

Each effect stands between an intent and its outcome, both committed. The state is open only for the moment of a
transaction; it is never held open while the process sleeps or calls the service.
"""

from collections.abc import Callable
from typing import assert_never

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
from batcher.core.decide import decide_actions
from batcher.core.failures import FailureClass, classify_call_error
from batcher.core.lifecycle import BatchStatus
from batcher.core.retry import LONGEST_LOOK_WAIT_S
from batcher.core.snapshot import Snapshot
from batcher.disk.result_archive import remove_result_leftovers
from batcher.errors import JobError
from batcher.job.job import job_output_to_stderr
from batcher.lanes.batch.cleaning import RemoteFileCleaner
from batcher.lanes.batch.ingest import Ingestion
from batcher.lanes.batch.reconciling import IntentReconciler
from batcher.lanes.batch.refusals import RefusalHandler
from batcher.lanes.batch.sending import ShardSender
from batcher.lanes.batch.watching import BatchWatcher
from batcher.lanes.context import LaneContext
from batcher.plan.retry_shards import cut_retry_shard, recut_parked_lines
from batcher.service.service import CallAbandoned, CallError
from batcher.state import batches, facts, shards, strays, wishes
from batcher.state.following.settling import settle_followers
from batcher.state.quota_pauses import record_quota_failure
from batcher.state.snapshot import load_snapshot

Decide = Callable[[Snapshot, float], list[Action]]


class BatchRunner:
    """Acts on one state until there is nothing left to do, or until there is something to wait for."""

    def __init__(self, context: LaneContext) -> None:
        self._context = context
        self._ingestion = Ingestion(context)
        self._refusals = RefusalHandler(context)
        self._sending = ShardSender(context, self._refusals)
        self._reconciling = IntentReconciler(context)
        self._watching = BatchWatcher(context)
        self._cleaning = RemoteFileCleaner(context)

    def prepare_run(self) -> None:
        """Clear what an earlier command stopped for: the user has started this one to continue.

        Lines that a direct lane has left in unreleased shards are cut again.
        """
        remove_result_leftovers(self._context.store.folder)
        with self._context.store.transaction("begin") as tx:
            if facts.read_stop_reason(tx):  # the user has acted, so that each shard has its tries again
                shards.forget_refusals(tx)
            facts.clear_stop_reason(tx)
            facts.forget_poll(tx)
            batches.make_unread_due(tx)
            strays.postpone_unproven_creates(tx, 0.0)
            settle_followers(tx, self._judge_follower)
        try:
            recut_parked_lines(self._context.store, self._context.job, self._context.config)
        except JobError as error:  # they stay as they are; what is in flight needs no job
            self._context.notify(events.LinesParked(reason=error.logged))

    def _judge_follower(self, data: str, bio: str) -> bool | None:
        """Judge an answer for a row that asks the same; None where the job's code fails."""
        try:
            with job_output_to_stderr():
                return self._context.job.accepts_kept_bio(data, bio)
        except JobError as error:
            self._context.notify(events.LinesParked(reason=error.logged))
            return None

    def run_until_idle(self, once: bool = False, how: Decide = decide_actions) -> Finish | Wait:
        """Act until `how` finishes; return what it ended with. once: only until there is something to wait for."""
        context = self._context
        while True:
            with context.store.read_transaction(patience_s=None) as tx:
                snapshot, now = load_snapshot(tx, context.config, context.prices), tx.now
            for action in how(snapshot, now):
                if context.interrupted():
                    return Finish(INTERRUPTED)
                if once and isinstance(action, Wait):
                    return action
                try:
                    ended = self._perform_action(action)
                except CallAbandoned:  # it changed nothing, and what it was for is done by the next start
                    return Finish(INTERRUPTED)
                except CallError as error:  # the call has changed nothing, or is repeated by its own rules
                    ended = self._handle_call_failure(action, error)
                if ended is not None:
                    return ended

    def _perform_action(self, action: Action) -> Finish | None:  # noqa: C901, PLR0912 - one case for each action
        """Perform one action; return what the run ends with, or None where it continues. Raises CallError."""
        context = self._context
        match action:
            case Finish():
                return action
            case Wait(until, reason):
                left = until - context.clock()
                context.notify(events.WaitStarted(until=until, reason=reason))
                if left > 0:
                    # However long the wait is, the wishes of other commands are seen within a poll interval.
                    context.sleep(min(left, context.config.poll.interval_s))
            case Send():
                self._sending.send_shard(action)
            case Gather(priority, version, most):
                gathered = cut_retry_shard(context.store, context.job, context.config, priority, version, most)
                if gathered is not None:
                    shard, lines = gathered
                    context.notify(events.RetryShardCut(shard=shard, priority=priority, lines=lines))
            case Split():
                with context.store.transaction("split") as tx:
                    shards.split_shard(tx, action.shard)
            case Reconcile():
                self._reconciling.reconcile_shard(action.shard)
            case Cancel():
                self._watching.cancel_batch(action.batch_id)
            case Withdraw():
                with context.store.transaction("withdraw") as tx:
                    wishes.withdraw_shard(tx, action.shard)
            case Ingest():
                self._ingest_batch(action.batch_id)
            case Refresh():
                self._watching.refresh_batches()
            case Clean():
                self._cleaning.clean_remote_files()
            case _:
                assert_never(action)
        return None

    def _handle_call_failure(self, action: Action, error: CallError) -> Finish | None:
        """Record until when to wait for a service that does not answer or refuses us; no line pays for it.

        Where the results of one batch cannot be read, that batch alone waits. Return what the run ends with where the
        setup is at fault.
        """
        failure = classify_call_error(error.details)
        wait_s = None if error.wait_s is None else min(error.wait_s, LONGEST_LOOK_WAIT_S)
        self._context.notify(events.CallFailed(call=type(action).__name__.lower(), reason=str(error)))
        with self._context.store.transaction("call_failed", patience_s=None) as tx:
            if failure is FailureClass.SETUP:
                self._refusals.stop_sending(tx, error.details)
                return Finish(facts.read_stop_reason(tx))
            if failure is FailureClass.QUOTA:
                # The pause keeps shards back; the other calls wait as in an outage.
                record_quota_failure(tx, self._context.quota_rule, "a call", str(error), wait_s=error.wait_s)
            elif isinstance(action, Ingest) and error.may_concern_one_object:
                delay_s = self._context.next_delay_seconds(FailureClass.OUTAGE, 2)
                batches.postpone_batch(tx, action.batch_id, tx.now + delay_s)
                tx.record_event("unread", str(error), batch_id=action.batch_id)
                return None
            n = facts.count_outage(tx)
            until = tx.now + self._context.next_delay_seconds(FailureClass.OUTAGE, n, wait_s)
            facts.set_wait(tx, facts.WaitFact.OUTAGE, until)
            if wait_s is not None:  # what the service asked for holds for later processes too
                facts.extend_wait(tx, facts.WaitFact.ASKED, until)
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
