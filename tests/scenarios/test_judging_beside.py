"""Judging beside a lane that works: between any two of its calls, and while the user's check runs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batcher.core.actions import Finish
from batcher.review.judging import Judgement, judge_again
from batcher.state import wishes
from tests.scenarios.test_judging import check, judged_by, nobody, some, world_of
from tests.support.direct_kit import Desk
from tests.support.world import bios_job

pytestmark = pytest.mark.slow("a whole job for each place at which the judge may come")

TWICE = {"unusable": {"tries": 1}}


class Beside:
    """The service, before one of whose calls something else is done."""

    def __init__(self, service: Any, nth: int, act: Callable[[], object]) -> None:
        self._service, self._nth, self._act, self.calls = service, nth, act, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._service, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == self._nth:
                self._act()
            return found(*args, **kwargs)

        return call


class Judged(Desk):
    """A job whose check is too strict, and somebody who judges with a better one before the n-th call of the lane."""

    nth = 0
    at_call = True
    """Whether it is the n-th call before which somebody judges; else the n-th sleep: direct calls have threads."""
    naps = 0

    def tools(self) -> Any:
        tools = super().tools()
        if self.at_call:
            return replace(tools, service=Beside(tools.service, self.nth, self.judge))
        return replace(tools, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.naps += 1
        if self.naps == self.nth:
            self.judge()
        self.clock.sleep(seconds)

    def judge(self) -> None:
        judge_again(self.store, judged_by(nobody), False, False, lambda _: None)
        check(self)


def judged_beside(folder: Path, nth: int) -> Judged:
    world = world_of(folder, some, retry=TWICE)
    beside = Judged.__new__(Judged)
    beside.__dict__.update(world.__dict__)
    beside.nth = nth
    return beside


def assert_nothing_is_lost(world: Judged) -> None:
    check(world)
    assert set(world.states()) <= {"done", "dead"}
    world.judge()
    assert world.states() == {"done": 12}
    executions = world.sandbox.ledger.execution_counts()
    assert max(executions.values()) <= 2 and len(executions) == 12
    paid = world.rows("SELECT count(*) FROM attempts WHERE outcome IN ('bio', 'repeated', 'unusable')")
    assert paid == [(sum(executions.values()),)]


@pytest.mark.parametrize("nth", range(1, 40, 3))
def test_a_poll_goes_on_whenever_somebody_judges(tmp_path: Path, nth: int) -> None:
    world = judged_beside(tmp_path, nth)
    assert world.act() == Finish()
    assert_nothing_is_lost(world)


@pytest.mark.parametrize("nth", range(1, 14, 3))
def test_a_direct_lane_goes_on_whenever_somebody_judges(tmp_path: Path, nth: int) -> None:
    world = judged_beside(tmp_path, nth)
    world.at_call = False
    assert world.direct(workers=1) == Finish()
    assert_nothing_is_lost(world)


def test_what_was_sent_while_it_was_judged_is_left_alone_and_told(tmp_path: Path) -> None:
    world = world_of(tmp_path, some)
    world.act()
    with world.store.transaction("retry") as tx:
        wishes.retry_lines(tx, wishes.RetryFilter())
    came: list[str] = []

    def accept(artist: Any, _bio: Any) -> str | None:
        if not came:  # while the check runs, a poll sends the lines of which it judges the answers
            came.append(artist.artist_id)
            world.act(once=True)
        return None

    made = judge_again(world.store, replace(bios_job(), accept=accept), False, False, lambda _: None)
    assert (made.accepted, made.counts.changed_meanwhile) == (0, 3)
    assert world.states() == {"done": 9, "in_batch": 3}
    world.job = judged_by(nobody)
    assert world.act() == Finish()
    assert world.states() == {"done": 12}
    check(world)


def test_a_bio_that_was_revoked_meanwhile_is_not_revoked_twice(tmp_path: Path) -> None:
    world = world_of(tmp_path, nobody)
    world.act()
    came: list[Judgement] = []

    def accept(artist: Any, _bio: Any) -> str | None:
        if not came:
            came.append(judge_again(world.store, judged_by(some), True, False, lambda _: None))
        return "too plain" if some(artist.artist_id) else None

    made = judge_again(world.store, replace(bios_job(), accept=accept), True, False, lambda _: None)
    assert (came[0].revoked, made.revoked, made.counts.changed_meanwhile) == (3, 0, 3)
    assert world.states() == {"done": 9, "held": 3}
    assert world.rows("SELECT count(*) FROM former_bios") == [(3,)]
    check(world)
