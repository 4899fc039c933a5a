"""Named points at which a test kills the process with SIGKILL: before and after every effect and every commit.

`BATCHER_TEST_CRASH_AT=name` (or `name:3` for the third time it is reached) arms one. Nothing else reads the variable.
"""

import os
import signal
from itertools import count

_ARMED, _, _NTH = os.environ.get("BATCHER_TEST_CRASH_AT", "").partition(":")
_times_reached = count(1)


def mark_reached(name: str) -> None:
    """Mark the point `name`. Does nothing unless a test has armed it."""
    if name == _ARMED and next(_times_reached) == int(_NTH or 1):
        os.kill(os.getpid(), signal.SIGKILL)
