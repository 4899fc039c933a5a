"""Sending a shard: upload, create, and finding out what an interrupted call has done.

The client may not repeat `POST /batches`: a repetition can start a paid batch twice. So the call is made once,
between an intent and its outcome; an intent without an outcome is reconciled, never guessed.
"""

from batcher import crashpoints
from batcher.admission import Send, ceiling, cost_of, headroom
from batcher.api import CallRefused, CallUnknown
from batcher.lifecycle import ShardState
from batcher.looking import budget_now, room_now
from batcher.model import RemoteBatch, ShardView
from batcher.refusals import Refusals, lose_file
from batcher.retry import FailureClass, classify_call
from batcher.shardfiles import file_sha256, shard_path
from batcher.store import Transaction, acting
from batcher.store.acting import Reservation, ShardRow, Submission
from batcher.store.planned import load_version
from batcher.tools import Tools

FILE_FRESH_S = 25 * 24 * 3600.0
"""A kept input file older than this is uploaded again: it expires after 30 days."""
RUN_KEY, SUBMISSION_KEY = "batcher_run", "batcher_submission"


class Sending:
    """Uploads and creates, and reconciles both."""

    def __init__(self, tools: Tools, refusals: Refusals) -> None:
        self._tools, self._refusals = tools, refusals

    def send(self, action: Send) -> None:
        """Starts one shard: from its file on disk, or from the one that is kept at OpenAI."""
        with self._tools.store.transaction("intend_send") as tx:
            shard = acting.load_shard(tx, action.shard)
            reservation = self._reserve(tx, shard, action)
            if reservation is None:
                return
            submission, kept = self._intend(tx, shard, reservation)
            if submission is None:
                return
            acting.sample_quota(tx, "submission", self._tools.config.model.name, reservation, shard=shard.shard)
        if kept or self._upload(shard, submission):
            self._create(submission)

    def _reserve(self, tx: Transaction, shard: ShardRow, action: Send) -> Reservation | None:
        """The reservation, checked once more against the limit in this very transaction (promise 3)."""
        room = room_now(tx, self._tools.config)
        if action.reserved > headroom(room):
            return None
        budget = budget_now(tx, self._tools.config, self._tools.prices)
        view = ShardView(shard.shard, shard.priority, shard.state, shard.lines, shard.tokens)
        after = ceiling(room) - room.reserved - action.reserved
        return Reservation(action.reserved, room.limit, room.reserved, after, cost_of(view, budget))

    def _intend(self, tx: Transaction, shard: ShardRow, reservation: Reservation) -> tuple[int | None, bool]:
        """Writes the intent; the submission, and whether the file is at OpenAI already."""
        if shard.state is ShardState.UPLOADED:
            if tx.now - (shard.file_uploaded_at or 0.0) < FILE_FRESH_S:
                return acting.reopen(tx, shard, reservation), True
            lose_file(tx, shard.shard)
        return acting.intend_upload(tx, shard, reservation), False

    # --- upload -----------------------------------------------------------------------------------------------------

    def _upload(self, shard: ShardRow, submission: int) -> bool:
        """Uploads the file and writes the intent to create; whether it went well."""
        path = shard_path(self._tools.store.folder, shard.shard)
        if not path.exists() or file_sha256(path) != shard.sha256:
            self._file_damaged(shard, submission)
            return False
        self._tools.tell("uploading", {"shard": shard.shard, "lines": shard.lines, "bytes": path.stat().st_size})
        crashpoints.reached("upload.before")
        try:
            file = self._tools.service.upload(path, self._name(submission, shard.shard))
        except CallRefused as error:
            self._upload_refused(submission, error)
            return False
        except CallUnknown as error:
            self._tools.tell("call_failed", {"call": "upload", "shard": shard.shard, "why": str(error)})
            self._wait_after_unknown(shard.shard)
            return False
        crashpoints.reached("upload.after")
        with self._tools.store.transaction("record_upload", patience_s=None) as tx:
            acting.record_upload(tx, acting.load_submission(tx, submission), file)
            acting.intend_create(tx, acting.load_shard(tx, shard.shard), submission)
        return True

    def _name(self, submission: int, shard: int) -> str:
        with self._tools.store.reading() as tx:
            return file_name(acting.run_id(tx), shard, submission)

    def _file_damaged(self, shard: ShardRow, submission: int) -> None:
        """The file on disk is not what was planned: its lines are rendered and cut again."""
        with self._tools.store.transaction("file_damaged", patience_s=None) as tx:
            acting.forget_upload(tx, acting.load_submission(tx, submission), [])
            tx.outdate(shard.shard, "its file on disk is missing or was changed")
            tx.run("loosen_shard", shard=shard.shard)

    def _upload_refused(self, submission: int, error: CallRefused) -> None:
        failure = classify_call(error.trouble)
        with self._tools.store.transaction("upload_refused", patience_s=None) as tx:
            row = acting.load_submission(tx, submission)
            acting.forget_upload(tx, row, [])
            if failure is FailureClass.SHARD_REFUSED:
                (refusals,) = tx.one("count_refusal", shard=row.shard, until=0.0)
                tries = self._tools.rules.policies[failure].tries
                if tries is not None and refusals > tries:
                    self._refusals.stop(tx, error.trouble)
                tx.run("delay_shard", shard=row.shard, until=tx.now + self._tools.delay(failure, refusals - 1))
            else:
                self._refusals.follow(tx, row.shard, failure, error.trouble, error.wait_s)

    def _wait_after_unknown(self, shard: int) -> None:
        with self._tools.store.transaction("call_unknown", patience_s=None) as tx:
            n = int(tx.fact("unknown_calls"))
            tx.set_fact("unknown_calls", n + 1)
            tx.run("delay_shard", shard=shard, until=tx.now + self._tools.delay(FailureClass.CALL, n))

    # --- create -----------------------------------------------------------------------------------------------------

    def _create(self, submission: int) -> None:
        with self._tools.store.reading() as tx:
            row = acting.load_submission(tx, submission)
            version, _ = load_version(tx, acting.load_shard(tx, row.shard).version)
            metadata = batch_metadata(acting.run_id(tx), row)
        assert row.file_id is not None
        crashpoints.reached("create.before")
        try:
            batch = self._tools.service.create(row.file_id, version.endpoint.value, metadata)
        except CallRefused as error:
            self._create_refused(row, error)
            return
        except CallUnknown as error:
            self._tools.tell("call_failed", {"call": "create", "shard": row.shard, "why": str(error)})
            with self._tools.store.transaction("create_unknown", patience_s=None) as tx:
                tx.event("create_unknown", str(error), shard=row.shard, submission=row.submission)
            return
        crashpoints.reached("create.after")
        self._record(row, batch, "created")

    def _record(self, row: Submission, batch: RemoteBatch, how: str) -> None:
        with self._tools.store.transaction("record_create", patience_s=None) as tx:
            acting.record_create(tx, row, batch, how)
            tx.set_fact("unknown_calls", 0)
        self._tools.tell(how, {"shard": row.shard, "batch": batch.batch_id, "lines": row.lines})

    def _create_refused(self, row: Submission, error: CallRefused) -> None:
        failure = classify_call(error.trouble)
        self._tools.tell("refused", {"shard": row.shard, "why": str(error)})
        with self._tools.store.transaction("refuse_create", patience_s=None) as tx:
            acting.refuse_create(tx, row, failure.value)
            self._refusals.follow(tx, row.shard, failure, error.trouble, error.wait_s)

    # --- reconcile --------------------------------------------------------------------------------------------------

    def reconcile(self, shard: int) -> None:
        """Finds out what an intent without an outcome has done."""
        with self._tools.store.reading() as tx:
            row = acting.load_shard(tx, shard)
            assert row.submission is not None
            submission = acting.load_submission(tx, row.submission)
            run = acting.run_id(tx)
        if row.state is ShardState.UPLOADING:
            self._reconcile_upload(submission, file_name(run, shard, submission.submission))
        elif row.state is ShardState.CREATING:
            self._reconcile_create(row, submission, run)

    def _reconcile_upload(self, submission: Submission, name: str) -> None:
        orphans = self._tools.service.find_files(name)
        with self._tools.store.transaction("forget_upload", patience_s=None) as tx:
            acting.forget_upload(tx, submission, orphans)
        self._tools.tell("upload_again", {"shard": submission.shard, "orphans": len(orphans)})

    def _reconcile_create(self, row: ShardRow, submission: Submission, run: str) -> None:
        """Looks for the batch; adopts it, or proves it absent by two complete listings a grace apart."""
        listing = self._tools.service.list_batches((row.file_uploaded_at or 0.0) - 1)
        with self._tools.store.reading() as tx:
            known = acting.known_batches(tx)
        found = [b for b in listing.batches if b.batch_id not in known and is_of(b, run, submission)]
        if found:
            best = min(found, key=lambda b: (-b.completed, b.created_at, b.batch_id))
            self._record(submission, best, "adopted")
            return
        since = submission.absent_since
        if since is None or listing.server_time - since < self._tools.config.api.reconcile_grace_s:
            self._look_again(submission, listing.server_time)
            return
        self._prove_absent(submission)

    def _look_again(self, submission: Submission, server_time: float) -> None:
        with self._tools.store.transaction("absent_once", patience_s=None) as tx:
            if submission.absent_since is None:
                tx.run("set_absent_since", submission=submission.submission, at=server_time)
            until = tx.now + self._tools.config.api.reconcile_grace_s
            tx.run("delay_shard", shard=submission.shard, until=until)
        self._tools.tell("looking_for_batch", {"shard": submission.shard})

    def _prove_absent(self, submission: Submission) -> None:
        """Deletes the input file first: a create that arrives late then names no file."""
        assert submission.file_id is not None
        crashpoints.reached("delete.before")
        self._tools.service.delete(submission.file_id)
        crashpoints.reached("delete.after")
        with self._tools.store.transaction("find_absent", patience_s=None) as tx:
            acting.find_absent(tx, submission)
        self._tools.tell("absent", {"shard": submission.shard})


def file_name(run: str, shard: int, submission: int) -> str:
    """The name of a shard's file at OpenAI; the submission's own, so that an orphan can be told."""
    return f"batcher-{run[:12]}-shard-{shard:05d}-submission-{submission}.jsonl"


def batch_metadata(run: str, row: Submission) -> dict[str, str]:
    """What a batch carries to be found by. Values are texts of under 512 characters (official description)."""
    return {
        RUN_KEY: run,
        SUBMISSION_KEY: str(row.submission),
        "batcher_shard": str(row.shard),
        "batcher_lines": str(row.lines),
        "batcher_tokens": str(row.reserved),
    }


def is_of(batch: RemoteBatch, run: str, submission: Submission) -> bool:
    """Whether a batch is this submission's: by its metadata, or by the input file where a provider drops it."""
    if RUN_KEY in batch.metadata:
        return batch.metadata.get(RUN_KEY) == run and batch.metadata.get(SUBMISSION_KEY) == str(submission.submission)
    return batch.input_file_id == submission.file_id
