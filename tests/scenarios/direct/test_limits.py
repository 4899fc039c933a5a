"""The direct lane and the limits of a minute and of a day: kept to, waited out, over restarts too."""

from itertools import pairwise
from pathlib import Path

import pytest

from batcher.core import events
from batcher.core.actions import Finish
from batcher.core.direct.pacing import DAY_S
from batcher.core.direct.workers import build_workers
from batcher.lanes.direct.lane import DirectLane
from batcher.sandbox import SandboxSettings, apply_changes
from batcher.sandbox.base.settings import Faults
from batcher.state.direct_calls import Selection
from tests.support.direct_kit import HOUR, desk, refused, settings_of
from tests.support.world import START

pytestmark = pytest.mark.slow("hours of calls against limits")


def test_known_limits_are_not_run_into(tmp_path: Path) -> None:
    limits = {"rpm": 10, "tpm": 100_000}
    world = desk(tmp_path, 40, apply_changes(SandboxSettings(), limits), settings_of(direct=limits))
    assert world.direct(8) == Finish()
    assert world.states() == {"done": 40}
    assert world.rows("SELECT count(*) FROM attempts WHERE outcome = 'rate_limit'") == [(0,)]
    assert 4 * 61 <= world.clock.now - START < 5 * 61  # 9 a minute


def test_limits_below_the_settings_are_learned_from_the_headers(tmp_path: Path) -> None:
    world = desk(tmp_path, 40, apply_changes(SandboxSettings(), {"rpm": 10}))
    assert world.direct(4) == Finish()
    assert world.states() == {"done": 40}
    assert world.rows("SELECT count(*) FROM attempts WHERE outcome = 'rate_limit'") == [(0,)]
    assert world.rows("SELECT count(*) FROM quota_samples WHERE source = 'header'") == [(40,)]


def test_five_rate_limit_tries_from_60_s_to_300_s_then_a_day(tmp_path: Path) -> None:
    world = desk(tmp_path)
    sent_at: list[float] = []

    def script(_n: int) -> Exception | None:
        sent_at.append(world.clock.now)
        return refused(429, "rate_limit_exceeded") if len(sent_at) <= 6 else None

    world.script = script
    assert world.direct(1) == Finish()
    gaps = [round(later - earlier) for earlier, later in pairwise(sent_at[:7])]
    for gap, full in zip(gaps, [60, 120, 240, 300, 300, DAY_S], strict=True):
        assert 0.9 * full <= gap <= full + 2, gaps  # 10% jitter
    assert world.pauses()[0][:2] == ("direct", "rate limit")
    assert world.states() == {"done": 12}
    assert world.rows("SELECT max(attempts) FROM artists") == [(1,)]  # no line pays


def test_a_retry_after_is_kept_to_with_up_to_5_s_on_top(tmp_path: Path) -> None:
    world = desk(tmp_path)
    sent_at: list[float] = []

    def script(_n: int) -> Exception | None:
        sent_at.append(world.clock.now)
        return refused(429, "rate_limit_exceeded", wait_s=20.0) if len(sent_at) == 1 else None

    world.script = script
    world.direct(1)
    assert 20 <= sent_at[1] - sent_at[0] <= 26


@pytest.mark.parametrize("wait_s", [None, 45.0, 240.0])
def test_work_goes_on_within_five_minutes_of_the_end_of_a_limit(tmp_path: Path, wait_s: float | None) -> None:
    """Refuse everything for ten minutes, with and without a Retry-After."""
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
    assert world.lane.limits.history.workers.workers > 8
    assert set(world.sandbox.ledger.attempt_counts().values()) == {1}


