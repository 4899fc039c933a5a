"""Artists that follow a line: their request is that of another artist's line, and they take its answer.

A follower is ready as long as the line is under way, and nothing of it is sent. It takes the answer in the transaction
that records it, is held or given up with the line, and becomes a line itself where the answer is refused for it: what a
job accepts may depend on the row. `Transaction.move_lines` holds and gives up followers, as that needs no job.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from batcher.state.db.transaction import Transaction

CHUNK_ROWS = 2_000
"""Followers that are judged at a time."""

Judge = Callable[[str, str], bool | None]
"""Is given an artist's row and an answer, both as the state keeps them; returns whether the answer is accepted, None
where that cannot be known now."""


class AnsweredRow(NamedTuple):
    """A row whose request has an answer, and the artist whose line asked; row and answer as JSON."""

    seq: int
    artist_id: str
    data: str
    leader: str
    bio: str


class Settled(NamedTuple):
    """Followers that were given an answer, and those that have become lines."""

    given: int = 0
    promoted: int = 0


def settle_followers(tx: Transaction, judge: Judge) -> Settled:
    """Give followers the answers of their lines; those for which one is refused become lines.

    So do ready ones whose line has come to an end without an answer, as only they were brought back.
    """
    if not tx.has_followers():
        return Settled()
    create_given(tx)
    _create_promoted(tx)
    given = 0
    refused: list[AnsweredRow] = []
    for rows in read_chunks(tx, _load_answered_followers):
        verdicts = [judge(row.data, row.bio) for row in rows]
        accepted = [(row.artist_id, row.leader) for row, verdict in zip(rows, verdicts, strict=True) if verdict]
        refused += [row for row, verdict in zip(rows, verdicts, strict=True) if verdict is False]
        tx.insert_rows("given", accepted)
        given += len(accepted)
    if given:
        record_given_answers(tx)
    if refused:
        tx.fetch_all(
            "choose_refused", artist_ids=[row.artist_id for row in refused], leaders=[row.leader for row in refused]
        )
    _choose_strays(tx)
    return Settled(given, _promote(tx))


def _load_answered_followers(tx: Transaction, after: int) -> list[AnsweredRow]:
    return [AnsweredRow._make(row) for row in tx.fetch_all("answered_followers", after=after, most=CHUNK_ROWS)]


def read_chunks(tx: Transaction, load: Callable[[Transaction, int], list[AnsweredRow]]) -> Iterator[list[AnsweredRow]]:
    """Yield answered rows, each time those that `load` gives behind a number (seq); statements may run between."""
    rows = load(tx, 0)
    while rows:
        yield rows
        rows = load(tx, rows[-1].seq)


def create_given(tx: Transaction) -> None:
    """Create the empty table `given`: followers, and the artists whose answer each is given."""
    tx.fetch_all("create_given")


def _create_promoted(tx: Transaction) -> None:
    tx.fetch_all("create_promoted")


def _choose_strays(tx: Transaction) -> None:
    tx.fetch_all("choose_stray")


def record_given_answers(tx: Transaction) -> None:
    """Make the answers in the table `given` those of their followers, at no cost."""
    tx.fetch_all("keep_former_of_followers", now=tx.now)
    tx.fetch_all("replace_bios_of_followers")
    tx.fetch_all("insert_bios_of_followers")
    given = tx.move_lines("accept_followers", "share")
    tx.record_event("share", f"answers given to others that ask the same: {given:,}")


def promote_strays(tx: Transaction) -> None:
    """Make lines of ready followers whose line is neither under way nor done."""
    if tx.has_followers():
        _create_promoted(tx)
        _choose_strays(tx)
        _promote(tx)


def promote_heirs(tx: Transaction) -> None:
    """Have followers take the places of the lines that are about to leave the plan, in their shards."""
    if tx.has_followers():
        _create_promoted(tx)
        tx.fetch_all("choose_heirs")
        _promote(tx, takes_place=True)


def _promote(tx: Transaction, takes_place: bool = False) -> int:
    """Make lines of the followers in the table `promoted`; return how many became one."""
    promoted = int(tx.fetch_one("count_promoted")[0])
    if promoted:
        tx.fetch_all("promote_followers", takes_place=takes_place)
    return promoted


def regroup_asked_again(tx: Transaction) -> None:
    """Have lines that are asked for again follow a line under way that asks the same, or the most urgent of them."""
    tx.fetch_all("regroup_asked_again")
    tx.mark_followers()


def find_leader(tx: Transaction, artist_id: str) -> str | None:
    """Return whom an artist of the plan follows; None where it has a line of its own."""
    leader: str | None = tx.fetch_one("leader", artist_id=artist_id)[0]
    return leader


class FollowerBio(NamedTuple):
    """An answer that was given to a follower, with its row; both as JSON."""

    seq: int
    artist_id: str
    data: str
    bio: str
    batch_id: str | None
    call: int | None


def load_follower_bios(tx: Transaction, after: int) -> Sequence[FollowerBio]:
    """Return the next answers of followers behind a number (seq), in input order; none where no artist follows."""
    if not tx.has_followers():
        return []
    return [FollowerBio._make(row) for row in tx.fetch_all("follower_bios", after=after, most=CHUNK_ROWS)]
