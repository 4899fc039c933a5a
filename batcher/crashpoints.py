"""Named points at which a test kills the process with SIGKILL: before and after every effect and every commit.

`BATCHER_TEST_CRASH_AT=name` arms one, with commas between several: the process dies at the first that it reaches, and
says at which. Nothing else reads the variable.
"""

import os
import signal

_ARMED = frozenset(os.environ.get("BATCHER_TEST_CRASH_AT", "").split(","))


def mark_reached(name: str) -> None:
    """Mark the point `name`. Does nothing unless a test has armed it."""
    if name in _ARMED:
        os.write(2, f"\nkilled at {name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