def test_one_refusal_slows_all_and_is_one_incident(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.script = lambda n: refused(429, "rate_limit_exceeded") if n <= 4 else None
    assert world.direct(4) == Finish()
    assert world.rows("SELECT count(*) FROM events WHERE kind = 'direct_waits'") == [(1,)]


def test_three_quota_tries_from_300_s_to_3600_s_then_a_day_and_on_by_itself(tmp_path: Path) -> None:
    world = desk(tmp_path, config=settings_of(retry={"quota": {"cap_s": 3600.0}}))
    sent_at: list[float] = []

    def script(_n: int) -> Exception | None:
        sent_at.append(world.clock.now)
        return refused(429, "insufficient_quota") if len(sent_at) <= 5 else None

    world.script = script
    assert world.direct(1) == Finish()
    gaps = [round(later - earlier) for earlier, later in pairwise(sent_at[:6])]
    for gap, full in zip(gaps, [300, 600, 1200, DAY_S, 600], strict=True):
        assert 0.9 * full <= gap <= full + 2, gaps
    assert world.states() == {"done": 12}
    assert {scope for scope, *_ in world.pauses()} == {"all"}  # money is gone for both lanes


def test_no_pause_for_the_quota_is_shorter_than_the_service_asks(tmp_path: Path) -> None:
    world = desk(tmp_path)
    sent_at: list[float] = []

    def script(_n: int) -> Exception | None:
        sent_at.append(world.clock.now)
        return refused(429, "insufficient_quota", wait_s=2_000.0) if len(sent_at) == 1 else None

    world.script = script
    assert world.direct(1) == Finish()
    assert sent_at[1] - sent_at[0] >= 2_000
    assert world.states() == {"done": 12}


def test_quota_gone_at_8180_of_36831_and_resumed_by_itself(tmp_path: Path) -> None:
    """Repeat the run that this project began with at a hundredth of its size: 4 workers, quota gone after 82 of 368."""
    faults = apply_changes(Faults(), {"quota_gone_between": None})
    world = desk(
        tmp_path,
        368,
        apply_changes(SandboxSettings(), {"faults": faults}),
        settings_of(limits={"lines_per_shard": 100}),
    )

    def script(n: int) -> Exception | None:
        if n == 83:
            world.sandbox.update_faults({"quota_gone_between": [world.clock.now, world.clock.now + HOUR]})
        return None

    world.script = script
    assert world.direct("moderate") == Finish()
    assert world.states() == {"done": 368}
    assert world.clock.now - START >= HOUR
    refusals = world.rows("SELECT count(*) FROM attempts WHERE outcome = 'quota'")
    assert int(str(refusals[0][0])) <= 4 + 3  # those under way, and one probe a pause
    assert world.rows("SELECT max(attempts) FROM artists") == [(1,)]


def test_80_percent_of_a_days_requests_pause_the_lane_over_restarts(tmp_path: Path) -> None:
    world = desk(tmp_path, 12, config=settings_of(direct={"daily_requests": 10}))
    began = world.clock.now
    lane = DirectLane(world.tools(), Selection(), build_workers(4))
    lane.prepare_run()
    while not world.pauses():
        lane.wait_for_outcomes(lane.run_round())  # type: ignore[arg-type]
    assert world.states() == {"done": 8, "ready": 4}
    assert world.pauses()[0][:2] == ("direct", "daily requests")
    assert world.direct() == Finish()  # another process waits for the same day
    assert world.states() == {"done": 12}
    assert world.clock.now - began >= DAY_S


def test_a_daily_limit_in_the_headers_counts_too(tmp_path: Path) -> None:
    world = desk(tmp_path, 24, apply_changes(SandboxSettings(), {"rpd": 20}))
    assert world.direct(2) == Finish()
    assert world.states() == {"done": 24}
    assert world.rows("SELECT count(*) FROM attempts WHERE outcome = 'rate_limit'") == [(0,)]
    assert world.pauses()[0][:2] == ("direct", "daily requests")


def test_a_restart_knows_what_the_last_minute_took(tmp_path: Path) -> None:
    limits = {"rpm": 20}
    world = desk(tmp_path, 60, apply_changes(SandboxSettings(), limits), settings_of(direct=limits))
    for _ in range(4):
        world.direct(8, max_lines=10)
    assert world.rows("SELECT count(*) FROM attempts WHERE outcome = 'rate_limit'") == [(0,)]


def test_a_lane_that_is_not_patient_ends_where_it_would_wait(tmp_path: Path) -> None:
    world = desk(tmp_path, config=settings_of(poll={"interval_s": 30}))
    world.script = lambda n: refused(429, "rate_limit_exceeded") if n == 4 else None
    lane = DirectLane(world.tools(), Selection(), build_workers(1))
    lane.prepare_run()
    assert lane.run_until_idle(patient=False) == Finish()
    assert lane.calls.made == 4
    assert world.states() == {"done": 3, "ready": 9}


def test_a_daily_pause_ends_when_the_calls_are_a_day_ago(tmp_path: Path) -> None:
    world = desk(tmp_path, 12, config=settings_of(direct={"daily_requests": 10}))
    began = world.clock.now
    assert world.direct() == Finish()
    assert DAY_S <= world.clock.now - began < DAY_S + 2 * HOUR


def test_the_headers_are_shown_and_little_is_warned_of(tmp_path: Path) -> None:
    world = desk(tmp_path, 30, apply_changes(SandboxSettings(), {"rpm": 30}), settings_of(logging={"quota_every": 10}))
    world.direct(4)
    kinds = list(world.kinds())
    assert kinds.count(events.RateLimitsSeen) == 3
    assert events.RateLimitLow in kinds
