"""The calls of the direct lane: in daemon threads, which never delay the end of the process."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import wait
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from batcher.core import events
from batcher.core.direct.decide import Delivery
from batcher.core.direct.workers import build_workers
from batcher.core.model import Endpoint
from batcher.errors import IllegalTransitionError
from batcher.lanes.direct.calls import CallRequest, RunningCalls, outcome_from_answer
from batcher.lanes.direct.lane import GROUP_S, DirectLane
from batcher.service.service import CompletionResponse
from batcher.state import direct_calls
from batcher.state.direct_calls import LineClaim, Selection
from tests.support.direct_kit import desk
from tests.support.world import ROOT, Clock

LONGEST_S = 60.0
"""Seconds for what takes none: a test fails after them instead of waiting for ever."""


def request(call: int) -> CallRequest:
    return CallRequest(call, f"a{call}", f"c{call}", "{}", 1, Endpoint.CHAT, {"call": call}, 1, None)


class Held:
    """A service that answers each call when the test releases it."""

    def __init__(self) -> None:
        self.released = {call: Event() for call in range(3)}

    def request_completion(self, _endpoint: str, body: Mapping[str, Any]) -> CompletionResponse:
        assert self.released[body["call"]].wait(LONGEST_S)
        return CompletionResponse(b"{}", {})


def test_outcomes_come_in_the_order_of_the_answers() -> None:
    service, clock = Held(), Clock()
    calls = RunningCalls(service, clock)  # type: ignore[arg-type]
    calls.start_calls([request(0), request(1), request(2)])
    assert not calls.wait_for_outcome(0.0)
    assert calls.collect_outcomes() == []
    for call in (2, 0):
        clock.now += 1.0
        service.released[call].set()
        wait([calls._futures[call]], LONGEST_S)
    assert calls.wait_for_outcome(LONGEST_S)
    assert [outcome.request.call for outcome in calls.collect_outcomes()] == [2, 0]
    assert (calls.running, calls.made) == (1, 3)
    service.released[1].set()
    assert calls.wait_for_outcome(LONGEST_S)
    assert [outcome.request.call for outcome in calls.collect_outcomes()] == [1]
    assert calls.running == 0


def test_half_a_character_in_an_answer_is_no_lost_answer() -> None:
    answer = CompletionResponse(rb'{"a": "\ud83d \u0000", "b": 1}', {})
    outcome = outcome_from_answer(request(0), 0.0, answer)
    assert outcome.reply == {"a": "\ufffd \ufffd", "b": 1}
    assert outcome.delivery is Delivery.ANSWERED


def test_answers_that_come_soon_after_one_another_are_recorded_together(tmp_path: Path) -> None:
    world = desk(tmp_path)
    tools = world.tools()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        world.clock.sleep(seconds)
        wait(lane.calls._futures, LONGEST_S)

    object.__setattr__(tools, "sleep", sleep)
    lane = DirectLane(tools, Selection(max_lines=6), build_workers(3))
    lane.prepare_run()
    lane.run_until_idle()
    recorded = [event for event in world.events if isinstance(event, events.AnswersRecorded)]
    assert recorded == [events.AnswersRecorded(bios=3, failures=0)] * 2
    assert slept == [GROUP_S] * 2


def test_an_interrupt_in_a_call_is_raised_by_the_lane_once_the_others_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = desk(tmp_path)
    tools = world.tools()
    complete, numbers = tools.service.request_completion, iter(range(100))

    def request_completion(endpoint: str, body: Mapping[str, object]) -> CompletionResponse:
        if next(numbers) == 1:
            raise KeyboardInterrupt
        return complete(endpoint, body)

    monkeypatch.setattr(tools.service, "request_completion", request_completion)
    lane = DirectLane(tools, Selection(), build_workers(3))
    lane.prepare_run()
    with pytest.raises(KeyboardInterrupt):
        lane.run_until_idle()
    assert lane.calls.running == 0
    states = world.states()
    assert states["in_direct"] == 1  # perhaps done: the next process finds out
    assert states["done"] == lane.calls.made - 1


def test_a_line_that_is_not_ready_is_never_claimed(tmp_path: Path) -> None:
    world = desk(tmp_path)
    with world.store.transaction("load") as tx:
        lines = direct_calls.load_candidates(tx, Selection(), 0, 2, 0.0).lines
    with world.store.transaction("claim") as tx:
        direct_calls.record_claims(tx, [LineClaim(lines[0], 1, 0.0)])
    both = [LineClaim(line, 1, 0.0) for line in lines]
    with pytest.raises(IllegalTransitionError, match="1 of 2 lines were claimed"), world.store.transaction("2") as tx:
        direct_calls.record_claims(tx, both)
    assert world.rows("SELECT count(*) FROM direct_calls") == [(1,)]


@pytest.mark.parametrize("change", ["version = version + 1", "line_hash = line_hash + 1", "line_hash = NULL"])
def test_a_line_that_was_planned_anew_meanwhile_is_not_asked_for_as_it_was(tmp_path: Path, change: str) -> None:
    world = desk(tmp_path, 3)
    with world.store.transaction("load") as tx:
        lines = direct_calls.load_candidates(tx, Selection(), 0, 3, 0.0).lines
        assert direct_calls.filter_ready_lines(tx, lines) == {line.artist_id: line for line in lines}
        tx.con.execute(f"UPDATE artists SET {change} WHERE artist_id = 'a00001'")
        ready = direct_calls.filter_ready_lines(tx, lines)
    assert ready.keys() == {"a00000", "a00002"}


HANGS = """
import os, signal, threading, time
from rich.console import Console
from batcher.commands.base.signals import InterruptHandler
from batcher.lanes.direct.calls import RunningCalls
from batcher.views.progress import Display
from tests.scenarios.direct.test_calls import request

class Hanging:
    def request_completion(self, endpoint, body):
        begun.set()
        threading.Event().wait()

begun = threading.Event()
signal.signal(signal.SIGINT, InterruptHandler(Display(Console(stderr=True))))
calls = RunningCalls(Hanging(), time.time)
calls.start_calls([request(0)])
begun.wait()
os.kill(os.getpid(), signal.SIGINT)
assert not calls.wait_for_outcome(0.1)
print("still waits", flush=True)
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
calls.wait_for_outcome(3600)
"""


def test_a_second_ctrl_c_ends_the_process_though_a_call_hangs() -> None:
    """Kill a process whose call never ends. A pool whose threads are joined at exit would wait for it for ever."""
    ended = subprocess.run(
        [sys.executable, "-c", HANGS], cwd=ROOT, timeout=LONGEST_S * 2, capture_output=True, text=True, check=False
    )
    assert ended.returncode == -signal.SIGINT, ended.stderr
    assert ended.stdout == "still waits\n"
    assert "KeyboardInterrupt" in ended.stderr
