"""Ctrl-C before a command has begun: it ends the process at once, and nothing is left to clean up.

Where a KeyboardInterrupt is raised while modules are imported, Python may swallow it or print a traceback.
"""

import os
import signal
from types import FrameType

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the number of the signal, as in shells."""
INTERRUPTED_SENTENCE = "interrupted; run the same command again to go on"
"""What is said then."""
LAST_WORDS = f"batcher: {INTERRUPTED_SENTENCE}\n"
"""The same as a line of stderr, where there is nothing yet to print it with."""


def end_at_once(_number: int, _frame: FrameType | None) -> None:
    """End the process: the handler of Ctrl-C until a command begins."""
    os.write(2, LAST_WORDS.encode())
    os._exit(INTERRUPTED)


def install_early_end() -> None:
    """Have Ctrl-C end the process at once, unless the caller ignores it, as a shell does for what runs beside it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)


def begin_command() -> None:
    """Have Ctrl-C raise KeyboardInterrupt from now on: a command ends or undoes what it has begun."""
    if signal.getsignal(signal.SIGINT) is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_quietly() -> None:
    """Have Ctrl-C end a process in which all is done and said: Python would end with a traceback."""
    if signal.getsignal(signal.SIGINT) in {signal.default_int_handler, end_at_once}:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
