"""The direct lane where answers do not come: they are perhaps paid, and no line pays for an outage."""

from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from batcher.core.actions import Finish
from batcher.core.direct.workers import build_workers
from batcher.core.failures import ErrorDetails, FailureClass
from batcher.core.model import Failure
from batcher.errors import JobError
from batcher.job.job import Job
from batcher.lanes.direct.lane import DirectLane
from batcher.sandbox import SandboxSettings, apply_changes
from batcher.sandbox.base.settings import Faults
from batcher.service.service import CallUnknown, CallUnsent, CompletionResponse
from batcher.state.direct_calls import Selection
from tests.support.direct_kit import Scripted, desk, refused, settings_of
from tests.support.world import START


def test_a_lost_answer_is_asked_for_once_more_and_counted(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.script = lambda n: CallUnknown(ErrorDetails(message="timed out")) if n == 1 else None
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
    assert world.rows("SELECT count(*) FROM direct_calls WHERE artist_id = 'a00001'") == [(2,)]  # once more, no oftener


def test_answers_that_are_suddenly_of_no_use_stop_the_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, judged = desk(tmp_path, 90), iter(range(1000))
    accept = Job._accept_bio

    def refuse_later(job: Job, artist: Any, bio: Any) -> Any:
        if next(judged) < 20:
            return accept(job, artist, bio)
        return None, Failure(FailureClass.UNUSABLE, "not_accepted", "no")

    monkeypatch.setattr(Job, "_accept_bio", refuse_later)
    ended = world.direct(2)
    assert "gave unusable answers (not_accepted)" in ended.problem
    assert world.states()["done"] == 20
    assert next(judged) <= 20 + 3 * (21 + 2)  # three tries of one more than half, and what was under way


def test_an_outage_is_waited_for_and_no_line_pays(tmp_path: Path) -> None:
    """Ten minutes of 503, as many of dropped connections, and of a proxy's page where an answer should be."""
    world = desk(tmp_path, 40)
    kinds: list[Callable[[], Exception | CompletionResponse]] = [
        lambda: CallUnknown(ErrorDetails(503, "", "", "overloaded")),
        lambda: CallUnknown(ErrorDetails(message="disconnected")),
        lambda: CompletionResponse(b"<html>", {}),
    ]

    def script(n: int) -> Exception | CompletionResponse | None:
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
    sent_at: list[float] = []

    def script(_n: int) -> Exception | None:
        sent_at.append(world.clock.now)
        return CallUnknown(ErrorDetails(503, "", "", "later"), 120.0) if len(sent_at) == 1 else None

    world.script = script
    world.direct(1)
    assert sent_at[1] - sent_at[0] >= 120


@pytest.mark.parametrize(("status", "dies"), [(409, False), (425, False), (413, True)])
def test_a_refusal_that_says_later_is_no_fault_of_the_line(tmp_path: Path, status: int, dies: bool) -> None:
    world = desk(tmp_path, 30)
    world.script = lambda n: refused(status, "") if n == 10 else None
    assert world.direct(1) == Finish()
    assert world.states() == ({"done": 29, "dead": 1} if dies else {"done": 30})


def test_a_poison_line_does_not_hold_the_others_up(tmp_path: Path) -> None:
    faults = apply_changes(Faults(), {"poison": ["a00000"]})
    world = desk(
        tmp_path, 30, apply_changes(SandboxSettings(), {"faults": faults}), settings_of(direct={"store": True})
    )
    assert world.direct(1) == Finish()
    assert world.states() == {"done": 29, "dead": 1}
    assert world.clock.now - START < 1_500


def test_what_has_come_is_recorded_though_the_jobs_code_fails(tmp_path: Path) -> None:
    """Render a line otherwise than it was planned: that ends the lane, and loses no answer in progress."""
    world = desk(tmp_path)
    lane = DirectLane(world.tools(), Selection(), build_workers(3))
    lane.prepare_run()
    lane.run_round()
    with world.store.transaction("spoil") as tx:
        tx.con.execute("UPDATE artists SET line_hash = 1 WHERE artist_id = 'a00011'")
    with pytest.raises(JobError, match="renders artist a00011 otherwise"):
        lane.run_until_idle()
    states = world.states()
    assert states["done"] >= 3
    assert "in_direct" not in states
    assert set(world.sandbox.ledger.attempt_counts().values()) == {1}


def test_an_answer_that_the_jobs_code_fails_on_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = desk(tmp_path, 3)

    def judge(*_: object) -> None:
        raise JobError("accept fails")

    monkeypatch.setattr(Job, "validate_answer", judge)
    with pytest.raises(JobError, match="accept fails"):
        world.direct(2)
    assert world.states() == {"held": 2, "ready": 1}
    assert world.rows("SELECT count(*) FROM attempts WHERE cost_usd > 0") == [(2,)]


def test_what_never_went_out_costs_nothing(tmp_path: Path) -> None:
    world = desk(tmp_path)
    world.script = lambda n: CallUnsent(ErrorDetails(message="no connection")) if n <= 3 else None
    assert world.direct(1) == Finish()
    assert world.states() == {"done": 12}
    assert world.rows("SELECT count(*) FROM attempts WHERE outcome <> 'bio'") == [(0,)]
    assert world.clock.now - START >= 0.9 * (0.5 + 1 + 2)  # quickly at first


@pytest.mark.parametrize("stored", [True, False])
def test_a_call_whose_process_died_is_looked_up_where_answers_are_stored(tmp_path: Path, stored: bool) -> None:
    world = desk(tmp_path, config=settings_of(direct={"store": stored}))
    lane = DirectLane(world.tools(), Selection(), build_workers(3))
    lane.prepare_run()
    lane.run_round()
    assert len(wait(lane.calls._futures, 60).done) == 3  # answered and billed, but not recorded
    assert world.direct() == Finish()
    assert world.states() == {"done": 12}
    executions = sorted(world.sandbox.ledger.attempt_counts().values())
    assert executions == ([1] * 12 if stored else [1] * 9 + [2] * 3)
    lost = world.rows("SELECT count(*) FROM attempts WHERE outcome = 'lost'")
    assert lost == [(0,)] if stored else [(3,)]


def test_ctrl_c_ends_the_search_for_stored_answers(tmp_path: Path) -> None:
    world = desk(tmp_path, config=settings_of(direct={"store": True}))
    lane = DirectLane(world.tools(), Selection(), build_workers(1))
    lane.prepare_run()
    lane.run_round()
    assert lane.calls.wait_for_outcome(60)
    tools = world.tools()
    looked: list[str] = []

    def find_stored_completion(*_: object) -> bytes | None:
        looked.append("once")
        raise CallUnknown(ErrorDetails(503, "", "", "later"))

    object.__setattr__(tools, "service", Scripted(tools.service, None, ""))
    setattr(tools.service, "find_stored_completion", find_stored_completion)  # noqa: B010
    object.__setattr__(tools, "interrupted", lambda: len(looked) >= 2)
    with pytest.raises(KeyboardInterrupt):
        DirectLane(tools, Selection(), build_workers(1)).prepare_run()
    assert looked == ["once", "once"]
    assert world.direct() == Finish()
