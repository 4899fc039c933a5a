"""Rows of planned artists, for a look at the requests that are made of them."""

from collections.abc import Sequence
from typing import NamedTuple

from batcher.state.db.transaction import Transaction
from batcher.state.plan import StoredRow


class PlannedRow(NamedTuple):
    """An artist of the plan, as its line is rendered."""

    artist_id: str
    custom_id: str
    artist_name: str
    priority: int
    data: str
    """The row as JSON."""
    state: str
    version: int | None
    """The version that its line was planned with; None: it has none yet."""

    @property
    def stored_row(self) -> StoredRow:
        """The row in the form that a plan renders."""
        return self.artist_id, self.custom_id, self.artist_name, self.priority, self.data


def load_planned_rows(tx: Transaction, artist_ids: Sequence[str]) -> list[PlannedRow]:
    """Return the rows of those of these artists that the plan has."""
    return [PlannedRow(*row) for row in tx.fetch_all("planned_rows", artist_ids=list(artist_ids))]


def load_most_urgent_row(tx: Transaction) -> PlannedRow | None:
    """Return the artist that is sent next, of all where none waits to be sent; None where the plan has no artist."""
    rows = tx.fetch_all("most_urgent_row")
    return PlannedRow(*rows[0]) if rows else None


def count_lines_to_send(tx: Transaction) -> int:
    """Return how many artists wait to be sent."""
    return int(tx.fetch_one("count_to_send")[0])


def load_rows_by_length(tx: Transaction, ranks: Sequence[int]) -> list[PlannedRow]:
    """Return artists that wait to be sent, by their ranks from 1 (the shortest row) on."""
    return [PlannedRow(*row) for row in tx.fetch_all("rows_by_length", ranks=list(ranks))]
