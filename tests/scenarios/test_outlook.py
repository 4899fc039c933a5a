"""What a job learns of itself, and what follows: the ratio, the money, the forecast, and what would help."""

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from unittest import mock

import orjson
import pytest
from rich.console import Console

from batcher.catalog.limits import lookup_tier_limit
from batcher.catalog.prices import ModelPrices, PriceOf, TokenRates, resolve_prices
from batcher.config import Config
from batcher.core.actions import Finish
from batcher.core.forecast import RemainingWork, compute_forecast
from batcher.core.room import FEWEST_MEASURED, MeasuredUsage, Room
from batcher.errors import ConfigError
from batcher.plan.checks import check_sending
from batcher.sandbox import Faults, SandboxSettings, apply_changes
from batcher.state import facts
from batcher.state.costs import Costs, load_spending, sum_costs
from batcher.state.db.transaction import Transaction
from batcher.state.reports.expectation import Expectation, build_expectation
from batcher.state.reports.outlook import REFUSED_FOR_S, Outlook, load_outlook
from batcher.state.reports.status import Status, read_artist, read_status
from batcher.state.snapshot import LEARNED_FOR_S, load_budget, load_room, load_saved_prices, load_snapshot
from batcher.views.sheet import format_usd
from batcher.views.status import draw_status
from tests.support.world import World, config_with, write_table

pytestmark = pytest.mark.slow("forecasts while whole jobs run")

HOUR = 3600.0
LINES = 240
MODEL = "gpt-6-luna"


def settings_with(limits: Mapping[str, object] | None = None, **sections: Mapping[str, object]) -> Config:
    return config_with(limits={"lines_per_shard": 60, **(limits or {})}, poll={"interval_s": 1_800}, **sections)


def world(folder: Path, lines: int = LINES, config: Config | None = None, **faults: object) -> World:
    settings = apply_changes(SandboxSettings(), {"faults": apply_changes(Faults(), faults)})
    made = World(folder, settings, config or settings_with())
    made.plan(write_table(folder / "artists.csv", lines, (1, 2)))
    made.release()
    return made


def outlook(job: World) -> Outlook:
    with job.store.read_transaction() as tx:
        return load_outlook(tx, job.config)


def expectation(job: World) -> Expectation:
    return build_expectation(outlook(job), job.config, resolve_prices, job.clock.now)


def status(job: World, price_of: PriceOf = resolve_prices) -> Status:
    with job.store.read_transaction() as tx:
        return read_status(tx, job.config, price_of)


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
    assert "0.300 tokens for each counted one (taken as 0.5), " in _text(job)


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


def known(dollars: float | None) -> float:
    assert dollars is not None
    return dollars


def test_money_is_told_whole_of_the_job_its_shards_and_its_artists(tmp_path: Path) -> None:
    lines = 60
    job = world(tmp_path, lines, settings_with({"lines_per_shard": 15}), line_failures={"refusal": 0.2})
    job.act(once=True)
    flying = status(job)
    assert flying.costs.spent == 0
    reserved = float(str(job.rows("SELECT sum(reserved_usd) FROM submissions")[0][0]))
    assert flying.costs.reserved == pytest.approx(reserved)
    with job.store.read_transaction() as tx:
        assert flying.costs.reserved == pytest.approx(load_spending(tx).in_flight_usd)
    assert reserved > 0
    assert sum(known(one(job, f"a{n:05d}").reserved) for n in range(lines)) == pytest.approx(reserved)
    job.act()
    costs, by_shard = status(job).costs, status(job).shard_costs
    assert costs.reserved == 0
    assert costs.saved == pytest.approx(costs.spent)
    assert 0 < known(costs.wasted) < known(costs.spent)
    assert [row.shard for row in by_shard] == sorted(row.shard or 0 for row in by_shard)
    assert sum_costs(by_shard) == costs
    assert costs.bios == lines
    assert "Money by shard" in _text(job)
    of_bios = float(str(job.rows("SELECT sum(cost_usd) FROM bios")[0][0]))
    assert of_bios == pytest.approx(known(costs.spent) - known(costs.wasted))
    refused = str(job.rows("SELECT min(artist_id) FROM attempts WHERE code = 'refusal'")[0][0])
    paid = job.rows(f"SELECT sum(cost_usd), min(cost_usd), count(*) FROM attempts WHERE artist_id = '{refused}'")
    spent, tries = float(str(paid[0][0])), int(str(paid[0][2]))
    assert tries == 2
    assert one(job, refused).spent == pytest.approx(spent)
    assert 0 < known(one(job, refused).wasted) < spent
    assert one(job, refused).saved == pytest.approx(spent)


def one(job: World, artist_id: str) -> Costs:
    with job.store.read_transaction() as tx:
        shown = read_artist(tx, artist_id, resolve_prices)
    assert shown is not None
    return shown.costs


