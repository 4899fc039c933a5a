"""The acting process: looks, asks `decide` what to do, does it, and looks again.

Each effect stands between an intent and its outcome, both committed. The state is open only for the moment of a
transaction; nobody sleeps or calls the service holding it.
"""

from batcher import crashpoints
from batcher.admission import Send, Split
from batcher.api import CallError
from batcher.decide import Action, Clean, Finish, Gather, Ingest, Reconcile, Refresh, Wait, decide
from batcher.gathering import gather
from batcher.ingest import EndedBatch, Ingestion
from batcher.lifecycle import BatchStatus, ShardState, is_terminal
from batcher.looking import look
from batcher.model import Listing, RemoteBatch
from batcher.refusals import Refusals
from batcher.retry import FailureClass, classify_call
from batcher.sending import RUN_KEY, SUBMISSION_KEY, Sending
from batcher.store import Transaction, acting
from batcher.store.acting import KnownBatch
from batcher.tools import Tools

OVERDUE_S = 2 * 3600.0
"""How long after `expires_at` a batch may go on before it is given up as overdue."""


INTERRUPTED = "interrupted"


class Runner:
    """Acts on one state until there is nothing left to do, or once around."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._ingestion = Ingestion(tools.store, tools.service, tools.job, tools.rules, tools.jitter)
        self._ingestion.delete = tools.config.api.delete_remote_files
        self._ingestion.pause_s = tools.config.pause.duration_hours * 3600
        self._ingestion.prices = {tools.config.model.name: tools.prices}
        self._refusals = Refusals(tools, self._ingestion)
        self._sending = Sending(tools, self._refusals)

    def begin(self) -> None:
        """Forgets what an earlier command stopped for: the user has started this one to go on."""
        with self._tools.store.transaction("begin") as tx:
            tx.set_fact("stopped", text="")
            tx.set_fact("polled_at", 0)
            tx.set_fact("outage_until", 0)

    def act(self, once: bool = False) -> Finish | Wait:
        """Acts until `decide` finishes; once: only until there is something to wait for. What it ended with."""
        while True:
            for action in self._decide():
                if self._tools.interrupted():
                    return Finish(INTERRUPTED)
                if isinstance(action, Finish) or (once and isinstance(action, Wait)):
                    return action
                if isinstance(action, Wait):
                    self._wait(action)
                else:
                    self._perform(action)

    def _decide(self) -> list[Action]:
        with self._tools.store.reading() as tx:
            snapshot, now = look(tx, self._tools.config, self._tools.prices), tx.now
        return decide(snapshot, now)

    def _wait(self, wait: Wait) -> None:
        left = wait.until - self._tools.clock()
        self._tools.tell("waiting", {"until": wait.until, "reason": wait.reason})
        if left > 0:
            # However long the wait, what other commands wish is seen within a poll interval.
            self._tools.sleep(min(left, self._tools.config.poll.interval_s))

    def _perform(self, action: Action) -> None:
        """Does one thing. A call that fails here has changed nothing, or is repeated by its own rules."""
        try:
            self._do(action)
        except CallError as error:
            self._call_failed(action, error)

    def _do(self, action: Action) -> None:
        match action:
            case Send():
                self._sending.send(action)
            case Reconcile():
                self._sending.reconcile(action.shard)
            case Ingest():
                self._ingest(action.batch_id)
            case Refresh():
                self._refresh()
            case Gather():
                gather(self._tools, action.priority)
            case Split():
                self._split(action.shard)
            case Clean():
                self._clean()

    def _call_failed(self, action: Action, error: CallError) -> None:
        """The service is out, or refuses us: a row says until when, and nobody pays."""
        failure = classify_call(error.trouble)
        self._tools.tell("call_failed", {"call": type(action).__name__.lower(), "why": str(error)})
        with self._tools.store.transaction("call_failed", patience_s=None) as tx:
            if failure is FailureClass.SETUP:
                self._refusals.stop(tx, error.trouble)
                return
            if failure is FailureClass.QUOTA:
                self._ingestion.quota_failed(tx, "a call")
                return
            n = int(tx.fact("outages"))
            tx.set_fact("outages", n + 1)
            tx.set_fact("outage_until", tx.now + self._tools.delay(FailureClass.OUTAGE, n, error.wait_s))
            tx.event("outage", str(error))

    # --- looking at batches -----------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """One listing for all batches in flight; those that it lacks are asked for one by one."""
        with self._tools.store.reading() as tx:
            known, run = acting.known_batches(tx), acting.run_id(tx)
        open_batches = [batch for batch in known.values() if batch.ended_at is None]
        listing = self._tools.service.list_batches(min(b.created_at for b in open_batches) - 1)
        seen = {batch.batch_id: batch for batch in listing.batches}
        for batch in open_batches:
            if batch.batch_id not in seen:
                seen[batch.batch_id] = self._tools.service.retrieve(batch.batch_id) or _gone(batch)
        with self._tools.store.transaction("refresh", patience_s=None) as tx:
            ended = [b.batch_id for b in open_batches if self._update(tx, b, seen[b.batch_id], listing)]
            strays = [b for b in listing.batches if b.batch_id not in known and b.metadata.get(RUN_KEY) == run]
            for stray in strays:
                self._take_stray(tx, stray)
            tx.set_fact("polled_at", tx.now)
            tx.set_fact("outages", 0)
        self._tell_progress(len(open_batches) - len(ended))
        self._cancel_doubles(strays)

    def _tell_progress(self, running: int) -> None:
        """How far the lines are: settled ones, and those that running batches have done."""
        with self._tools.store.reading() as tx:
            total, settled, ahead = tx.one("progress")
        self._tools.tell("progress", {"running": running, "lines": total, "done": settled + ahead})

    def _update(self, tx: Transaction, known: KnownBatch, batch: RemoteBatch, listing: Listing) -> bool:
        late = batch.expires_at is not None and listing.server_time > batch.expires_at + OVERDUE_S
        if late and not is_terminal(batch.status):
            batch = _gone(known)
        if batch.status == BatchStatus.IN_PROGRESS:
            tx.set_fact("room_refusals", 0)
        return acting.update_batch(tx, known, batch)

    def _take_stray(self, tx: Transaction, batch: RemoteBatch) -> None:
        """A batch of ours that was not recorded: the answer to an open intent, or a second one beside it."""
        row = acting.load_submission(tx, int(batch.metadata[SUBMISSION_KEY]))
        waiting = row.batch_id is None and row.outcome is None
        if waiting and acting.load_shard(tx, row.shard).state is ShardState.CREATING:
            acting.record_create(tx, row, batch, "adopted")
        else:
            acting.insert_batch(tx, row, batch, stray=True)
        self._tools.tell("stray", {"shard": row.shard, "batch": batch.batch_id})

    def _cancel_doubles(self, strays: list[RemoteBatch]) -> None:
        """A second batch of a shard is cancelled; what it has done is read all the same."""
        with self._tools.store.reading() as tx:
            known = acting.known_batches(tx)
            double = [b.batch_id for b in strays if tx.one("batch", batch_id=b.batch_id)[3]]
        for batch_id in double:
            if not is_terminal(known[batch_id].status):
                crashpoints.reached("cancel.before")
                self._tools.service.cancel(batch_id)
                crashpoints.reached("cancel.after")

    def _ingest(self, batch_id: str) -> None:
        with self._tools.store.reading() as tx:
            batch = EndedBatch(*tx.one("batch", batch_id=batch_id))
        if batch.status == BatchStatus.FAILED and not (batch.output_file_id or batch.error_file_id):
            self._refusals.batch_failed(batch)
            return
        taken = self._ingestion.take_in(batch_id)
        if taken is not None:
            self._tools.tell(
                "settled",
                {
                    "shard": taken.shard,
                    "batch": batch_id,
                    "status": taken.status,
                    "bios": taken.bios,
                    "failures": taken.failures,
                },
            )

    # --- the rest ---------------------------------------------------------------------------------------------------

    def _split(self, shard: int) -> None:
        """Cuts a shard that can never fit: its lines become loose, and are gathered into smaller ones."""
        with self._tools.store.transaction("split") as tx:
            tx.run("queue_shard_file", shard=shard, now=tx.now)
            tx.move_shard(shard, "split")
            tx.run("loosen_shard", shard=shard)

    def _clean(self) -> None:
        """Deletes files at OpenAI that are needed no more; one that cannot be deleted is tried again later."""
        with self._tools.store.reading() as tx:
            due = tx.run("files_due", now=tx.now)
        done: list[str] = []
        failed: list[tuple[str, int, CallError]] = []
        for file_id, tries in due:
            try:
                crashpoints.reached("delete.before")
                self._tools.service.delete(file_id)
                crashpoints.reached("delete.after")
                done.append(file_id)
            except CallError as error:
                failed.append((file_id, tries, error))
        with self._tools.store.transaction("clean", patience_s=None) as tx:
            for file_id in done:
                tx.run("file_deleted", file_id=file_id, now=tx.now)
            for file_id, tries, why in failed:
                wait = self._tools.delay(FailureClass.OUTAGE, tries, why.wait_s)
                tx.run("file_not_deleted", file_id=file_id, next=tx.now + wait, error=str(why))


def _gone(known: KnownBatch) -> RemoteBatch:
    """What stands for a batch that the service no longer tells of."""
    return RemoteBatch(known.batch_id, BatchStatus.OVERDUE, known.created_at, known.input_file_id)
