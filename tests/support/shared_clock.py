"""One clock for several processes, which sleeping moves: a job that waits for a day takes no longer than its work.

It is a file of eight bytes that each process maps: the seconds by which its time is ahead of the machine's monotonic
clock, which all processes share. A process that sleeps adds its seconds.
"""

import mmap
import os
import struct
import time
from pathlib import Path

from batcher.commands.base.signals import InterruptHandler

VARIABLE = "BATCHER_TEST_CLOCK"
"""Names the file, in the environment of a process that is to use it."""
_AHEAD = struct.Struct("d")
_YIELD_S = 0.0005  # slept for real, so that whoever is waited for may act

_real_sleep = time.sleep


class SharedClock:
    """The clock in a file."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _AHEAD.size)

    @classmethod
    def create(cls, path: Path, now: float) -> "SharedClock":
        """Return a clock in a new file that shows `now`, epoch seconds."""
        path.write_bytes(_AHEAD.pack(now - time.monotonic()))
        return cls(path)

    def __call__(self) -> float:
        """Return the time, epoch seconds."""
        ahead: float = _AHEAD.unpack_from(self._memory)[0]
        return time.monotonic() + ahead

    def sleep(self, seconds: float) -> None:
        """Let these seconds have passed."""
        _real_sleep(min(seconds, _YIELD_S))
        _AHEAD.pack_into(self._memory, 0, _AHEAD.unpack_from(self._memory)[0] + max(0.0, seconds))


def install_shared_clock() -> None:
    """Let this process live by the clock that its environment names, if it names one."""
    path = os.environ.get(VARIABLE)
    if path is None:
        return
    clock = SharedClock(Path(path))

    def sleep_unless_requested(self: InterruptHandler, seconds: float) -> None:
        if not self.is_requested():
            clock.sleep(seconds)

    time.time = clock
    time.sleep = clock.sleep  # type: ignore[assignment]
    InterruptHandler.sleep = sleep_unless_requested  # type: ignore[method-assign]
