"""What lines that are still to be sent may cost: thinking, long requests, and what is written to the cache."""

from pathlib import Path

import pytest

from batcher.catalog.prices import resolve_prices
from batcher.config.sections import Config
from batcher.core.forecast import RemainingWork
from batcher.core.model import CacheMode, Endpoint, JobVersion
from batcher.core.room import FEWEST_MEASURED, MeasuredUsage, Room
from batcher.state.reports.expectation import CostForecast, build_expectation
from batcher.state.reports.outlook import OpenLines, Outlook
from batcher.state.versions import load_open_lines
from tests.support.world import World, write_table

MODEL = "gpt-6-luna"
VERSION = JobVersion("bios", MODEL, Endpoint.CHAT, 4_000, "Write.", "{name}", {}, "bio")
ROOM = Room(limit=1_000_000, threshold=0.8, factor=1.1)


def forecast(*open_lines: OpenLines, measured: MeasuredUsage | None = None) -> CostForecast:
    view = Outlook(ROOM, RemainingWork(ROOM.ceiling), (), measured or MeasuredUsage(), open_lines, 0.0, 0.0, "", 0.0)
    return build_expectation(view, Config(), resolve_prices, 0.0).dollars


def rates() -> tuple[float, float, float]:
    """Return the dollars of a token of input, of input written to the cache, and of output, in a batch."""
    prices = resolve_prices(MODEL)
    assert prices is not None
    return prices.batch.input, prices.batch.written, prices.batch.output


def test_the_most_counts_all_input_as_written_and_all_output_as_used() -> None:
    _, written, output = rates()
    assert forecast(OpenLines(VERSION, 10, 6_000, 700)).most == pytest.approx(6_600 * written + 40_000 * output)


def test_long_lines_cost_as_long_ones() -> None:
    plain, written, output = rates()
    long = OpenLines(VERSION, 2, 600_000, 300_000)
    assert forecast(long).most == pytest.approx(660_000 * written * 2 + 8_000 * output * 1.5)
    short = OpenLines(VERSION, 10, 6_000, 700)
    both, alone = forecast(short, long), forecast(short)
    assert both.most == pytest.approx((forecast(long).most or 0) + (alone.most or 0))
    assert (both.expected or 0) - (alone.expected or 0) > 600_000 * plain * 2


def test_before_anything_is_measured_room_for_thinking_is_not_taken_for_used() -> None:
    plain, _, output = rates()
    lines = OpenLines(VERSION, 100, 60_000, 700)
    assumed = forecast(lines)
    assert assumed.best == pytest.approx(60_000 * plain + 100 * (0.25 * 600 + 0.05 * 3_400) * output)
    assert assumed.expected == pytest.approx(60_000 * plain + 100 * (0.5 * 600 + 0.25 * 3_400) * output)
    silent = VERSION._replace(parameters={"reasoning_effort": "none"})
    assert forecast(lines._replace(version=silent)).expected == pytest.approx(60_000 * plain + 100 * 2_000 * output)


def test_what_was_measured_counts_what_was_written_and_thought() -> None:
    plain, written, output = rates()
    seen = MeasuredUsage(
        FEWEST_MEASURED, counted=120_000, input=120_000, output=FEWEST_MEASURED * 900, written=60_000, reasoning=150_000
    )
    told = forecast(OpenLines(VERSION, 100, 60_000, 700), measured=seen)
    assert told.expected == pytest.approx(30_000 * plain + 30_000 * written + 100 * 900 * output)


def test_a_version_that_writes_nothing_to_the_cache_is_bounded_by_plain_input() -> None:
    plain, _, output = rates()
    silent = VERSION._replace(cache=CacheMode.EXPLICIT)
    assert forecast(OpenLines(silent, 10, 6_000, 700)).most == pytest.approx(6_600 * plain + 40_000 * output)


def test_before_anything_is_measured_a_breakpoint_is_written_once_a_key_and_read() -> None:
    plain, written, _ = rates()
    prices = resolve_prices(MODEL)
    assert prices is not None
    marked = VERSION._replace(cache=CacheMode.BREAKPOINT)
    told = forecast(OpenLines(marked, 1_000, 1_600_000, 1_700, prefix=1_500))
    paid = 100_000 * plain + 1_500 * (16 * written + 984 * prices.batch.cached)
    assert told.input == pytest.approx(paid)
    assert told.cache_saved == pytest.approx(1_600_000 * plain - paid)
    whole = forecast(OpenLines(VERSION, 1_000, 1_600_000, 1_700))
    assert whole.input == pytest.approx(1_600_000 * plain)
    assert whole.cache_saved == 0
    for name in ("best", "expected"):
        assert getattr(whole, name) - getattr(told, name) == pytest.approx(told.cache_saved)
    assert told.most == whole.most  # all may be written


def test_lines_of_one_version_are_told_apart_by_their_length(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.plan(write_table(tmp_path / "artists.csv", 5, (1,)))
    with world.store.transaction("test") as tx:
        tx.con.execute("UPDATE artists SET tokens = CASE WHEN artist_id < 'a00002' THEN 300000 ELSE 600 END")
        assert load_open_lines(tx) == [(1, 5, 601_800, 300_000)]
        assert load_open_lines(tx, 272_000 / 1.1) == [(1, 3, 1_800, 600), (1, 2, 600_000, 300_000)]
