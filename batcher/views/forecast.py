"""The forecast in words."""

from batcher.state.reports.expectation import Expectation
from batcher.views.moments import format_clock, localize
from batcher.views.sheet import format_count, format_duration


def describe_expected_end(expectation: Expectation) -> list[str]:
    """Return the expected end against the deadline, what the forecast rests on, and what would help."""
    view = expectation.forecast
    basis = (
        f"from {format_count(view.measured, 'batch that has ended', 'batches that have ended')}"
        if view.measured
        else "a guess until the first batch has ended"
    )
    end = f"{_describe_end(expectation, basis)}. {_describe_deadline(expectation)}."
    advice = [f"To be in time: {'; or '.join(expectation.advice)}."] if expectation.advice else []
    return [end, *advice]


def _describe_end(expectation: Expectation, basis: str) -> str:
    view, now = expectation.forecast, expectation.now
    if expectation.waits_for:
        return (
            f"End: not before {expectation.waits_for}; from then on in {format_duration(view.expected_s)} "
            f"({format_duration(view.best_s)} at best, {format_duration(view.worst_s)} at worst; {basis})"
        )
    best, worst = (format_clock(now + seconds, now).removesuffix(" today") for seconds in (view.best_s, view.worst_s))
    expected = format_clock(now + view.expected_s, now)
    clock, today = expected.removesuffix(" today"), " today" if expected.endswith(" today") else ""
    return f"Done about {clock} {localize(now):%Z}{today} ({best} at best, {worst} at worst; {basis})"


def _describe_deadline(expectation: Expectation) -> str:
    view, deadline_s = expectation.forecast, expectation.deadline_s
    if deadline_s <= 0:
        return f"The deadline was {format_duration(-deadline_s)} ago"
    when = f"Deadline {format_clock(expectation.now + deadline_s, expectation.now)}"
    if view.worst_s <= deadline_s:
        return f"{when}: met"
    if view.expected_s <= deadline_s:
        return f"{when}: probably met"
    return f"{when}: probably MISSED" if view.best_s <= deadline_s else f"{when}: MISSED"
