"""What is paid is what the service bills; what was given up or lost is reserved while it is perhaps paid."""

from pathlib import Path

import pytest

from batcher.catalog.prices import resolve_prices
from batcher.core.failures import FailureClass
from batcher.sandbox import SandboxSettings, apply_changes
from batcher.state.costs import load_spending
from batcher.state.db.store import Store
from batcher.state.reports.status import Status, read_artist, read_status
from batcher.state.wishes import RetryFilter, retry_lines
from tests.support.budget_runs import run_job
from tests.support.direct_kit import desk, settings_of
from tests.support.protocol_kit import Trial, given_up
from tests.support.world import config_with


def _told(store: Store) -> tuple[Status, float]:
    """Return the status, and what the budget counts as in flight."""
    with store.read_transaction() as tx:
        return read_status(tx, config_with(), resolve_prices), load_spending(tx).in_flight_usd


def _of_artist(store: Store, artist_id: str) -> float:
    with store.read_transaction() as tx:
        shown = read_artist(tx, artist_id, resolve_prices)
    assert shown is not None
    return float(shown.costs.reserved or 0)


def _without_a_line(folder: Path) -> Trial:
    """Run a batch of six lines whose output never has one of them, until it is given up."""
    return given_up(folder, lambda lines: lines[1:])


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/responses"])
def test_what_is_told_as_spent_is_what_the_service_bills(tmp_path: Path, endpoint: str) -> None:
    settings = apply_changes(SandboxSettings(), {"cache_writes": 0.7, "reasoning_tokens": 200})
    world = desk(tmp_path, 24, settings, settings_of(model={"endpoint": endpoint}))
    world.direct(2, max_lines=6)
    world.release()
    world.act()
    assert world.states() == {"done": 24}
    told, billed = world.sandbox.ledger.billing_totals(), world.sandbox.ledger.billed_usd
    with world.store.read_transaction() as tx:
        assert load_spending(tx).spent_usd == pytest.approx(billed)
    for table in ("attempts", "bios"):
        sums = world.rows(f"SELECT sum(tokens_written)::INT, sum(tokens_reasoning)::INT FROM {table}")
        assert sums == [(told["tokens_written"], told["tokens_reasoning"])]
    assert told["tokens_written"] > 0 and told["tokens_reasoning"] > 0
    of_batches = world.rows("SELECT sum(used_written)::INT, sum(used_reasoning)::INT FROM batches")
    of_lane = "SELECT sum(tokens_written)::INT, sum(tokens_reasoning)::INT FROM attempts WHERE lane = 'batch'"
    assert of_batches == world.rows(of_lane)


@pytest.mark.parametrize("seed", [4, 8])
def test_no_budget_is_passed_whatever_is_written_and_thought(tmp_path: Path, seed: int) -> None:
    """Two short ones of the runs of `make soak`."""
    outcome = run_job(seed, tmp_path)
    assert outcome.find_fault() == ""
    assert outcome.written > 0


def test_a_budget_holds_where_all_is_written_to_the_cache_and_all_output_is_used(tmp_path: Path) -> None:
    """At the price of plain input two shards would have fitted, and would have been billed beyond the budget."""
    settings = apply_changes(SandboxSettings(), {"cache_writes": 1.0, "reasoning_tokens": 2_000})
    config = settings_of(model={"max_output_tokens": 150})
    world = desk(tmp_path, 18, settings, config)
    prices = resolve_prices(config.model.name)
    assert prices is not None
    ((tokens,),) = world.rows("SELECT max(tokens) FROM shards")
    of_shard = int(str(tokens)) * 1.1 * prices.batch.input + 6 * 150 * prices.batch.output
    world.config = settings_of(model={"max_output_tokens": 150}, budget={"max_usd": 2.001 * of_shard})
    world.release()
    world.act()
    assert 0 < (world.sandbox.ledger.billed_usd or 0) <= world.config.budget.max_usd


def test_a_plan_keeps_the_longest_line_of_each_shard(tmp_path: Path) -> None:
    world = desk(tmp_path, 24)
    assert world.rows("SELECT shard, longest FROM shards ORDER BY 1") == world.rows(
        "SELECT shard, max(tokens) FROM artists GROUP BY 1 ORDER BY 1"
    )


def test_a_line_of_the_output_that_cannot_be_read_is_reserved_as_perhaps_paid(tmp_path: Path) -> None:
    it = given_up(tmp_path, lambda lines: [b'{"custom_id": "a00\n', *lines[1:]])
    of_all = float(str(it.rows("SELECT reserved_usd FROM submissions")[0][0]))
    seen, counted = _told(it.store)
    assert counted == pytest.approx(of_all / 6)
    assert seen.costs.reserved == pytest.approx(counted)


def test_what_was_given_up_is_reserved_for_the_lines_that_are_perhaps_paid(tmp_path: Path) -> None:
    it = _without_a_line(tmp_path)
    of_all = float(str(it.rows("SELECT reserved_usd FROM submissions")[0][0]))
    seen, counted = _told(it.store)
    assert counted == pytest.approx(of_all / 6)
    assert seen.costs.reserved == pytest.approx(counted)
    held = str(it.rows("SELECT artist_id FROM artists WHERE state = 'held'")[0][0])
    assert _of_artist(it.store, held) == pytest.approx(counted)
    done = str(it.rows("SELECT min(artist_id) FROM artists WHERE state = 'done'")[0][0])
    assert _of_artist(it.store, done) == 0


def test_a_line_that_is_bought_again_is_reserved_no_more(tmp_path: Path) -> None:
    it = _without_a_line(tmp_path)
    before = _told(it.store)[1]
    with it.store.transaction("test") as tx:
        retry_lines(tx, RetryFilter(FailureClass.MISSING))
    assert _told(it.store)[1] == pytest.approx(before)
    it.rule = lambda request, send: send(request)
    it.act()
    assert it.states() == {"done": 6}
    seen, counted = _told(it.store)
    assert (seen.costs.reserved, counted) == (0, 0)


def test_direct_calls_are_told_as_they_are_counted(tmp_path: Path) -> None:
    world = desk(tmp_path, 3)
    world.lost = "Artist Number 1"
    world.direct(1)
    ((lost,),) = world.rows("SELECT sum(reserved_usd) FROM direct_calls WHERE outcome = 'lost'")
    seen, counted = _told(world.store)
    assert counted == pytest.approx(float(str(lost)))
    assert counted > 0
    assert seen.costs.reserved == pytest.approx(counted)
    (row,) = seen.shard_costs
    assert row.shard is None and row.reserved == pytest.approx(counted)
    assert _of_artist(world.store, "a00001") == pytest.approx(counted)
    assert _of_artist(world.store, "a00000") == 0
