"""The log of a job: appended by several processes at once, rotated by size, read across its files.

A line is one write to a file that is opened for it with O_APPEND: the kernel keeps lines of several processes apart.
Who rotates renames the files under a kernel lock, and a process that has opened the file before writes into the renamed
one, so that no line is lost. No writer waits: where another process rotates, the line goes where the name leads.

concurrent-log-handler does the same for Python's logging, under a lock that every line waits for, with its own lock
file and portalocker; a process that is stopped while it writes would stop all others.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from batcher.disk.private_files import open_restricted

LOG_FILE = "batcher.log"
"""The name of the log in a state folder. What was written before is in batcher.log.1, before that in .2, and so on."""
MOST_BYTES = 10_000_000
"""Bytes from which on a file of the log is rotated."""
FILES = 5
"""Files of a log, the one that is written included."""


def append_line(path: Path, line: bytes, most_bytes: int = MOST_BYTES) -> None:
    """Append a line, which ends with a line feed, to a log, and rotate the log where it has grown enough.

    Raises OSError where it cannot be written; a part of the line may be written then.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = open_restricted(path, flags)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a full disk has left a part of a line
            line = b"\n" + line
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        size += len(line)
    finally:
        os.close(descriptor)
    if size >= most_bytes:
        _rotate_files(path, most_bytes)


def _rotate_files(path: Path, most_bytes: int) -> None:
    """Rename the files of a log by one, unless another process does so now or has done it. Raises OSError."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another process rotates, or the file system does not lock folders
            return
        if not path.exists() or path.stat().st_size < most_bytes:
            return
        names = [path, *(_earlier(path, number) for number in range(1, FILES))]
        # A process that died while it renamed has left a gap: then nothing has to go.
        gap = next((place for place, name in enumerate(names) if not name.exists()), FILES - 1)
        for place in range(gap, 0, -1):
            names[place - 1].replace(names[place])
    finally:
        os.close(folder)


def _earlier(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _last_write(path: Path) -> int:
    """Return when a file was last written (nanoseconds); 0: it is gone."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


class LogReader:
    """Reads a log from its oldest file on, and on from there as it grows and is rotated.

    The file that is read stays open: its rest is read also after it was renamed or removed. One that was emptied is
    read from its start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._offset = 0

    def read_new_lines(self) -> Iterator[str]:
        """Yield the whole lines that have come since the last look, without line feeds. Raises OSError."""
        while True:
            files = self._list_files()
            here = -1
            if self._file is not None:
                yield from self._read_rest(self._file)
                own = os.fstat(self._file.fileno())
                here = next((place for place, (each, _) in enumerate(files) if each == own.st_ino), -1)
                if here < 0:  # it was removed: what was last written before it was read before it
                    files = [(inode, name) for inode, name in files if _last_write(name) >= own.st_mtime_ns]
            if here == len(files) - 1:
                return
            self._open_file(*files[here + 1])

    def close(self) -> None:
        """Close the file that is read."""
        if self._file is not None:
            self._file.close()

    def _list_files(self) -> list[tuple[int, Path]]:
        """Return the files of the log, the oldest first, each with its inode."""
        found = []
        for name in (*(_earlier(self._path, number) for number in range(FILES - 1, 0, -1)), self._path):
            with suppress(FileNotFoundError):
                found.append((name.stat().st_ino, name))
        return found

    def _open_file(self, inode: int, path: Path) -> None:
        """Go on with another file, unless its name leads to a third one by now."""
        with suppress(FileNotFoundError):
            file = path.open("rb")
            if os.fstat(file.fileno()).st_ino == inode:
                self.close()
                self._file, self._offset = file, 0
            else:
                file.close()

    def _read_rest(self, file: BinaryIO) -> Iterator[str]:
        if os.fstat(file.fileno()).st_size < self._offset:
            self._offset = 0
        file.seek(self._offset)
        whole, feed, _ = file.read().rpartition(b"\n")
        if feed:
            self._offset += len(whole) + 1
            # An empty line is none: a writer that sees a half of another's line takes it for a torn one, and ends it.
            yield from filter(None, whole.decode("utf-8", "replace").split("\n"))
