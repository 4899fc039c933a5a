"""Numbers, amounts and ends of a job in words."""

import time
from typing import Any

import pytest

from batcher.core.forecast import Forecast
from batcher.views.forecast import describe_expected_end
from batcher.views.sheet import format_count, format_usd_column
from tests.support.status_kit import NOW, build_status

HOUR = 3_600.0


def test_a_count_has_its_plural() -> None:
    assert [format_count(n, "shard") for n in (0, 1, 1_824)] == ["0 shards", "1 shard", "1,824 shards"]
    assert format_count(2, "batch", "batches") == "2 batches"


def test_amounts_below_each_other_are_equally_fine() -> None:
    assert format_usd_column([0.0058, 0.000034, 0.0, None]) == ["$0.005800", "$0.000034", "$0", "price unknown"]
    assert format_usd_column([12.5, 3.0]) == ["$12.50", "$3.00"]
    assert format_usd_column([0.0, None]) == ["$0", "price unknown"]


@pytest.mark.parametrize(
    ("deadline_s", "waits_for", "told"),
    [
        (
            48 * HOUR,
            "",
            "Done about 17:33 UTC today (14:33 at best, tomorrow 13:33 at worst; a guess until the first batch has",
        ),
        (2 * HOUR, "", ": probably MISSED."),
        (0.5 * HOUR, "", ": MISSED."),
        (-HOUR, "", "The deadline was 1 h ago."),
        (48 * HOUR, "`batcher resume`", "End: not before `batcher resume`; from then on in 4 h (1 h at best, 24 h at"),
    ],
)
def test_the_end_is_a_time_on_the_clock(
    monkeypatch: pytest.MonkeyPatch, deadline_s: float, waits_for: str, told: str
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    changes: dict[str, Any] = {"best_s": HOUR, "expected_s": 4 * HOUR, "worst_s": 24 * HOUR}
    expectation = build_status().expectation
    view: Forecast = expectation.forecast._replace(**changes)
    at = expectation._replace(forecast=view, deadline_s=deadline_s, waits_for=waits_for)
    sentence = describe_expected_end(at)[0]
    assert told in sentence, sentence
    assert at.now == NOW
