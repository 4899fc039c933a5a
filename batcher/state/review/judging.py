"""Kept answers that are judged again: which there are, and what the new judgement changes.

What was judged is staged first; what it changes is then chosen among the lines that are still as they were judged. The
rest of a transaction works on what was chosen. The temporary tables and the view end with the connection.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from batcher.core.cutting import split_chunks
from batcher.core.lifecycle import artist_transition
from batcher.state import shards
from batcher.state.db.transaction import Transaction

INSERT_LINES = 2_000
"""Rows that are inserted at once."""
OPEN_STATES = artist_transition("accept_late")[0]
"""The states of lines that take a bio from a kept answer."""


class BatchToJudge(NamedTuple):
    """A batch with answers to judge: the version that it asked with, and how many answers."""

    batch_id: str
    version: int
    answers: int


class AnswerToJudge(NamedTuple):
    """An execution whose answer is judged again."""

    artist_id: str
    custom_id: str
    data: str
    """The artist's row as JSON."""
    batch_id: str | None
    call: int | None
    outcome: str
    """bio for one that gave the bio of its line, else unusable or repeated."""
    state: str


class AcceptedAnswer(NamedTuple):
    """An answer that gave no bio and is accepted now."""

    artist_id: str
    batch_id: str | None
    call: int | None
    open: bool
    """Whether its line took a bio when it was judged."""
    bio: str
    """As JSON."""
    model: str
    finish_reason: str
    completed_at: float | None


class RefusedBio(NamedTuple):
    """An answer that gave a bio and is refused now."""

    artist_id: str
    batch_id: str | None
    call: int | None
    code: str
    message: str


def _create_view(tx: Transaction) -> None:
    tx.fetch_all("create_judgeable")


def load_batches_to_judge(tx: Transaction) -> list[BatchToJudge]:
    """Return the batches with answers to judge, the oldest first."""
    _create_view(tx)
    return [BatchToJudge(*row) for row in tx.fetch_all("batches_to_judge")]


def load_batch_answers(tx: Transaction, batch_ids: Sequence[str]) -> list[AnswerToJudge]:
    """Return what is to be judged of these batches."""
    _create_view(tx)
    return [AnswerToJudge._make(row) for row in tx.fetch_all("batch_lines_to_judge", batches=list(batch_ids))]


def count_call_answers(tx: Transaction) -> int:
    """Return how many answers of the direct lane there are to judge."""
    _create_view(tx)
    return int(tx.fetch_one("count_calls_to_judge")[0])


def load_call_answers(tx: Transaction, calls: Sequence[int]) -> list[AnswerToJudge]:
    """Return what is to be judged of these calls."""
    _create_view(tx)
    return [AnswerToJudge._make(row) for row in tx.fetch_all("call_lines_to_judge", calls=list(calls))]


def stage_judgements(
    tx: Transaction, accepted: Iterable[Sequence[object]], refused: Iterable[Sequence[object]]
) -> None:
    """Stage judgements, and choose what they change of the lines as they are now.

    accepted: rows with the values of an AcceptedAnswer; refused: of a RefusedBio.
    """
    _create_view(tx)
    tx.fetch_all("create_accepted_answers")
    tx.fetch_all("create_refused_bios")
    for answers in split_chunks(accepted, INSERT_LINES):
        tx.insert_rows("accepted_answers", answers)
    for bios in split_chunks(refused, INSERT_LINES):
        tx.insert_rows("refused_bios", bios)
    tx.fetch_all("choose_accepted", open=[state.value for state in OPEN_STATES])
    tx.fetch_all("choose_revoked")


class StateLines(NamedTuple):
    """Lines by the state in which the judgement finds them."""

    state: str
    lines: int


class RefusalCount(NamedTuple):
    """Bios that are refused now for one reason."""

    code: str
    message: str
    bios: int


class RefusedArtist(NamedTuple):
    """An artist whose bio is refused now, and why."""

    artist_id: str
    message: str


class JudgementCounts(NamedTuple):
    """What staged judgements change."""

    accepted: Sequence[StateLines]
    """Lines that take a bio."""
    refused: int
    """Bios that are refused now."""
    reasons: Sequence[RefusalCount]
    """The most frequent reasons."""
    first: Sequence[RefusedArtist]
    """The first artists of those bios, in the order of the table."""
    changed_meanwhile: int
    """Lines and bios that are no longer as they were judged, and are left alone."""

    def with_accepted(self, other: "JudgementCounts") -> "JudgementCounts":
        """Return the bios that are refused here with the lines that take a bio in another transaction."""
        meanwhile = self.changed_meanwhile + other.changed_meanwhile
        return self._replace(accepted=other.accepted, changed_meanwhile=meanwhile)


def count_judgements(tx: Transaction, most: int) -> JudgementCounts:
    """Return what staged judgements change. most: how many reasons, and how many artists, are returned."""
    accepted = [StateLines(str(state), int(lines)) for state, lines in tx.fetch_all("accepted_by_state")]
    refused = int(tx.fetch_one("count_revoked")[0])
    lines, bios = tx.fetch_one("count_judged_lines")
    return JudgementCounts(
        accepted,
        refused,
        [RefusalCount(*row) for row in tx.fetch_all("revoked_by_reason", most=most)],
        [RefusedArtist(*row) for row in tx.fetch_all("first_revoked", most=most)],
        max(0, int(lines) - sum(row.lines for row in accepted)) + max(0, int(bios) - refused),
    )


def accept_judged_answers(tx: Transaction) -> int:
    """Give the lines their bios that were chosen; return how many lines there are. They cost no more than they did.

    A line takes its bio out of an unsent shard. The other lines of a released one are gathered again; those of a
    planned one wait in it until they are cut into another one.
    """
    tx.fetch_all("note_accepted", now=tx.now)
    tx.fetch_all("record_accepted")
    tx.fetch_all("keep_replaced_bios", now=tx.now)
    tx.fetch_all("replace_judged_bios")
    tx.fetch_all("insert_judged_bios")
    unsent = [int(shard) for (shard,) in tx.fetch_all("unsent_shards_of_accepted")]
    accepted = tx.move_lines("accept_judged_lines", "accept_late")
    tx.fetch_all("mark_repeated")
    tx.fetch_all("correct_retried_lines")
    for shard in unsent:
        shards.dissolve_shard(tx, shard, "kept answers of its lines were accepted")
    return accepted


def revoke_refused_bios(tx: Transaction) -> int:
    """Take the bios that were chosen from their lines, and hold these; return how many bios there are.

    A line that was asked for again, and has kept its earlier bio, stays as it is without it.
    """
    tx.fetch_all("note_revoked", now=tx.now)
    tx.fetch_all("record_revoked")
    tx.fetch_all("keep_revoked_bios", now=tx.now)
    revoked = tx.count_changed("delete_revoked_bios")
    tx.fetch_all("forget_revoked_redos")
    tx.move_lines("revoke_lines", "revoke")
    return revoked


def put_back_earlier_bios(tx: Transaction) -> int:
    """Give lines whose bio was revoked their bio of an earlier run again; return how many of them had one.

    To be called once the kept answers that are accepted have become bios: those go before it.
    """
    tx.fetch_all("choose_put_back")
    tx.fetch_all("note_put_back", now=tx.now)
    tx.fetch_all("insert_put_back")
    return tx.move_lines("put_back_lines", "put_back")
