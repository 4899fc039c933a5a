"""Folding the write-ahead log into the state file, so that a kill in the middle of it costs nothing.

A checkpoint of DuckDB overwrites the block of the file that holds its metadata in place, while the header on disk still
points at it (`MetadataManager::Flush` in src/storage/metadata/metadata_manager.cpp, 2.0). A process that dies within
that one write leaves a block whose checksum does not match, and DuckDB refuses the file from then on. So Batcher never
lets it checkpoint by itself: what is committed stays in the log, and before the log is folded in, the headers and the
blocks of metadata are copied. Every other block that is in use a checkpoint leaves alone, and writes new ones. DuckDB
keeps the log until the checkpoint has taken effect; until then file, copy and log together are the state.

The copy does not grow with the file: of a state of 42,888 lines it is one block, of a million some tens. To copy the
whole file at each fold cost more than reading the results, and a job of a million lines would have copied a terabyte.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from batcher.disk.durable import sync_path

HEADERS = 12_288
"""Bytes of DuckDB's three headers at the start of a file. A checkpoint takes effect by writing one of them."""
LOG_BYTES = 65_536
"""A log up to this size is not folded in: it holds tens of transactions. Each attach replays it, 0.3 ms a KB where
they are small; a fold takes 10 ms, of a million lines 25, whatever the log holds."""
BLOCK = 262_144
"""Bytes of a block of DuckDB's; they stand behind the headers, the first is block 0."""


def is_due(path: Path) -> bool:
    """Whether the log beside the state file has grown enough to be folded in."""
    try:
        log = path.with_name(f"{path.name}.wal").stat().st_size
    except FileNotFoundError:
        return False
    return log > LOG_BYTES


@contextmanager
def backup_metadata(path: Path, metadata: Iterable[int]) -> Iterator[Path]:
    """While this lasts there is a copy beside the state file of what a checkpoint overwrites in place.

    metadata: the blocks that hold the file's metadata. The caller has the file attached for writing. It gets the copy,
    to remove it once the log is folded in, while it still has the file. It must give the file free before this ends: a
    descriptor of the file is closed then, and with it goes every lock that this process has on the file. Raises
    OSError where the disk is full; then there is no copy.
    """
    copy, beside = _backup_path(path), path.with_name(f"{path.name}.copying")
    with path.open("rb") as source:
        try:
            with beside.open("wb") as target:
                write_backup(source, target, [(0, HEADERS), *((HEADERS + n * BLOCK, BLOCK) for n in sorted(metadata))])
                target.flush()
                os.fsync(target.fileno())
            beside.replace(copy)
        finally:
            beside.unlink(missing_ok=True)
        sync_path(path.parent)
        yield copy


def write_backup(source: BinaryIO, target: BinaryIO, pieces: Sequence[tuple[int, int]]) -> None:
    """Copies pieces of a file, each (where, how many bytes), behind a line that names them; the headers come first."""
    target.write(json.dumps(pieces).encode() + b"\n")
    for where, length in pieces:
        source.seek(where)
        target.write(source.read(length))


def recover_state_file(path: Path) -> None:
    """Puts the copy back if whoever folded the log in died before it took effect; else takes the copy away.

    Does nothing while another process has the file, nor where it may not be written. This process must not have it.
    """
    copy = _backup_path(path)
    if not copy.exists():
        return
    try:
        file = path.open("r+b")
    except OSError:
        return
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the lock that DuckDB takes
        except BlockingIOError:
            return
        if not copy.exists():  # another process was first
            return
        with copy.open("rb") as source:
            _restore_blocks(source, file)
        copy.unlink()


def _restore_blocks(copy: BinaryIO, file: BinaryIO) -> None:
    """In place: somebody may have this file open, and wait for it."""
    pieces = json.loads(copy.readline())
    if copy.read(HEADERS) != file.read(HEADERS):
        return  # it took effect
    for where, length in pieces[1:]:
        file.seek(where)
        file.write(copy.read(length))
    file.flush()
    os.fsync(file.fileno())


def _backup_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.before")
