"""What the live view says of end, money and waits, and how a command closes."""

import json

import pytest

from batcher.contracts.streams import ProgressLine
from batcher.views.live.counts import count_lines, divide_bar, format_share
from batcher.views.live.reports import progress_to_json
from batcher.views.live.sentences import (
    compute_end,
    describe_closing,
    describe_end,
    describe_money,
    describe_progress,
    describe_waits,
    estimate_total,
)
from batcher.views.moments import format_clock, format_end_range, format_iso, format_until
from tests.support import live_kit
from tests.support.live_kit import HOUR, NOW, ZONE


def test_a_moment_is_named_from_today() -> None:
    assert format_clock(NOW, NOW, ZONE) == "21:04 today"
    assert format_clock(NOW + 20 * HOUR, NOW, ZONE) == "tomorrow 17:04"
    assert format_clock(NOW + 6 * 24 * HOUR, NOW, ZONE) == "Wed 2 Dec 21:04"
    assert format_clock(NOW + 60 * 24 * HOUR, NOW, ZONE) == "Mon 25 Jan 2027 21:04"
    assert format_until(NOW + 240, NOW, ZONE) == "in 4 min (21:08 today)"
    assert format_until(NOW - 1, NOW, ZONE) == "now"
    assert format_iso(NOW, ZONE) == "2026-11-26T21:04:42+01:00"


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        ((0.4, 1, 20), "22:04 today (21:28 to tomorrow 17:04)"),
        ((5, 6, 7), "tomorrow 03:04 (02:04 to 04:04)"),
        ((1, 6, 60), "tomorrow 03:04 (22:04 today to Sun 29 Nov 09:04)"),
        ((1, 1, 1), "22:04 today"),
    ],
)
def test_a_range_names_a_day_once(hours: tuple[float, float, float], told: str) -> None:
    best, expected, worst = (NOW + HOUR * each for each in hours)
    assert format_end_range(best, expected, worst, NOW, ZONE) == told


def test_the_end_is_told_against_the_deadline() -> None:
    told = describe_end(live_kit.early(), ZONE).text
    assert told == (
        "Done about tomorrow 02:34 (23:04 today to 17:34; a guess until the first batch has ended). "
        "Deadline Tue 1 Dec: met."
    )
    assert describe_end(live_kit.late(), ZONE).text.endswith("Deadline 22:04 today: MISSED.")
    past = live_kit.middle()
    past = past._replace(expectation=past.expectation._replace(deadline_s=-2 * HOUR))
    assert describe_end(past, ZONE).text.endswith(" PAST the deadline, which was 2 h ago.")
    assert describe_end(live_kit.paused(), ZONE).text == (
        "Not before `batcher resume`; from then on it takes about 5.5 h (2 h to 20 h)."
    )
    assert describe_end(live_kit.ended(), ZONE).text == "Nothing is in flight or waits to be sent."
    assert compute_end(live_kit.stopped()) is None


def test_money_is_told_in_all_and_against_the_budget() -> None:
    told = describe_money(live_kit.middle(), 10.0).text
    assert told == ("$1.52 spent ($0.0312 of it wasted), at most $1.10 in flight, about $4.26 in all, budget $10.00")
    assert describe_money(live_kit.middle(), 2.0).style
    assert describe_money(live_kit.early(), 0.0).text == "nothing spent yet, about $3.71 in all"
    unknown = live_kit.middle()
    unknown = unknown._replace(costs=unknown.costs._replace(spent=None))
    assert describe_money(unknown, 1.0).text == "the model's price is not known"
    assert estimate_total(unknown) is None


def test_what_is_in_flight_alone_costs_as_its_lines_have_so_far() -> None:
    status = live_kit.status_of({"done": 1_000, "in_batch": 500}, 1.0)
    status = status._replace(costs=status.costs._replace(reserved=2.0))
    assert estimate_total(status) == pytest.approx(1.5)


def test_who_waits_is_told_in_words_and_with_a_time() -> None:
    waits = [wait.text for wait in describe_waits(live_kit.middle(), NOW, ZONE)]
    assert waits == ["120 lines failed with rate_limit and are retried in 4 min (21:08 today)."]
    blocked = live_kit.middle()._replace(blocked_until=NOW + 90, waiting_lines=[])
    assert [wait.text for wait in describe_waits(blocked, NOW, ZONE)] == [
        "The service has no room for more; it is asked again in 2 min (21:06 today)."
    ]


def test_a_command_closes_with_one_line() -> None:
    assert describe_closing(live_kit.ended(), 22.3 * HOUR, ["bios.parquet", "failed.csv"]) == (
        "Done: 42,870 bios, 12 dead, 6 held, $3.71 spent, 22 h, written to bios.parquet and failed.csv."
    )
    assert describe_closing(live_kit.paused(), 3 * HOUR) == (
        "Not done: 16,240 of 42,888 bios, 0 dead, 2,000 in flight, 24,648 not sent, $1.52 spent, 3 h."
    )
    assert describe_closing(live_kit.status_of({"done": 1}, 0.01), None) == "Done: 1 bio, 0 dead, $0.0100 spent."


def test_progress_is_one_line_and_one_object() -> None:
    assert describe_progress(live_kit.middle(), ZONE) == (
        "16,240 of 42,888 lines accepted (37%), 24,000 in flight, 120 to be retried, 3 dead, 2,525 not sent, "
        "$1.52 spent, done about tomorrow 02:34"
    )
    told = json.loads(ProgressLine.model_validate(progress_to_json(live_kit.middle())).to_json())
    assert told["at"] == "2026-11-26T20:04:42Z"
    assert told["lines"] == {
        "total": 42_888, "accepted": 16_240, "in_flight": 24_000, "to_be_retried": 120, "held": 0, "dead": 3,
        "not_sent": 2_525, "done_before": 8_180,
    }  # fmt: skip
    assert told["spent_usd"] == 1.5182
    assert progress_to_json(live_kit.ended())["ends_at"] is None


def test_a_bar_has_a_cell_for_all_that_is_not_nothing() -> None:
    assert divide_bar([0, 0], 10) == [0, 0]
    assert divide_bar([1, 999_998, 1], 10) == [1, 8, 1]
    assert divide_bar([5, 5], 9) in ([4, 5], [5, 4])
    assert divide_bar([1, 1, 1], 2) == [1, 1, 0]
    for cells in range(40):
        assert sum(divide_bar([3, 0, 17, 4_000, 1], cells)) == cells


def test_a_hundred_per_cent_is_all() -> None:
    assert [format_share(*of) for of in ((99_999, 100_000), (1, 1), (0, 5), (1, 1_000), (1, 30), (0, 0))] == [
        "99%", "100%", "0%", "0.1%", "3.3%", "0%",
    ]  # fmt: skip


def test_every_artist_is_counted_once() -> None:
    states = {"done": 1, "in_batch": 2, "in_direct": 4, "waiting": 8, "held": 16, "dead": 32, "ready": 64}
    counted = count_lines({**states, "done_before": 128, "skipped": 256})
    assert [part.lines for part in counted] == [1, 6, 8, 16, 32, 64]
