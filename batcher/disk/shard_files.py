"""Writing shard files: under another name, fsynced, moved into place, with the sha256 of what was written."""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from batcher.core.model import WrittenShard
from batcher.disk.durable import sync_path
from batcher.disk.private_files import make_private_folder, open_private_file
from batcher.errors import StateError

READ_BYTES = 1 << 14
"""Bytes that are read from the spool at a time: some tens of lines."""
WRITE_BYTES = 1 << 20
"""Bytes that are written into the spool at a time."""


def shard_path(folder: Path, shard: int) -> Path:
    """Return the path of a shard's file in the state folder."""
    return folder / "shards" / f"shard-{shard:05d}.jsonl"


class Spool:
    """Stores pieces of lines from the reading of the table to the cutting of shards, in a file without a name.

    In the state they would be written to the disk three times: staged, sorted, and read again.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=WRITE_BYTES)  # noqa: SIM115 - closed with the plan
        self._end = 0
        self._buffer, self._buffer_at = b"", 0

    def append_piece(self, piece: bytes) -> int:
        """Store a piece; return the offset at which it begins."""
        at = self._end
        self._file.write(piece)
        self._end += len(piece)
        return at

    def read_piece(self, at: int, length: int) -> bytes:
        """Return a piece that was stored before the last `flush`.

        It is nearly always the next one, so READ_BYTES are read at a time.
        """
        begin = at - self._buffer_at
        if begin < 0 or begin + length > len(self._buffer):
            self._buffer = os.pread(self._file.fileno(), max(length, READ_BYTES), at)
            self._buffer_at, begin = at, 0
        return self._buffer[begin : begin + length]

    def flush(self) -> None:
        """Write all pieces to the file, so that `read_piece` sees them."""
        self._file.flush()

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


class ShardWriter:
    """Writes one shard's file. `close` moves it into place; until then it has another name."""

    def __init__(self, folder: Path, shard: int, priority: int) -> None:
        self.shard, self.priority = shard, priority
        self.lines = self.tokens = self.bytes = self.longest = 0
        self._path = shard_path(folder, shard)
        self._part_path = self._path.with_suffix(".part")
        self._sha = hashlib.sha256()
        make_private_folder(self._path.parent)
        self._file = open_private_file(self._part_path)

    def write_lines(self, data: bytes, lines: int, tokens: int, longest: int) -> None:
        """Write lines. data: their bytes; tokens: their sum; longest: the tokens of the longest.

        `update_digest` must be called with the same data.
        """
        self._file.write(data)
        self.lines += lines
        self.tokens += tokens
        self.longest = max(self.longest, longest)
        self.bytes += len(data)

    def update_digest(self, data: bytes) -> None:
        """Add data to the digest. It is a method of its own, so that a thread may hash what is being written."""
        self._sha.update(data)

    def close(self) -> WrittenShard:
        """Sync the file to the disk and move it into place."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part_path.replace(self._path)
        sync_path(self._path.parent)
        digest = self._sha.hexdigest()
        return WrittenShard(self.shard, self.priority, self.lines, self.tokens, self.bytes, digest, self.longest)

    def discard_file(self) -> None:
        """Remove the file where `close` was not reached."""
        self._file.close()
        self._part_path.unlink(missing_ok=True)


def remove_shard_leftovers(folder: Path, highest: int) -> None:
    """Remove what an unfinished plan left: unfinished files, and those of shards beyond the highest in the state."""
    shards = folder / "shards"
    if not shards.is_dir():
        return
    for path in shards.iterdir():
        number = path.stem.removeprefix("shard-")
        if path.suffix == ".part" or (path.suffix == ".jsonl" and number.isdecimal() and int(number) > highest):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # not empty: it holds the files of other shards
        shards.rmdir()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_shard_file_whole(path: Path, sha256: str) -> bool:
    """Return whether a shard's file holds what was written. Raises StateError where it cannot be read."""
    try:
        return path.exists() and file_sha256(path) == sha256
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}; `batcher plan --replan` writes it again") from error
