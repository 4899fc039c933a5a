"""The acting process: looks, asks `decide` what to do, does it, and looks again.

Each effect stands between an intent and its outcome, both committed. The state is open only for the moment of a
transaction; nobody sleeps or calls the service holding it.
"""

from collections.abc import Callable

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
from batcher.core.decide import WAITING_TO_BE_SENT, decide
from batcher.core.failures import FailureClass, classify_call
from batcher.core.lifecycle import BatchStatus
from batcher.core.snapshot import Snapshot
from batcher.disk.result_archive import sweep
from batcher.errors import JobError
from batcher.lanes.batch.cleaning import Cleaning
from batcher.lanes.batch.ingest import Ingestion
from batcher.lanes.batch.reconciling import Reconciling
from batcher.lanes.batch.refusals import Refusals
from batcher.lanes.batch.sending import Sending
from batcher.lanes.batch.watching import Watching
from batcher.lanes.context import Tools
from batcher.plan.retry_shards import gather, recut
from batcher.service.service import CallError
from batcher.state import intents, wishes
from batcher.state.quota_pauses import quota_failed
from batcher.state.snapshot import look

Decide = Callable[[Snapshot, float], list[Action]]


class Runner:
    """Acts on one state until there is nothing left to do, or once around."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._ingestion = Ingestion(tools.store, tools.service, tools.job, tools.rules, tools.jitter)
        self._ingestion.delete = tools.config.api.delete_remote_files
        self._ingestion.keep_raw = tools.config.results.keep_raw
        self._ingestion.more_room = tools.config.retry.more_room
        self._ingestion.pause_s = tools.config.pause.duration_hours * 3600
        self._ingestion.prices = tools.prices
        self._refusals = Refusals(tools, self._ingestion)
        self._sending = Sending(tools, self._refusals)
        self._reconciling = Reconciling(tools)
        self._watching = Watching(tools)
        self._cleaning = Cleaning(tools)

    def begin(self) -> None:
        """Forgets what an earlier command stopped for: the user has started this one to go on."""
        sweep(self._tools.store.folder)
        with self._tools.store.transaction("begin") as tx:
            tx.set_fact("stopped", text="")
            tx.set_fact("polled_at", 0)
            tx.set_fact("outage_until", 0)
            tx.run("unread_now")
        try:
            recut(self._tools.store, self._tools.job, self._tools.config)
        except JobError as error:  # they stay as they are; what is in flight needs no job
            self._tools.tell("parked", {"why": str(error)})

    def act(self, once: bool = False, how: Decide = decide) -> Finish | Wait:
        """Acts until `how` finishes; once: only until there is something to wait for. What it ended with."""
        while True:
            for action in self._decide(how):
                if self._tools.interrupted():
                    return Finish(INTERRUPTED)
                if isinstance(action, Finish) or (once and isinstance(action, Wait)):
                    return action
                if isinstance(action, Wait):
                    self._wait(action)
                elif refused := self._perform(action):
                    return refused

    def _decide(self, how: Decide) -> list[Action]:
        with self._tools.store.reading(patience_s=None) as tx:
            snapshot, now = look(tx, self._tools.config, self._tools.prices), tx.now
        return how(snapshot, now)

    def _wait(self, wait: Wait) -> None:
        left = wait.until - self._tools.clock()
        self._tools.tell("waiting", {"until": wait.until, "reason": wait.reason})
        if left > 0:
            # However long the wait, what other commands wish is seen within a poll interval.
            self._tools.sleep(min(left, self._tools.config.poll.interval_s))

    def _perform(self, action: Action) -> Finish | None:
        """Does one thing; what it ends with where the service refuses us.

        A call that fails here has changed nothing, or is repeated by its own rules.
        """
        try:
            self._do(action)
        except CallError as error:
            return self._call_failed(action, error)
        return None

    def _do(self, action: Action) -> None:
        match action:
            case Send():
                self._sending.send(action)
            case Gather():
                self._gather(action.priority)
            case Split():
                self._split(action.shard)
            case _:
                self._follow(action)

    def _follow(self, action: Action) -> None:
        """What concerns things that were sent."""
        match action:
            case Reconcile():
                self._reconciling.reconcile(action.shard)
            case Cancel():
                self._watching.cancel(action.batch_id)
            case Withdraw():
                with self._tools.store.transaction("withdraw") as tx:
                    wishes.withdraw(tx, action.shard)
            case Ingest():
                self._ingest(action.batch_id)
            case Refresh():
                self._watching.refresh()
            case Clean():
                self._cleaning.clean()

    def _call_failed(self, action: Action, error: CallError) -> Finish | None:
        """The service is out, or refuses us: a row says until when, and nobody pays."""
        failure = classify_call(error.trouble)
        self._tools.tell("call_failed", {"call": type(action).__name__.lower(), "why": str(error)})
        with self._tools.store.transaction("call_failed", patience_s=None) as tx:
            if failure is FailureClass.SETUP:
                self._refusals.stop(tx, error.trouble)
                return Finish(tx.text_fact("stopped"))
            if failure is FailureClass.QUOTA:
                # And what is no sending waits as in an outage.
                quota_failed(tx, self._ingestion.quota, "a call", wait_s=error.wait_s)
            n = int(tx.fact("outages"))
            tx.set_fact("outages", n + 1)
            until = tx.now + self._tools.delay(FailureClass.OUTAGE, n, error.wait_s)
            tx.set_fact("outage_until", until)
            if error.wait_s is not None:  # what the service asked for outlives this process
                intents.keep_away(tx, "asked_until", until)
            tx.event("outage", str(error))
        return None

    def _ingest(self, batch_id: str) -> None:
        loaded = self._ingestion.load(batch_id)
        batch = loaded.batch
        if batch.settled_at is not None:
            return
        # Some services count the lines of a batch that failed in validation as failed.
        executed = batch.output_file_id or batch.error_file_id or batch.completed
        if batch.status == BatchStatus.FAILED and not executed:
            self._refusals.batch_failed(batch)
            return
        taken = self._ingestion.take_in(loaded)
        if taken is not None:
            self._tools.tell(
                "settled",
                {
                    "shard": taken.shard,
                    "batch": batch_id,
                    "status": taken.status,
                    "bios": taken.bios,
                    "failures": taken.failures,
                    "odd": taken.odd,
                },
            )

    def _gather(self, priority: int) -> None:
        tools = self._tools
        gathered = gather(tools.store, tools.job, tools.config, priority)
        if gathered is not None:
            shard, lines = gathered
            tools.tell("gathered", {"shard": shard, "priority": priority, "lines": lines})

    def _split(self, shard: int) -> None:
        """Cuts a shard that can never fit: its lines become loose, and are gathered into smaller ones."""
        with self._tools.store.transaction("split") as tx:
            if intents.load_shard(tx, shard).state not in WAITING_TO_BE_SENT:
                return  # another command took it away meanwhile
            tx.run("queue_shard_file", shard=shard, now=tx.now)
            tx.move_shard(shard, "split")
            tx.run("loosen_shard", shard=shard)
