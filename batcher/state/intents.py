"""What the acting process writes before and after each call. Functions of an open transaction.

An intent is written before a call that costs money or leaves something behind, its outcome after.
"""

from batcher.core.remote import RemoteBatch, RemoteFile
from batcher.core.verdicts import LOOK_AGAIN_S
from batcher.state import batches, remote_files, shards, submissions
from batcher.state.batches import insert_batch, load_known_batch, update_batch
from batcher.state.db.transaction import Transaction
from batcher.state.shards import ShardRow
from batcher.state.submissions import Reservation, Submission

UNPROVEN = "unproven"
"""The outcome of a submission of which nothing shows whether its batch exists; `money_in_flight` counts it."""
PERHAPS_CREATED = "its batch was perhaps created, and nothing shows whether it was"


def intend_upload(tx: Transaction, shard: ShardRow, reservation: Reservation) -> int | None:
    """Write the intent to upload and claim the lines; return the submission, or None when the shard became stale."""
    submission = _open_submission(tx, shard, reservation)
    if submission is not None:
        tx.move_shard(shard.shard, "intend_upload", submission=submission)
    return submission


def _open_submission(tx: Transaction, shard: ShardRow, reservation: Reservation) -> int | None:
    """Open a submission that claims the shard's lines; return its number.

    Where some of the lines have gone elsewhere the shard becomes stale instead, and None is returned.
    """
    (submission,) = tx.fetch_one(
        "insert_submission",
        shard=shard.shard, lines=shard.lines, tokens=shard.tokens, reserved=reservation.reserved,
        limit_tokens=reservation.limit_tokens, reserved_before=reservation.reserved_before,
        headroom_after=reservation.headroom_after, reserved_usd=reservation.reserved_usd, now=tx.now,
    )  # fmt: skip
    claimed = submissions.claim_shard_lines(tx, shard.shard, submission)
    if claimed == shard.lines:
        return int(submission)
    close_submission(tx, submission, "cut again")
    shards.mark_shard_stale(tx, shard.shard, f"{claimed} of its {shard.lines} lines were left")
    shards.loosen_shard_lines(tx, shard.shard)
    return None


def record_upload(tx: Transaction, submission: Submission, file: RemoteFile) -> None:
    """Record that the file is at OpenAI; the intent to create comes next."""
    shards.set_shard_file(tx, submission.shard, file.file_id, file.created_at)
    tx.move_shard(submission.shard, "record_upload", file.file_id)


def forget_upload(
    tx: Transaction, submission: Submission, orphans: list[RemoteFile], search_at: float | None = None
) -> None:
    """Record that an upload gave no file. Uploads cost nothing: the shard is uploaded again, the orphans are deleted.

    search_at: when to search for a file that appears late (epoch seconds); None where none can.
    """
    for orphan in orphans:
        remote_files.queue_file(tx, orphan.file_id, "batch", submission.shard)
    if search_at is not None and not orphans:
        remote_files.watch_for_orphan(tx, submission.submission, search_at)
    close_submission(tx, submission.submission, "upload without a file")
    tx.move_shard(submission.shard, "forget_upload", f"{len(orphans)} orphans")


def intend_create(tx: Transaction, shard: ShardRow, submission: int) -> None:
    """Write the intent to create a batch from the shard's file."""
    tx.fetch_all(
        "set_create_intended",
        submission=submission, file_id=shard.file_id, created_at=shard.file_created_at, now=tx.now,
    )  # fmt: skip
    tx.move_shard(shard.shard, "intend_create", submission=submission)


def intend_resubmission(tx: Transaction, shard: ShardRow, reservation: Reservation) -> int | None:
    """Open a submission of a file that is kept at OpenAI and write its intent to create; return the submission.

    None is returned when the shard became stale instead.
    """
    submission = _open_submission(tx, shard, reservation)
    if submission is not None:
        intend_create(tx, shard, submission)
    return submission


def record_create(tx: Transaction, submission: Submission, batch: RemoteBatch, how: str) -> None:
    """Record that the batch of a submission exists. how: created or adopted."""
    insert_batch(tx, submission, batch)
    submissions.set_submission_batch(tx, submission.submission, batch.batch_id)
    tx.move_shard(submission.shard, "record_create", f"{how} {batch.batch_id}")
    record_service_state(tx, submission, batch)


def record_service_state(tx: Transaction, submission: Submission, batch: RemoteBatch) -> None:
    """Record what the service said of a batch that was just inserted, and a request to cancel that waited for it."""
    update_batch(tx, load_known_batch(tx, batch.batch_id), batch)
    if submission.cancel_wanted_at is not None:
        batches.intend_cancel(tx, batch.batch_id)


def record_create_refusal(tx: Transaction, submission: Submission, why: str) -> None:
    """Record that the service answered and created no batch. The file is kept."""
    close_submission(tx, submission.submission, f"refused: {why}")
    tx.move_shard(submission.shard, "refuse_create", why)


def record_batch_refusal(tx: Transaction, submission: int, shard: int, outcome: str, message: str) -> None:
    """Record that the service refused a batch after it was created: its lines are free, and its file is kept."""
    close_submission(tx, submission, outcome)
    tx.move_shard(shard, "refuse_batch", message)


def record_absent_batch(tx: Transaction, submission: Submission) -> None:
    """Record that the batch was shown to be absent. Its file is deleted, so a late create names no file."""
    close_submission(tx, submission.submission, "absent")
    tx.move_shard(submission.shard, "find_absent")
    shards.set_shard_file(tx, submission.shard, None, None)


def give_up_create(tx: Transaction, submission: Submission) -> int:
    """Hold the lines of a submission of which nothing shows whether its batch exists; return how many there are.

    What it may cost stays reserved until its batch is found, for which listings are searched hourly and at each start.
    """
    number = submission.submission
    tx.fetch_all("record_unproven_lines", submission=number, message=PERHAPS_CREATED, now=tx.now)
    held = tx.move_lines("hold_unproven_lines", "hold", submission=number, message=PERHAPS_CREATED)
    submissions.end_submission(tx, number, UNPROVEN)
    tx.move_shard(submission.shard, "give_up_create")
    shards.delay_shard(tx, submission.shard, tx.now + LOOK_AGAIN_S)
    return held


def record_input_deletion(tx: Transaction, submission: Submission) -> None:
    """Record that the input file is gone at OpenAI, so that no batch can be made of it.

    Raises ValueError where the submission has no input file.
    """
    if submission.file_id is None:
        raise ValueError(f"submission {submission.submission} has no input file")
    remote_files.queue_file(tx, submission.file_id, "batch", submission.shard)
    remote_files.record_file_deleted(tx, submission.file_id)


def close_submission(tx: Transaction, submission: int, outcome: str) -> None:
    """End a submission that no batch settles: its lines become ready, its tokens are free.

    Lines that another batch of the shard has perhaps paid for are held: only the user may buy them again.
    """
    tx.move_lines("hold_perhaps_paid", "hold", submission=submission)
    tx.move_lines("give_lines_back", "give_back", submission=submission)
    submissions.end_submission(tx, submission, outcome)
