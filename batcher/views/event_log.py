"""The events of a lane as sentences of the log, each with its level."""

import logging
from collections.abc import Callable

from batcher.core import events
from batcher.nouns import current_nouns
from batcher.views.events import format_event
from batcher.views.sheet import format_count

PROGRESS_EVERY_S = 300.0
"""Seconds between two lines about the progress of lines."""
WARNINGS = (
    events.UploadRepeated,
    events.StrayFound,
    events.ListingUnclear,
    events.CreateGivenUp,
    events.ShardRefused,
    events.LinesParked,
    events.CallFailed,
    events.RateLimitLow,
)
"""The events that are logged as warnings."""


class EventLog:
    """Writes the events of a lane into the log; progress now and then, a wait where its reason is another one.

    write: is called with a level of Python's logging and a sentence. clock: counts seconds, from any start.
    """

    def __init__(self, write: Callable[[int, str], None], clock: Callable[[], float]) -> None:
        self._write, self._clock = write, clock
        self._told_at = clock()
        self._bios = 0
        self._reason = ""

    def record_event(self, event: events.Event) -> None:
        """Write the line of an event."""
        match event:
            case events.LinesProgressed(done, lines, running):
                batches = format_count(running, "batch", "batches")
                self._report_progress(f"{done:,} of {lines:,} released lines done, {batches} running")
            case events.AnswersRecorded(bios):
                self._bios += bios
                self._report_progress(f"{current_nouns().count_answers(self._bios)} of direct calls")
            case events.BytesSent():
                pass
            case events.WaitStarted(reason=reason):
                if reason != self._reason:
                    self._reason = reason
                    self._write(logging.INFO, f"waiting: {reason}")
            case _:
                self._write(logging.WARNING if isinstance(event, WARNINGS) else logging.INFO, format_event(event))

    def _report_progress(self, sentence: str) -> None:
        if self._clock() - self._told_at >= PROGRESS_EVERY_S:
            self._told_at = self._clock()
            self._write(logging.INFO, sentence)
