"""Refused keys, pauses, delays and budgets: what a shard waits for, and that no line pays for what is not its fault."""

import re
from io import StringIO
from pathlib import Path

import httpx2
import pytest
from rich.console import Console

from batcher.catalog.prices import resolve_prices
from batcher.core import events
from batcher.core.actions import Finish, Wait
from batcher.state import facts
from batcher.state.reports.status import read_status
from batcher.state.snapshot import load_budget, load_room
from batcher.views.status import draw_status
from tests.support.protocol_kit import (
    Send,
    answered,
    assert_paid_once,
    is_call,
    nth,
    trial,
)

pytestmark = pytest.mark.slow("whole jobs against a service that refuses")


@pytest.mark.parametrize("path", ["/files", "/batches"])
def test_a_refused_key_stops_and_nothing_is_dead(tmp_path: Path, path: str) -> None:
    it = trial(tmp_path)
    it.rule = nth("POST", path, 1, answered(401, "invalid_api_key"))
    ended = it.act()
    assert isinstance(ended, Finish) and "the service refused the request" in ended.problem
    assert it.states() == {"ready": 6}
    assert it.act() == Finish()
    assert_paid_once(it, 6)


def test_a_quota_failure_pauses_longer_each_time_probes_with_one_and_ends_at_the_first_success(tmp_path: Path) -> None:
    failing = {str(n): "insufficient_quota" for n in range(1, 6)}
    it = trial(tmp_path, lines=18, faults={"fail_batches": failing}, poll={"interval_s": 120})
    it.act()
    delays = it.rows("SELECT until - since, ended_at IS NOT NULL FROM pauses WHERE reason = 'quota' ORDER BY pause")
    assert all(ended for _, ended in delays)
    waits = [float(str(wait)) for wait, _ in delays]  # three batches failed at once: that is one incident
    assert all(0.9 * full <= wait <= full for wait, full in zip(waits, (300, 600, 1200), strict=True))
    assert it.rows("SELECT max(attempts) FROM artists") == [(1,)]
    assert_paid_once(it, 18)


def test_an_outage_is_a_row_and_nobody_pays(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12, poll={"interval_s": 300})
    it.fault(outage_between=[it.clock() + 60, it.clock() + 4000])
    it.act()
    assert it.rows("SELECT count(*) > 2 FROM events WHERE kind = 'outage'") == [(True,)]
    assert it.rows("SELECT max(attempts) FROM artists") == [(1,)]
    assert_paid_once(it, 12)


def test_a_long_retry_after_is_a_row_that_outlives_the_process(tmp_path: Path) -> None:
    it = trial(tmp_path)
    asked_at: list[float] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if is_call(request, "GET", "/batches"):
            asked_at.append(it.clock())
            if len(asked_at) == 1:
                return answered(429, "rate_limit_exceeded", {"retry-after": "600"})(request, send)
        return send(request)

    it.rule = rule
    ended = it.act(once=True)
    assert isinstance(ended, Wait) and ended.until >= asked_at[0] + 600
    it.act()
    assert asked_at[1] >= asked_at[0] + 600
    assert_paid_once(it, 6)


def test_a_retry_after_of_a_create_holds_back_what_is_sent_and_nothing_else(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12, poll={"interval_s": 600})
    it.rule = nth("POST", "/batches", 2, answered(429, "rate_limit_exceeded", {"retry-after": "3000"}))
    it.act()
    _, refused, second = it.rows("SELECT create_intended_at FROM submissions ORDER BY submission")
    assert float(str(second[0])) >= float(str(refused[0])) + 3000  # though the first batch ended long before
    assert_paid_once(it, 12)


def test_the_budget_is_never_passed(tmp_path: Path) -> None:
    free = trial(tmp_path / "free", lines=12)
    free.act()
    reserved = float(str(free.rows("SELECT max(reserved) FROM submissions")[0][0]))
    assert reserved > 0
    it = trial(tmp_path / "bound", lines=12, budget={"max_usd": 0.0012})

    def check(event: events.Event) -> None:
        with it.store.read_transaction() as tx:
            budget = load_budget(tx, it.config, resolve_prices, load_room(tx, it.config))
        assert budget.spent_usd + budget.in_flight_usd <= 0.0012, event

    it.on = check
    ended = it.act()
    assert it.states().get("done", 0) in {6, 12}
    assert isinstance(ended, Finish)


def test_a_budget_that_lost_calls_hold_is_told_and_not_waited_for(tmp_path: Path) -> None:
    it = trial(tmp_path, budget={"max_usd": 0.0008})
    with it.store.transaction("test") as tx:
        tx.con.execute(
            "INSERT INTO direct_calls VALUES (1, 'a00000', 1, 0.0005, ?, ?, 'lost')", [it.clock(), it.clock()]
        )
        tx.con.execute("INSERT INTO direct_calls VALUES (2, 'a00001', 1, 0.0001, ?, NULL, NULL)", [it.clock() - 5000])
    ended = it.act(once=True)
    assert isinstance(ended, Finish) and "of the budget of $0.000800 is left" in ended.problem
    assert it.states() == {"ready": 6}
    with it.store.transaction("test") as tx:
        tx.con.execute("UPDATE direct_calls SET intended_at = ? WHERE call = 2", [it.clock()])
    assert isinstance(it.act(once=True), Wait)


