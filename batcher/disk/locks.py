"""One acting process a lane: a kernel lock on a file, held for the process's life and gone with it."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batcher.disk.private_files import open_restricted
from batcher.errors import StateError

RETRY_S = 0.2
"""Seconds between two attempts to acquire a lock that another process holds."""


@contextmanager
def lane_lock(
    folder: Path, lane: str, waiting: Callable[[str], None], sleep: Callable[[float], None], patience_s: float | None
) -> Iterator[None]:
    """Hold `<lane>.lock` in the state folder, once its owner has released it.

    waiting: called once with a sentence for the user, where another process holds the lock. patience_s: seconds to
    wait; None waits without a bound. Raises StateError where the lock is still held then, or the folder cannot be
    written.
    """
    path = folder / f"{lane}.lock"
    try:
        descriptor = open_restricted(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    except OSError as error:
        raise StateError(f"{path} cannot be opened: {error.strerror}; mend the rights of the state folder") from error
    try:
        _acquire_lock(descriptor, path, waiting, sleep, patience_s)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
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
            owner = path.read_text().strip() or "another process"
            if patience_s is not None and waited >= patience_s:
                raise StateError(f"process {owner} is at work on this state; `batcher status` shows it") from None
            if waited == 0.0:
                waiting(f"process {owner} is at work on this state; waiting for it to end")
        except OSError as error:
            raise StateError(
                f"{path} cannot be locked: {error.strerror}; set [state] dir to a folder on a local disk"
            ) from error
        else:
            return
        sleep(RETRY_S)
        waited += RETRY_S
