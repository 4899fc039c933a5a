"""The state of another job, read for the answers that it has: it is opened for reading alone, and never changed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import duckdb

from batcher.core.model import JobVersion
from batcher.disk.private_files import STATE_FILE
from batcher.errors import InputError
from batcher.state.db import checkpoint
from batcher.state.db.schema import SCHEMA_VERSION
from batcher.state.db.transaction import MEMORY_MB, load_statements
from batcher.state.versions import decode_version

OLDEST_SCHEMA = 6
"""The oldest schema that says with which version of the job an answer was asked."""
CHUNK_ROWS = 5_000
"""Answers that are read at a time."""
PATIENCE_S = 10.0
"""Seconds to wait where a process is at work on the other state; each of its transactions takes tens of ms."""
RETRY_S = 0.05
"""Seconds between two attempts to open it."""


class OtherAnswer(NamedTuple):
    """An accepted answer of the other job, with its line; row and answer as JSON."""

    seq: int
    custom_id: str
    data: str
    line_hash: int
    version: int
    bio: str


class OtherState:
    """The open state of another job."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con

    def load_versions(self) -> Mapping[int, JobVersion]:
        """Return every version that anything was planned with there, by its number."""
        rows = self._con.execute(load_statements()["other_versions"]).fetchall()
        return {int(number): decode_version(definition) for number, definition in rows}

    def count_answers(self) -> int:
        """Return how many answers of the service the other job has."""
        ((count,),) = self._con.execute(load_statements()["count_other_answers"]).fetchall()
        return int(count)

    def read_answers(self, versions: Sequence[int]) -> Iterator[list[OtherAnswer]]:
        """Yield the answers to lines of these versions in input order, CHUNK_ROWS at a time."""
        found = self._con.execute(load_statements()["other_answers"], {"versions": list(versions)})
        while rows := found.fetchmany(CHUNK_ROWS):
            yield [OtherAnswer._make(row) for row in rows]


@contextmanager
def open_other_state(folder: Path, own: Path, sleep: Callable[[float], None]) -> Iterator[OtherState]:
    """Open the state in another folder. own: the folder of this job's state.

    Raises InputError where it is this job's own, no state, in use by another process, or of a schema that is too old or
    too new.
    """
    path = folder / STATE_FILE
    if folder.resolve() == own.resolve():
        raise InputError(f"--reuse: {folder} is the state of this job itself; name the folder of another job's state")
    if not path.is_file():
        raise InputError(
            f"--reuse: {folder} holds no state; name the folder of an earlier job's state, as its [state] dir says"
        )
    if checkpoint.has_backup(path):
        raise InputError(f"--reuse: {path} was not closed in order; `batcher status` in its job mends it")
    with closing(_connect(path, own, sleep)) as con:
        _check_schema(con, path)
        yield OtherState(con)


def _connect(path: Path, own: Path, sleep: Callable[[float], None]) -> duckdb.DuckDBPyConnection:
    waited = 0.0
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": "1", "memory_limit": f"{MEMORY_MB}MB", "temp_directory": str(own / "spill"),
    }  # fmt: skip
    while True:
        try:
            return duckdb.connect(str(path), read_only=True, config=config)
        except duckdb.Error as error:
            text = str(error).splitlines()[0]
            if "Could not set lock" not in text:
                what = (
                    "is not a state of Batcher's" if "not a valid duckdb" in text.lower() else f"cannot be read: {text}"
                )
                raise InputError(f"--reuse: {path} {what}") from error
            if waited >= PATIENCE_S:
                raise InputError(
                    f"--reuse: {path} is in use by another process; plan again once that has ended"
                ) from error
        sleep(RETRY_S)
        waited += RETRY_S


def _check_schema(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    try:
        ((text,),) = con.execute(load_statements()["other_schema"]).fetchall()
        version = int(text)
    except (duckdb.Error, ValueError):
        raise InputError(f"--reuse: {path} is not a state of Batcher's") from None
    if version > SCHEMA_VERSION:
        raise InputError(
            f"--reuse: {path} is of schema {version}, this Batcher knows {SCHEMA_VERSION}: upgrade Batcher"
        )
    if version < OLDEST_SCHEMA:
        raise InputError(
            f"--reuse: {path} is of schema {version}, which does not say how its answers were asked; "
            "`batcher status` in its job brings it up to date"
        )
