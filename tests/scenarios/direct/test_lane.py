"""The direct lane in one process: the real store and client, the sandbox behind them, and a clock that is passed."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from batcher.catalog.prices import resolve_prices
from batcher.core.actions import INTERRUPTED, Finish
from batcher.core.direct.decide import FREE_TRIES
from batcher.core.direct.workers import build_workers
from batcher.lanes.direct.lane import DirectLane
from batcher.lanes.direct.ready_lines import SelectionWeight, weigh_lines
from batcher.sandbox import SandboxSettings, apply_changes
from batcher.sandbox.base.settings import Faults
from batcher.state.direct_calls import Selection
from tests.support.direct_kit import desk, refused, settings_of


def test_every_line_is_asked_for_once_at_the_standard_price(tmp_path: Path) -> None:
    world = desk(tmp_path)
    assert world.direct() == Finish()
    assert world.states() == {"done": 12}
    assert set(world.sandbox.ledger.attempt_counts().values()) == {1}
    prices = resolve_prices(world.config.model.name)
    assert prices is not None
    for cost, fresh, cached, output in world.rows(
        "SELECT cost_usd, tokens_input - tokens_cached, tokens_cached, tokens_output FROM bios WHERE lane = 'direct'"
    ):
        rates = prices.standard
        assert cost == pytest.approx(fresh * rates.input + cached * rates.cached + output * rates.output)  # type: ignore[operator]
    assert world.rows("SELECT DISTINCT outcome FROM direct_calls") == [("bio",)]


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/responses"])
def test_both_endpoints(tmp_path: Path, endpoint: str) -> None:
    world = desk(tmp_path, 4, config=settings_of(model={"endpoint": endpoint}))
    assert world.direct() == Finish()
    assert world.states() == {"done": 4}


def test_lines_are_read_some_at_a_time_and_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batcher.lanes.direct.ready_lines.LINES", 5)
    world = desk(tmp_path, 23)
    assert world.direct(3) == Finish()
    assert world.states() == {"done": 23}


def test_the_most_urgent_first_and_no_more_than_asked_for(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.direct(max_lines=5)
    assert world.rows("SELECT priority, count(*) FROM artists WHERE state = 'done' GROUP BY 1 ORDER BY 1") == [
        (1, 4),
        (2, 1),
    ]


def test_only_what_was_released(tmp_path: Path) -> None:
    """Nor what the lane itself has left behind in shards that it took lines from."""
    world = desk(tmp_path)
    assert world.direct(unreleased=False) == Finish()
    assert world.states() == {"ready": 12}
    world.direct(max_lines=1)
    assert world.direct(unreleased=False) == Finish()
    assert world.states() == {"done": 1, "ready": 11}
    world.release(1)
    assert world.direct(unreleased=False) == Finish()
    left = world.rows("SELECT sum(lines) FROM shards WHERE state = 'planned'")
    assert left == world.rows("SELECT count(*) FROM artists WHERE state = 'ready'")
    assert world.direct() == Finish()
    assert world.states() == {"done": 12}
    assert set(world.sandbox.ledger.attempt_counts().values()) == {1}


def test_the_price_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    """At most: what the lines can cost if each answer is of full length."""
    world = desk(tmp_path)

    def weigh(**selection: object) -> tuple[SelectionWeight, int]:
        return DirectLane(world.tools(), Selection(**selection), build_workers(1)).weigh_selection()  # type: ignore[arg-type]

    everything, left_out = weigh()
    few, _ = weigh(max_lines=3)
    assert (everything.lines, left_out, few.lines) == (12, 0, 3)
    assert weigh(unreleased=False) == ((0, 0), 12)
    assert weigh(priority=1)[0].lines + weigh(priority=2)[0].lines + weigh(priority=3)[0].lines == 12
    world.direct()
    ((spent, reserved),) = world.rows("SELECT (SELECT sum(cost_usd) FROM bios), sum(reserved_usd) FROM direct_calls")
    assert everything.most_usd == pytest.approx(reserved)
    assert 0 < float(str(spent)) < float(str(reserved))
    assert weigh() == ((0, 0), 0)


def test_an_unknown_price_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = desk(tmp_path)
    monkeypatch.setattr("batcher.lanes.direct.ready_lines.bound_call_usd", lambda *_: None)
    lane = DirectLane(world.tools(), Selection(), build_workers(1))
    assert lane.weigh_selection() == ((12, None), 0)


def test_the_price_is_looked_up_once_however_many_lengths_the_lines_have(tmp_path: Path) -> None:
    world = desk(tmp_path)
    with world.store.transaction("as if no two lines were alike") as tx:
        tx.con.execute("UPDATE artists SET tokens = tokens + seq")
    models: list[str] = []

    def find_no_price(model: str) -> None:
        models.append(model)

    with world.store.read_transaction() as tx:
        assert weigh_lines(tx, Selection(), world.config, find_no_price) == (12, None)
    assert models == [world.config.model.name]


def test_a_limit_counts_lines_and_not_their_tries(tmp_path: Path) -> None:
    settings = apply_changes(SandboxSettings(), {"faults": apply_changes(Faults(), {"line_failures": {"server": 1.0}})})
    world = desk(tmp_path, settings=settings)
    world.direct(max_lines=5)
    assert world.states() == {"done": 5, "ready": 7}
    assert world.rows("SELECT count(*) FROM direct_calls") == [(10,)]


def test_only_lines_of_a_priority(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.direct(priority=2)
    assert world.rows("SELECT DISTINCT priority FROM artists WHERE state = 'done'") == [(2,)]


def test_what_is_left_of_a_shard_that_was_not_released_is_planned_again(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.direct(max_lines=2)
    assert world.rows("SELECT state, sum(lines)::INT FROM shards GROUP BY 1 ORDER BY 1") == [
        ("planned", 10),
        ("stale", 4),
    ]
    assert world.act() == Finish()  # nothing was released, so nothing is sent
    assert world.sandbox.lifecycle.batches == {}
    world.release()
    assert world.act() == Finish()
    assert world.states() == {"done": 12}
    assert set(world.sandbox.ledger.attempt_counts().values()) == {1}


def test_what_is_left_of_a_released_shard_goes_on_as_retries(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.release()
    world.direct(max_lines=2)
    assert world.states() == {"done": 2, "ready": 10}
    assert world.rows("SELECT count(*) FROM shards WHERE state = 'planned'") == [(0,)]
    assert world.act() == Finish()
    assert world.states() == {"done": 12}


def test_a_line_that_is_in_a_batch_is_not_asked_for(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.release(1)
    world.act(once=True)
    assert world.direct() == Finish()
    assert world.states() == {"done": 8, "in_batch": 4}
    world.act()
    assert world.states() == {"done": 12}
    assert set(world.sandbox.ledger.attempt_counts().values()) == {1}


def test_a_killed_lane_leaves_no_line_parked(tmp_path: Path) -> None:
    world = desk(tmp_path)
    lane = DirectLane(world.tools(), Selection(max_lines=2), build_workers(2))
    lane.prepare_run()
    lane.run_round()  # claims, and sends; then it is gone
    assert world.rows("SELECT count(*) FROM artists AS a JOIN shards AS s USING (shard) WHERE s.state = 'stale'") == [
        (2,)
    ]
    world.act()
    assert world.rows("SELECT count(*) FROM artists AS a JOIN shards AS s USING (shard) WHERE s.state = 'stale'") == [
        (0,)
    ]
    assert world.rows("SELECT sum(lines)::INT FROM shards WHERE state = 'planned'") == [(10,)]


@pytest.mark.parametrize(
    ("kind", "states", "calls"),
    [
        ("server", {"done": 12}, 24),
        ("refusal", {"done": 12}, 24),
        ("invalid_json", {"done": 12}, 24),
        ("length", {"done": 12}, 24),
    ],
)
def test_a_failed_line_is_asked_for_again(tmp_path: Path, kind: str, states: Mapping[str, int], calls: int) -> None:
    settings = apply_changes(SandboxSettings(), {"faults": apply_changes(Faults(), {"line_failures": {kind: 1.0}})})
    world = desk(tmp_path, settings=settings)
    assert world.direct() == Finish()
    assert world.states() == states
    assert world.rows("SELECT count(*) FROM direct_calls") == [(calls,)]


def test_a_line_whose_tries_are_over_is_dead(tmp_path: Path) -> None:
    faults = apply_changes(Faults(), {"poison": ["a00003"]})
    world = desk(
        tmp_path,
        settings=apply_changes(SandboxSettings(), {"faults": faults}),
        config=settings_of(direct={"store": True}),
    )
    assert world.direct() == Finish()
    assert world.states() == {"done": 11, "dead": 1}
    waited = world.rows("SELECT happened_at FROM attempts WHERE artist_id = 'a00003' ORDER BY 1")
    assert len(waited) <= 4 + FREE_TRIES  # one, three tries, and those while it might have been an outage
    counted = "SELECT outcome, count(*) FROM attempts WHERE artist_id = 'a00003' AND counted GROUP BY 1"
    assert world.rows(counted) == [("server", 4)]


def test_an_answer_that_was_cut_off_gets_more_room(tmp_path: Path) -> None:
    settings = apply_changes(SandboxSettings(), {"faults": apply_changes(Faults(), {"line_failures": {"length": 1.0}})})
    world = desk(tmp_path, 3, settings, settings_of(retry={"more_room": 1_200}))
    assert world.direct() == Finish()
    assert world.states() == {"done": 3}
    assert world.rows("SELECT DISTINCT version FROM artists") == [(2,)]


def test_a_line_that_is_refused_for_itself_is_dead_and_the_others_go_on(tmp_path: Path) -> None:
    world = desk(tmp_path, 40)
    world.script = lambda n: refused(400, "context_length_exceeded") if n == 30 else None
    assert world.direct(1) == Finish()
    assert world.states() == {"done": 39, "dead": 1}


def test_lines_that_are_all_refused_stop_the_lane_and_none_dies(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.script = lambda _n: refused(400, "unsupported_parameter", "Unsupported parameter")
    ended = world.direct(2)
    assert "2 of 2 lines were refused (unsupported_parameter)" in ended.problem
    assert world.states() == {"ready": 12}


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_the_lane(tmp_path: Path, status: int) -> None:
    world = desk(tmp_path)
    world.script = lambda _n: refused(status, "", "wrong key")
    assert world.direct().problem == "the service refused the request: wrong key; fix it and run again"
    assert world.states() == {"ready": 12}
    world.script = None
    assert world.direct() == Finish()


def test_a_stop_of_an_earlier_command_is_forgotten(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.script = lambda _n: refused(401, "", "wrong key")
    assert world.direct().problem
    world.script = None
    assert world.direct() == Finish()
    with world.store.read_transaction() as tx:
        assert not tx.read_text_fact("stopped")


def test_a_line_of_a_class_is_asked_for_again_after_a_rate_limit(tmp_path: Path) -> None:
    world = desk(tmp_path, 4)
    with world.store.transaction("fail") as tx:
        tx.con.execute(
            "UPDATE artists SET failure = 'unusable', code = 'length' WHERE artist_id IN ('a00000', 'a00001')"
        )
    world.script = lambda n: refused(429, "rate_limit_exceeded") if n == 1 else None
    assert world.direct(1, failure="unusable") == Finish()
    assert world.states() == {"done": 2, "ready": 2}


def test_a_pause_by_hand_is_kept_to_until_resume(tmp_path: Path) -> None:
    world = desk(tmp_path)
    with world.store.transaction("pause") as tx:
        tx.fetch_all("insert_pause", scope="all", reason="by hand", until=None, tries=0, now=tx.now)
    lane = DirectLane(world.tools(), Selection(), build_workers(4))
    lane.prepare_run()
    for _ in range(3):
        lane.wait_for_outcomes(lane.run_round())  # type: ignore[arg-type]
    assert world.states() == {"ready": 12}
    with world.store.transaction("resume") as tx:
        tx.fetch_all("end_pauses", reasons=["by hand"], now=tx.now)
    assert lane.run_until_idle() == Finish()
    assert world.states() == {"done": 12}


def test_the_budget_is_never_passed(tmp_path: Path) -> None:
    world = desk(tmp_path, 30, config=settings_of(budget={"max_usd": 0.002}))
    ended = world.direct(4)
    assert "budget of $0.002" in ended.problem
    ((spent,),) = world.rows("SELECT sum(cost_usd) FROM attempts")
    assert 0 < float(str(spent)) <= 0.002
    assert world.states()["ready"] > 0
    ((least,),) = world.rows("SELECT min(reserved_usd) FROM direct_calls")
    assert float(str(spent)) + float(str(least)) > 0.002  # what the answers did not take was used too


def test_the_user_may_end_it_and_what_is_under_way_is_waited_for(tmp_path: Path) -> None:
    world = desk(tmp_path)
    tools = world.tools()
    interrupts = iter([False, True])
    object.__setattr__(tools, "interrupted", lambda: next(interrupts, True))
    lane = DirectLane(tools, Selection(), build_workers(3))
    lane.prepare_run()
    assert lane.run_until_idle() == Finish(INTERRUPTED)
    assert world.states() == {"done": 3, "ready": 9}


def test_the_measured_rate_is_kept(tmp_path: Path) -> None:
    world = desk(tmp_path)
    lane = DirectLane(world.tools(), Selection(), build_workers(2))
    lane.prepare_run()
    lane.limits._answers, lane.limits._busy_s = 30, 40.0
    with world.store.transaction("measure") as tx:
        lane.limits.record_worker_rate(tx)
        assert tx.read_fact("direct_per_worker_s") == pytest.approx(0.75)
