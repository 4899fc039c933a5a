"""Writing shard files: beside, fsynced, moved into place, with the sha256 of what was written."""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from batcher.core.model import WrittenShard
from batcher.disk.durable import sync_folder
from batcher.errors import StateError

READ_BYTES = 1 << 14
"""Read at once from the spool: some tens of lines."""
WRITE_BYTES = 1 << 20
"""Written at once into it."""


def shard_path(folder: Path, shard: int) -> Path:
    """Where a shard's file stands in the state folder."""
    return folder / "shards" / f"shard-{shard:05d}.jsonl"


class Spool:
    """Pieces of lines between the reading of the table and the cutting of shards, in a file without a name.

    In the state they would go to the disk three times: staged, sorted, and read again.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=WRITE_BYTES)  # noqa: SIM115 - closed with the plan
        self._end = 0
        self._read, self._read_at = b"", 0

    def append_piece(self, piece: bytes) -> int:
        """Keeps a piece; where it begins."""
        at = self._end
        self._file.write(piece)
        self._end += len(piece)
        return at

    def read_piece(self, at: int, length: int) -> bytes:
        """A piece that was kept, after `flush`. Nearly always the next one, so some are read at once."""
        begin = at - self._read_at
        if begin < 0 or begin + length > len(self._read):
            self._read, self._read_at, begin = os.pread(self._file.fileno(), max(length, READ_BYTES), at), at, 0
        return self._read[begin : begin + length]

    def flush(self) -> None:
        """Lets what was put be got."""
        self._file.flush()

    def close(self) -> None:
        """Gives the file up."""
        self._file.close()


class ShardWriter:
    """Writes one shard's file. `close` moves it into place; until then it has another name."""

    def __init__(self, folder: Path, shard: int, priority: int) -> None:
        self.shard, self.priority = shard, priority
        self.lines = self.tokens = self.bytes = 0
        self._path = shard_path(folder, shard)
        self._beside = self._path.with_suffix(".part")
        self._sha = hashlib.sha256()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._beside.open("wb")

    def write_lines(self, data: bytes, lines: int, tokens: int) -> None:
        """Adds so many lines; `tokens` is what they count together. `hash` must be told of the same data."""
        self._file.write(data)
        self.lines += lines
        self.tokens += tokens
        self.bytes += len(data)

    def update_digest(self, data: bytes) -> None:
        """Adds to the digest what is written; apart from `write`, so that the two may go on side by side."""
        self._sha.update(data)

    def close(self) -> WrittenShard:
        """Flushes to disk and moves into place."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._beside.replace(self._path)
        sync_folder(self._path.parent)
        return WrittenShard(self.shard, self.priority, self.lines, self.tokens, self.bytes, self._sha.hexdigest())

    def discard_file(self) -> None:
        """Gives the file up where `close` was not reached."""
        self._file.close()
        self._beside.unlink(missing_ok=True)


def remove_shard_leftovers(folder: Path, highest: int) -> None:
    """Removes what an unfinished plan left: files of shards beyond the highest that the state knows, and parts."""
    shards = folder / "shards"
    if not shards.is_dir():
        return
    for path in shards.iterdir():
        number = path.stem.removeprefix("shard-")
        if path.suffix == ".part" or (path.suffix == ".jsonl" and number.isdecimal() and int(number) > highest):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # it holds the files of other shards
        shards.rmdir()


def file_sha256(path: Path) -> str:
    """The digest of a file. Raises StateError when it is gone."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}; `batcher plan --replan` writes it again") from error
