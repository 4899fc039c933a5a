"""The key of another project stops the job, and the job goes on with the right key."""

from pathlib import Path

import pytest

from batcher.core import events
from batcher.core.actions import Finish
from batcher.sandbox import Sandbox, SandboxSettings
from tests.support.protocol_kit import CREATE, assert_paid_once, lost, nth, trial

pytestmark = pytest.mark.slow("whole jobs, interrupted in the middle of each kind of call")


def test_the_key_of_another_project_stops_the_job_and_loses_nothing(tmp_path: Path) -> None:
    it = trial(tmp_path, settings={"service_s": (3000, 3000)})
    it.act(once=True)
    ours, it.sandbox = it.sandbox, Sandbox(SandboxSettings(), tmp_path / "other", it.clock)
    ended = it.act()
    assert isinstance(ended, Finish) and "OPENAI_API_KEY of the project" in ended.problem
    assert it.states() == {"in_batch": 6}
    it.sandbox = ours
    it.clock.sleep(4000)
    assert it.act() == Finish()
    assert_paid_once(it, 6)


def test_a_lost_create_and_then_the_key_of_another_project(tmp_path: Path) -> None:
    it = trial(tmp_path)
    it.rule = nth(*CREATE, 1, lost)
    it.interrupted = lambda: events.CallFailed in it.kinds()
    it.act()
    it.interrupted = lambda: False
    ours, it.sandbox = it.sandbox, Sandbox(SandboxSettings(), tmp_path / "other", it.clock)
    ended = it.act()
    assert isinstance(ended, Finish) and "the file that we have uploaded for shard 1" in ended.problem
    it.sandbox = ours
    assert it.act() == Finish()
    assert_paid_once(it, 6)
