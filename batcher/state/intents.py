"""What the acting process writes before and after each call. Functions of an open transaction.

An intent is written before a call that costs money or leaves something behind, its outcome after.
"""

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from batcher.core.failures import ErrorDetails
from batcher.core.lifecycle import BatchStatus, ShardState, is_terminal, merge_batch_status
from batcher.core.remote import RemoteBatch, RemoteFile
from batcher.core.snapshot import BatchView, LooseLines, ShardView
from batcher.state import facts
from batcher.state.db.transaction import StateRow, Transaction


class ShardRow(NamedTuple):
    """A shard as the runner handles it."""

    shard: int
    priority: int
    state: ShardState
    lines: int
    tokens: int
    sha256: str
    version: int
    refusals: int
    submission: int | None
    file_id: str | None
    file_created_at: float | None
    """In the service's clock."""
    retry: bool


class Submission(NamedTuple):
    """A submission as the runner handles it."""

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
    absent_since_local: float | None
    cancel_wanted_at: float | None
    outcome: str | None
    delete_intended_at: float | None


class Reservation(NamedTuple):
    """What a submission takes of the limit, and what it leaves."""

    reserved: int
    limit_tokens: int
    reserved_before: int
    headroom_after: int
    reserved_usd: float


class KnownBatch(NamedTuple):
    """A batch that the state knows."""

    batch_id: str
    submission: int
    shard: int
    status: str
    created_at: float
    ended_at: float | None
    settled_at: float | None
    input_file_id: str
    missing_since: float | None


def load_run_id(tx: Transaction) -> str:
    """The random id of this job's run, which its batches carry in their metadata."""
    return str(tx.fetch_one("run")[0])


def load_shard(tx: Transaction, shard: int) -> ShardRow:
    """One shard."""
    row = tx.fetch_one("shard", shard=shard)
    return ShardRow(row[0], row[1], ShardState(row[2]), *row[3:])


def load_submission(tx: Transaction, submission: int) -> Submission:
    """One submission."""
    return Submission(*tx.fetch_one("submission", submission=submission))


def load_active_work(
    tx: Transaction, latest: float
) -> tuple[tuple[ShardView, ...], tuple[BatchView, ...], tuple[LooseLines, ...]]:
    """Shards that are under way, batches that are not settled, and lines that belong to no shard.

    latest: a time to wait for that is later was written by a clock that was ahead, and counts as past.
    """
    shards = tuple(
        ShardView(r[0], r[1], ShardState(r[2]), *r[3:]) for r in tx.fetch_all("active_shards", latest=latest)
    )
    batches = tuple(BatchView(*row) for row in tx.fetch_all("open_batches", now=tx.now, latest=latest))
    return shards, batches, load_loose_lines(tx, latest)


def load_loose_lines(tx: Transaction, latest: float) -> tuple[LooseLines, ...]:
    """Lines that belong to no shard. latest: as for `views`."""
    return tuple(LooseLines(*row) for row in tx.fetch_all("loose_lines", now=tx.now, latest=latest))


# --- upload ---------------------------------------------------------------------------------------------------------


def intend_upload(tx: Transaction, shard: ShardRow, reservation: Reservation) -> int | None:
    """Writes the intent and claims the lines; the submission, or None when the shard was made stale instead."""
    submission = _open_submission(tx, shard, reservation)
    if submission is not None:
        tx.move_shard(shard.shard, "intend_upload", submission=submission)
    return submission


def _open_submission(tx: Transaction, shard: ShardRow, reservation: Reservation) -> int | None:
    """A new submission that claims the shard's lines. Lines that are gone elsewhere make the shard stale."""
    (submission,) = tx.fetch_one(
        "insert_submission",
        shard=shard.shard, lines=shard.lines, tokens=shard.tokens, reserved=reservation.reserved,
        limit_tokens=reservation.limit_tokens, reserved_before=reservation.reserved_before,
        headroom_after=reservation.headroom_after, reserved_usd=reservation.reserved_usd, now=tx.now,
    )  # fmt: skip
    claimed = tx.move_lines("claim_lines", "claim_batch", shard=shard.shard, submission=submission)
    if claimed == shard.lines:
        return int(submission)
    close_submission(tx, submission, "cut again")
    tx.mark_shard_stale(shard.shard, f"{claimed} of its {shard.lines} lines were left")
    tx.fetch_all("loosen_shard", shard=shard.shard)
    return None


