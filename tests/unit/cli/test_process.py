"""Waiting for the lock of another process, by a clock that is passed in."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from batcher.cli.process import WORK_CHECK_S, InterruptHandler, WorkDoneElsewhere, _build_lock_sleep
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
