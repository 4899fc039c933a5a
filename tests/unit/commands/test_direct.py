"""Which lines `direct` is for: without a filter those that were released."""

import pytest

from batcher.commands.sending.direct import DirectOptions, _describe_selection
from batcher.config.sections import DirectSection
from batcher.core.failures import FailureClass
from batcher.lanes.direct.ready_lines import SelectionWeight


@pytest.mark.parametrize(
    ("options", "unreleased"),
    [
        (DirectOptions(), False),
        (DirectOptions(unreleased=True), True),
        (DirectOptions(priority=1), True),
        (DirectOptions(limit=20), True),
    ],
)
def test_a_filter_names_lines_whether_they_were_released_or_not(options: DirectOptions, unreleased: bool) -> None:
    selection = options.build_selection(None)
    assert (selection.priority, selection.max_lines, selection.unreleased) == (
        options.priority, options.limit, unreleased
    )  # fmt: skip


def test_a_class_is_a_filter() -> None:
    selection = DirectOptions(failure="unusable").build_selection(FailureClass.UNUSABLE)
    assert (selection.failure, selection.unreleased) == ("unusable", True)


def test_what_is_bought_and_what_is_left_out() -> None:
    auto, flex = DirectSection(flex_fallback=True), DirectSection(service_tier="flex")
    falling = DirectSection(service_tier="flex", flex_fallback=True)
    assert _describe_selection(SelectionWeight(1, 0.01), 0, auto) == "1 line at the standard price, at most $0.0100"
    assert _describe_selection(SelectionWeight(1, 0.01), 0, flex) == "1 line at the flex price, at most $0.0100"
    assert _describe_selection(SelectionWeight(1, 0.01), 0, falling) == (
        "1 line at the flex price (standard where flex refuses lines for too long), at most $0.0100"
    )
    assert _describe_selection(SelectionWeight(2, None), 1_500, auto) == (
        "2 lines at the standard price, of a price that is not known; lines that were planned and not released: 1,500 "
        "(--unreleased takes them too)"
    )
