"""The results of an ended batch as rows: staged, accepted, decided and settled, in one transaction.

The functions follow the order in which an ingestion calls them: from `load_known_lines` it stages, from `accept_bios`
it accepts, from `record_undecided_failures` it decides, and `record_batch_usage` settles. They pass rows on in four
temporary tables, which end with the connection and are filled in this order:

1. `results`: what this batch says of its lines. A row for each line that a result file reports (its first success, or
   else its first failure), and for each line of the batch that neither file reports. Columns: `artist_id` to `claimed`,
   and `redone`, as in `KnownLine`; `data` is the accepted bio, NULL for a failure; `model`, `finish_reason`, the
   tokens, `cost_usd` (NULL where the price is unknown), `completed_at` (epoch seconds) and `status_code` as the service
   reports them; `failure` (the class), `code` and `message`, NULL for a bio.
2. `failures`: the rows of `results` without a bio (`own` is true, `batch_id` is this batch), and the failures that
   other batches of the shard have recorded without deciding them (`own` is false). Other columns: as in `results`.
3. `verdicts`: one row for each claimed line in `failures`, with the failure that decides about it. Same columns.
4. `decisions`: one row for each row of `verdicts`. Columns: `artist_id`; `state`, the line's next state; `wait_until`
   (epoch seconds, NULL unless it waits); `counted`, whether the failure is one of its tries.

The last three exist only where this batch decides the failed lines of its shard. Each statement works on all lines at
once, and rows that Python makes are inserted in chunks: the cost of a line is what bounds the throughput here.

Where validation refuses lines of a batch nothing was executed, so that nothing is staged: `record_refused_line` and
`load_refusal_history` work on the lines alone.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from batcher.core.cutting import split_chunks
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import VERDICT_EVENTS, artist_transition
from batcher.core.model import Failure, LineResult
from batcher.core.verdicts import Reason, ReasonHistory
from batcher.state.batches import EndedBatch
from batcher.state.db.transaction import Transaction
from batcher.state.shards import ShardRow

INSERT_LINES = 2_000
"""Rows that are inserted at once."""
ACCEPT_EVENTS = ("accept", "accept_late")
"""The events by which a line takes a bio, the usual one first."""


class KnownLine(NamedTuple):
    """What the state holds of a line whose results are read."""

    artist_id: str
    seq: int
    attempts: int
    tokens: int
    open: bool
    """The line has no bio and takes one."""
    claimed: bool
    """The shard's open submission holds the line, so that its failure is the shard's to decide."""
    data: str
    """The artist's row as JSON."""
    custom_id: str
    redone: bool
    """The line has an earlier bio, which its next one replaces."""


def load_known_lines(tx: Transaction, shard: ShardRow) -> dict[str, KnownLine]:
    """Return the lines that a shard holds or held before, by custom_id."""
    states = [state.value for event in ACCEPT_EVENTS for state in artist_transition(event)[0]]
    rows = tx.fetch_all("lines_of_shard", shard=shard.shard, claim=shard.submission, open=states)
    if len(rows) < shard.lines:
        rows += tx.fetch_all("lines_moved_away", shard=shard.shard, open=states)
    return {line.custom_id: line for line in map(KnownLine._make, rows)}


def load_recorded_artists(tx: Transaction, batch: EndedBatch) -> set[str]:
    """Return the artists whose result an earlier reading of this batch has recorded."""
    rows = tx.fetch_all("recorded_artists", shard=batch.shard, batch_id=batch.batch_id)
    return {artist_id for (artist_id,) in rows}


ResultRow = tuple[object, ...]
"""A row of the table `results`, made by `result_row`. A plain tuple: one is made for each line of every batch."""


def result_row(
    line: KnownLine, result: LineResult, bio: str | None, failure: Failure | None, cost_usd: float | None
) -> ResultRow:
    """Return what a batch says of a line as a row of `results`. Exactly one of bio and failure is set.

    cost_usd: the dollars that the line cost; None where the price is unknown.
    """
    usage = result.usage
    reason = (None, None, None) if failure is None else (failure.failure.value, failure.code, failure.message)
    return (
        line.artist_id, line.seq, line.attempts, line.tokens, line.open, line.claimed, line.redone,
        bio, result.model, result.finish_reason,
        usage.input, usage.cached, usage.output, usage.written, usage.reasoning,
        cost_usd, result.completed_at, result.status, *reason,
    )  # fmt: skip


