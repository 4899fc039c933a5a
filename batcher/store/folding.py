"""Folding the write-ahead log into the state file, so that a kill in the middle of it costs nothing.

A checkpoint of DuckDB overwrites the block of the file that holds its metadata in place, while the header on disk still
points at it (`MetadataManager::Flush` in src/storage/metadata/metadata_manager.cpp, 2.0). A process that dies within
that one write leaves a block whose checksum does not match, and DuckDB refuses the file from then on. So Batcher never
lets it checkpoint by itself: what is committed stays in the log, and before the log is folded in the file is copied.
DuckDB keeps the log until the checkpoint has taken effect; until then the copy and the log together are the state.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batcher.durable import sync_folder

HEADERS = 12_288
"""Bytes of DuckDB's three headers at the start of a file. A checkpoint takes effect by writing one of them."""
LOG_BYTES = 65_536
"""A log up to this size is not folded in: it holds tens of transactions, and each attach replays it (10 ms)."""
LOG_SHARE = 128
"""Nor is one up to this part of the file: a fold copies the file."""
CHUNK = 1 << 20


def is_due(path: Path) -> bool:
    """Whether the log beside the state file has grown enough to be folded in."""
    try:
        log = path.with_name(f"{path.name}.wal").stat().st_size
    except FileNotFoundError:
        return False
    return log > max(LOG_BYTES, path.stat().st_size // LOG_SHARE)


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    """While this lasts there is a copy of the state file beside it; the caller has the file attached for writing.

    It yields the copy, for the caller to remove once the log is folded in, while it still has the file. It must give
    the file free before this ends: a descriptor of the file is closed then, and with it goes every lock that this
    process has on the file. Raises OSError where the disk is full; then there is no copy.
    """
    copy, beside = _copy(path), path.with_name(f"{path.name}.copying")
    with path.open("rb") as source:
        try:
            with beside.open("wb") as target:
                shutil.copyfileobj(source, target, CHUNK)
                target.flush()
                os.fsync(target.fileno())
            beside.replace(copy)
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(path.parent)
        yield copy


def mend(path: Path) -> None:
    """Puts the copy back if whoever folded the log in died before it took effect; else takes the copy away.

    Does nothing while another process has the file, nor where it may not be written. This process must not have it.
    """
    copy = _copy(path)
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
            if source.read(HEADERS) == file.read(HEADERS):
                shutil.copyfileobj(source, file, CHUNK)  # in place: somebody may have this file open, and wait for it
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
        copy.unlink()


def _copy(path: Path) -> Path:
    return path.with_name(f"{path.name}.before")