def record_upload(tx: Transaction, submission: Submission, file: RemoteFile) -> None:
    """The file is at OpenAI; what comes next is the intent to create."""
    tx.fetch_all("set_shard_file", shard=submission.shard, file_id=file.file_id, created_at=file.created_at)
    tx.move_shard(submission.shard, "record_upload", file.file_id)


def forget_upload(
    tx: Transaction, submission: Submission, orphans: list[RemoteFile], look_again: float | None = None
) -> None:
    """The upload gave no file: uploads cost nothing, so it is done again, and what it left is deleted.

    look_again: when to look for a file that may come to light late; None where none can.
    """
    for orphan in orphans:
        tx.fetch_all("queue_file", file_id=orphan.file_id, purpose="batch", shard=submission.shard, now=tx.now)
    if look_again is not None and not orphans:
        tx.fetch_all("watch_orphan", submission=submission.submission, due=look_again)
    close_submission(tx, submission.submission, "upload without a file")
    tx.move_shard(submission.shard, "forget_upload", f"{len(orphans)} orphans")


# --- create ---------------------------------------------------------------------------------------------------------


def intend_create(tx: Transaction, shard: ShardRow, submission: int) -> None:
    """Writes the intent to create a batch from the shard's file."""
    tx.fetch_all(
        "set_create_intended",
        submission=submission, file_id=shard.file_id, created_at=shard.file_created_at, now=tx.now,
    )  # fmt: skip
    tx.move_shard(shard.shard, "intend_create", submission=submission)


def intend_resubmission(tx: Transaction, shard: ShardRow, reservation: Reservation) -> int | None:
    """A new submission from a file that is kept at OpenAI, with its intent to create; None: made stale instead."""
    submission = _open_submission(tx, shard, reservation)
    if submission is not None:
        intend_create(tx, shard, submission)
    return submission


def record_create(tx: Transaction, submission: Submission, batch: RemoteBatch, how: str) -> None:
    """The batch exists: created just now, or found and adopted."""
    insert_batch(tx, submission, batch)
    tx.fetch_all("set_submission_batch", submission=submission.submission, batch_id=batch.batch_id)
    tx.move_shard(submission.shard, "record_create", f"{how} {batch.batch_id}")
    record_service_state(tx, submission, batch)


def record_service_state(tx: Transaction, submission: Submission, batch: RemoteBatch) -> None:
    """Writes what the service said of a batch that was recorded just now, and a wish to cancel that was waiting."""
    update_batch(tx, load_known_batch(tx, batch.batch_id), batch)
    if submission.cancel_wanted_at is not None:
        tx.fetch_all("wish_cancel", batch_id=batch.batch_id, now=tx.now)


def record_create_refusal(tx: Transaction, submission: Submission, why: str) -> None:
    """The service answered and did not do it; the file is kept."""
    close_submission(tx, submission.submission, f"refused: {why}")
    tx.move_shard(submission.shard, "refuse_create", why)


def record_absent_batch(tx: Transaction, submission: Submission) -> None:
    """The batch was shown to be absent, and its file is deleted: a late create would name no file."""
    close_submission(tx, submission.submission, "absent")
    tx.move_shard(submission.shard, "find_absent")
    tx.fetch_all("set_shard_file", shard=submission.shard, file_id=None, created_at=None)


def record_input_deletion(tx: Transaction, submission: Submission) -> None:
    """The input file is gone at OpenAI: no batch can be made of it any more."""
    tx.fetch_all("queue_file", file_id=submission.file_id, purpose="batch", shard=submission.shard, now=tx.now)
    tx.fetch_all("file_deleted", file_id=submission.file_id, now=tx.now)


def is_file_deleted(tx: Transaction, file_id: str | None) -> bool:
    """Whether we have deleted this file at OpenAI."""
    return bool(tx.fetch_one("is_deleted", file_id=file_id)[0])