def create_results(tx: Transaction) -> None:
    """Create the empty table `results`."""
    tx.fetch_all("create_results")


def add_results(tx: Transaction, rows: Iterable[ResultRow]) -> None:
    """Add rows to `results`. They may be made while they are inserted, but not by statements on `tx`."""
    for chunk in split_chunks(rows, INSERT_LINES):
        tx.insert_rows("results", chunk)


def drop_superseded_failures(tx: Transaction) -> None:
    """Drop the failures of lines that the files report again with a success."""
    tx.fetch_all("drop_superseded_failures")


def accept_bios(tx: Transaction, batch: EndedBatch, bios: int, has_redone: bool) -> int:
    """Accept the bio of every open line in `results`, whichever batch holds the line now; return how many there were.

    bios: how many there are in `results`; no statement runs for an event that cannot find any. has_redone: whether some
    may replace an earlier one, which becomes a former bio then.
    """
    tx.fetch_all("record_successes", **_attempt_columns(tx, batch))
    tx.fetch_all("insert_bios", shard=batch.shard, batch_id=batch.batch_id, now=tx.now)
    if has_redone:
        tx.fetch_all("keep_former_bios", now=tx.now)
        tx.fetch_all("replace_bios", shard=batch.shard, batch_id=batch.batch_id, now=tx.now)
    moved = 0
    for event in ACCEPT_EVENTS:
        if moved < bios:
            moved += tx.move_lines("accept_lines", event, shard=batch.shard)
    return moved


def _attempt_columns(tx: Transaction, batch: EndedBatch) -> dict[str, object]:
    """Return what the rows of `attempts` of one batch have in common."""
    return {"shard": batch.shard, "submission": batch.submission, "batch_id": batch.batch_id, "now": tx.now}


def record_undecided_failures(tx: Transaction, batch: EndedBatch) -> None:
    """Record the failures in `results` for the batch of the shard that will decide them."""
    tx.fetch_all("record_undecided_failures", **_attempt_columns(tx, batch))


class FailureCount(NamedTuple):
    """How many lines failed with one class and code."""

    failure: FailureClass
    code: str
    lines: int


def stage_failures(tx: Transaction, batch: EndedBatch, shard: ShardRow) -> list[FailureCount]:
    """Fill `failures` and `verdicts`; return the lines to be decided by class and code, the most frequent first."""
    tx.fetch_all("create_failures", batch_id=batch.batch_id)
    tx.fetch_all("add_sibling_failures", claim=shard.submission, shard=batch.shard, batch_id=batch.batch_id)
    tx.fetch_all("create_verdicts")
    return [FailureCount(FailureClass(failure), code, n) for failure, code, n in tx.fetch_all("failure_counts")]


def find_quota_sentence(tx: Transaction) -> str:
    """Return what the service said of a line in `failures` that met a used up quota; "" where it said nothing."""
    return str(tx.fetch_one("quota_sentence", failure=FailureClass.QUOTA.value)[0] or "")


def load_first_failures(tx: Transaction) -> list[Reason]:
    """Return why lines in `verdicts` were answered of no use that never were before, the most frequent reason first."""
    return [
        Reason(str(code), int(n)) for code, n in tx.fetch_all("first_failures", failure=FailureClass.UNUSABLE.value)
    ]


def load_reason_history(tx: Transaction, code: str, before: float) -> ReasonHistory:
    """Return what either lane has seen of a reason for answers of no use before a time (epoch seconds)."""
    return ReasonHistory(*tx.fetch_one("reason_history", failure=FailureClass.UNUSABLE.value, code=code, before=before))


class BioCount(NamedTuple):
    """Bios that the service has made so far."""

    of_shard: int
    of_job: int


def count_bios(tx: Transaction, shard: int) -> BioCount:
    """Return how many bios batches of a shard, and all calls of the job, have given."""
    return BioCount(*tx.fetch_one("bios_so_far", shard=shard))