def test_what_is_not_known_of_one_shard_is_not_known_of_the_job() -> None:
    some = Costs(1, 3, 0.5, 1.0, 0.25, 1.0)
    assert sum_costs([some, some]) == Costs(None, 6, 1.0, 2.0, 0.5, 2.0)
    assert sum_costs([some, Costs(2, 1, None, None, None, None)]) == Costs(None, 4, None, None, None, None)
    assert sum_costs([]) == Costs(None, 0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("dollars", "told"),
    [
        (None, "price unknown"), (0.0, "$0.00"), (0.00003, "$0.000030"), (0.0005, "$0.000500"), (0.0123, "$0.0123"),
        (1234.5, "$1,234.50"),
    ],
)  # fmt: skip
def test_dollars_are_told_so_that_little_is_not_nothing(dollars: float | None, told: str) -> None:
    assert format_usd(dollars) == told


def test_a_price_that_is_not_known_is_no_zero(tmp_path: Path) -> None:
    job = world(tmp_path)
    told = " ".join(_text(job, unpriced).split())
    assert "Spent $0.00" in told and "the price of what is to come is not known" in told
    with mock.patch("tests.support.world.resolve_prices", unpriced):
        job.act(once=True)
        assert "what is spent, saved, wasted and reserved is not known" in " ".join(_text(job, unpriced).split())
        assert status(job).costs.reserved is None
        assert job.act() == Finish()
    seen = status(job, unpriced)
    assert (seen.costs.spent, seen.costs.wasted, seen.costs.saved) == (None, None, None)
    assert seen.costs.bios == LINES
    assert "Spent" not in _text(job, unpriced)
    assert one(job, "a00000").spent is None


def unpriced(_model: str) -> None:
    """Return None: no price is known."""


def test_a_line_costs_what_it_was_planned_with(tmp_path: Path) -> None:
    job = world(tmp_path)
    before, planned = expectation(job).dollars, outlook(job)
    job.config = settings_with(model={"max_output_tokens": 60}, budget={"max_usd": 50})
    assert expectation(job).dollars == before
    job.act(once=True)
    prices = resolve_prices(MODEL)
    assert prices is not None
    at_most = planned.open_token_count * 1.1 * prices.batch.written + LINES * 600 * prices.batch.output
    assert before.most == pytest.approx(at_most)
    rows = job.rows("SELECT reserved_usd, tokens, lines FROM submissions")
    for reserved, tokens, lines in [(float(str(r)), int(str(t)), int(str(n))) for r, t, n in rows]:
        assert reserved == pytest.approx(tokens * 1.1 * prices.batch.written + lines * 600 * prices.batch.output)
    assert sum(float(str(row[0])) for row in rows) == pytest.approx(before.most)


def test_what_was_planned_for_another_model_is_not_sent(tmp_path: Path) -> None:
    job = world(tmp_path)
    with job.store.read_transaction() as tx:
        check_sending(tx, job.config, job.job, resolve_prices)
        other = settings_with(model={"name": "gpt-5-mini"})
        with pytest.raises(ConfigError, match=r"240 unsent lines in 4 shards were planned with another \[model\] name"):
            check_sending(tx, other, job.job, resolve_prices)
    job.act(once=True)
    with job.store.read_transaction() as tx:
        check_sending(tx, other, job.job, resolve_prices)
        with pytest.raises(ConfigError, match="the price of gpt-6-luna is not known; set it to 0"):
            check_sending(tx, settings_with(budget={"max_usd": 1}), job.job, unpriced)


@pytest.mark.parametrize(("failing", "paid"), [("server", False), ("refusal", True)])
def test_only_failures_that_are_billed_cost_anything(tmp_path: Path, failing: str, paid: bool) -> None:
    job = world(tmp_path, line_failures={failing: 0.2})
    job.act()
    job.plan(write_table(tmp_path / "artists.csv", 2 * LINES, (1, 2)))
    seen = outlook(job)
    failed = len(job.rows("SELECT 1 FROM attempts WHERE outcome <> 'bio'"))
    assert seen.measured.retry_share > 0.1
    assert seen.measured.paid_again == (failed if paid else 0)
    spent = float(str(job.rows("SELECT sum(cost_usd) FROM attempts")[0][0]))
    assert known(expectation(job).dollars.expected) == pytest.approx(spent, rel=0.1)


def test_a_pause_moves_the_end_and_one_by_hand_waits_for_the_user(tmp_path: Path) -> None:
    job = world(tmp_path)
    with job.store.transaction("pause") as tx:
        tx.fetch_all("insert_pause", scope="all", reason="quota", until=tx.now + 10 * HOUR, tries=0, now=tx.now)
    assert expectation(job).forecast.best_s == 11 * HOUR
    with job.store.transaction("pause") as tx:
        tx.fetch_all("insert_pause", scope="all", reason="by hand", until=None, tries=0, now=tx.now)
    view = expectation(job)
    assert view.waits_for_user
    assert "After `batcher resume` it ends in" in _text(job)


