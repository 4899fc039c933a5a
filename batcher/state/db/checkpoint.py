"""Fold the write-ahead log into the state file, so that a kill in the middle of it loses nothing.

A checkpoint of DuckDB overwrites the block of the file that holds its metadata in place, while the header on disk still
points at it: `MetadataManager::Flush` in
https://github.com/duckdb/duckdb/blob/v2.0.1/src/storage/metadata/metadata_manager.cpp. A process that dies within
that one write leaves a block whose checksum does not match, and DuckDB refuses the file from then on. So DuckDB never
checkpoints by its own decision here: what is committed stays in the log, and before the log is folded into the file,
what a checkpoint overwrites is copied. DuckDB keeps the log until the checkpoint has taken effect; until then file,
copy and log together are the state. There are two kinds of copy:

- Blocks: the headers and the blocks of metadata. A checkpoint touches no other block in use; it writes new ones. The
  copy is put back unless the checkpoint took effect, which the headers tell. It does not grow with the file: for a
  state of 42,888 lines it is one block, for a million some tens.
- Whole: the file and its log, wherever DuckDB's version, the file's storage version or the size of its blocks is not
  one with which the copy of blocks was tried. It knows nothing of the file's layout, and is put back in any case: what
  a checkpoint moves from the log into the file is the same state before and after. Its cost grows with the file.
"""

import fcntl
import json
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from batcher.disk.durable import sync_path
from batcher.disk.private_files import open_private_file
from batcher.errors import StateError, describe_disk_error

HEADERS = 12_288
"""Bytes of DuckDB's three headers (4,096 each) at the start of a file; block 0 follows. A checkpoint takes effect by
writing one of the headers. Source: `FILE_HEADER_SIZE` in DuckDB's src/include/duckdb/storage/storage_info.hpp."""
TRIED_ENGINES = frozenset({"2.0.1"})
"""The versions of DuckDB whose folds were killed at every write (`python -m tests.support.crash_states`)."""
TRIED_STORAGE = 999
"""The version number in the main header of the files that they make (storage version v2.0.0+). Older versions that they
read too have 64 to 68."""
TRIED_BLOCK = 262_144
"""Bytes of a block in the files that they make by default."""
LOG_BYTES = 65_536
"""A log of up to this many bytes is not folded: it holds tens of transactions. Each attach replays it, which takes
0.3 ms a KB where they are small; a fold takes 10 ms, at a million lines 25 ms, however much the log holds."""
LIST_BYTES = 1 << 20
"""A copy begins with a line of JSON that says what it holds; a longer line is none of ours."""
CHUNK_BYTES = 1 << 20
"""Bytes that are copied at a time."""

_MAIN_HEADER = struct.Struct("<8x4sQ")
"""The start of the main header: a checksum, the letters DUCK, the version number. Source: `MainHeader::Write` in
https://github.com/duckdb/duckdb/blob/v2.0.1/src/storage/single_file_block_manager.cpp."""


class FileLayout(NamedTuple):
    """What the engine says of an attached file: its own version, the size of a block, those that hold metadata."""

    engine: str
    block_bytes: int
    metadata: Sequence[int]


class Backup(NamedTuple):
    """The copy that stands beside the state file while its log is folded."""

    path: Path
    is_whole: bool

    def remove(self) -> None:
        """Remove the copy once the log is folded, while the file is still attached. Raises OSError."""
        self.path.unlink()
        if self.is_whole:  # it would be put back over later changes, so a power cut must not bring it back
            sync_path(self.path.parent)


class WholeState(NamedTuple):
    """The bytes of the file and of the log in a whole copy."""

    file: int
    log: int


class UnreadableBackupError(Exception):
    """A file at the place of the copy is not one, or not all of one."""


def is_due(path: Path) -> bool:
    """Return whether the log of the state file has grown enough to be folded."""
    try:
        log = log_path(path).stat().st_size
    except FileNotFoundError:
        return False
    return log > LOG_BYTES


def log_path(path: Path) -> Path:
    """Return the path of the write-ahead log of a state file."""
    return path.with_name(f"{path.name}.wal")


@contextmanager
def backup_state_file(path: Path, layout: FileLayout) -> Iterator[Backup]:
    """Keep a copy of what a checkpoint may overwrite in place, in a file of the same folder, while this lasts.

    The caller has the file attached for writing. It removes the copy once the log is folded, and must detach the file
    before this ends: a descriptor of the file is closed then, which releases every lock of this process on the file.
    Raises OSError where the disk is full; then there is no copy.
    """
    copy, unfinished = _backup_path(path), path.with_name(f"{path.name}.copying")
    with path.open("rb") as source:
        is_whole = not _is_tried(source, layout)
        try:
            with open_private_file(unfinished) as target:
                if is_whole:
                    _write_whole(source, log_path(path), target)
                else:
                    blocks = [(HEADERS + n * layout.block_bytes, layout.block_bytes) for n in sorted(layout.metadata)]
                    write_blocks(source, target, [(0, HEADERS), *blocks])
                target.flush()
                os.fsync(target.fileno())
            unfinished.replace(copy)
        finally:
            unfinished.unlink(missing_ok=True)
        sync_path(path.parent)
        yield Backup(copy, is_whole)


def _is_tried(file: BinaryIO, layout: FileLayout) -> bool:
    """Return whether the copy of blocks was tried with such a file."""
    start = file.read(_MAIN_HEADER.size)
    known = len(start) == _MAIN_HEADER.size and _MAIN_HEADER.unpack(start) == (b"DUCK", TRIED_STORAGE)
    return known and layout.block_bytes == TRIED_BLOCK and layout.engine in TRIED_ENGINES


