"""What `collect` reads and writes: the bios, and the artists that have none."""

from pathlib import Path
from typing import NamedTuple

import duckdb

from batcher.state.db.transaction import Transaction, load_statements


class ArtistCounts(NamedTuple):
    """The artists of a job by what became of them. open: still to be sent, or sent without a result yet."""

    done: int
    dead: int
    held: int
    open: int
    skipped: int


class Misfit(NamedTuple):
    """An artist with a value that is not of its column's type, and the first 60 characters of the value."""

    artist_id: str
    value: str


def count_artists(tx: Transaction) -> ArtistCounts:
    """Count the artists by what became of them."""
    return ArtistCounts(*tx.fetch_one("collected_states"))


def count_new_bios(tx: Transaction) -> int:
    """Count the bios that no `collect` has written yet."""
    return int(tx.fetch_one("count_new_bios")[0])


def mark_collected(tx: Transaction) -> None:
    """Mark every bio as collected."""
    tx.fetch_all("mark_collected", now=tx.now)


def find_misfit(tx: Transaction, query: str) -> Misfit | None:
    """Run a query for one misfit (its artist_id and value), built by the caller from the job's columns.

    Return the first row; None where there is none.
    """
    row = tx.con.execute(query).fetchone()
    return Misfit(*row) if row is not None else None


def copy_query(tx: Transaction, query: str, path: Path, options: str) -> int:
    """Write the rows of a query, built by the caller from the job's columns, to a file; return how many there are.

    options: DuckDB's for COPY, such as "(FORMAT csv)". Raises OSError where the file cannot be written.
    """
    target = str(path).replace("'", "''")
    try:
        rows = tx.con.execute(f"COPY ({query}) TO '{target}' {options}").fetchall()
    except duckdb.IOException as error:
        raise OSError(str(error).splitlines()[0]) from error
    return int(rows[0][0])


def copy_failed_artists(tx: Transaction, path: Path, options: str) -> int:
    """Write the artists without a bio that are dead, held or skipped to a file, as `copy_query` does."""
    return copy_query(tx, load_statements()["failed_artists"], path, options)
