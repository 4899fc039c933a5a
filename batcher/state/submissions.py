"""Submissions, one upload-and-create of a shard each, and the marks by which OpenAI's objects are known to be ours."""

from typing import NamedTuple

from batcher.core.remote import Moment, RemoteBatch
from batcher.state.db.transaction import Transaction


class Submission(NamedTuple):
    """A submission as the runner handles it. Times are epoch seconds."""

    submission: int
    shard: int
    lines: int
    tokens: int
    reserved: int
    file_id: str | None
    file_created_at: float | None
    batch_id: str | None
    intended_at: float
    create_intended_at: float | None
    absent_since: float | None
    """When a listing first lacked its batch, by the server's clock (0: the listing carried no time)."""
    absent_since_local: float | None
    """When a listing first lacked its batch, by our clock."""
    cancel_wanted_at: float | None
    outcome: str | None
    delete_intended_at: float | None

    @property
    def absent(self) -> Moment | None:
        """When a listing first lacked its batch; None where none did."""
        return None if self.absent_since_local is None else Moment(self.absent_since_local, self.absent_since or 0.0)


class Reservation(NamedTuple):
    """What a submission takes of the limit, and what it leaves. Tokens, and dollars."""

    reserved: int
    limit_tokens: int
    reserved_before: int
    headroom_after: int
    reserved_usd: float


class Run(NamedTuple):
    """One run of a job."""

    run_id: str
    """A random id, which the run's batches carry in their metadata."""
    planned_at: float
    """When it was first planned (epoch seconds)."""


def load_submission(tx: Transaction, submission: int) -> Submission:
    """Return one submission. Raises ValueError where there is none of this number."""
    found = _load_if_known(tx, submission)
    if found is None:
        raise ValueError(f"there is no submission {submission}")
    return found


def _load_if_known(tx: Transaction, submission: int) -> Submission | None:
    rows = tx.fetch_all("submission", submission=submission)
    return Submission(*rows[0]) if rows else None


RUN_KEY, SUBMISSION_KEY, SHARD_KEY = "batcher_run", "batcher_submission", "batcher_shard"


def input_file_name(run: str, shard: int, submission: int) -> str:
    """Return the name of a shard's file at OpenAI. It names the submission, so that an orphan can be found."""
    return f"batcher-{run[:12]}-shard-{shard:05d}-submission-{submission}.jsonl"


def build_batch_metadata(run: str, row: Submission) -> dict[str, str]:
    """Return the metadata by which a batch is found later.

    Its values are texts of under 512 characters (official description).
    """
    return {
        RUN_KEY: run,
        SUBMISSION_KEY: str(row.submission),
        SHARD_KEY: str(row.shard),
        "batcher_lines": str(row.lines),
        "batcher_tokens": str(row.reserved),
    }


def find_submission(tx: Transaction, batch: RemoteBatch, run: str) -> Submission | None:
    """Return the submission that asked for this batch; None when it is not ours.

    A batch with our run id that names no submission of ours (the state was restored from a backup) is not ours either.
    """
    if RUN_KEY not in batch.metadata:
        (number,) = tx.fetch_one("submission_of_file", file_id=batch.input_file_id)
        return load_submission(tx, number) if number is not None else None
    text = batch.metadata.get(SUBMISSION_KEY, "")
    if batch.metadata[RUN_KEY] != run or not text.isdecimal() or len(text) > 9:
        return None
    found = _load_if_known(tx, int(text))
    return found if found is not None and batch.metadata.get(SHARD_KEY) == str(found.shard) else None


class SubmissionAtService(NamedTuple):
    """A submission whose batch was asked for and is not settled: the service has its input file."""

    submission: int
    file_id: str
    batch_id: str | None
    """None: it is not known whether there is one."""


def load_submissions_at_service(tx: Transaction) -> list[SubmissionAtService]:
    """Return the submissions that the service knows, the oldest first."""
    return [SubmissionAtService(*row) for row in tx.fetch_all("submissions_at_service")]


def claim_shard_lines(tx: Transaction, shard: int, submission: int) -> int:
    """Claim the ready lines of a shard for a submission; return how many there were."""
    return tx.move_lines("claim_lines", "claim_batch", shard=shard, submission=submission)


def set_submission_batch(tx: Transaction, submission: int, batch_id: str) -> None:
    """Record the batch that a submission led to."""
    tx.fetch_all("set_submission_batch", submission=submission, batch_id=batch_id)


def record_batch_absence(tx: Transaction, submission: int, look: Moment) -> None:
    """Record that a listing lacks the batch of a submission. look: when the listing was made."""
    tx.fetch_all("set_absent_since", submission=submission, at=look.server, now=look.ours)


def record_unclear_look(tx: Transaction, submission: Submission) -> float:
    """Record that a look showed neither the batch of a submission nor its absence; return the seconds since the first.

    The first alone stands in the history.
    """
    (first_at,) = tx.fetch_one("first_unclear_look", submission=submission.submission)
    if first_at is None:
        tx.record_event("search_unclear", shard=submission.shard, submission=submission.submission)
    return max(0.0, tx.now - (tx.now if first_at is None else first_at))


def intend_file_deletion(tx: Transaction, submission: int) -> None:
    """Write the intent to delete the input file of a submission whose batch is absent."""
    tx.fetch_all("intend_delete", submission=submission, now=tx.now)


def release_reserved_tokens(tx: Transaction, submission: int) -> None:
    """Record that the batch of a submission has ended, so that its tokens count no more."""
    tx.fetch_all("end_submission_tokens", submission=submission, now=tx.now)


def end_submission(tx: Transaction, submission: int, outcome: str) -> None:
    """Record how a submission ended; its tokens count no more."""
    tx.fetch_all("end_submission", submission=submission, outcome=outcome, now=tx.now)


def reopen_submission(tx: Transaction, submission: int) -> None:
    """Open a submission that was closed, because its batch was found after all."""
    tx.fetch_all("reopen_submission", submission=submission)


def request_submission_cancel(tx: Transaction, shard: int) -> None:
    """Record that the batch of the shard's current submission is to be cancelled once it is known."""
    tx.fetch_all("wish_cancel_of_submission", shard=shard, now=tx.now)


def load_run_id(tx: Transaction) -> str:
    """Return the random id of this job's run, which its batches carry in their metadata."""
    return load_run(tx).run_id


def load_run(tx: Transaction) -> Run:
    """Return this job's run."""
    run_id, created_at = tx.fetch_one("run")
    return Run(str(run_id), float(created_at))


class ShardSubmission(NamedTuple):
    """A submission with the priority of its shard, and the tokens that it was weighed with."""

    shard: int
    priority: int
    batch_id: str | None
    lines: int
    tokens: int
    reserved: int
    headroom_after: int
    limit_tokens: int
    reserved_before: int


def newest_submission_number(tx: Transaction) -> int:
    """Return the number of the newest submission; 0 before the first."""
    return int(tx.fetch_one("highest_submission")[0])


def load_submissions_after(tx: Transaction, number: int) -> list[ShardSubmission]:
    """Return the submissions that are newer than the one of this number, the oldest first."""
    return [ShardSubmission(*row) for row in tx.fetch_all("submissions_since", after=number)]
