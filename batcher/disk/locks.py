"""One acting process a lane: a kernel lock on a file, held for the process's life and gone with it."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from batcher.disk.private_files import open_restricted
from batcher.errors import LockedError, StateError

RETRY_S = 0.2
"""Seconds between two attempts to acquire a lock that another process holds."""


class LockOwner(NamedTuple):
    """The process that holds a lock, as it has written itself into the file."""

    pid: int
    command: str = ""
    """The command that it runs; "" where it is not known."""
    since: float = 0.0
    """Epoch seconds; 0 where it is not known."""

    def describe(self) -> str:
        """Return who it is, as a part of a sentence."""
        since = f"since {datetime.fromtimestamp(self.since, UTC):%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        command = f"`batcher {self.command}`" if self.command else ""
        known = ", ".join(part for part in (command, since) if part)
        return f"process {self.pid}{f' ({known})' if known else ''}"


@contextmanager
def lane_lock(
    folder: Path,
    lane: str,
    waiting: Callable[[str], None],
    sleep: Callable[[float], None],
    patience_s: float | None,
    owner: LockOwner | None = None,
) -> Iterator[None]:
    """Hold `<lane>.lock` in the state folder, once its owner has released it.

    waiting: called once with a sentence for the user, where another process holds the lock. patience_s: seconds to
    wait; None waits without a bound. owner: this process as others are to know it; None: its number alone. Raises
    StateError where the lock is still held then, or the folder cannot be written.
    """
    path = folder / f"{lane}.lock"
    descriptor = _open_lock_file(path)
    try:
        _acquire_lock(descriptor, path, waiting, sleep, patience_s)
        owner = owner or LockOwner(os.getpid())
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{owner.pid} {owner.since:.3f} {owner.command}\n".encode())
        yield
    finally:
        os.close(descriptor)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, once its owner has released it. It is for moments, and leaves no file.

    On a file system that does not lock folders it does nothing.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def find_lock_owner(folder: Path, lane: str) -> LockOwner | None:
    """Return the process that holds the lock of a lane; None where none does, or none can be named.

    The lock is tried for a moment, and only where the file names a process that exists.
    """
    path = folder / f"{lane}.lock"
    owner = _parse_owner(path)
    if owner is None or not _is_running(owner.pid):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return owner
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def _parse_owner(path: Path) -> LockOwner | None:
    """Return whom a lock file names; None where it names no process. Earlier versions wrote only its number."""
    try:
        pid, _, rest = path.read_text(encoding="utf-8").strip().partition(" ")
        since, _, command = rest.partition(" ")
        return LockOwner(int(pid), command, float(since or 0))
    except (OSError, ValueError):
        return None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _open_lock_file(path: Path) -> int:
    """Return a descriptor of the lock file. A link is refused: what it names would be overwritten."""
    no_file = f"{path} is not a file of Batcher's (a link, or something else); remove it and run the command again"
    try:
        descriptor = open_restricted(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
            raise StateError(no_file) from error
        raise StateError(f"{path} cannot be opened: {error.strerror}; fix the rights of the state folder") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StateError(no_file)
    return descriptor


def _acquire_lock(
    descriptor: int,
    path: Path,
    waiting: Callable[[str], None],
    sleep: Callable[[float], None],
    patience_s: float | None,
) -> None:
    waited = 0.0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _parse_owner(path)
            who = owner.describe() if owner is not None else "another process"
            if patience_s is not None and waited >= patience_s:
                raise LockedError(f"{who} is at work on this state; `batcher status` shows it") from None
            if waited == 0.0:
                waiting(f"{who} is at work on this state; waiting for it to end")
        except OSError as error:
            raise StateError(
                f"{path} cannot be locked: {error.strerror}; set [state] dir to a folder on a local disk"
            ) from error
        else:
            return
        sleep(RETRY_S)
        waited += RETRY_S
