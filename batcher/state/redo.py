"""Bios that are asked for again: which lines, what their bios have cost, and the lines made ready."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import duckdb
import orjson

from batcher.errors import InputError
from batcher.state.asked_again import count_lines
from batcher.state.db.transaction import Transaction


class RedoFilter(NamedTuple):
    """Which bios to ask for again; what is set must hold together, and None restricts nothing.

    Where nothing is set, the lines are meant whose bio was revoked.
    """

    artists: Sequence[str] | None = None
    prompt: int | None = None
    """The number of the prompt that the bio was asked with."""
    query: str | None = None
    """A query for the artist_ids that fulfil the user's condition, which `parse_query` has shown to be nothing else."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is set."""
        return self.artists is None and self.prompt is None and self.query is None


class RedoneBios(NamedTuple):
    """The bios that are asked for again, those of them with a known price, and what these have cost in dollars."""

    bios: int
    priced: int
    cost_usd: float


class UnfitArtist(NamedTuple):
    """An artist without a bio that could be asked for again; state None: the plan does not know it."""

    artist_id: str
    state: str | None


def parse_query(tx: Transaction, query: str) -> list[Any]:
    """Return the syntax trees of the SELECTs of a text. Raises InputError where it is wrong or has other statements."""
    tree = orjson.loads(tx.fetch_one("parse_query", query=query)[0])
    if tree.get("error"):
        raise InputError(str(tree["error_message"]))
    found: list[Any] = tree["statements"]
    return found


def find_unfit_artists(tx: Transaction, artists: Sequence[str]) -> list[UnfitArtist]:
    """Return those of these artists that have no bio, nor had one that was revoked; unknown ones first."""
    return [UnfitArtist(*row) for row in tx.fetch_all("unfit_artists", artists=list(artists))]


def choose_redos(tx: Transaction, choice: RedoFilter) -> int:
    """Fill the table `asked_again`; return how many lines there are.

    Raises InputError where the query of the choice cannot be run.
    """
    tx.fetch_all("create_matching")
    if choice.query is not None:
        try:
            tx.con.execute(f"INSERT INTO matching {choice.query}")
        except (duckdb.ProgrammingError, duckdb.DataError) as error:
            raise InputError(str(error).splitlines()[0]) from error
    tx.fetch_all(
        "choose_redos",
        artists=list(choice.artists) if choice.artists is not None else None,
        prompt=choice.prompt,
        by_condition=choice.query is not None,
        revoked=choice.is_empty,
    )
    return count_lines(tx)


def load_redone_bios(tx: Transaction) -> RedoneBios:
    """Return the bios of the lines that are asked for again."""
    return RedoneBios(*tx.fetch_one("redone_bios"))


def redo_lines(tx: Transaction) -> int:
    """Make the lines in `asked_again` ready, with all their tries; return how many there were.

    The bio of a line stays until another one is accepted. Answers of the shards that exist now are of that bio.
    """
    tx.fetch_all("forget_all_tries")
    tx.fetch_all("note_redos", now=tx.now)
    moved = tx.move_lines("redo_lines", "redo", keeps_bio=True)
    return moved + tx.move_lines("redo_lines", "bring_back", keeps_bio=False)
