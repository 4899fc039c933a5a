"""Waiting for the lock of another process, and the signals that ask to end: by a clock that is passed in."""

import io
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from batcher.commands.base import process
from batcher.commands.base.answer import EndingSignal
from batcher.commands.base.process import WORK_CHECK_S, WorkDoneElsewhere, _build_lock_sleep
from batcher.commands.base.signals import InterruptHandler, handled_signals
from batcher.core.failures import ErrorDetails
from batcher.errors import SetupError
from batcher.service.profiles import load_profile
from batcher.service.service import CallRefused
from batcher.views.progress import Display


def test_the_work_of_the_owner_is_checked_once_a_second() -> None:
    now = 100.0
    checks: Iterator[bool] = iter([False, True])

    def clock() -> float:
        return now

    handler = InterruptHandler(Display(Console(file=io.StringIO())))
    sleep = _build_lock_sleep(handler, lambda: next(checks), clock)
    for _ in range(5):
        sleep(0.0)  # no time has passed: nothing is checked
    now += WORK_CHECK_S
    sleep(0.0)
    sleep(0.0)
    now += WORK_CHECK_S
    with pytest.raises(WorkDoneElsewhere):
        sleep(0.0)
    assert next(checks, None) is None


def test_ctrl_c_ends_the_wait_for_the_lock() -> None:
    handler = InterruptHandler(Display(Console(file=io.StringIO())))
    handler(2, None)
    with pytest.raises(KeyboardInterrupt):
        _build_lock_sleep(handler, lambda: False, lambda: 0.0)(10.0)


def handler_for(ending: EndingSignal) -> InterruptHandler:
    return InterruptHandler(Display(Console(file=io.StringIO())), ending)


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 3, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM"), (signal.SIGHUP, 129, "SIGHUP")],
)
def test_each_signal_ends_at_a_safe_point_and_has_its_exit_code(number: signal.Signals, code: int, said: str) -> None:
    ending, before = EndingSignal(), signal.getsignal(number)
    assert ending.compute_exit_code(3) == 3
    handler = handler_for(ending)
    signal.signal(number, signal.SIG_DFL)
    try:
        with handled_signals(handler):
            signal.raise_signal(number)
            assert handler.is_requested()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert (ending.compute_exit_code(3), ending.describe()) == (code, said)


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    """Heed `nohup`, which ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        handler = handler_for(EndingSignal())
        with handled_signals(handler):
            signal.raise_signal(signal.SIGHUP)
        assert not handler.is_requested()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_closed_is_written_to_no_more() -> None:
    """Fail at no write afterwards: what is under way would be lost, and paid for again."""
    master, slave = pty.openpty()
    kept = os.dup(2)
    try:
        os.dup2(slave, 2)
        with open(slave, "w", encoding="utf-8", closefd=False) as file:
            handler = InterruptHandler(Display(Console(file=file, force_terminal=True)), EndingSignal())
            os.close(master)
            with pytest.raises(OSError, match="Input/output error"):
                os.write(2, b"x")
            handler(signal.SIGHUP, None)
            assert os.write(2, b"x") == 1
            os.dup2(2, slave)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(slave)


class Refusing:
    """A service without a Batch API."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check_access(self) -> None:
        self.asked.append("batches")
        raise CallRefused(ErrorDetails(404, message="File Not Found"))

    def check_key(self) -> None:
        self.asked.append("key")


def test_the_direct_lane_starts_where_no_batch_api_is() -> None:
    service: Any = Refusing()
    assert process._check_service(service, known=False, lane="direct", profile=load_profile())
    assert service.asked == ["key"]
    with pytest.raises(SetupError, match="does not speak the Batch API"):
        process._check_service(service, known=False, lane="batch", profile=load_profile())


def test_a_redirect_is_told_as_a_wrong_address() -> None:
    service: Any = Refusing()
    service.check_key = lambda: (_ for _ in ()).throw(CallRefused(ErrorDetails(308, message="a redirect")))
    with pytest.raises(SetupError, match="a redirect; check OPENAI_BASE_URL"):
        process._check_service(service, known=True, lane="direct", profile=load_profile())


class InterruptedConsole(Console):
    """A console that is half-way through a line: what it is made of cannot be used now."""

    def print(self, *_objects: Any, **_options: Any) -> None:
        """Fail as rich does where a signal comes while it imports a module of its own."""
        raise ImportError("cannot import name 'EMOJI' from partially initialized module 'rich._emoji_codes'")


def test_a_signal_while_a_line_is_printed_is_told_without_printing(tmp_path: Path) -> None:
    path = tmp_path / "stderr.txt"
    with path.open("w", encoding="utf-8") as file:
        handler = InterruptHandler(Display(InterruptedConsole(file=file)), EndingSignal())
        handler(signal.SIGINT, None)
    assert handler.is_requested()
    assert path.read_text(encoding="utf-8") == "ending at the next safe point; once more to end at once\n"


AT_ANY_MOMENT = """
import sys
from batcher.commands.base.signals import EndRequest


def ask_at_step(step):
    request, steps = EndRequest(), 0

    def count(_frame, _event, _value):
        nonlocal steps
        steps += 1
        if steps == step:
            request.set()
        return count

    sys.settrace(count)
    request.wait(0.001)
    sys.settrace(None)
    assert steps < step or request.wait(60)
    return steps >= step


step = 1
while ask_at_step(step):
    step += 1
print(step > 4)
"""


def test_a_signal_at_any_moment_of_a_wait_ends_it() -> None:
    """In a process of its own: where it takes a lock that the interrupted code holds, it hangs for good."""
    words = [sys.executable, "-c", AT_ANY_MOMENT]
    ended = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("True\n", "")
