"""The live view of real commands on a real pseudo-terminal, and what they print where there is none."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pytest
from rich.cells import cell_len

from batcher.sandbox import Sandbox, SandboxSettings, scaled_clock
from batcher.sandbox.web.server import running_sandbox
from tests.support.shop import Shop, open_small_shop, run
from tests.support.world import write_table

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HOME, INTO_SCREEN, OUT_OF_SCREEN, CURSOR = "\x1b[H", "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"
LONGEST_S = 60.0

SETTINGS = """
[job]
input = "artists.csv"
[limits]
lines_per_shard = 10
[poll]
interval_s = 0.2
[pilot]
lines = 0
[brake]
first_wave = 1
"""


class Terminal:
    """A command on a pseudo-terminal, and what it has written so far."""

    def __init__(self, shop: Shop, arguments: Sequence[str], size: tuple[int, int]) -> None:
        self._master, slave = pty.openpty()
        self.written = ""
        self.resize(*size)
        # A runner of tests may have set the size for its own terminal, which rich would take for that of any.
        unsized = {key: value for key, value in shop.environment.items() if key not in {"COLUMNS", "LINES"}}
        environment = {**unsized, "TERM": "xterm-256color", "TZ": "Europe/Berlin", "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "batcher", *arguments], cwd=shop.folder, env=environment,
            stdin=slave, stdout=slave, stderr=slave, process_group=0,
        )  # fmt: skip
        os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def resize(self, width: int, height: int) -> None:
        """Give the terminal another size, as a user who drags its corner."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def read_until(self, is_enough: Callable[[str], bool]) -> str:
        """Read on until what is new is enough; return that."""
        start, deadline = len(self.written), time.monotonic() + LONGEST_S
        while not is_enough(self.written[start:]):
            assert time.monotonic() < deadline, self.written[start:]
            if select.select([self._master], [], [], 0.5)[0]:
                self.written += os.read(self._master, 65536).decode()
        return self.written[start:]

    def end(self) -> int:
        """Read to the end of the command; return its exit code."""
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the other side of the terminal is closed
                break
            if not data:
                break
            self.written += data.decode()
        os.close(self._master)
        return self.process.wait()


@pytest.fixture
def slow_shop(tmp_path: Path) -> Iterator[Shop]:
    """Yield a shop whose batches take longer than any test; 40 lines in four of them are planned and released."""
    with open_small_shop(tmp_path / "made", 40, 10) as shop:
        sandbox = Sandbox(SandboxSettings(service_s=(9e4, 9e4)), tmp_path / "sandbox", scaled_clock(1.0))
        with running_sandbox(sandbox) as url:
            slow = Shop(shop.folder, sandbox, url)
            (slow.folder / "batcher.toml").write_text(SETTINGS, encoding="utf-8")
            write_table(slow.folder / "artists.csv", 40, priorities=(1, 2))
            run(slow, "plan")
            run(slow, "submit")
            yield slow


def frames_of(text: str) -> list[list[str]]:
    """Return the whole frames that a text draws, each as its rows without colours."""
    return [CONTROL.sub("", frame).split("\r\n") for frame in text.split(HOME)[1:-1]]


def has_frames(text: str) -> bool:
    return text.count(HOME) >= 4


def shows_size(height: int) -> Callable[[str], bool]:
    """Return whether a text ends with a frame of this height: one fills its screen."""
    return lambda text: [len(rows) for rows in frames_of(text)[-1:]] == [height]


def check_size(frames: list[list[str]], width: int, height: int) -> None:
    assert frames
    for rows in frames:
        assert len(rows) <= height, rows
        assert max(map(cell_len, rows)) <= width, rows


@pytest.mark.parametrize("command", [("poll",), ("status", "--watch")], ids=lambda words: words[0])
def test_the_screen_fits_its_terminal_also_once_that_is_resized(slow_shop: Shop, command: Sequence[str]) -> None:
    with Terminal(slow_shop, command, (80, 24)) as terminal:
        check_screen(terminal, command)


