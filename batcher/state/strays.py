"""Batches of ours that no answer told us of: found in a listing, they are adopted, or counted beside the one we know.

One batch of a shard decides its lines, and is read last; every other one is a stray. A stray counts against the
limit at once, its good results are taken, and no line is sent again while one that may hold it is not settled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from batcher.core.events import BatchAdopted, StrayFound
from batcher.core.lifecycle import FINAL_SHARD_STATES, BatchStatus, ShardState, is_terminal
from batcher.core.remote import RemoteBatch
from batcher.state import batches, intents, remote_files, shards, submissions
from batcher.state.db.transaction import Transaction
from batcher.state.shards import ShardRow
from batcher.state.submissions import Submission

S = ShardState
NOT_SENT = frozenset({S.PLANNED, S.RELEASED, S.UPLOADING, S.UPLOADED})


@dataclass(frozen=True, slots=True)
class SiblingBatch:
    """One of several batches of a shard that are not settled."""

    batch_id: str
    stray: bool
    status: str
    completed: int
    created_at: float
    ended_at: float | None
    cancel_wanted_at: float | None


def record_found_batch(tx: Transaction, submission: Submission, batch: RemoteBatch) -> BatchAdopted | StrayFound:
    """Record a batch of ours that the state does not know; return what became of it."""
    shard = shards.load_shard(tx, submission.shard)
    if shard.state is S.CREATING and shard.submission == submission.submission:
        intents.record_create(tx, submission, batch, "adopted")
        keep_best_batch(tx, shard.shard)
        return BatchAdopted(shard.shard, batch.batch_id)
    if shard.state in NOT_SENT and _adopt_late_batch(tx, shard, submission, batch):
        return BatchAdopted(shard.shard, batch.batch_id)
    _record_stray(tx, shard, submission, batch)
    return StrayFound(shard.shard, batch.batch_id)


def _adopt_late_batch(tx: Transaction, shard: ShardRow, submission: Submission, batch: RemoteBatch) -> bool:
    """The batch of a shard that waits to be sent again: it runs after all, so its old submission is opened again."""
    if shard.submission is not None:  # an upload that is under way is of no more use
        intents.close_submission(tx, shard.submission, "its batch was found")
        remote_files.watch_for_orphan(tx, shard.submission, tx.now)
    if shard.file_id != submission.file_id:  # one that was uploaded since is of no more use either
        shards.queue_shard_file(tx, shard.shard)
    created_at = submission.file_created_at
    shards.set_shard_file(tx, shard.shard, submission.file_id, created_at)
    tx.fetch_all("reopen_submission", submission=submission.submission)
    claimed = submissions.claim_shard_lines(tx, shard.shard, submission.submission)
    if not claimed:  # all its lines went elsewhere meanwhile
        intents.close_submission(tx, submission.submission, "its lines went elsewhere")
        return False
    batches.insert_batch(tx, submission, batch)
    submissions.set_submission_batch(tx, submission.submission, batch.batch_id)
    tx.move_shard(shard.shard, "adopt_late", f"adopted {batch.batch_id}", submission=submission.submission)
    intents.record_service_state(tx, submission, batch)
    if shard.state is S.PLANNED:  # it was taken back from being sent
        batches.intend_cancel(tx, batch.batch_id)
    return True


def _record_stray(tx: Transaction, shard: ShardRow, submission: Submission, batch: RemoteBatch) -> None:
    """A stray hangs on the submission that claims the lines now, so that its good results count for them."""
    owner = submissions.load_submission(tx, shard.submission) if shard.submission is not None else submission
    batches.insert_batch(tx, owner, batch, stray=True)
    intents.record_service_state(tx, owner, batch)
    if shard.state in FINAL_SHARD_STATES | NOT_SENT:  # its lines have their verdicts, or went elsewhere
        batches.intend_cancel(tx, batch.batch_id)
    else:
        keep_best_batch(tx, shard.shard)


def load_sibling_batches(tx: Transaction, shard: int) -> list[SiblingBatch]:
    """The batches of a shard that are not settled, the one to keep first."""
    return sorted((SiblingBatch(*row) for row in tx.fetch_all("batches_of_shard", shard=shard)), key=_sibling_rank)


def _sibling_rank(rival: SiblingBatch) -> tuple[bool, bool, int, float, str]:
    refused = rival.status in {BatchStatus.FAILED, BatchStatus.OVERDUE}
    return refused, rival.cancel_wanted_at is not None, -rival.completed, rival.created_at, rival.batch_id


def sort_best_first(batches: Sequence[RemoteBatch]) -> list[RemoteBatch]:
    """Batches found for one submission, the one to adopt first."""
    return sorted(batches, key=lambda b: (b.status == BatchStatus.FAILED, -b.completed, b.created_at, b.batch_id))


def keep_best_batch(tx: Transaction, shard: int) -> None:
    """Of several batches of a shard keeps the one with most completed, then the oldest; cancels the others."""
    found = load_sibling_batches(tx, shard)
    chief = next((rival for rival in found if not rival.stray), None)
    if chief is None or len(found) < 2:
        return
    if chief.ended_at is None and found[0] is not chief:
        _demote_batch(tx, shard, chief)
        promote_batch(tx, shard, found[0])
        chief = found[0]
    if chief.status in {BatchStatus.FAILED, BatchStatus.OVERDUE}:
        return  # nothing was done by it: the others may end
    for rival in found:
        if rival is not chief and not is_terminal(rival.status):
            batches.intend_cancel(tx, rival.batch_id)
            tx.record_event(
                "double", "cancelled, another batch of the shard is kept", shard=shard, batch_id=rival.batch_id
            )


def _demote_batch(tx: Transaction, shard: int, chief: SiblingBatch) -> None:
    owner = _load_current_submission(tx, shard)
    batches.set_batch_stray(tx, chief.batch_id, stray=True, reserved=owner.reserved)


def promote_batch(tx: Transaction, shard: int, rival: SiblingBatch) -> None:
    """Makes a stray the batch that decides the shard's lines. The shard is in flight."""
    owner = _load_current_submission(tx, shard)
    batches.set_batch_stray(tx, rival.batch_id, stray=False, reserved=0)
    submissions.set_submission_batch(tx, owner.submission, rival.batch_id)
    tx.record_event("keep", shard=shard, submission=owner.submission, batch_id=rival.batch_id)
    if rival.ended_at is not None:
        submissions.release_reserved_tokens(tx, owner.submission)
        tx.move_shard(shard, "end")


def _load_current_submission(tx: Transaction, shard: int) -> Submission:
    row = shards.load_shard(tx, shard)
    assert row.submission is not None
    return submissions.load_submission(tx, row.submission)