def test_a_pause_between_the_look_and_the_send_holds_the_shard(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12, poll={"interval_s": 600})

    def pause() -> None:
        with it.store.transaction("test") as tx:
            tx.fetch_all("insert_pause", scope="all", reason="user", until=tx.now + 5000, tries=0, now=tx.now)

    it.once_told(events.BatchCreated, pause)
    it.act()
    first, second = it.rows("SELECT create_intended_at FROM submissions ORDER BY submission")
    assert float(str(second[0])) >= float(str(first[0])) + 5000
    assert_paid_once(it, 12)


def test_a_plan_that_cuts_again_between_the_look_and_the_send_does_no_harm(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12)
    it.once_told(events.BatchCreated, lambda: it.plan(it.folder / "artists.csv", replan=True))
    assert it.act() == Finish()
    assert it.states() == {"done": 6, "ready": 6}
    it.release()
    it.act()
    assert_paid_once(it, 12)


def test_what_was_sent_before_a_pause_and_ends_after_it_is_the_same_incident(tmp_path: Path) -> None:
    """The quota is gone while three batches work; they end at different times, all of them after the pause began."""
    it = trial(
        tmp_path,
        lines=18,
        settings={"service_s": (200, 2400)},
        retry={"quota": {"base_s": 900, "cap_s": 3600}},
        poll={"interval_s": 300},
    )
    it.act(once=True)
    now = it.clock()
    it.fault(quota_gone_between=[now, now + 600])
    assert it.act() == Finish()
    assert it.states() == {"done": 18}
    failed = it.rows("SELECT DISTINCT batch_id FROM attempts WHERE outcome = 'quota'")
    assert len(failed) > 1
    assert it.rows("SELECT count(*), max(tries) FROM pauses WHERE reason = 'quota'") == [(1, 0)]


def test_work_goes_on_within_five_minutes_of_the_end_of_a_rate_limit(tmp_path: Path) -> None:
    """Two batches an hour: the third is refused until the first leaves the window."""
    it = trial(tmp_path, lines=24, settings={"batches_per_hour": 2, "service_s": (100, 100)}, poll={"interval_s": 900})
    assert it.act() == Finish()
    began = [batch.created_at for batch in it.sandbox.lifecycle.batches.values()]
    assert len(began) == 4
    for earlier, later in zip(began, began[2:], strict=False):
        assert 0 <= later - (earlier + 3600) < 300
    assert_paid_once(it, 24)


def test_every_refusal_is_a_row_of_the_history(tmp_path: Path) -> None:
    refusals = "SELECT reserved, detail FROM quota_samples WHERE source = 'refusal'"
    gone = trial(tmp_path / "gone", faults={"fail_batches": {"1": "insufficient_quota"}})
    gone.act()
    assert gone.rows(refusals) == [(None, "insufficient quota (shard 1)")]
    many = trial(tmp_path / "many")
    many.rule = nth("POST", "/batches", 1, answered(429, "rate_limit_exceeded"))
    many.act()
    assert many.rows(refusals) == [(None, "answered 429")]
    with many.store.read_transaction() as tx:
        assert read_status(tx, many.config, resolve_prices).refusals.times == 0  # not for the limit


@pytest.mark.parametrize(("status", "code"), [(422, "no_such_code"), (429, "insufficient_quota")])
def test_a_retry_after_holds_whatever_the_refusal_is_for(tmp_path: Path, status: int, code: str) -> None:
    it = trial(tmp_path)
    it.rule = nth("POST", "/batches", 1, answered(status, code, {"retry-after": "3000"}))
    it.act()
    refused, second = it.rows("SELECT create_intended_at FROM submissions ORDER BY submission")
    assert float(str(second[0])) >= float(str(refused[0])) + 3000
    assert_paid_once(it, 6)


def test_a_status_says_what_a_shard_waits_for_and_when_the_direct_lane_goes_on(tmp_path: Path) -> None:
    it = trial(tmp_path)
    it.rule = nth("POST", "/batches", 1, answered(422, "no_such_code"))
    it.act(once=True)
    with it.store.transaction("test") as tx:
        facts.extend_wait(tx, facts.WaitFact.DIRECT, tx.now + 900)
    with it.store.read_transaction() as tx:
        seen = read_status(tx, it.config, resolve_prices)
    told = StringIO()
    Console(width=200, file=told).print(draw_status(seen))
    assert re.search(r"Shard 1 waits until .* UTC, in \d+ s, to be sent again: it was refused\.", told.getvalue())
    assert "The direct lane was refused or not answered; it calls again at" in told.getvalue()
