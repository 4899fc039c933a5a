"""Named points at which a test kills the process with SIGKILL: before and after every effect and every commit.

`BATCHER_TEST_CRASH_AT=name` (or `name:3` for the third time it is reached) arms one. Nothing else reads the variable.
"""

import os
import signal

_ARMED, _, _NTH = os.environ.get("BATCHER_TEST_CRASH_AT", "").partition(":")
_left = int(_NTH or 1)


def mark_reached(name: str) -> None:
    """Marks the point `name`. Does nothing unless a test has armed it."""
    global _left  # noqa: PLW0603 - one process, one armed point
    if name != _ARMED:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
