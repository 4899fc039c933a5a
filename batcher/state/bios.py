"""What `collect` reads and writes: the bios, the artists that have none, and which files it has written."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import duckdb
import orjson

from batcher.catalog.limits import lookup_vector_length
from batcher.core.endpoints.embeddings import VectorLength
from batcher.core.model import Endpoint, JobVersion, RowColumns
from batcher.state.db.transaction import Transaction, load_statements

FILES_KEPT = 50
"""Files that the state remembers to have written, the newest ones. An older one is not replaced unasked."""
_KEYS = ("a.artist_id", "a.artist_name", "a.priority")
"""The columns of `artists` that name and rank a row."""
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""The errors of a disk that DuckDB's message quotes by the text of the system."""


class ArtistCounts(NamedTuple):
    """The artists of a job by what became of them. open: still to be sent, or sent without a result yet.

    Those whose bio was asked for again have their earlier bio, and are counted apart.
    """

    done: int
    dead: int
    held: int
    open: int
    skipped: int
    redone_dead: int
    redone_held: int
    redone_open: int


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


def mark_written(tx: Transaction) -> float:
    """Record that every bio is in a file that is about to be moved into place; return the time of this mark."""
    tx.fetch_all("mark_written", now=tx.now)
    return tx.now


def mark_collected(tx: Transaction, written_at: float) -> None:
    """Mark the bios as collected that were marked as written at this time."""
    tx.fetch_all("mark_collected", now=tx.now, written_at=written_at)


class FileContent(NamedTuple):
    """What a file held when it was written: bytes, their digest, and rows, of bios or of artists without one."""

    size: int
    sha256: str
    rows: int
    is_failed: bool = False


class FileRecord(NamedTuple):
    """The content of a file that `collect` or `report` has written."""

    contents: list[FileContent]
    """The newest one last; before it the one that it replaces, until it is known to be in place."""
    is_in_place: bool


def load_written_files(tx: Transaction) -> dict[str, FileRecord]:
    """Return the files that were written, by name, the newest last."""
    kept = orjson.loads(tx.read_text_fact("written_files") or "{}")
    return {
        name: FileRecord([FileContent(*content) for content in contents], is_in_place)
        for name, (contents, is_in_place) in kept.items()
    }


def record_written_files(tx: Transaction, files: Mapping[str, FileRecord]) -> None:
    """Record files that are about to be, or were, moved into place."""
    known = load_written_files(tx)
    for name in files:
        known.pop(name, None)
    newest = list({**known, **files}.items())[-FILES_KEPT:]
    plain = {name: ([tuple(content) for content in record.contents], record.is_in_place) for name, record in newest}
    tx.write_fact("written_files", text=orjson.dumps(plain).decode())


def find_misfit(tx: Transaction, query: str) -> Misfit | None:
    """Run a query for one misfit (its artist_id and value), built by the caller from the job's columns.

    Return the first row; None where there is none.
    """
    row = tx.con.execute(query).fetchone()
    return Misfit(*row) if row is not None else None


def select_keys(columns: RowColumns) -> str:
    """Return the columns that name and rank a row, as the job names them, for a SELECT from `artists AS a`."""
    chosen = []
    for key, name in zip(_KEYS, columns, strict=True):
        if name is not None:
            quoted = name.replace('"', '""')
            chosen.append(key if key == f"a.{name}" else f'{key} AS "{quoted}"')
    return ", ".join(chosen)


def copy_query(tx: Transaction, query: str, path: Path, options: str) -> int:
    """Write the rows of a query, built by the caller from the job's columns, to a file; return how many there are.

    options: DuckDB's for COPY, such as "(FORMAT csv)". Raises OSError where the file cannot be written.
    """
    target = str(path).replace("'", "''")
    try:
        rows = tx.con.execute(f"COPY ({query}) TO '{target}' {options}").fetchall()
    except duckdb.IOException as error:
        # DuckDB's words for a failure of the disk become the error that the system gave.
        text = str(error)
        code = next((code for code in _DISK_ERRORS if os.strerror(code).lower() in text.lower()), None)
        raise OSError(code, os.strerror(code)) if code else OSError(text.splitlines()[0]) from error
    return int(rows[0][0])


def copy_failed_artists(tx: Transaction, columns: RowColumns, path: Path, options: str) -> int:
    """Write the artists without a bio that are dead, held or skipped to a file, as `copy_query` does.

    columns: what the job names the columns by which a row is known.
    """
    query = load_statements()["failed_artists"].replace(", ".join(_KEYS), select_keys(columns), 1)
    return copy_query(tx, query, path, options)


def load_vector_length(tx: Transaction, number: int, version: JobVersion) -> VectorLength | None:
    """Return how long the vectors of a version are: as its settings or its model say, else as the first one that came.

    None for a version whose answers are no vectors.
    """
    if version.endpoint is not Endpoint.EMBEDDINGS:
        return None
    asked = version.parameters.get("dimensions")
    known = asked if isinstance(asked, int) else lookup_vector_length(version.model)
    if known is None:
        rows = tx.fetch_all("vector_length", version=number)
        known = next((int(length) for (length,) in rows if length), None)
    return VectorLength(known)
