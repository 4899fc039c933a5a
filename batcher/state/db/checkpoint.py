"""Fold the write-ahead log into the state file, so that a kill in the middle of it loses nothing.

A checkpoint of DuckDB overwrites the block of the file that holds its metadata in place, while the header on disk still
points at it: `MetadataManager::Flush` in
https://github.com/duckdb/duckdb/blob/v2.0.1/src/storage/metadata/metadata_manager.cpp. A process that dies within
that one write leaves a block whose checksum does not match, and DuckDB refuses the file from then on. So DuckDB never
checkpoints by its own decision here: what is committed stays in the log, and before the log is folded into the file,
the headers and the blocks of metadata are copied. A checkpoint does not touch any other block in use; it writes new
ones. DuckDB keeps the log until the checkpoint has taken effect; until then file, copy and log together are the state.

The copy does not grow with the file: for a state of 42,888 lines it is one block, for a million lines some tens.
Copying the whole file at each fold took longer than reading the results, and a job of a million lines would have copied
a terabyte.

The places of headers and blocks are those of one storage version, so a file of another version is refused unchanged.
"""

import fcntl
import json
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from batcher.disk.durable import sync_path
from batcher.errors import StateError

HEADERS = 12_288
"""Bytes of DuckDB's three headers (4,096 each) at the start of a file; block 0 follows. A checkpoint takes effect by
writing one of the headers. Source: `FILE_HEADER_SIZE` in DuckDB's src/include/duckdb/storage/storage_info.hpp."""
STORAGE_VERSION = 999
"""The version number in the main header of the files that DuckDB 2.0.1 writes (storage version v2.0.0+): the only one
with which the copy was tested. Older versions that 2.0.1 reads too have 64 to 68."""
LOG_BYTES = 65_536
"""A log of up to this many bytes is not folded: it holds tens of transactions. Each attach replays it, which takes
0.3 ms a KB where they are small; a fold takes 10 ms, at a million lines 25 ms, however much the log holds."""

_MAIN_HEADER = struct.Struct("<8x4sQ")
"""The start of the main header: a checksum, the letters DUCK, the version number. Source: `MainHeader::Write` in
https://github.com/duckdb/duckdb/blob/v2.0.1/src/storage/single_file_block_manager.cpp."""


def check_storage_version(path: Path) -> bool:
    """Return whether the file is of the tested storage version; False where it does not exist or is no database.

    Raises StateError for another version. The file is only read. This process must not have it attached.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_MAIN_HEADER.size)
    except OSError:
        return False  # attaching it gives the reason
    if len(start) < _MAIN_HEADER.size:
        return False
    magic, version = _MAIN_HEADER.unpack(start)
    if magic != b"DUCK":
        return False
    if version != STORAGE_VERSION:
        raise StateError(
            f"{path} is of DuckDB's storage version {version}, this Batcher was tested with {STORAGE_VERSION}: "
            "upgrade Batcher, or set another [state] dir"
        )
    return True


def is_due(path: Path) -> bool:
    """Return whether the log of the state file has grown enough to be folded."""
    try:
        log = path.with_name(f"{path.name}.wal").stat().st_size
    except FileNotFoundError:
        return False
    return log > LOG_BYTES


@contextmanager
def backup_metadata(path: Path, metadata: Iterable[int], block_bytes: int) -> Iterator[Path]:
    """Keep a copy of what a checkpoint overwrites in place, in a file of the same folder, while this lasts.

    metadata: the numbers of the blocks that hold the file's metadata. block_bytes: bytes of a block. The caller has the
    file attached for writing. It gets the copy's path, and removes the copy once the log is folded, while the file is
    still attached. It must detach the file before this ends: a descriptor of the file is closed then, which releases
    every lock of this process on the file. Raises OSError where the disk is full; then there is no copy.
    """
    copy, unfinished = _backup_path(path), path.with_name(f"{path.name}.copying")
    blocks = [(HEADERS + number * block_bytes, block_bytes) for number in sorted(metadata)]
    with path.open("rb") as source:
        try:
            with unfinished.open("wb") as target:
                write_backup(source, target, [(0, HEADERS), *blocks])
                target.flush()
                os.fsync(target.fileno())
            unfinished.replace(copy)
        finally:
            unfinished.unlink(missing_ok=True)
        sync_path(path.parent)
        yield copy


def write_backup(source: BinaryIO, target: BinaryIO, pieces: Sequence[tuple[int, int]]) -> None:
    """Copy pieces of a file, each (offset, bytes), after a line of JSON that lists them; the headers come first."""
    target.write(json.dumps(pieces).encode() + b"\n")
    for offset, length in pieces:
        source.seek(offset)
        target.write(source.read(length))


def recover_state_file(path: Path) -> None:
    """Restore the copy if a process died before its checkpoint took effect; otherwise remove the copy.

    Does nothing while another process has the file, nor where it cannot be written. This process must not have it
    attached.
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
    """Write the copied blocks in place: another process may have this file open and wait for its lock."""
    pieces = json.loads(copy.readline())
    if copy.read(HEADERS) != file.read(HEADERS):
        return  # the checkpoint took effect
    for offset, length in pieces[1:]:
        file.seek(offset)
        file.write(copy.read(length))
    file.flush()
    os.fsync(file.fileno())


def _backup_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.before")
