"""The money that status shows, what is reserved, and the prices that are used."""

from pathlib import Path
from unittest import mock

import orjson
import pytest

from batcher.catalog.prices import ModelPrices, TokenRates, resolve_prices
from batcher.core.actions import Finish
from batcher.errors import ConfigError
from batcher.plan.checks import check_sending
from batcher.state import facts
from batcher.state.costs import Costs, load_spending, sum_costs
from batcher.state.db.transaction import Transaction
from batcher.state.reports.status import read_artist
from batcher.state.snapshot import load_budget, load_room, load_saved_prices, load_snapshot
from batcher.views.sheet import format_usd
from tests.support.outlook_kit import (
    LINES,
    MODEL,
    expectation,
    known,
    outlook,
    settings_with,
    status,
    status_text,
    world,
)
from tests.support.world import World, write_table

pytestmark = pytest.mark.slow("forecasts while whole jobs run")


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
    assert "Money by shard" in status_text(job)
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
        (None, "price unknown"), (0.0, "$0"), (0.00003, "$0.000030"), (0.0005, "$0.000500"), (0.0123, "$0.0123"),
        (1234.5, "$1,234.50"),
    ],
)  # fmt: skip
def test_dollars_are_told_so_that_little_is_not_nothing(dollars: float | None, told: str) -> None:
    assert format_usd(dollars) == told


def test_a_price_that_is_not_known_is_no_zero(tmp_path: Path) -> None:
    job = world(tmp_path)
    told = " ".join(status_text(job, unpriced).split())
    assert "Spent nothing yet" in told and "the price of what is to come is not known" in told
    with mock.patch("tests.support.world.resolve_prices", unpriced):
        job.act(once=True)
        assert "what is spent, saved, wasted and reserved is not known" in " ".join(status_text(job, unpriced).split())
        assert status(job).costs.reserved is None
        assert job.act() == Finish()
    seen = status(job, unpriced)
    assert (seen.costs.spent, seen.costs.wasted, seen.costs.saved) == (None, None, None)
    assert seen.costs.bios == LINES
    assert "Spent" not in status_text(job, unpriced)
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


def test_a_batch_that_was_given_up_stays_in_the_budget(tmp_path: Path) -> None:
    job = world(tmp_path, 60, None, stuck_finalizing_s=1e7)
    assert job.act() == Finish()
    assert job.states() == {"held": 60}
    assert known(status(job).costs.reserved) > 0


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
