"""Rows of a plan that ask the same as another line: staged in the table `following` while the plan is made.

`create_following` makes the table, with the staging tables of state/plan.py, whose view `unplanned` is without its
rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

from batcher.state.db.transaction import Transaction
from batcher.state.following.settling import (
    CHUNK_ROWS,
    AnsweredRow,
    Judge,
    create_given,
    read_chunks,
    record_given_answers,
)


class SharedRows(NamedTuple):
    """Rows of one plan that need no line of their own, and those of them whose answer is there already."""

    rows: int = 0
    answered: int = 0


NO_SHARED_ROWS = SharedRows()


class SharedRequests(NamedTuple):
    """Rows that take the answer to another row's request: the version of the line, and what lines of their own would
    have for tokens."""

    version: int
    lines: int
    tokens: int
    longest: int


def free_followers(tx: Transaction) -> None:
    """Make followers rows of this plan whose lines are cut again by it, or are no lines any more."""
    if tx.has_followers():
        tx.fetch_all("free_followers")


def stage_followers(tx: Transaction, judge: Judge, has_earlier_artists: bool) -> SharedRows:
    """Stage the rows of a plan that ask the same as a line of the state, or as a more urgent row of the plan.

    An answer that exists is judged first: a row for which it is refused is asked for. To be called before the lines of
    the plan are cut.
    """
    if has_earlier_artists:
        tx.fetch_all("hash_known_lines")
        tx.fetch_all("view_leaders")
        for rows in read_chunks(tx, _load_answered_rows):
            accepted = [row for row in rows if judge(row.data, row.bio)]
            tx.insert_rows("following", [(row.artist_id, row.leader, True) for row in accepted])
        tx.fetch_all("follow_open_lines")
    tx.fetch_all("follow_first_rows")
    shared = SharedRows(*tx.fetch_one("count_following"))
    if has_earlier_artists:
        tx.fetch_all("write_hashes")
    if shared.rows:
        tx.mark_followers()
    return shared


def _load_answered_rows(tx: Transaction, after: int) -> list[AnsweredRow]:
    return [AnsweredRow._make(row) for row in tx.fetch_all("answered_rows", after=after, most=CHUNK_ROWS)]


def record_followers(tx: Transaction, shared: SharedRows, has_earlier_artists: bool) -> None:
    """Record the staged followers, once the new artists are inserted, and give them the answers that are there."""
    if has_earlier_artists and shared.rows:
        tx.fetch_all("write_followers")
    if shared.answered:
        create_given(tx)
        tx.fetch_all("give_staged_answers")
        record_given_answers(tx)


def load_shared_requests(tx: Transaction) -> list[SharedRequests]:
    """Return the rows that take the answer to another row's request, by the version of the line."""
    if not tx.has_followers():
        return []
    return [SharedRequests(*row) for row in tx.fetch_all("shared_requests")]


class TakenAnswers(NamedTuple):
    """Rows that took an answer of another job, with the tokens of their lines, and those for which one was refused."""

    lines: int = 0
    tokens: int = 0
    longest: int = 0
    refused: int = 0


def create_reusable(tx: Transaction) -> None:
    """Create the empty table `reusable`: answers of another job, by what was asked."""
    tx.fetch_all("create_reusable")


def stage_reusable(tx: Transaction, rows: Sequence[tuple[int, int, str]]) -> None:
    """Add answers of another job: the hash of the request, the number of its artist there, the answer as JSON."""
    tx.insert_rows("reusable", rows)


def take_reusable(tx: Transaction, judge: Judge) -> TakenAnswers:
    """Stage the answers in `reusable` that rows of the plan ask for, and that are accepted, as bios that exist."""
    taken, after = TakenAnswers(), 0
    while rows := tx.fetch_all("reusable_rows", after=after, most=CHUNK_ROWS):
        accepted = [row for row in rows if judge(row[2], row[4])]
        tx.insert_rows("done_rows", [(row, artist_id, bio) for row, artist_id, _, _, bio in accepted])
        tokens = [int(row[3]) for row in accepted]
        taken = TakenAnswers(
            taken.lines + len(accepted),
            taken.tokens + sum(tokens),
            max(taken.longest, *tokens, 0),
            taken.refused + len(rows) - len(accepted),
        )
        after = int(rows[-1][0])
    return taken
