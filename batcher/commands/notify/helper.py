"""The process that sends one notice: it outlives the command that has started it, and is bounded itself.

It reads its order as JSON on stdin. A notifier that hangs is killed with all that it has started; what fails is one
line in the log of the job, and is not tried again.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from batcher.disk.log_files import append_line
from batcher.views.log_lines import LogLine, format_log_line

TIMEOUT_S = 30.0
"""Seconds that a notifier has."""
BY_URLS = (sys.executable, "-P", "-m", "batcher.commands.notify.urls")
"""The process that sends to urls; -P: nothing in the folder of the user is taken for a module."""


class Order(NamedTuple):
    """What a helper is to do. log: the file that failures are written to."""

    notice: dict[str, object]
    command: str
    urls: list[str]
    log: str
    timeout_s: float = TIMEOUT_S


def send_notice(order: Order) -> list[str]:
    """Send a notice by every way of an order; return what failed, as parts of sentences."""
    ways: list[tuple[str, str | Sequence[str], object]] = []
    if order.command:
        ways.append(("[notify] command", order.command, order.notice))
    if order.urls:
        ways.append(("[notify] urls", BY_URLS, {"notice": order.notice, "urls": order.urls}))
    failed = []
    for name, command, data in ways:
        why = run_bounded(command, json.dumps(data), order.timeout_s)
        if why:
            failed.append(f"{name} {why}")
    return failed


def run_bounded(command: str | Sequence[str], data: str, timeout_s: float) -> str:
    """Run a command with some data on its stdin; return how it failed, "" where it did not.

    command: a line for the shell, or the words of a command. timeout_s: seconds after which it is killed, with all
    that it has started.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - the line is of batcher.toml, or our own module
            command,
            shell=isinstance(command, str),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
    except OSError as error:
        return f"could not be started ({error.strerror})"
    try:
        process.communicate(data + "\n", timeout=timeout_s)
    except subprocess.TimeoutExpired:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"was killed, as it took more than {timeout_s:g} s"
    return f"failed with {process.returncode}" if process.returncode else ""


def write_failure(order: Order, failed: str) -> None:
    """Write into the log that a notice did not go out; a log that cannot be written is left alone."""
    sentence = f"the notice {order.notice['kind']!r} did not go out: {failed}"
    line = LogLine(datetime.now(UTC).astimezone(), "warning", "notify", os.getpid(), sentence)
    with suppress(OSError):
        append_line(Path(order.log), format_log_line(line).encode() + b"\n")


def main() -> None:
    """Send the notice of the order on stdin."""
    order = Order(**json.load(sys.stdin))
    for failed in send_notice(order):
        write_failure(order, failed)


if __name__ == "__main__":
    main()
