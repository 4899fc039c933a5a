"""The forecast in words."""

from batcher.core.forecast import Forecast
from batcher.state.reports.expectation import Expectation
from batcher.views.sheet import format_duration


def describe_expected_end(expectation: Expectation) -> list[str]:
    """Return the expected end against the deadline, what the forecast rests on, and what would help."""
    view, deadline = expectation.forecast, expectation.deadline_s
    basis = (
        f"from the {view.measured} batches that have ended"
        if view.measured
        else "assuming 1, 4 and 24 h a batch until one has ended"
    )
    waits_for = expectation.waits_for
    start = f"End: not before {waits_for}; from then on" if waits_for else "End: expected"
    end = (
        f"{start} in {format_duration(view.expected_s)} ({format_duration(view.best_s)} at best, "
        f"{format_duration(view.worst_s)} at worst, {basis}): "
        f"{_describe_deadline_fit(view, deadline)}."
    )
    advice = [f"To be in time: {'; or '.join(expectation.advice)}."] if expectation.advice else []
    return [end, *advice]


def _describe_deadline_fit(view: Forecast, deadline_s: float) -> str:
    if deadline_s <= 0:
        return f"the deadline was {format_duration(-deadline_s)} ago"
    when = f"the deadline in {format_duration(deadline_s)}"
    if view.worst_s <= deadline_s:
        return f"within {when}"
    if view.expected_s <= deadline_s:
        return f"probably within {when}"
    return f"probably PAST {when}" if view.best_s <= deadline_s else f"PAST {when}"