def close_submission(tx: Transaction, submission: int, outcome: str) -> None:
    """Ends a submission that no batch settles: its lines go back, its tokens are free.

    Lines that another batch of the shard has perhaps paid for are held: they are never bought again by themselves.
    """
    tx.move_lines("hold_perhaps_paid", "hold", submission=submission)
    tx.move_lines("give_lines_back", "give_back", submission=submission)
    tx.fetch_all("end_submission", submission=submission, outcome=outcome, now=tx.now)


# --- batches --------------------------------------------------------------------------------------------------------


def insert_batch(tx: Transaction, submission: Submission, batch: RemoteBatch, stray: bool = False) -> None:
    """Records a batch for the first time. A stray's tokens are reserved beside those of its submission."""
    reserved = submission.reserved if stray else 0
    tx.fetch_all(
        "insert_batch",
        batch_id=batch.batch_id, submission=submission.submission, shard=submission.shard, stray=stray,
        status="validating", created_at=batch.created_at, expires_at=batch.expires_at,
        input_file_id=batch.input_file_id, reserved=reserved, now=tx.now,
    )  # fmt: skip
    tx.record_event(
        "stray" if stray else "batch", shard=submission.shard, submission=submission.submission, batch_id=batch.batch_id
    )


def load_known_batches(tx: Transaction) -> Mapping[str, KnownBatch]:
    """Every batch of this run that the state knows."""
    return {row[0]: KnownBatch(*row) for row in tx.fetch_all("known_batches")}


def load_known_batch(tx: Transaction, batch_id: str) -> KnownBatch:
    """One batch that the state knows."""
    return KnownBatch(*tx.fetch_one("known_batch", batch_id=batch_id))


def update_batch(tx: Transaction, known: KnownBatch, batch: RemoteBatch) -> bool:
    """Writes what the service says of a batch; whether it has ended just now. A terminal status absorbs; the ids of
    its files, its counts and its usage may come later than the status."""
    status = merge_batch_status(known.status, batch.status)
    usage = batch.usage or (None, None, None)
    errors = orjson.dumps([_error_to_json(e) for e in batch.errors]).decode() if batch.errors else None
    tx.fetch_all(
        "update_batch",
        batch_id=batch.batch_id, status=status, expires_at=batch.expires_at, finished_at=batch.finished_at,
        total=batch.total, completed=batch.completed, failed=batch.failed, output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id, usage_input=usage[0], usage_cached=usage[1], usage_output=usage[2],
        errors=errors,
    )  # fmt: skip
    if status != known.status:
        tx.record_event("status", status, shard=known.shard, submission=known.submission, batch_id=batch.batch_id)
        if status == BatchStatus.IN_PROGRESS:
            facts.reset_room_refusals(tx)
    return known.ended_at is None and is_terminal(status) and end_batch(tx, known, status)


def end_batch(tx: Transaction, known: KnownBatch, status: str) -> bool:
    """Records the end of a batch: its tokens are free, and whoever waits for room may try again."""
    if not tx.count_changed("end_batch", batch_id=known.batch_id, now=tx.now):
        return False
    row = tx.fetch_one("batch", batch_id=known.batch_id)
    if not row[3]:
        tx.fetch_all("end_submission_tokens", submission=known.submission, now=tx.now)
        tx.move_shard(known.shard, "end")
    if status != BatchStatus.FAILED:  # one that was refused has made no room
        facts.set_wait(tx, facts.Wait.ROOM, 0)
    return True


def _error_to_json(trouble: ErrorDetails) -> dict[str, object]:
    return {"code": trouble.code, "message": trouble.message, "line": trouble.line}


def parse_batch_errors(text: str | None) -> list[ErrorDetails]:
    """The entries of `batch.errors` as they were kept."""
    return [ErrorDetails(None, e["code"], "", e["message"], e["line"]) for e in orjson.loads(text or "[]")]


# --- pauses, limits -------------------------------------------------------------------------------------------------


def load_due_lines(tx: Transaction, priority: int, most: int, latest: float) -> list[StateRow]:
    """The due loose lines of a priority, oldest first, of one job version. latest: as for `views`."""
    tx.move_lines("fall_due", "fall_due", priority=priority, now=tx.now, latest=latest)
    return tx.fetch_all("loose_to_gather", priority=priority, most=most)
