"""Progress and events as JSON: one object a line on stdout, for a program that follows a command."""

import re
from datetime import UTC

from batcher.core.events import Event
from batcher.state.reports.status import Status, to_json
from batcher.views.live.counts import count_lines, sum_lines
from batcher.views.live.sentences import compute_end, estimate_total
from batcher.views.moments import format_iso

VERSION = 1
"""Of these objects: new fields may join within one."""
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


def progress_to_json(status: Status) -> dict[str, object]:
    """Return how far a job is: its lines by what became of them, its batches, its dollars and its expected end."""
    parts = count_lines(status.states)
    end = compute_end(status)
    return {
        "version": VERSION,
        "kind": "progress",
        "at": format_iso(status.now, UTC),
        "lines": {
            "total": sum_lines(parts),
            **{part.name.replace(" ", "_"): part.lines for part in parts},
            "done_before": status.states.get("done_before", 0),
        },
        "batches": len(status.batches),
        "reserved_tokens": status.reserved,
        "ceiling_tokens": status.ceiling,
        "spent_usd": _round_usd(status.costs.spent),
        "expected_usd": _round_usd(estimate_total(status)),
        "ends_at": None if end is None else {name: format_iso(at, UTC) for name, at in end._asdict().items()},
    }


def _round_usd(amount: float | None) -> float | None:
    return None if amount is None else round(amount, 6)


def event_to_json(event: Event, at: float, text: str) -> dict[str, object]:
    """Return an event with its fields and its sentence. at: epoch seconds."""
    fields = {name.rstrip("_"): to_json(value) for name, value in event._asdict().items()}
    name = _WORD.sub("_", type(event).__name__).lower()
    return {"version": VERSION, "kind": "event", "at": format_iso(at, UTC), "event": name, "text": text, **fields}
