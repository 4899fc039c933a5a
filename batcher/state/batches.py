"""Batches as rows of the state: what the service reported of each, and what was decided about it."""

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from batcher.core.failures import ErrorDetails
from batcher.core.lifecycle import BatchStatus, is_terminal, merge_batch_status
from batcher.core.remote import FILE_LIFE_S, Moment, RemoteBatch
from batcher.core.verdicts import ReadingHistory
from batcher.state import facts, shards, submissions
from batcher.state.db.transaction import Transaction
from batcher.state.submissions import Submission


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
    completed: int
    failed: int
    checked_at: float
    """When its status or its counts changed last, or when it was retrieved alone (our clock)."""
    missing_since: float | None
    doubted_since: float | None
    unlisted_date: float | None
    unlisted_since: float | None

    @property
    def doubted(self) -> Moment | None:
        """When a look first found that it should be given up; None where the last look found it sound."""
        return None if self.doubted_since is None else Moment(self.doubted_since, self.missing_since or 0.0)

    @property
    def unlisted(self) -> Moment | None:
        """When a listing first lacked it; None where the last listing had it."""
        return None if self.unlisted_since is None else Moment(self.unlisted_since, self.unlisted_date or 0.0)


def insert_batch(tx: Transaction, submission: Submission, batch: RemoteBatch, stray: bool = False) -> None:
    """Record a batch for the first time.

    stray: another batch decides the lines of its shard. It reserves as many tokens as its submission, in addition.
    """
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
    """Return every batch of this run that the state knows, by its id."""
    return {row[0]: KnownBatch(*row) for row in tx.fetch_all("known_batches")}


def find_known_batch(tx: Transaction, batch_id: str) -> KnownBatch | None:
    """Return a batch where the state knows it, else None."""
    rows = tx.fetch_all("known_batch", batch_id=batch_id)
    return KnownBatch(*rows[0]) if rows else None


def load_known_batch(tx: Transaction, batch_id: str) -> KnownBatch:
    """Return one batch that the state knows. Raises LookupError for another."""
    found = find_known_batch(tx, batch_id)
    if found is None:
        raise LookupError(f"there is no batch {batch_id}")
    return found


def update_batch(tx: Transaction, known: KnownBatch, batch: RemoteBatch) -> bool:
    """Record what the service reports of a batch; return whether it has ended just now.

    A terminal status stays. The ids of its files, its counts and its usage may come later than the status.
    """
    status = merge_batch_status(known.status, batch.status)
    usage = batch.usage or (None, None, None)
    entries = [{"code": e.code, "message": e.message, "line": e.line} for e in batch.errors]
    errors = orjson.dumps(entries).decode() if entries else None
    tx.fetch_all(
        "update_batch",
        batch_id=batch.batch_id, status=status, expires_at=batch.expires_at, finished_at=batch.finished_at,
        total=batch.total, completed=batch.completed, failed=batch.failed, output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id, usage_input=usage[0], usage_cached=usage[1], usage_output=usage[2],
        errors=errors, now=tx.now,
    )  # fmt: skip
    if status != known.status:
        tx.record_event("status", status, shard=known.shard, submission=known.submission, batch_id=batch.batch_id)
        if status == BatchStatus.IN_PROGRESS:
            facts.reset_room_refusals(tx)
            shards.trust_shard_file(tx, known.shard)
    return known.ended_at is None and is_terminal(status) and end_batch(tx, known, status)


def end_batch(tx: Transaction, known: KnownBatch, status: str) -> bool:
    """Record the end of a batch: its tokens are free, and shards that wait for room may be sent again.

    Return whether it was not recorded before.
    """
    if not tx.count_changed("end_batch", batch_id=known.batch_id, now=tx.now):
        return False
    if not load_batch(tx, known.batch_id).stray:
        submissions.release_reserved_tokens(tx, known.submission)
        tx.move_shard(known.shard, "end")
    if status != BatchStatus.FAILED:  # a batch that was refused has made no room
        facts.set_wait(tx, facts.WaitFact.ROOM, 0)
    return True


def parse_batch_errors(text: str | None) -> list[ErrorDetails]:
    """Return the errors of a batch from the text that `update_batch` has stored; none for None."""
    return [ErrorDetails(None, e["code"], "", e["message"], e["line"]) for e in orjson.loads(text or "[]")]


class EndedBatch(NamedTuple):
    """A batch whose results are to be read."""

    batch_id: str
    submission: int
    shard: int
    stray: bool
    status: str
    total: int
    completed: int
    failed: int
    input_file_id: str
    output_file_id: str | None
    error_file_id: str | None
    errors: str | None
    read_first_at: float | None
    ended_at: float | None
    settled_at: float | None
    recorded_at: float
    """When we first recorded it, by our clock."""
    is_cancel_wanted: bool
    """Whether we want it cancelled; the service may not have answered yet."""


def load_batch(tx: Transaction, batch_id: str) -> EndedBatch:
    """Return a batch with all that its results depend on."""
    return EndedBatch(*tx.fetch_one("batch", batch_id=batch_id))


