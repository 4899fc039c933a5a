"""How long one exchange with the service may take, how much it may send, and whether it may be abandoned.

A timeout of the client is the time between two bytes: a service that sends one now and then is never late for it. So an
exchange has an end as a whole as well. It lies later the more bytes have moved, at a rate that even a slow line has.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from batcher.service.service import CallAbandoned

SLOWEST_BYTES_S = 10_000.0
"""Bytes a second that an exchange makes at least, once its patience is used up: 200 MB, the largest file that the API
takes, then have 5.5 hours. A slower one is not on its way but stuck."""
LONGEST_ANSWER_BYTES = 64 << 20
"""Longest answer that is read into memory. A page of 100 batches takes 150 KB; a batch whose every line (50,000) is
refused in validation lists 10 MB of errors."""
LONGEST_RESULT_BYTES = 8 << 30
"""Longest result file that is read: 50,000 lines of 170 KB, each the answer of a model with 16,000 tokens to say and
room for what is escaped. Without a bound a file that does not end takes the whole disk."""
LONGEST_LISTING_S = 600.0
"""Seconds that all pages of a listing may take together. A page takes about a tenth of a second."""
MOST_PAGES = 1_000
"""Pages of a listing that are read: 100,000 batches, twice as many as OpenAI allows in a day (2,000 an hour)."""
LONGEST_QUICK_WAIT_S = 20.0
"""Longest Retry-After, in seconds, that is waited for inside a call. Longer ones are left to the runner, whose wait
can be interrupted."""
LONGEST_CONNECT_S = 30.0
"""Seconds to wait for a connection. One that is not open by then is not slow but missing: nothing was sent, and the
runner tries later."""
PATIENCE_S = 600.0
"""Seconds that an exchange may take before its bytes are counted, where no setting says so."""
FLEX_PATIENCE_S = 900.0
"""The same for a call that asks for flex processing, which OpenAI's page on it (2026-11) advises to give 15 minutes."""
SLICE_S = 0.25
"""Longest single wait for bytes in seconds: so long after Ctrl-C an exchange goes on that may be abandoned."""


def never_ends() -> bool:
    """Return False: the user has not asked to end."""
    return False


class Exchange:
    """One request and its answer.

    patience_s: the seconds that it may take before its bytes count. most_bytes: how many of its bytes prolong it.
    is_ending: whether the user asked to end. clock: counts seconds from any start.
    """

    def __init__(
        self,
        patience_s: float,
        most_bytes: int,
        is_ending: Callable[[], bool] = never_ends,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most_bytes = most_bytes
        self._patience_s, self._is_ending, self._clock = patience_s, is_ending, clock
        self._began_at = clock()
        self._moved = 0

    def count_bytes(self, count: int) -> None:
        """Add bytes that were sent or received."""
        self._moved += count

    def check_end(self, late: Callable[[str], Exception]) -> float:
        """Return the seconds that are left.

        Raises CallAbandoned where the user asked to end, and the error that `late` makes of a sentence where no time is
        left.
        """
        if self._is_ending():
            raise CallAbandoned
        allowed = self._patience_s + min(self._moved, self.most_bytes) / SLOWEST_BYTES_S
        left = self._began_at + allowed - self._clock()
        if left <= 0:
            raise late(f"the answer was not complete after {allowed:,.0f} s")
        return left


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def current_exchange() -> Exchange | None:
    """Return the exchange of this thread; None outside of one."""
    return _current.get()


@contextmanager
def bounded_exchange(exchange: Exchange) -> Iterator[None]:
    """Make `exchange` that of this thread while the context lasts."""
    token = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(token)
