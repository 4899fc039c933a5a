"""What measurements say about the room: believed from enough lines on, and within bounds."""

import pytest

from batcher.core.room import MeasuredUsage


@pytest.mark.parametrize(
    ("executed", "counted", "billed", "ratio"),
    [
        (199, 100, 150, 1.0),
        (200, 100, 150, 1.5),
        (200, 0, 150, 1.0),
        (200, 1, 3, 3.0),
        (200, 100, 1, 0.5),
        (200, 100, 50, 0.5),
        (200, 100, 1_000, 10.0),
        (200, 100, 1_100, 10.0),
    ],
)
def test_a_measured_ratio_is_believed_from_200_lines_and_within_bounds(
    executed: int, counted: int, billed: int, ratio: float
) -> None:
    assert MeasuredUsage(executed=executed, counted=counted, input=billed).token_ratio == ratio


@pytest.mark.parametrize(("some", "of", "share"), [(3, 100, 0.03), (0, 100, 0.0), (0, 0, 0.0), (1, 1, 1.0)])
def test_the_share_of_lines_that_go_again(some: int, of: int, share: float) -> None:
    assert MeasuredUsage(again=some, decided=of).retry_share == share
    assert MeasuredUsage(paid_again=some, executed=of).paid_retry_share == share
