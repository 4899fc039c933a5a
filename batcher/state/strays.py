"""Batches of ours that were found in a listing: no answer named them. They are adopted, or counted as strays.

One batch of a shard decides its lines, and is read last; every other one is a stray. A stray counts against the
limit at once, its good results are recorded, and no line is sent again while a batch that may hold it is not settled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from batcher.core.events import BatchAdopted, StrayFound
from batcher.core.lifecycle import FINAL_SHARD_STATES, BatchStatus, ShardState, is_terminal
from batcher.core.remote import FILE_LIFE_S, RemoteBatch
from batcher.state import batches, intents, remote_files, shards, submissions
from batcher.state.db.transaction import Transaction
from batcher.state.shards import ShardRow
from batcher.state.submissions import Submission

PROBLEMS_TOLD = 100
"""Most problems of listings that are kept: a service whose every object is odd does not fill the history."""
NOT_SENT = frozenset({ShardState.PLANNED, ShardState.RELEASED, ShardState.UPLOADING, ShardState.UPLOADED})
NOTHING_DONE = frozenset({BatchStatus.FAILED, BatchStatus.OVERDUE})
"""Statuses of a batch that has executed nothing that can be read."""


@dataclass(frozen=True, slots=True)
class SiblingBatch:
    """One of several batches of a shard that are not settled. Times are epoch seconds."""

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
    if shard.state is ShardState.CREATING and shard.submission == submission.submission:
        intents.record_create(tx, submission, batch, "adopted")
        keep_best_batch(tx, shard.shard)
        return BatchAdopted(shard.shard, batch.batch_id)
    if shard.state in NOT_SENT and _adopt_late_batch(tx, shard, submission, batch):
        return BatchAdopted(shard.shard, batch.batch_id)
    _record_stray(tx, shard, submission, batch)
    return StrayFound(shard.shard, batch.batch_id)


def _adopt_late_batch(tx: Transaction, shard: ShardRow, submission: Submission, batch: RemoteBatch) -> bool:
    """Adopt the batch of a shard that waits to be sent again, and open its old submission again.

    Return False where all the shard's lines went elsewhere meanwhile.
    """
    if shard.submission is not None:  # the upload in progress has become useless
        intents.close_submission(tx, shard.submission, "its batch was found")
        remote_files.watch_for_orphan(tx, shard.submission, tx.now)
    if shard.file_id != submission.file_id:  # a file that was uploaded since has become useless too
        shards.queue_shard_file(tx, shard.shard)
    created_at = submission.file_created_at
    shards.set_shard_file(tx, shard.shard, submission.file_id, created_at)
    submissions.reopen_submission(tx, submission.submission)
    claimed = submissions.claim_shard_lines(tx, shard.shard, submission.submission)
    if not claimed:
        intents.close_submission(tx, submission.submission, "its lines went elsewhere")
        return False
    batches.insert_batch(tx, submission, batch)
    submissions.set_submission_batch(tx, submission.submission, batch.batch_id)
    tx.move_shard(shard.shard, "adopt_late", f"adopted {batch.batch_id}", submission=submission.submission)
    intents.record_service_state(tx, submission, batch)
    if shard.state is ShardState.PLANNED:  # the user has cancelled the shard before it was sent again
        batches.intend_cancel(tx, batch.batch_id)
    return True


class UnprovenCreates(NamedTuple):
    """Creates that were given up, whose batches are to be searched for now."""

    creates: int
    file_created_at: float | None
    """When the first of their input files was made, by the service's clock; None where there are none."""


def load_unproven_creates(tx: Transaction) -> UnprovenCreates:
    """Return the creates that were given up and are due: one was paid for if its batch exists."""
    return UnprovenCreates(*tx.fetch_one("unproven_due", now=tx.now, since=tx.now - FILE_LIFE_S))


def postpone_unproven_creates(tx: Transaction, until: float) -> None:
    """Have the batches of creates that were given up searched for at `until` (epoch seconds; 0: at once)."""
    tx.fetch_all("postpone_unproven", until=until)


