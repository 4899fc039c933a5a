"""Progress and events as plain values, by the contracts of `contracts/streams.py`."""

import re
from datetime import UTC

from batcher.core.events import Event, WaitStarted
from batcher.state.reports.status import Status, to_json
from batcher.views.live.counts import count_lines, sum_lines
from batcher.views.live.sentences import compute_end, estimate_total
from batcher.views.moments import format_iso

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


def progress_to_json(status: Status) -> dict[str, object]:
    """Return how far a job is: its lines by what became of them, its batches, its dollars and its expected end.

    Times are epoch seconds.
    """
    parts = count_lines(status.states)
    end = compute_end(status)
    return {
        "at": status.now,
        "lines": {
            "total": sum_lines(parts),
            **{part.name.replace(" ", "_"): part.lines for part in parts},
            "done_before": status.states.get("done_before", 0),
        },
        "batches": len(status.batches),
        "reserved_tokens": status.reserved,
        "ceiling_tokens": status.ceiling,
        "spent_usd": status.costs.spent,
        "expected_usd": estimate_total(status),
        "ends_at": None if end is None else end._asdict(),
    }


def event_to_json(event: Event, at: float, text: str) -> dict[str, object]:
    """Return an event with its fields and its sentence. at: epoch seconds."""
    fields = {name.rstrip("_"): to_json(value) for name, value in event._asdict().items()}
    if isinstance(event, WaitStarted):
        fields["until"] = format_iso(event.until, UTC)
    name = _WORD.sub("_", type(event).__name__).lower()
    return {"at": at, "event": name, "text": text, **fields}
