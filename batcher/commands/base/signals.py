"""Signals from a terminal and from what starts commands: Ctrl-C, SIGTERM and SIGHUP end a command, Ctrl-Z stops it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import IO

from batcher.commands.base.answer import ENDING, EndingSignal
from batcher.views.progress import Display, is_in_foreground

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a process to end: Ctrl-C, and what systemd, docker and a closed terminal send. Without a handler the last
two end it within any statement, and what is under way in the direct lane is paid for once more."""
LEAVE_SCREEN, ENTER_SCREEN = b"\x1b[?1049l\x1b[?25h", b"\x1b[?1049h\x1b[?25l"
"""What gives a terminal back to its shell, with a cursor, and what takes it again."""


def find_terminals() -> Sequence[int]:
    """Return which of stdout and stderr are terminals, as descriptors."""
    return [fd for fd in (1, 2) if os.isatty(fd)]


def leave_lost_terminals(terminals: Sequence[int]) -> None:
    """Write to nowhere what would go to a terminal that was closed: there each write fails."""
    for fd in terminals:
        if not os.isatty(fd):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, fd)
            os.close(nowhere)


class EndRequest:
    """The wish that a command ends, which a signal, a callback or another thread may express at any moment.

    `threading.Event` does not serve: a signal that comes while the main thread is within `wait` finds the lock taken by
    the code that it interrupts, and the process hangs for good. `SimpleQueue.put` is made to be called so.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._wakes: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Express the wish, and wake who waits."""
        self._is_set = True
        self._wakes.put(None)

    def is_set(self) -> bool:
        """Return whether the wish was expressed."""
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait until the wish is expressed, `seconds` at most; return whether it was."""
        if not self._is_set:
            with suppress(Empty):
                self._wakes.get(timeout=max(0.0, seconds))
        return self._is_set


class InterruptHandler:
    """The handler of the signals: the first requests the end at the next safe point, a second one ends at once."""

    def __init__(self, display: Display, ending: EndingSignal = ENDING, requested: EndRequest | None = None) -> None:
        """requested: is set when the end is requested, by a signal or by its other holders; None: one of its own."""
        self._request = requested or EndRequest()
        self._display, self._ending = display, ending
        self._terminals = find_terminals()

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle the signal. Raises KeyboardInterrupt on the second one."""
        self._ending.record_signal(number)
        if self._request.is_set():
            raise KeyboardInterrupt
        self._request.set()
        leave_lost_terminals(self._terminals)
        with suppress(OSError):  # whoever reads may be gone, which ends nothing that is under way
            self._display.print_note("ending at the next safe point; once more to end at once")

    def is_requested(self) -> bool:
        """Return whether the user asked to end."""
        return self._request.is_set()

    def sleep(self, seconds: float) -> None:
        """Sleep, or until the user asks to end."""
        self._request.wait(seconds)

    def sleep_or_interrupt(self, seconds: float) -> None:
        """Sleep where nothing was begun yet. Raises KeyboardInterrupt when the user asks to end."""
        if self._request.wait(seconds):
            raise KeyboardInterrupt


@contextmanager
def handled_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have the handler called for the signals while the context lasts.

    SIGTERM and SIGHUP stay ignored where the caller ignores them: `nohup` does, so that a closed terminal ends nothing.
    """
    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    handled = [n for n in ENDING_SIGNALS if n == signal.SIGINT or before[n] is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number] or signal.SIG_DFL)


@contextmanager
def interrupted_by_signals(ending: EndingSignal = ENDING) -> Iterator[None]:
    """Raise KeyboardInterrupt for SIGTERM and SIGHUP too while the context lasts: for a command that only looks."""
    terminals = find_terminals()

    def interrupt(number: int, _frame: FrameType | None) -> None:
        ending.record_signal(number)
        leave_lost_terminals(terminals)
        raise KeyboardInterrupt

    with handled_signals(interrupt):
        yield


@contextmanager
def suspendable_screen(terminal: IO[str]) -> Iterator[None]:
    """Give a terminal back to its shell at Ctrl-Z, and take it again when the command goes on in the foreground.

    terminal: the file on which a screen is shown while the context lasts. A stop that the caller ignores stays
    ignored. Nothing happens outside the main thread, which alone can handle signals.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTSTP) is not signal.SIG_DFL:
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        _write_control(terminal, LEAVE_SCREEN)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)  # it returns when the process goes on
        signal.signal(number, stop)

    def go_on(_number: int, _frame: FrameType | None) -> None:
        if is_in_foreground(terminal):
            _write_control(terminal, ENTER_SCREEN)

    signal.signal(signal.SIGTSTP, stop)
    before = signal.signal(signal.SIGCONT, go_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGCONT, before)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)


def _write_control(terminal: IO[str], sequence: bytes) -> None:
    with suppress(OSError):  # a terminal that is gone needs nothing
        os.write(terminal.fileno(), sequence)
