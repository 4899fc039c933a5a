"""Following a job away from a terminal: by a clock that is passed in."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from batcher.commands.base.following import READ_S, JobFollower
from batcher.commands.base.session import Session
from batcher.core import events
from batcher.sandbox import SandboxSettings
from batcher.views.progress import PLAIN_EVERY_S, Display
from tests.support.world import World, config_with, write_table


class Follow:
    """A follower of a planned job whose clock moves by its sleeps alone, and what it has printed."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder, SandboxSettings(), config_with())
        self.world.plan(write_table(folder / "artists.csv", 4))
        self.file, self.now, self.is_ending = io.StringIO(), 0.0, False
        session = Session(self.world.config, self.world.store, Display(Console(file=self.file, width=400)), False)
        self.follower = JobFollower(session, self.pass_time, lambda: self.is_ending, lambda: self.now, lambda: self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def printed(self) -> list[str]:
        """Return the lines that are new, without their times."""
        lines = [line.partition(" ")[2] for line in self.file.getvalue().splitlines()]
        self.file.seek(0)
        self.file.truncate()
        return lines


@pytest.fixture
def follow(tmp_path: Path) -> Follow:
    return Follow(tmp_path)


def test_a_line_of_progress_comes_now_and_then_and_shows_what_has_come(follow: Follow) -> None:
    with follow.follower.show():
        follow.follower.sleep(PLAIN_EVERY_S - 1)
        assert follow.printed() == []
        follow.world.release()
        follow.world.act(once=True)
        follow.follower.sleep(2 * PLAIN_EVERY_S)
    lines = follow.printed()
    assert len(lines) == 2
    assert all(line.startswith("0 of 4 lines accepted (0%), 4 in flight, ") for line in lines)


def test_a_sleep_ends_where_the_user_asks_to_end(follow: Follow) -> None:
    with follow.follower.show():
        follow.is_ending = True
        follow.follower.sleep(600.0)
    assert follow.now == 0.0


def test_a_wait_is_shown_once_until_it_is_another_one(follow: Follow) -> None:
    with follow.follower.show():
        for reason in ("batches are running", "batches are running", "paused: quota"):
            follow.follower.report_event(events.WaitStarted(READ_S, reason))
        follow.follower.report_event(events.AnswersRecorded(3, 0))
        follow.follower.report_event(events.ShardRefused(1, "no room"))
    assert follow.printed() == ["waiting: batches are running", "waiting: paused: quota", "shard 1: refused: no room"]


def test_a_long_upload_shows_what_has_been_sent_before_it(follow: Follow) -> None:
    with follow.follower.show():
        follow.world.release()
        follow.world.act(once=True)
        follow.pass_time(PLAIN_EVERY_S)
        follow.follower.report_event(events.BytesSent(1_000))
    (line,) = follow.printed()
    assert line.startswith("0 of 4 lines accepted (0%), 4 in flight, ")
