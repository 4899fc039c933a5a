"""The events of a lane in words: a line on stderr, or a change of the progress display."""

from typing import assert_never

from batcher.core import events
from batcher.core.direct.pacing import RateHeaders
from batcher.nouns import current_nouns
from batcher.views.progress import Display
from batcher.views.sheet import format_count, format_size


class EventReporter:
    """Shows each event of a lane on a display."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._bios = 0

    def report_event(self, event: events.Event) -> None:
        """Print the line of an event, or move the progress display."""
        match event:
            case events.LinesProgressed(done, lines, running):
                self._display.report_progress(
                    "lines done", done, lines, f"{format_count(running, 'batch', 'batches')} running"
                )
            case events.AnswersRecorded(bios):
                self._bios += bios
                self._display.report_progress(current_nouns().answers, self._bios)
            case events.BytesSent(sent):
                self._display.update_note(f"uploading, {format_size(sent)} sent")
            case events.WaitStarted(reason=reason):
                self._display.report_waiting(reason)
            case _:
                self._display.print_event(format_event(event))


LineEvent = (
    events.UploadStarted
    | events.UploadRepeated
    | events.BatchCreated
    | events.BatchAdopted
    | events.StrayFound
    | events.BatchSearched
    | events.ListingUnclear
    | events.CreateGivenUp
    | events.BatchAbsent
    | events.CancelRequested
    | events.ShardRefused
    | events.BatchSettled
    | events.RetryShardCut
    | events.LinesParked
    | events.CallFailed
    | events.LockHeld
    | events.RateLimitsSeen
    | events.RateLimitLow
)
"""The events that are shown as a line of their own."""


def format_event(event: LineEvent) -> str:  # noqa: C901, PLR0911, PLR0912 - one line for each kind of event
    """Return the line for an event."""
    match event:
        case events.UploadStarted(shard, lines, size):
            return f"shard {shard}: uploading {format_count(lines, 'line')}, {format_size(size)}"
        case events.UploadRepeated(shard):
            return f"shard {shard}: the upload's answer was lost; uploading again"
        case events.BatchCreated(shard, batch_id):
            return f"shard {shard}: batch {batch_id} created"
        case events.BatchAdopted(shard, batch_id):
            return f"shard {shard}: batch {batch_id} found and adopted, nothing was sent again"
        case events.StrayFound(shard, batch_id):
            return f"shard {shard}: batch {batch_id} of ours was not recorded; it counts as in flight"
        case events.BatchSearched(shard):
            return f"shard {shard}: the answer was lost; looking for its batch before anything else"
        case events.ListingUnclear(reason):
            return f"{reason}; what it shows is used, and nothing counts as absent"
        case events.CreateGivenUp(shard, lines):
            return (
                f"shard {shard}: nothing shows whether its batch exists; its {format_count(lines, 'line')} are held as "
                "perhaps paid (`batcher retry --class missing` asks for them again)"
            )
        case events.BatchAbsent(shard):
            return f"shard {shard}: no batch was made of it; it is sent again"
        case events.CancelRequested(shard, batch_id):
            return f"shard {shard}: batch {batch_id} is to be cancelled"
        case events.ShardRefused(shard, reason):
            return f"shard {shard}: refused: {reason}"
        case events.BatchSettled(shard, status=status, bios=bios, failures=failures, anomalies=anomalies):
            counts = ", ".join(f"{n:,} {name}" for name, n in sorted(failures.items()))
            tail = (f"; failed: {counts}" if counts else "") + (f"; odd: {anomalies}" if anomalies else "")
            return f"shard {shard}: {status}, {current_nouns().count_answers(bios)}{tail}"
        case events.RetryShardCut(shard, priority, lines):
            return f"shard {shard}: cut from {format_count(lines, 'line')} of priority {priority} to retry"
        case events.LinesParked(reason):
            return f"some planned lines stay in no shard: {reason}"
        case events.CallFailed(call, reason):
            return f"{call}: {reason}; trying again"
        case events.LockHeld(reason):
            return reason
        case events.RateLimitsSeen(answers, headers):
            return f"after {format_count(answers, 'answer')}: {format_rate_limits(headers)}"
        case events.RateLimitLow(share):
            return f"only {share:.0%} of a rate limit is left; slowing down"
        case _:
            assert_never(event)


def format_rate_limits(headers: RateHeaders) -> str:
    """Return the rate limits of an answer's headers, in words."""
    limits = (("requests", headers.requests), ("tokens", headers.tokens), ("project tokens", headers.project_tokens))
    parts = [f"{limit.remaining:,} of {limit.limit:,} {name} left" for name, limit in limits if limit is not None]
    return ", ".join(parts) or "no limits named"
