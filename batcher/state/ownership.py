"""The marks by which files and batches at the service are known to be ours. Metadata first; where a provider drops
it, the input file, whose id the service gave to us alone.
"""

from batcher.core.remote import RemoteBatch
from batcher.state import intents
from batcher.state.db.transaction import Transaction
from batcher.state.intents import Submission

RUN_KEY, SUBMISSION_KEY, SHARD_KEY = "batcher_run", "batcher_submission", "batcher_shard"


def input_file_name(run: str, shard: int, submission: int) -> str:
    """The name of a shard's file at OpenAI; the submission's own, so that an orphan can be told."""
    return f"batcher-{run[:12]}-shard-{shard:05d}-submission-{submission}.jsonl"


def build_batch_metadata(run: str, row: Submission) -> dict[str, str]:
    """What a batch carries to be found by. Values are texts of under 512 characters (official description)."""
    return {
        RUN_KEY: run,
        SUBMISSION_KEY: str(row.submission),
        SHARD_KEY: str(row.shard),
        "batcher_lines": str(row.lines),
        "batcher_tokens": str(row.reserved),
    }


def find_submission(tx: Transaction, batch: RemoteBatch, run: str) -> Submission | None:
    """The submission that asked for this batch; None when it is not ours.

    A batch with our run id that names no submission of ours (a state put back from a backup) is nobody's here.
    """
    if RUN_KEY not in batch.metadata:
        (number,) = tx.fetch_one("submission_of_file", file_id=batch.input_file_id)
        return intents.load_submission(tx, number) if number is not None else None
    text = batch.metadata.get(SUBMISSION_KEY, "")
    if batch.metadata[RUN_KEY] != run or not text.isdecimal() or len(text) > 9:
        return None
    rows = tx.fetch_all("submission", submission=int(text))
    found = Submission(*rows[0]) if rows else None
    return found if found is not None and batch.metadata.get(SHARD_KEY) == str(found.shard) else None