def write_blocks(source: BinaryIO, target: BinaryIO, pieces: Sequence[tuple[int, int]]) -> None:
    """Copy pieces of a file, each (offset, bytes), after a line of JSON that lists them; the headers come first."""
    target.write(json.dumps(pieces).encode() + b"\n")
    for offset, length in pieces:
        source.seek(offset)
        _copy_bytes(source, target, length)


def _write_whole(source: BinaryIO, log: Path, target: BinaryIO) -> None:
    """Copy a file and its log after a line of JSON with their lengths."""
    with log.open("rb") as log_source:
        lengths = [os.fstat(file.fileno()).st_size for file in (source, log_source)]
        target.write(json.dumps(WholeState(*lengths)._asdict()).encode() + b"\n")
        source.seek(0)
        for file, length in zip((source, log_source), lengths, strict=True):
            _copy_bytes(file, target, length)


def has_backup(path: Path) -> bool:
    """Return whether a fold of this state file was interrupted, so that it has to be recovered."""
    return _backup_path(path).exists()


def recover_state_file(path: Path) -> None:
    """Put the copy back if a process died before its checkpoint took effect; otherwise remove the copy.

    Does nothing while another process has the file, nor where it cannot be written. This process must not have it
    attached. Raises StateError for a copy that cannot be read, which is moved away, and where the disk refuses.
    """
    copy = _backup_path(path)
    if not copy.exists():
        return
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        raise _move_away(copy, "is the copy of a state file that is gone") from None
    except OSError:
        return
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the lock that DuckDB takes
        except BlockingIOError:
            return
        if not copy.exists():  # another process was first
            return
        try:
            with copy.open("rb") as source:
                _put_back(source, file, path)
            copy.unlink()
        except (UnreadableBackupError, IsADirectoryError):
            raise _move_away(copy, "cannot be read") from None
        except OSError as error:
            why = describe_disk_error(error) or str(error)
            raise StateError(f"{path} cannot be repaired from {copy.name}: {why}") from error


def _put_back(copy: BinaryIO, file: BinaryIO, path: Path) -> None:
    contents = _read_contents(copy)
    if isinstance(contents, WholeState):
        _restore_whole(copy, file, contents.file)
        with open_private_file(log_path(path)) as log:
            _restore_whole(copy, log, contents.log)
        sync_path(path.parent)
    else:
        _restore_blocks(copy, file, contents[1:])


def _read_contents(copy: BinaryIO) -> WholeState | Sequence[tuple[int, int]]:
    """Return what the copy says it holds, compared with its length. Raises UnreadableBackupError."""
    contents: WholeState | list[tuple[int, int]]
    try:
        said = json.loads(copy.readline(LIST_BYTES))
        if isinstance(said, dict):
            contents = WholeState(**said)
            lengths = list(contents)
        else:
            contents = [(offset, length) for offset, length in said]
            lengths = [length for _, length in contents]
            if contents[0] != (0, HEADERS) or any(type(offset) is not int or offset < 0 for offset, _ in contents):
                raise UnreadableBackupError
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise UnreadableBackupError from error
    if any(type(length) is not int or length < 0 for length in lengths):
        raise UnreadableBackupError
    if copy.tell() + sum(lengths) != os.fstat(copy.fileno()).st_size:
        raise UnreadableBackupError
    return contents


def _restore_blocks(copy: BinaryIO, file: BinaryIO, pieces: Sequence[tuple[int, int]]) -> None:
    """Write the copied blocks in place: another process may have this file open and wait for its lock."""
    if copy.read(HEADERS) != file.read(HEADERS):
        return  # the checkpoint took effect
    for offset, length in pieces:
        file.seek(offset)
        _copy_bytes(copy, file, length)
    file.flush()
    os.fsync(file.fileno())


def _restore_whole(copy: BinaryIO, file: BinaryIO, length: int) -> None:
    _copy_bytes(copy, file, length)
    file.truncate()
    file.flush()
    os.fsync(file.fileno())


def _copy_bytes(source: BinaryIO, target: BinaryIO, length: int) -> None:
    while length > 0:
        chunk = source.read(min(length, CHUNK_BYTES))
        if not chunk:
            raise OSError(f"{source.name} ended {length} bytes early")
        target.write(chunk)
        length -= len(chunk)


def _move_away(copy: Path, why: str) -> StateError:
    """Give the copy another name, and return what to tell the user. A state that needed it is refused by DuckDB."""
    target = copy.with_name(f"{copy.name}.unusable")
    number = 1
    while target.exists():
        number += 1
        target = copy.with_name(f"{copy.name}.unusable-{number}")
    try:
        copy.rename(target)
    except OSError as error:
        return StateError(f"{copy} {why}, and cannot be moved away: {error.strerror}; move it away and run again")
    return StateError(f"{copy} {why}; it is now {target.name}, run the same command again")


def is_unfinished(path: Path) -> bool:
    """Return whether a process did not finish making the state file: it is empty, or shorter than DuckDB's headers.

    Nothing was committed to it. This process must not have it attached.
    """
    try:
        if path.stat().st_size >= HEADERS:
            return False
        with path.open("rb") as file:
            start = file.read(_MAIN_HEADER.size)
    except OSError:
        return False  # attaching it gives the reason
    return not start or start[8:12] == b"DUCK"


def remove_unfinished_file(path: Path) -> bool:
    """Remove a state file that a process did not finish making; return whether there is none, or none any more.

    The caller must hold the folder's lock, so that no process makes the file at this moment.
    """
    if not is_unfinished(path):
        return not path.exists()
    with path.open("r+b") as file, suppress(BlockingIOError):  # it is attached elsewhere
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return True
    return False


def _backup_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.before")