def test_a_refusal_tells_how_much_room_others_leave(tmp_path: Path) -> None:
    config = settings_with({"lines_per_shard": 30, "enqueued_tokens": 100_000})
    job = world(tmp_path, LINES, config)
    job.sandbox.update_settings({"enqueued_tokens": 100_000, "phantom_tokens": 60_000})
    job.act(once=True)
    job.clock.sleep(60)
    job.act(once=True)
    refused = job.rows("SELECT reserved, limit_tokens FROM quota_samples WHERE source = 'refusal'")
    assert refused
    reserved, named = refused[-1]
    told = f"Refused for the limit {len(refused)} times, last at"
    assert told in _text(job)
    assert f"with {reserved:,} tokens reserved; it named a limit of {named:,}." in _text(job)
    sent = job.rows(
        "SELECT intended_at, limit_tokens, reserved_before, reserved, headroom_after, shard "
        "FROM submissions ORDER BY ALL"
    )
    samples = "SELECT happened_at, limit_tokens, reserved, own, headroom, shard FROM quota_samples"
    assert job.rows(f"{samples} WHERE source = 'submission' AND model = '{MODEL}' ORDER BY ALL") == sent
    assert [row.source for row in status(job).quota].count("submission") == len(sent)
    assert len(status(job).quota) == len(sent) + len(refused)
    view = outlook(job)
    assert view.load.ceiling < int(view.room.limit * view.room.threshold)
    assert view.load.ceiling >= view.room.reserved
    job.clock.sleep(REFUSED_FOR_S + LEARNED_FOR_S)
    later = outlook(job)
    assert later.load.ceiling == int(later.room.limit * later.room.threshold)


def test_what_would_help_is_told_where_the_deadline_is_near(tmp_path: Path) -> None:
    config = settings_with({"enqueued_tokens": 60_000}, deadline={"hours": 5})
    job = world(tmp_path, LINES, config)
    view = expectation(job)
    assert view.forecast.expected_s > 5 * HOUR
    assert "usage tier 4 (a limit of 1,000,000,000 enqueued tokens) would do" in view.advice
    assert any("60 most urgent" in line or "most urgent of the 240 open lines" in line for line in view.advice)
    assert any("`batcher direct --unreleased --workers 2` for" in line for line in view.advice)
    assert "To be in time: " in _text(job)
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
    assert "the deadline was 1 h ago" in _text(job)