def _record_stray(tx: Transaction, shard: ShardRow, submission: Submission, batch: RemoteBatch) -> None:
    """Record a stray under the submission that claims the lines now, so that its good results count for them."""
    owner = submissions.load_submission(tx, shard.submission) if shard.submission is not None else submission
    if submission.outcome == intents.UNPROVEN:  # from now on the batch itself tells what it costs
        submissions.end_submission(tx, submission.submission, "found")
    batches.insert_batch(tx, owner, batch, stray=True)
    intents.record_service_state(tx, owner, batch)
    if shard.state in FINAL_SHARD_STATES | NOT_SENT:  # its lines have their verdicts, or went elsewhere
        batches.intend_cancel(tx, batch.batch_id)
    else:
        keep_best_batch(tx, shard.shard)


def _load_sibling_batches(tx: Transaction, shard: int) -> list[SiblingBatch]:
    """Return the batches of a shard that are not settled, the one to keep first."""

    def rank(batch: SiblingBatch) -> tuple[bool, bool, int, float, str]:
        to_cancel = batch.cancel_wanted_at is not None
        return batch.status in NOTHING_DONE, to_cancel, -batch.completed, batch.created_at, batch.batch_id

    return sorted((SiblingBatch(*row) for row in tx.fetch_all("batches_of_shard", shard=shard)), key=rank)


def sort_best_first(batches: Sequence[RemoteBatch]) -> list[RemoteBatch]:
    """Return the batches that were found for one submission, the one to adopt first."""
    return sorted(batches, key=lambda b: (b.status == BatchStatus.FAILED, -b.completed, b.created_at, b.batch_id))


def keep_best_batch(tx: Transaction, shard: int) -> None:
    """Keep of several batches of a shard the one with most completed lines, then the oldest; cancel the others."""
    siblings = _load_sibling_batches(tx, shard)
    deciding = next((batch for batch in siblings if not batch.stray), None)
    if deciding is None or len(siblings) < 2:
        return
    if deciding.ended_at is None and siblings[0] is not deciding:
        reserved = _load_current_submission(tx, shard).reserved
        batches.set_batch_stray(tx, deciding.batch_id, stray=True, reserved=reserved)
        deciding = siblings[0]
        _promote_batch(tx, shard, deciding)
    if deciding.status in NOTHING_DONE:
        return  # so the others may run to their end
    for batch in siblings:
        if batch is not deciding and not is_terminal(batch.status):
            batches.intend_cancel(tx, batch.batch_id)
            tx.record_event(
                "double", "cancelled, another batch of the shard is kept", shard=shard, batch_id=batch.batch_id
            )


def adopt_sibling_batch(tx: Transaction, shard: int) -> bool:
    """Put another batch of the shard in the place of one that does not exist; return whether there is another."""
    siblings = _load_sibling_batches(tx, shard)
    if not siblings:
        return False
    tx.move_shard(shard, "record_create", f"adopted {siblings[0].batch_id}")
    _promote_batch(tx, shard, siblings[0])
    keep_best_batch(tx, shard)
    return True


def _promote_batch(tx: Transaction, shard: int, stray: SiblingBatch) -> None:
    """Make a stray the batch that decides the shard's lines. The shard is in flight."""
    owner = _load_current_submission(tx, shard)
    batches.set_batch_stray(tx, stray.batch_id, stray=False, reserved=0)
    submissions.set_submission_batch(tx, owner.submission, stray.batch_id)
    tx.record_event("keep", shard=shard, submission=owner.submission, batch_id=stray.batch_id)
    if stray.ended_at is not None:
        submissions.release_reserved_tokens(tx, owner.submission)
        tx.move_shard(shard, "end")


def _load_current_submission(tx: Transaction, shard: int) -> Submission:
    row = shards.load_shard(tx, shard)
    if row.submission is None:
        raise ValueError(f"shard {shard} is in flight and has no submission")
    return submissions.load_submission(tx, row.submission)


def record_listing_problems(tx: Transaction, problems: Sequence[str]) -> list[str]:
    """Record what could not be read of a listing; return what was not reported before."""
    if not problems:
        return []
    told = {str(detail) for (detail,) in tx.fetch_all("told_listing_problems")}
    fresh = [problem for problem in dict.fromkeys(problems) if problem not in told][: max(0, PROBLEMS_TOLD - len(told))]
    for problem in fresh:
        tx.record_event("listing_problem", problem)
    return fresh
