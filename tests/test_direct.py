"""The direct lane in one process: the real store and client, the sandbox behind them, and a clock that is passed."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from batcher.answering import FREE_TRIES
from batcher.api import Answer, CallRefused, CallUnknown, CallUnsent
from batcher.config import Config
from batcher.decide import INTERRUPTED, Finish
from batcher.direct import DirectLane
from batcher.errors import JobError
from batcher.job import Job
from batcher.pacing import DAY_S, crew_of
from batcher.prices import resolve
from batcher.retry import Trouble
from batcher.sandbox import SandboxSettings, merged
from batcher.sandbox.settings import Faults
from batcher.store.direct import Selection
from batcher.tools import Tools
from tests.world import START, World, config_with, write_table

HOUR = 3600.0
Script = Callable[[int], Exception | Answer | None]


class Scripted:
    """The real service, whose synchronous calls may be answered by a test instead."""

    def __init__(self, service: Any, script: Script | None, lost: str) -> None:
        self._service, self._script, self._lost, self.calls = service, script, lost, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def complete(self, endpoint: str, body: Mapping[str, object]) -> Answer:
        self.calls += 1
        told = self._script(self.calls) if self._script else None
        if self._lost and self._lost in str(body):
            told = CallUnknown(Trouble(message="timed out"))
        if isinstance(told, Exception):
            raise told
        if told is not None:
            return told
        answer: Answer = self._service.complete(endpoint, body)
        return answer


class Desk(World):
    """A planned job, and its direct lane."""

    lane: DirectLane
    script: Script | None = None
    lost = ""
    """The answers to calls whose body holds this are lost."""

    def tools(self) -> Tools:
        tools = super().tools()
        if self.script is not None or self.lost:
            object.__setattr__(tools, "service", Scripted(tools.service, self.script, self.lost))
        return tools

    def direct(self, workers: str | int = 4, **selection: Any) -> Finish:
        """One process of the direct lane, from its start."""
        self.lane = DirectLane(self.tools(), Selection(**selection), crew_of(workers))
        self.lane.begin()
        return self.lane.act()

    def pauses(self) -> list[tuple[object, ...]]:
        return self.rows(
            "SELECT scope, reason, round(since - 1795000000), round(until - 1795000000) FROM pauses ORDER BY pause"
        )


def settings_of(**sections: Mapping[str, object]) -> Config:
    """Small shards, and a look at the state every hour: a day passes in few steps."""
    return config_with(**{"limits": {"lines_per_shard": 6}, "poll": {"interval_s": 3_600}, **sections})


def desk(folder: Path, lines: int = 12, settings: SandboxSettings | None = None, config: Config | None = None) -> Desk:
    made = Desk(folder, settings, config or settings_of())
    made.plan(write_table(folder / "table.csv", lines))
    return made


def refused(status: int, code: str, message: str = "no", wait_s: float | None = None) -> CallRefused:
    return CallRefused(Trouble(status, code, "", message), wait_s)


# --- the work --------------------------------------------------------------------------------------------------------


def test_every_line_is_asked_for_once_at_the_standard_price(tmp_path: Path) -> None:
    world = desk(tmp_path)
    assert world.direct() == Finish()
    assert world.states() == {"done": 12}
    assert set(world.sandbox.ledger.attempts().values()) == {1}
    prices = resolve(world.config.model.name)
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
    monkeypatch.setattr("batcher.stock.LINES", 5)
    world = desk(tmp_path, 23)
    assert world.direct(3) == Finish()
    assert world.states() == {"done": 23}


def test_the_most_urgent_first_and_no_more_than_asked_for(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.direct(most=5)
    assert world.rows("SELECT priority, count(*) FROM artists WHERE state = 'done' GROUP BY 1 ORDER BY 1") == [
        (1, 4),
        (2, 1),
    ]


def test_a_limit_counts_lines_and_not_their_tries(tmp_path: Path) -> None:
    settings = merged(SandboxSettings(), {"faults": merged(Faults(), {"line_failures": {"server": 1.0}})})
    world = desk(tmp_path, settings=settings)
    world.direct(most=5)
    assert world.states() == {"done": 5, "ready": 7}
    assert world.rows("SELECT count(*) FROM direct_calls") == [(10,)]


def test_only_lines_of_a_priority(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.direct(priority=2)
    assert world.rows("SELECT DISTINCT priority FROM artists WHERE state = 'done'") == [(2,)]


# --- shards ----------------------------------------------------------------------------------------------------------


def test_what_is_left_of_a_shard_that_was_not_released_is_planned_again(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.direct(most=2)
    assert world.rows("SELECT state, sum(lines)::INT FROM shards GROUP BY 1 ORDER BY 1") == [
        ("planned", 10),
        ("stale", 4),
    ]
    assert world.act() == Finish()  # nothing was released, so nothing is sent
    assert world.sandbox.lifecycle.batches == {}
    world.release()
    assert world.act() == Finish()
    assert world.states() == {"done": 12}
    assert set(world.sandbox.ledger.attempts().values()) == {1}


def test_what_is_left_of_a_released_shard_goes_on_as_retries(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.release()
    world.direct(most=2)
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
    assert set(world.sandbox.ledger.attempts().values()) == {1}


def test_a_killed_lane_leaves_no_line_parked(tmp_path: Path) -> None:
    world = desk(tmp_path)
    lane = DirectLane(world.tools(), Selection(most=2), crew_of(2))
    lane.begin()
    lane._step([])  # claims, and asks; then it is gone
    assert world.rows("SELECT count(*) FROM artists AS a JOIN shards AS s USING (shard) WHERE s.state = 'stale'") == [
        (2,)
    ]
    world.act()
    assert world.rows("SELECT count(*) FROM artists AS a JOIN shards AS s USING (shard) WHERE s.state = 'stale'") == [
        (0,)
    ]
    assert world.rows("SELECT sum(lines)::INT FROM shards WHERE state = 'planned'") == [(10,)]


# --- failures of lines -----------------------------------------------------------------------------------------------


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
    settings = merged(SandboxSettings(), {"faults": merged(Faults(), {"line_failures": {kind: 1.0}})})
    world = desk(tmp_path, settings=settings)
    assert world.direct() == Finish()
    assert world.states() == states
    assert world.rows("SELECT count(*) FROM direct_calls") == [(calls,)]


def test_a_line_whose_tries_are_over_is_dead(tmp_path: Path) -> None:
    faults = merged(Faults(), {"poison": ["a00003"]})
    world = desk(
        tmp_path, settings=merged(SandboxSettings(), {"faults": faults}), config=settings_of(direct={"store": True})
    )
    assert world.direct() == Finish()
    assert world.states() == {"done": 11, "dead": 1}
    waited = world.rows("SELECT happened_at FROM attempts WHERE artist_id = 'a00003' ORDER BY 1")
    assert len(waited) <= 4 + FREE_TRIES  # one, three tries, and those while it could not be told from an outage
    counted = "SELECT outcome, count(*) FROM attempts WHERE artist_id = 'a00003' AND counted GROUP BY 1"
    assert world.rows(counted) == [("server", 4)]


def test_an_answer_that_was_cut_off_gets_more_room(tmp_path: Path) -> None:
    settings = merged(SandboxSettings(), {"faults": merged(Faults(), {"line_failures": {"length": 1.0}})})
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
    assert world.direct().problem == "the service refuses: wrong key; mend it and run again"
    assert world.states() == {"ready": 12}
    world.script = None
    assert world.direct() == Finish()


# --- calls whose answer is lost --------------------------------------------------------------------------------------


def test_a_lost_answer_is_asked_for_once_more_and_counted(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.script = lambda n: CallUnknown(Trouble(message="timed out")) if n == 1 else None
    assert world.direct(1) == Finish()
    assert world.states() == {"done": 12}
    assert world.rows("SELECT outcome, count(*) FROM attempts GROUP BY 1 ORDER BY 1") == [("bio", 12), ("lost", 1)]
    assert world.rows("SELECT max(attempts) FROM artists") == [(1,)]  # the line did not pay for it


def test_a_line_whose_answers_are_lost_twice_is_held_as_perhaps_paid(tmp_path: Path) -> None:
    world = desk(tmp_path, 3)
    world.lost = "Artist Number 1"
    assert world.direct(1) == Finish()
    assert world.states() == {"done": 2, "held": 1}
    assert world.rows("SELECT artist_id, failure, code FROM artists WHERE state = 'held'") == [
        ("a00001", "missing", "perhaps_paid")
    ]


def test_an_outage_is_waited_for_and_no_line_pays(tmp_path: Path) -> None:
    """Ten minutes of 503, as many of dropped connections, and of a proxy's page where an answer should be."""
    world = desk(tmp_path, 40)
    kinds: list[Callable[[], Exception | Answer]] = [
        lambda: CallUnknown(Trouble(503, "", "", "overloaded")),
        lambda: CallUnknown(Trouble(message="disconnected")),
        lambda: Answer(b"<html>", {}),
    ]

    def script(n: int) -> Exception | Answer | None:
        past = world.clock.now - START
        return kinds[int(past // 600)]() if n > 3 and past < 1_800 else None

    world.script = script
    assert world.direct(4) == Finish()
    states = world.states()
    assert states["done"] >= 30
    assert set(states) <= {"done", "held"}  # held: two answers that may have been paid were lost
    assert world.rows("SELECT max(attempts) <= 2 FROM artists") == [(True,)]  # one may have paid before it showed
    assert world.clock.now - START < 2_400  # and it went on within the longest of its delays


def test_a_retry_after_of_a_5xx_is_kept_to(tmp_path: Path) -> None:
    world = desk(tmp_path)
    asked: list[float] = []

    def script(_n: int) -> Exception | None:
        asked.append(world.clock.now)
        return CallUnknown(Trouble(503, "", "", "later"), 120.0) if len(asked) == 1 else None

    world.script = script
    world.direct(1)
    assert asked[1] - asked[0] >= 120


@pytest.mark.parametrize(("status", "dies"), [(409, False), (425, False), (413, True)])
def test_a_refusal_that_says_later_is_no_fault_of_the_line(tmp_path: Path, status: int, dies: bool) -> None:
    world = desk(tmp_path, 30)
    world.script = lambda n: refused(status, "") if n == 10 else None
    assert world.direct(1) == Finish()
    assert world.states() == ({"done": 29, "dead": 1} if dies else {"done": 30})


def test_a_poison_line_does_not_hold_the_others_up(tmp_path: Path) -> None:
    faults = merged(Faults(), {"poison": ["a00000"]})
    world = desk(tmp_path, 30, merged(SandboxSettings(), {"faults": faults}), settings_of(direct={"store": True}))
    assert world.direct(1) == Finish()
    assert world.states() == {"done": 29, "dead": 1}
    assert world.clock.now - START < 1_500


def test_what_has_come_is_recorded_though_the_jobs_code_fails(tmp_path: Path) -> None:
    """A line that job.py renders otherwise than it was planned ends the lane, and costs no answer that is under way."""
    world = desk(tmp_path)
    lane = DirectLane(world.tools(), Selection(), crew_of(3))
    lane.begin()
    lane._step([])
    with world.store.transaction("spoil") as tx:
        tx.con.execute("UPDATE artists SET line_hash = 1 WHERE artist_id = 'a00011'")
    with pytest.raises(JobError, match="renders artist a00011 otherwise"):
        lane.act()
    states = world.states()
    assert states["done"] >= 3
    assert "in_direct" not in states
    assert set(world.sandbox.ledger.attempts().values()) == {1}


def test_an_answer_that_the_jobs_code_fails_on_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = desk(tmp_path, 3)

    def judge(*_: object) -> None:
        raise JobError("accept fails")

    monkeypatch.setattr(Job, "judge", judge)
    with pytest.raises(JobError, match="accept fails"):
        world.direct(2)
    assert world.states() == {"held": 2, "ready": 1}
    assert world.rows("SELECT count(*) FROM attempts WHERE cost_usd > 0") == [(2,)]


def test_a_stop_of_an_earlier_command_is_forgotten(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.script = lambda _n: refused(401, "", "wrong key")
    assert world.direct().problem
    world.script = None
    assert world.direct() == Finish()
    with world.store.reading() as tx:
        assert not tx.text_fact("stopped")


def test_a_restart_knows_what_the_last_minute_took(tmp_path: Path) -> None:
    limits = {"rpm": 20}
    world = desk(tmp_path, 60, merged(SandboxSettings(), limits), settings_of(direct=limits))
    for _ in range(4):
        world.direct(8, most=10)
    assert world.rows("SELECT count(*) FROM attempts WHERE outcome = 'rate_limit'") == [(0,)]


def test_a_line_of_a_class_is_asked_for_again_after_a_rate_limit(tmp_path: Path) -> None:
    world = desk(tmp_path, 4)
    with world.store.transaction("fail") as tx:
        tx.con.execute(
            "UPDATE artists SET failure = 'unusable', code = 'length' WHERE artist_id IN ('a00000', 'a00001')"
        )
    world.script = lambda n: refused(429, "rate_limit_exceeded") if n == 1 else None
    assert world.direct(1, failure="unusable") == Finish()
    assert world.states() == {"done": 2, "ready": 2}


def test_a_lane_that_is_not_patient_ends_where_it_would_wait(tmp_path: Path) -> None:
    world = desk(tmp_path, config=settings_of(poll={"interval_s": 30}))
    world.script = lambda n: refused(429, "rate_limit_exceeded") if n == 4 else None
    lane = DirectLane(world.tools(), Selection(), crew_of(1))
    lane.begin()
    assert lane.act(patient=False) == Finish()
    assert lane.calls == 4
    assert world.states() == {"done": 3, "ready": 9}


def test_a_daily_pause_ends_when_the_calls_are_a_day_ago(tmp_path: Path) -> None:
    world = desk(tmp_path, 12, config=settings_of(direct={"daily_requests": 10}))
    began = world.clock.now
    assert world.direct() == Finish()
    assert DAY_S <= world.clock.now - began < DAY_S + 2 * HOUR


def test_what_never_went_out_costs_nothing(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.script = lambda n: CallUnsent(Trouble(message="no connection")) if n <= 3 else None
    assert world.direct(1) == Finish()
    assert world.states() == {"done": 12}
    assert world.rows("SELECT count(*) FROM attempts WHERE outcome <> 'bio'") == [(0,)]
    assert world.clock.now - START >= 0.9 * (0.5 + 1 + 2)  # quickly at first


@pytest.mark.parametrize("stored", [True, False])
def test_a_call_whose_process_died_is_looked_up_where_answers_are_stored(tmp_path: Path, stored: bool) -> None:
    world = desk(tmp_path, config=settings_of(direct={"store": stored}))
    lane = DirectLane(world.tools(), Selection(), crew_of(3))
    lane.begin()
    lane._step([])
    came = [lane._came.get(timeout=60) for _ in range(3)]  # answered, and billed; and nobody wrote it down
    assert len(came) == 3
    assert world.direct() == Finish()
    assert world.states() == {"done": 12}
    executions = sorted(world.sandbox.ledger.attempts().values())
    assert executions == ([1] * 12 if stored else [1] * 9 + [2] * 3)
    lost = world.rows("SELECT count(*) FROM attempts WHERE outcome = 'lost'")
    assert lost == [(0,)] if stored else [(3,)]


# --- limits ----------------------------------------------------------------------------------------------------------


def test_known_limits_are_not_run_into(tmp_path: Path) -> None:
    limits = {"rpm": 10, "tpm": 100_000}
    world = desk(tmp_path, 40, merged(SandboxSettings(), limits), settings_of(direct=limits))
    assert world.direct(8) == Finish()
    assert world.states() == {"done": 40}
    assert world.rows("SELECT count(*) FROM attempts WHERE outcome = 'rate_limit'") == [(0,)]
    assert 4 * 61 <= world.clock.now - START < 5 * 61  # 9 a minute


def test_limits_below_the_settings_are_learned_from_the_headers(tmp_path: Path) -> None:
    world = desk(tmp_path, 40, merged(SandboxSettings(), {"rpm": 10}))
    assert world.direct(4) == Finish()
    assert world.states() == {"done": 40}
    assert world.rows("SELECT count(*) FROM attempts WHERE outcome = 'rate_limit'") == [(0,)]
    assert world.rows("SELECT count(*) FROM quota_samples WHERE source = 'header'") == [(40,)]


def test_five_rate_limit_tries_from_60_s_to_300_s_then_a_day(tmp_path: Path) -> None:
    world = desk(tmp_path)
    asked: list[float] = []

    def script(_n: int) -> Exception | None:
        asked.append(world.clock.now)
        return refused(429, "rate_limit_exceeded") if len(asked) <= 6 else None

    world.script = script
    assert world.direct(1) == Finish()
    gaps = [round(later - earlier) for earlier, later in pairwise(asked[:7])]
    for gap, full in zip(gaps, [60, 120, 240, 300, 300, DAY_S], strict=True):
        assert 0.9 * full <= gap <= full + 2, gaps  # 10% jitter
    assert world.pauses()[0][:2] == ("direct", "rate limit")
    assert world.states() == {"done": 12}
    assert world.rows("SELECT max(attempts) FROM artists") == [(1,)]  # no line pays


def test_a_retry_after_is_kept_to_with_up_to_5_s_on_top(tmp_path: Path) -> None:
    world = desk(tmp_path)
    asked: list[float] = []

    def script(_n: int) -> Exception | None:
        asked.append(world.clock.now)
        return refused(429, "rate_limit_exceeded", wait_s=20.0) if len(asked) == 1 else None

    world.script = script
    world.direct(1)
    assert 20 <= asked[1] - asked[0] <= 26


@pytest.mark.parametrize("wait_s", [None, 45.0, 240.0])
def test_work_goes_on_within_five_minutes_of_the_end_of_a_limit(tmp_path: Path, wait_s: float | None) -> None:
    """The service refuses everything for ten minutes, and says when it will not, or does not."""
    world = desk(tmp_path)
    refused_at: list[float] = []
    first: list[float] = []

    def script(n: int) -> Exception | None:
        if n <= 3 or world.clock.now - START > 600:
            first.append(world.clock.now)
            return None
        refused_at.append(world.clock.now)
        return refused(429, "rate_limit_exceeded", wait_s=wait_s)

    world.script = script
    assert world.direct("auto") == Finish()
    assert world.states() == {"done": 12}
    free_again = max(START + 600, refused_at[-1] + (wait_s or 0.0))
    assert first[3] - free_again <= 300


def test_auto_finds_its_number_and_asks_for_every_line_once(tmp_path: Path) -> None:
    world = desk(tmp_path, 90, config=settings_of(limits={"lines_per_shard": 50}))
    assert world.direct("auto") == Finish()
    assert world.states() == {"done": 90}
    assert world.lane.crew.workers > 8
    assert set(world.sandbox.ledger.attempts().values()) == {1}


def test_one_refusal_slows_all_and_is_one_incident(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.script = lambda n: refused(429, "rate_limit_exceeded") if n <= 4 else None
    assert world.direct(4) == Finish()
    assert world.rows("SELECT count(*) FROM events WHERE kind = 'direct_waits'") == [(1,)]


def test_three_quota_tries_from_300_s_to_3600_s_then_a_day_and_on_by_itself(tmp_path: Path) -> None:
    world = desk(tmp_path, config=settings_of(retry={"quota": {"cap_s": 3600.0}}))
    asked: list[float] = []

    def script(_n: int) -> Exception | None:
        asked.append(world.clock.now)
        return refused(429, "insufficient_quota") if len(asked) <= 5 else None

    world.script = script
    assert world.direct(1) == Finish()
    gaps = [round(later - earlier) for earlier, later in pairwise(asked[:6])]
    for gap, full in zip(gaps, [300, 600, 1200, DAY_S, 600], strict=True):
        assert 0.9 * full <= gap <= full + 2, gaps
    assert world.states() == {"done": 12}
    assert {scope for scope, *_ in world.pauses()} == {"all"}  # money is gone for both lanes


def test_quota_gone_at_8180_of_36831_and_resumed_by_itself(tmp_path: Path) -> None:
    """The run that this project began with, at a hundredth of its size: 4 workers, quota gone after 82 of 368."""
    faults = merged(Faults(), {"quota_gone_between": None})
    world = desk(
        tmp_path, 368, merged(SandboxSettings(), {"faults": faults}), settings_of(limits={"lines_per_shard": 100})
    )

    def script(n: int) -> Exception | None:
        if n == 83:
            world.sandbox.set_faults({"quota_gone_between": [world.clock.now, world.clock.now + HOUR]})
        return None

    world.script = script
    assert world.direct("moderate") == Finish()
    assert world.states() == {"done": 368}
    assert world.clock.now - START >= HOUR
    refusals = world.rows("SELECT count(*) FROM attempts WHERE outcome = 'quota'")
    assert int(str(refusals[0][0])) <= 4 + 3  # those under way, and one probe a pause
    assert world.rows("SELECT max(attempts) FROM artists") == [(1,)]


# --- the day's limit -------------------------------------------------------------------------------------------------


def test_80_percent_of_a_days_requests_pause_the_lane_over_restarts(tmp_path: Path) -> None:
    world = desk(tmp_path, 12, config=settings_of(direct={"daily_requests": 10}))
    began = world.clock.now
    lane = DirectLane(world.tools(), Selection(), crew_of(4))
    lane.begin()
    while not world.pauses():
        lane._wait(lane._step(lane._drain()))  # type: ignore[arg-type]
    assert world.states() == {"done": 8, "ready": 4}
    assert world.pauses()[0][:2] == ("direct", "daily requests")
    assert world.direct() == Finish()  # another process waits for the same day
    assert world.states() == {"done": 12}
    assert world.clock.now - began >= DAY_S


def test_a_daily_limit_in_the_headers_counts_too(tmp_path: Path) -> None:
    world = desk(tmp_path, 24, merged(SandboxSettings(), {"rpd": 20}))
    assert world.direct(2) == Finish()
    assert world.states() == {"done": 24}
    assert world.rows("SELECT count(*) FROM attempts WHERE outcome = 'rate_limit'") == [(0,)]
    assert world.pauses()[0][:2] == ("direct", "daily requests")


# --- pauses, money, the end ------------------------------------------------------------------------------------------


def test_a_pause_by_hand_is_kept_to_until_resume(tmp_path: Path) -> None:
    world = desk(tmp_path)
    with world.store.transaction("pause") as tx:
        tx.run("insert_pause", scope="all", reason="by hand", until=None, tries=0, now=tx.now)
    lane = DirectLane(world.tools(), Selection(), crew_of(4))
    lane.begin()
    for _ in range(3):
        lane._wait(lane._step(lane._drain()))  # type: ignore[arg-type]
    assert world.states() == {"ready": 12}
    with world.store.transaction("resume") as tx:
        tx.run("end_pauses", reasons=["by hand"], now=tx.now)
    assert lane.act() == Finish()
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
    asked = iter([False, True])
    object.__setattr__(tools, "interrupted", lambda: next(asked, True))
    lane = DirectLane(tools, Selection(), crew_of(3))
    lane.begin()
    assert lane.act() == Finish(INTERRUPTED)
    assert world.states() == {"done": 3, "ready": 9}


def test_the_measured_rate_is_kept(tmp_path: Path) -> None:
    world = desk(tmp_path)
    lane = DirectLane(world.tools(), Selection(), crew_of(2))
    lane.begin()
    lane._answers, lane._busy_s = 30, 40.0
    with world.store.transaction("measure") as tx:
        lane._measure(tx)
        assert tx.fact("direct_per_worker_s") == pytest.approx(0.75)


def test_the_headers_are_shown_and_little_is_warned_of(tmp_path: Path) -> None:
    world = desk(tmp_path, 30, merged(SandboxSettings(), {"rpm": 30}), settings_of(logging={"quota_every": 10}))
    world.direct(4)
    kinds = list(world.kinds())
    assert kinds.count("rate_limits") == 3
    assert "rate_warning" in kinds


def test_ctrl_c_ends_the_search_for_stored_answers(tmp_path: Path) -> None:
    world = desk(tmp_path, config=settings_of(direct={"store": True}))
    lane = DirectLane(world.tools(), Selection(), crew_of(1))
    lane.begin()
    lane._step([])
    lane._came.get(timeout=60)
    tools = world.tools()
    looked: list[str] = []

    def find_stored(*_: object) -> bytes | None:
        looked.append("once")
        raise CallUnknown(Trouble(503, "", "", "later"))

    object.__setattr__(tools, "service", Scripted(tools.service, None, ""))
    setattr(tools.service, "find_stored", find_stored)  # noqa: B010
    object.__setattr__(tools, "interrupted", lambda: len(looked) >= 2)
    with pytest.raises(KeyboardInterrupt):
        DirectLane(tools, Selection(), crew_of(1)).begin()
    assert looked == ["once", "once"]
    assert world.direct() == Finish()
