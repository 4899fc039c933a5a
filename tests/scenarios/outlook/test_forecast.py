"""The forecast: what is assumed, what ended batches correct, and what would help before a deadline."""

from pathlib import Path
from unittest import mock

import pytest

from batcher.catalog.limits import lookup_tier_limit
from batcher.catalog.prices import resolve_prices
from batcher.core.actions import Finish
from batcher.core.forecast import RemainingWork, compute_forecast
from batcher.core.room import FEWEST_MEASURED, MeasuredUsage, Room
from batcher.state import facts
from batcher.state.reports.expectation import build_expectation
from batcher.state.reports.outlook import Outlook
from batcher.state.snapshot import load_budget, load_room
from tests.support.outlook_kit import LINES, MODEL, expectation, outlook, settings_with, status_text, world
from tests.support.protocol_kit import HOUR
from tests.support.world import config_with, write_table

pytestmark = pytest.mark.slow("forecasts while whole jobs run")


def test_a_measured_ratio_is_believed_from_enough_lines_and_within_bounds() -> None:
    assert MeasuredUsage(executed=FEWEST_MEASURED - 1, counted=100, input=150).token_ratio == 1.0
    assert MeasuredUsage(executed=FEWEST_MEASURED, counted=100, input=150).token_ratio == 1.5
    assert MeasuredUsage(executed=FEWEST_MEASURED, counted=100, input=450).token_ratio == 4.5
    assert MeasuredUsage(executed=FEWEST_MEASURED, counted=100, input=5_000).token_ratio == 10.0
    assert MeasuredUsage(executed=FEWEST_MEASURED, counted=100, input=1).token_ratio == 0.5
    assert MeasuredUsage(executed=FEWEST_MEASURED, counted=0, input=100).token_ratio == 1.0
    assert MeasuredUsage(again=3, decided=100).retry_share == 0.03
    assert MeasuredUsage().retry_share == 0.0


def test_a_ratio_that_is_not_believed_is_shown_with_what_is_taken_for_it(tmp_path: Path) -> None:
    job = world(tmp_path, 60)
    job.act(once=True)
    with job.store.transaction("test") as tx:
        tx.con.execute("UPDATE batches SET settled_at = 1, executed = 500, counted_tokens = 1000, used_input = 300")
    assert "the input has 0.30 tokens for each counted one (taken as 0.5); " in status_text(job)


def test_before_anything_has_ended_it_is_said_what_is_assumed(tmp_path: Path) -> None:
    job = world(tmp_path)
    view = expectation(job)
    assert view.forecast.measured == 0
    assert (view.forecast.best_s, view.forecast.expected_s, view.forecast.worst_s) == (HOUR, 4 * HOUR, 24 * HOUR)
    assert view.deadline_s == 168 * HOUR
    assert not view.advice
    money = view.dollars
    assert money.best is not None and money.expected is not None and money.most is not None
    assert 0 < money.best < money.expected < money.most
    assert money.standard == pytest.approx(2 * money.expected)


def test_what_has_ended_corrects_tokens_answers_and_failures(tmp_path: Path) -> None:
    job = world(tmp_path, line_failures={"server": 0.1})
    prices = resolve_prices(MODEL)
    with job.store.read_transaction() as tx:
        before = load_room(tx, job.config).factor
    assert before == pytest.approx(1.1)
    assert job.act() == Finish()
    view = outlook(job)
    rows = job.rows(
        "SELECT sum(t.tokens_input), sum(a.tokens), sum(t.tokens_output), count(*) "
        "FROM attempts AS t JOIN artists AS a USING (artist_id) WHERE t.tokens_input > 0"
    )
    used, counted, out, executed = (int(str(n)) for n in rows[0])
    seen = view.measured
    assert (seen.input, seen.counted, seen.output, seen.executed) == (used, counted, out, executed)
    assert seen.executed == LINES
    assert seen.token_ratio == pytest.approx(used / counted)
    failed = len(job.rows("SELECT 1 FROM attempts WHERE outcome = 'server'"))
    assert failed > 0
    assert (seen.again, seen.decided) == (failed, LINES + failed)
    with job.store.read_transaction() as tx:
        assert load_room(tx, job.config).factor == pytest.approx(1.1 * used / counted)
        limited = config_with(budget={"max_usd": 5.0})
        assert prices is not None
        charge = load_budget(tx, limited, resolve_prices, load_room(tx, limited)).charges[1]
        assert charge.usd_per_token == pytest.approx(prices.batch.written * 1.1 * used / counted)


def test_a_new_prompt_is_measured_anew(tmp_path: Path) -> None:
    job = world(tmp_path)
    job.act()
    assert outlook(job).measured.has_enough_lines
    table = write_table(tmp_path / "artists.csv", LINES + 60, (1, 2))
    job.config = settings_with(model={"max_output_tokens": 500})
    job.plan(table, replan=True)
    assert outlook(job).measured == MeasuredUsage()