def check_screen(terminal: Terminal, command: Sequence[str]) -> None:
    first = terminal.read_until(has_frames)
    assert INTO_SCREEN in first
    frames = frames_of(first)
    check_size(frames, 80, 24)
    assert any("In flight: 4 batches" in row for row in frames[-1]), frames[-1]
    for width, height in ((120, 40), (60, 15)):
        terminal.resize(width, height)
        frames = frames_of(terminal.read_until(shows_size(height)))
        check_size([rows for rows in frames if len(rows) == height], width, height)
    os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == (3 if command == ("poll",) else 0)
    before, after = terminal.written.rsplit(OUT_OF_SCREEN, 1)
    assert CURSOR in before or CURSOR in after
    assert "Traceback" not in after
    left = CONTROL.sub("", after)
    assert "gpt-6-luna" in left  # the last state stays
    if command == ("poll",):
        assert "Ended by Ctrl-C" in left
        assert "Not done: 0 of 40 bios, 0 dead, 40 in flight" in left


def test_an_error_gives_the_terminal_back(slow_shop: Shop) -> None:
    with Terminal(slow_shop, ("poll",), (80, 24)) as terminal:
        terminal.read_until(has_frames)
        os.kill(terminal.process.pid, signal.SIGINT)
        os.kill(terminal.process.pid, signal.SIGINT)
        assert terminal.end() in {3, 130}
    assert terminal.written.count(INTO_SCREEN) == terminal.written.count(OUT_OF_SCREEN) == 1


@pytest.mark.parametrize("command", [("poll",), ("status", "--watch")], ids=lambda words: words[0])
def test_ctrl_z_gives_the_terminal_to_the_shell_until_the_command_goes_on(
    slow_shop: Shop, command: Sequence[str]
) -> None:
    with Terminal(slow_shop, command, (80, 24)) as terminal:
        terminal.read_until(has_frames)
        os.kill(terminal.process.pid, signal.SIGTSTP)
        left = terminal.read_until(lambda text: OUT_OF_SCREEN in text)
        assert CURSOR in left
        assert os.WIFSTOPPED(os.waitpid(terminal.process.pid, os.WUNTRACED)[1])
        os.kill(terminal.process.pid, signal.SIGCONT)
        again = terminal.read_until(has_frames)
        assert INTO_SCREEN in again
        check_size(frames_of(again), 80, 24)
        os.kill(terminal.process.pid, signal.SIGINT)
        assert terminal.end() == (3 if command == ("poll",) else 0)
    assert terminal.written.count(INTO_SCREEN) == terminal.written.count(OUT_OF_SCREEN) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_a_watch_gives_the_terminal_back(slow_shop: Shop, number: signal.Signals) -> None:
    with Terminal(slow_shop, ("status", "--watch"), (80, 24)) as terminal:
        terminal.read_until(has_frames)
        os.kill(terminal.process.pid, number)
        assert terminal.end() == 128 + number
    before, after = terminal.written.rsplit(OUT_OF_SCREEN, 1)
    assert CURSOR in before or CURSOR in after
    assert "gpt-6-luna" in CONTROL.sub("", after)


def test_away_from_a_terminal_each_line_has_a_time(tmp_path: Path) -> None:
    with open_small_shop(tmp_path, 20, 10) as shop:
        told = run(shop, "run")[1]
        events = [line for line in told.splitlines() if re.search(r"\bshard \d+: ", line)]
        times = [datetime.fromisoformat(line.split()[0]) for line in events]
        assert len(times) >= 4
        assert all(at.tzinfo is not None for at in times)
        out, _ = run(shop, "poll")
        assert out.splitlines()[-1].startswith("Done: 20 bios, 0 dead, $")


def test_json_is_one_object_a_line_and_the_answer_comes_last(tmp_path: Path) -> None:
    with open_small_shop(tmp_path, 20, 10) as shop:
        told = [json.loads(line) for line in run(shop, "run --json")[0].splitlines()]
    assert "states" in told[-1]
    events = [line for line in told if line.get("kind") == "event"]
    assert {"upload_started", "batch_created", "batch_settled"} <= {event["event"] for event in events}
    settled = next(event for event in events if event["event"] == "batch_settled")
    assert (settled["bios"], datetime.fromisoformat(settled["at"]).tzinfo is not None) == (10, True)


def test_a_watch_ends_with_its_job(tmp_path: Path) -> None:
    with open_small_shop(tmp_path, 20, 10) as shop:
        run(shop, "run")
        out, _ = run(shop, "status --watch")
        assert "20 of 20 lines accepted (100%)" in out
        told = [json.loads(line) for line in run(shop, "status --watch --json")[0].splitlines()]
        assert [line["states"] for line in told] == [{"done": 20}]