def settle_batch(tx: Transaction, batch_id: str) -> bool:
    """Record that a batch's results are recorded; return False where this was recorded before."""
    return bool(tx.count_changed("settle_batch", batch_id=batch_id, now=tx.now))


def mark_unread(tx: Transaction, batch_id: str, next_look: float) -> None:
    """Record that a batch is given up with lines perhaps paid. next_look: when to look for it again (epoch seconds)."""
    tx.fetch_all("mark_unread", batch_id=batch_id, next=next_look)


def postpone_reading(tx: Transaction, batch_id: str, until: float) -> None:
    """Record that a batch's results were incomplete now, and are to be read again at `until` (epoch seconds)."""
    tx.fetch_all("postpone_reading", batch_id=batch_id, until=until, now=tx.now)


def load_reading_history(tx: Transaction, batch: EndedBatch, finding: str) -> ReadingHistory:
    """Return the earlier readings of a batch that were incomplete. finding: what this one lacks, in words."""
    readings, same, same_since = tx.fetch_one("reading_history", batch_id=batch.batch_id, finding=finding)
    return ReadingHistory(int(readings), batch.read_first_at, int(same), same_since)


class SiblingCount(NamedTuple):
    """How many other batches of the same shard there are."""

    unsettled: int
    all: int


def count_siblings(tx: Transaction, batch: EndedBatch) -> SiblingCount:
    """Return how many other batches of its shard the state knows."""
    return SiblingCount(*tx.fetch_one("count_siblings", shard=batch.shard, batch_id=batch.batch_id))


def intend_cancel(tx: Transaction, batch_id: str) -> None:
    """Write the intent to cancel a running batch; the batch lane carries it out."""
    tx.fetch_all("wish_cancel", batch_id=batch_id, now=tx.now)


def set_batch_stray(tx: Transaction, batch_id: str, stray: bool, reserved: int) -> None:
    """Mark whether another batch decides the lines of this batch's shard. reserved: the tokens of a stray, else 0."""
    tx.fetch_all("set_stray", batch_id=batch_id, stray=stray, reserved=reserved)


def load_unread_batches(tx: Transaction) -> list[str]:
    """Return the ids of batches that were given up with lines perhaps paid, and are due to be looked for again."""
    return [str(row[0]) for row in tx.fetch_all("unread_due", now=tx.now, since=tx.now - FILE_LIFE_S)]


def make_unread_due(tx: Transaction) -> None:
    """Have every batch that was given up with lines perhaps paid requested again at the next opportunity."""
    tx.fetch_all("unread_now")


def postpone_batch(tx: Transaction, batch_id: str, until: float) -> None:
    """Keep a batch from being read, or looked for again, before `until` (epoch seconds)."""
    tx.fetch_all("postpone_batch", batch_id=batch_id, until=until)


def postpone_cancel(tx: Transaction, batch_id: str, until: float) -> None:
    """Keep the service from being asked to cancel a batch before `until` (epoch seconds)."""
    tx.fetch_all("postpone_cancel", batch_id=batch_id, until=until)


def reopen_batch(tx: Transaction, batch_id: str, status: str) -> None:
    """Have the results of a batch that was given up read, because the service knows it after all."""
    tx.fetch_all("take_up_again", batch_id=batch_id, status=status)


def record_batch_doubt(tx: Transaction, batch_id: str, since: Moment) -> None:
    """Record since when the looks find that a batch should be given up."""
    tx.fetch_all("set_doubted", batch_id=batch_id, ours=since.ours, server=since.server)


def record_unlisted_batch(tx: Transaction, batch_id: str, since: Moment | None) -> None:
    """Record since when listings lack a batch that exists; None: the last one had it."""
    ours, server = since if since is not None else (None, None)
    tx.fetch_all("set_unlisted", batch_id=batch_id, ours=ours, server=server)


def record_batch_check(tx: Transaction, batch_id: str) -> None:
    """Record that a batch was retrieved alone now."""
    tx.fetch_all("set_checked", batch_id=batch_id, now=tx.now)


def record_cancel_request(tx: Transaction, batch_id: str) -> None:
    """Record that the service was asked to cancel a batch."""
    tx.fetch_all("cancel_asked", batch_id=batch_id, now=tx.now)


def load_running_batch_ids(tx: Transaction, shard: int) -> list[str]:
    """Return the ids of a shard's batches that have not ended."""
    return [str(batch_id) for (batch_id,) in tx.fetch_all("running_batches", shard=shard)]


def load_listing_floor(tx: Transaction, since: float) -> float:
    """Return how far back a listing must go to show every batch that matters (epoch seconds); 0 where none does.

    since: when a submission was closed at the earliest whose batch may still appear.
    """
    (floor,) = tx.fetch_one("listing_floor", since=since)
    return float(floor or 0.0)


class LineProgress(NamedTuple):
    """How far the released lines are."""

    lines: int
    settled: int
    """Lines that are done, dead or held."""
    executed: int
    """Lines that unsettled batches have done."""


def load_line_progress(tx: Transaction) -> LineProgress:
    """Return how far the released lines are."""
    return LineProgress(*tx.fetch_one("progress"))