@pytest.mark.parametrize("hours", [0.5, 3.9, 4.1, 20])
def test_the_least_tier_that_would_do_is_found_with_three_forecasts_at_most(hours: float) -> None:
    room = int(0.8 * table_limits(1))
    load = RemainingWork(ceiling=room, shards=[(room // 4, 10)] * 160)
    view = Outlook(Room(1, 0.8, 1.0), load, (), MeasuredUsage(), [], 0.0, 0.0, False, 0.0)
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


def _text(job: World, price_of: PriceOf = resolve_prices) -> str:
    told = StringIO()
    Console(width=200, file=told).print(draw_status(status(job, price_of)))
    return told.getvalue()


def test_an_answer_that_was_cut_off_goes_again_with_more_room(tmp_path: Path) -> None:
    config = settings_with(retry={"more_room": 900}, budget={"max_usd": 50})
    job = world(tmp_path, 60, config, line_failures={"length": 0.3})
    assert job.act() == Finish()
    cut = job.rows("SELECT DISTINCT artist_id FROM attempts WHERE code = 'length'")
    assert 0 < len(cut) < 60
    assert job.states() == {"done": 60}
    wide = job.rows("SELECT DISTINCT s.shard FROM shards AS s JOIN versions AS v USING (version) WHERE s.retry")
    for (shard,) in wide:
        lines = (job.store.folder / "shards" / f"shard-{int(str(shard)):05d}.jsonl").read_bytes().splitlines()
        assert all(b'"max_completion_tokens":900' in line for line in lines)
    assert outlook(job).measured.executed == 60 + len(cut)
    assert job.rows("SELECT count(*) FROM artists WHERE version = 2") == [(len(cut),)]


def test_without_the_setting_it_goes_again_as_it_was(tmp_path: Path) -> None:
    job = world(tmp_path, 60, None, line_failures={"length": 0.3})
    assert job.act() == Finish()
    assert job.rows("SELECT max(version) FROM artists") == [(1,)]
    assert job.states() == {"done": 60}


@pytest.mark.parametrize("lines", [4, 15])
def test_a_small_first_trial_that_is_refused_whole_stops_and_nothing_is_dead(tmp_path: Path, lines: int) -> None:
    job = world(tmp_path, lines, settings_with({"lines_per_shard": 20}), line_failures={"context_length": 1.0})
    ended = job.act()
    assert isinstance(ended, Finish) and "lines were refused (context_length_exceeded)" in ended.problem
    assert "dead" not in job.states()


def test_a_probe_does_not_wait_for_what_was_sent_before_the_pause(tmp_path: Path) -> None:
    job = world(tmp_path, 120)
    job.act(once=True)
    with job.store.transaction("pause") as tx:
        tx.fetch_all("insert_pause", scope="all", reason="quota", until=tx.now + 60, tries=0, now=tx.now)
    job.plan(write_table(tmp_path / "artists.csv", 240, (1, 2)))
    job.release()
    before = len(job.sandbox.lifecycle.batches)
    job.clock.sleep(61)
    job.act(once=True)
    assert len(job.sandbox.lifecycle.batches) == before + 1


def test_a_batch_that_was_given_up_stays_in_the_budget(tmp_path: Path) -> None:
    job = world(tmp_path, 60, None, stuck_finalizing_s=1e7)
    assert job.act() == Finish()
    assert job.states() == {"held": 60}
    assert known(status(job).costs.reserved) > 0


def test_reservations_of_a_ratio_that_was_too_low_are_raised(tmp_path: Path) -> None:
    job = world(tmp_path, 60)
    job.act(once=True)
    with job.store.read_transaction() as tx:
        before = load_room(tx, job.config).reserved
    with job.store.transaction("test") as tx:
        tx.con.execute("UPDATE batches SET settled_at = 1, executed = 500, counted_tokens = 1000, used_input = 1500")
        after = load_room(tx, job.config).reserved
    assert after == pytest.approx(1.5 * before, rel=0.001)


def test_dollars_that_were_reserved_by_a_ratio_that_was_too_low_are_raised(tmp_path: Path) -> None:
    job = world(tmp_path, 60, settings_with(budget={"max_usd": 5.0}))
    job.act(once=True)
    with job.store.transaction("test") as tx:
        room = load_room(tx, job.config)
        before = load_budget(tx, job.config, resolve_prices, room).in_flight_usd
        tx.con.execute("UPDATE batches SET settled_at = 1, executed = 500, counted_tokens = 1000, used_input = 1500")
        room = load_room(tx, job.config)
        after = load_budget(tx, job.config, resolve_prices, room).in_flight_usd
    assert before > 0
    assert after == pytest.approx(1.5 * before, rel=0.001)


@pytest.mark.parametrize(("budget", "asked"), [(0.0, 0), (5.0, 1)])
def test_what_was_spent_is_added_up_only_where_there_is_a_bound(tmp_path: Path, budget: float, asked: int) -> None:
    """Without this every look of `poll` would read all attempts."""
    job = world(tmp_path, 20, settings_with(budget={"max_usd": budget}))
    with (
        job.store.read_transaction() as tx,
        mock.patch.object(Transaction, "fetch_one", autospec=True, side_effect=Transaction.fetch_one) as one,
    ):
        load_snapshot(tx, job.config, resolve_prices)
    assert [call.args[1] for call in one.call_args_list].count("money_spent") == asked


def test_a_look_takes_the_prices_that_the_plan_kept_and_those_of_the_table_for_another_model(tmp_path: Path) -> None:
    job = world(tmp_path, 4)
    kept = ModelPrices(TokenRates(1.0, 2.0, 3.0, 1.25, 272_000, 2.0, 1.5), TokenRates(4.0, 5.0, 6.0, 5.0))
    with job.store.read_transaction() as tx:
        assert load_saved_prices(tx, MODEL) == resolve_prices(MODEL)
    with job.store.transaction("reached") as tx:
        facts.save_prices(tx, MODEL, kept)
    with job.store.read_transaction() as tx:
        assert load_saved_prices(tx, MODEL) == kept
        assert load_saved_prices(tx, "gpt-4.1") == resolve_prices("gpt-4.1")
    with job.store.transaction("reached") as tx:
        old = {lane: {"input": 1.0, "cached": 1.0, "output": 1.0} for lane in ("batch", "standard")}
        tx.write_fact(f"prices {MODEL}", text=orjson.dumps(old).decode())
    with job.store.read_transaction() as tx:  # kept by a version that knew no price of writing to the cache
        assert load_saved_prices(tx, MODEL) == resolve_prices(MODEL)
    with job.store.transaction("reached") as tx:
        facts.save_prices(tx, MODEL, None)
    with job.store.read_transaction() as tx:
        assert load_saved_prices(tx, MODEL) is None