class FailedLine(NamedTuple):
    """A line in `verdicts`, with its history."""

    artist_id: str
    failure: str
    attempts: int
    """Earlier attempts that counted."""
    tries: int
    """Earlier failures of this class that counted."""
    free: int
    """Earlier failures of this class that did not count."""


def load_failed_lines(tx: Transaction) -> Iterator[FailedLine]:
    """Return the lines of `verdicts`, ordered by artist_id."""
    return map(FailedLine._make, tx.fetch_all("failed_lines"))


class Decision(NamedTuple):
    """A row of the table `decisions`."""

    artist_id: str
    state: str
    wait_until: float | None
    counted: bool


def record_decisions(tx: Transaction, batch: EndedBatch, decisions: Iterable[Decision]) -> None:
    """Fill `decisions`, record the failures as attempts, and move the failed lines to their next states."""
    states: set[str] = set()
    tx.fetch_all("create_decisions")
    for chunk in split_chunks(decisions, INSERT_LINES):
        tx.insert_rows("decisions", chunk)
        states.update(decision.state for decision in chunk)
    tx.fetch_all("record_failures", **_attempt_columns(tx, batch))
    tx.fetch_all("count_sibling_failures")
    for event in VERDICT_EVENTS:
        if artist_transition(event)[1].value in states:
            tx.move_lines("move_failed_lines", event)


def mark_answers_again(tx: Transaction, batch: EndedBatch) -> None:
    """Mark the recorded answers of a batch to lines whose answer to the same prompt was of no use before."""
    tx.fetch_all("mark_answers_again", batch_id=batch.batch_id, shard=batch.shard)


def has_cut_off_lines(tx: Transaction) -> bool:
    """Return whether a line in `decisions` is retried because its answer was cut off at max_output_tokens."""
    return bool(tx.fetch_one("count_cut_off_lines")[0])


def widen_cut_off_lines(tx: Transaction, version: int) -> None:
    """Retry the lines whose answers were cut off as lines of another job version, which has more room."""
    tx.fetch_all("widen_cut_off_lines", version=version)


def count_retried_lines(tx: Transaction) -> int:
    """Return how many lines in `decisions` are retried at the cost of a try."""
    return int(tx.fetch_one("count_retried_lines")[0])


def record_batch_usage(tx: Transaction, batch_id: str, failures: bool, retried: int = 0, decided: int = 0) -> None:
    """Add to a batch the executions and the tokens in `results` that this reading has recorded.

    failures: whether the failures were recorded as well as the successes. retried: lines that are retried at the cost
    of a try; decided: lines of the shard, where this batch decided them.
    """
    tx.fetch_all("record_batch_usage", batch_id=batch_id, failures=failures, retried=retried, decided=decided)


def record_refused_line(tx: Transaction, batch: EndedBatch, custom_id: str, failure: Failure, final: bool) -> None:
    """Make a line ready again that the service refuses to execute; give it up where the refusal is final."""
    tx.move_lines(
        "refuse_line", "give_up" if final else "give_back",
        custom_id=custom_id, submission=batch.submission, failure=failure.failure.value,
        code=failure.code, message=failure.message, tries=int(final),
    )  # fmt: skip
    tx.fetch_all("record_refused_line", custom_id=custom_id, batch_id=batch.batch_id, counted=final, now=tx.now)


def load_lines_refused_before(tx: Transaction, batch: EndedBatch, failure: FailureClass) -> set[str]:
    """Return the custom_ids of a batch's lines that were refused with this class the last time that they were sent."""
    rows = tx.fetch_all("refused_before", submission=batch.submission, failure=failure.value)
    return {str(custom_id) for (custom_id,) in rows}


class RefusalHistory(NamedTuple):
    """What the job has seen so far of one reason for refusing lines."""

    lines: int
    """Lines of other batches that were refused for it, and have not succeeded since."""
    bios_of_job: int


def load_refusal_history(tx: Transaction, batch: EndedBatch, failure: FailureClass, code: str) -> RefusalHistory:
    """Return how many lines of other batches were refused with this class and code, and how many bios the job has."""
    return RefusalHistory(
        *tx.fetch_one("refusal_history", failure=failure.value, code=code, submission=batch.submission)
    )