def test_service_times_of_earlier_batches_replace_the_assumptions(tmp_path: Path) -> None:
    job = world(tmp_path)
    job.act()
    job.plan(write_table(tmp_path / "artists.csv", LINES + 60, (1, 2)))
    view = expectation(job)
    assert view.forecast.measured == 4
    took = [float(str(row[0])) for row in job.rows("SELECT finished_at - created_at FROM batches")]
    assert 0.3 * min(took) < view.forecast.best_s < view.forecast.worst_s < 3 * max(took)


def test_an_end_that_waits_for_a_person_is_told_as_such(tmp_path: Path) -> None:
    job = world(tmp_path)
    with job.store.transaction("pause") as tx:
        tx.fetch_all("insert_pause", scope="all", reason="quota", until=tx.now + 10 * HOUR, tries=0, now=tx.now)
    assert expectation(job).forecast.best_s == HOUR  # nobody knows when credit is added; a next try is no end of it
    assert "End: not before credit is added; from then on in" in status_text(job)
    with job.store.transaction("pause") as tx:
        tx.fetch_all("end_pauses", reasons=None, now=tx.now)
        tx.fetch_all("insert_pause", scope="all", reason="by hand", until=None, tries=0, now=tx.now)
    assert expectation(job).waits_for == "`batcher resume`"
    assert "End: not before `batcher resume`; from then on in" in status_text(job)
    with job.store.transaction("stop") as tx:
        facts.stop_sending(tx, "the service refuses us: no")
    assert "End: not before what has stopped it is fixed; from then on in" in status_text(job)


def test_a_pause_that_ends_by_itself_moves_the_end(tmp_path: Path) -> None:
    job = world(tmp_path)
    with job.store.transaction("pause") as tx:
        tx.fetch_all("insert_pause", scope="all", reason="rate limit", until=tx.now + 10 * HOUR, tries=0, now=tx.now)
    assert expectation(job).forecast.best_s == 11 * HOUR


def test_what_would_help_is_told_where_the_deadline_is_near(tmp_path: Path) -> None:
    config = settings_with({"enqueued_tokens": 60_000}, deadline={"hours": 5})
    job = world(tmp_path, LINES, config)
    view = expectation(job)
    assert view.forecast.expected_s > 5 * HOUR
    assert "usage tier 4 (a limit of 1,000,000,000 enqueued tokens) would do" in view.advice
    assert any("60 most urgent" in line or "most urgent of the 240 open lines" in line for line in view.advice)
    assert any("`batcher direct --unreleased --workers 2` for" in line for line in view.advice)
    assert "To be in time: " in status_text(job)
    job.config = settings_with(deadline={"hours": 0.1})
    assert expectation(job).advice == ["`batcher direct --unreleased --workers 2` for 240 lines, at the standard price"]
    job.config = settings_with(deadline={"hours": 0.005})  # 18 s: 16 workers do 216 lines
    assert expectation(job).advice == ["a later [deadline], or fewer artists"]
    with job.store.transaction("measure") as tx:
        tx.write_fact("direct_per_worker_s", 1.0)
    assert expectation(job).advice == [
        "`batcher direct --unreleased --workers 14` for 240 lines, at the standard price"
    ]
    job.clock.sleep(HOUR)
    assert expectation(job).deadline_s == pytest.approx(0.005 * HOUR - HOUR)
    assert "The deadline was 1 h ago." in status_text(job)


@pytest.mark.parametrize("hours", [0.5, 3.9, 4.1, 20])
def test_the_least_tier_that_would_do_is_found_with_three_forecasts_at_most(hours: float) -> None:
    room = int(0.8 * table_limits(1))
    load = RemainingWork(ceiling=room, shards=[(room // 4, 10)] * 160)
    view = Outlook(Room(1, 0.8, 1.0), load, (), MeasuredUsage(), [], 0.0, 0.0, "", 0.0)
    config = config_with(limits={"tier": 1}, deadline={"hours": hours})
    with mock.patch("batcher.state.reports.expectation.compute_forecast", side_effect=compute_forecast) as asked:
        told = build_expectation(view, config, resolve_prices, 0.0).advice
    assert asked.call_count <= 4
    fits = [tier for tier in range(2, 6) if in_time(load, tier, hours)]
    assert [line for line in told if line.startswith("usage tier")] == [
        f"usage tier {tier} (a limit of {table_limits(tier):,} enqueued tokens) would do" for tier in fits[:1]
    ]


def table_limits(tier: int) -> int:
    limit = lookup_tier_limit(MODEL, tier)
    assert limit is not None
    return limit


def in_time(load: RemainingWork, tier: int, hours: float) -> bool:
    return compute_forecast(load._replace(ceiling=int(0.8 * table_limits(tier)))).expected_s <= hours * HOUR
