"""`python -m benchmarks.jumping COMMAND ...`: a command of Batcher's that never waits, although its clock says so.

Instead of sleeping it moves the clock of the sandbox that OPENAI_BASE_URL names forward, and its own with it.
All else is as usual: the real command in a process of its own, real HTTP, and delays and intervals of their real
length. So a week takes as long as its work does, and what is measured in seconds is measured in the job's own.
"""

import json
import os
import time
import urllib.request
from unittest import mock

_PASSED_S = [0.0]
_real_time = time.time


def now() -> float:
    """Return the real time plus the seconds that were slept."""
    return _real_time() + _PASSED_S[0]


def sleep(seconds: float) -> None:
    """Move the clocks of the sandbox and of this process forward."""
    url = os.environ["OPENAI_BASE_URL"].removesuffix("/v1") + "/_sandbox/advance"
    body = json.dumps({"seconds": max(0.0, seconds)}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})) as answer:
        answer.read()
    _PASSED_S[0] += max(0.0, seconds)


def main() -> None:
    """Run the command. The clock is replaced before any module of Batcher is imported and keeps a reference to it."""
    with mock.patch.object(time, "time", now), mock.patch.object(time, "sleep", sleep):
        from batcher.cli import app  # noqa: PLC0415 - see above
        from batcher.commands.base import signals  # noqa: PLC0415 - see above

        with mock.patch.object(signals.InterruptHandler, "sleep", lambda _interrupt, seconds: sleep(seconds)):
            app.main()


if __name__ == "__main__":
    main()
