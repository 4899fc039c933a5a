"""Two processes on one state: one acts, the other waits and says so; a stopped one loses nothing and does no harm."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from batcher.disk.locks import lane_lock
from batcher.errors import StateError
from tests.support.kill_harness import Killing, Scenario, wait_until

SLOW = Scenario(settings={"service_s": [600, 900]})


def holds_state(process: "subprocess.Popen[bytes]") -> bool:
    """Return whether a process has the state file open."""
    folder = Path(f"/proc/{process.pid}/fd")
    return any(link.is_symlink() and "state.duckdb" in str(link.readlink()) for link in folder.iterdir())


def stop_between_transactions(process: "subprocess.Popen[bytes]") -> None:
    """Stop a process at a moment at which it does not hold the state file."""

    def stopped() -> bool:
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: " T " in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2][:4])
        if not holds_state(process):
            return True
        process.send_signal(signal.SIGCONT)
        return False

    wait_until(stopped)


def says(path: Path, text: str) -> Callable[[], bool]:
    return lambda: path.exists() and text in path.read_text()


def test_a_second_run_waits_for_a_stopped_one_and_nothing_is_sent_twice(tmp_path: Path) -> None:
    """The owner sleeps for longer than every grace; the other waits, for a stopped process still holds its lock."""
    job = Killing(tmp_path, SLOW)
    second_says = tmp_path / "second.txt"
    with job.serving():
        first = job.start(("run",))
        wait_until(lambda: len(job.sandbox.lifecycle.batches) > 0)
        stop_between_transactions(first)
        second = job.start(("run",), output=second_says)
        wait_until(says(second_says, f"process {first.pid} (`batcher run`, since "))
        job.sandbox.advance_clock(3_600)  # the batches end, and every grace passes
        first.send_signal(signal.SIGCONT)
        assert job.finish(first) == 0
        assert job.finish(second) == 0
    outcome = job.outcome()
    assert set(outcome.states.values()) == {"done"}
    assert set(outcome.executions.values()) == {1}
    assert len(job.sandbox.lifecycle.batches) == 2


def test_two_runs_and_a_status_at_once_end_well(tmp_path: Path) -> None:
    job = Killing(tmp_path, SLOW)
    with job.serving():
        assert job.finish(job.start(("plan",))) == 0
        started = [job.start(command) for command in (("run",), ("run",), ("status",), ("status", "--json"))]
        assert [job.finish(process) for process in started] == [0, 0, 0, 0], job.output.read_text()
    outcome = job.outcome()
    assert set(outcome.states.values()) == {"done"}
    assert set(outcome.executions.values()) == {1}


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    job = Killing(tmp_path, SLOW)
    with job.serving():
        first = job.start(("run",))
        wait_until(lambda: len(job.sandbox.lifecycle.batches) > 0)
        first.kill()
        first.wait()
        assert job.finish(job.start(("run",))) == 0
    assert "is at work on this state" not in job.output.read_text()
    assert set(job.outcome().executions.values()) == {1}


def test_an_interrupted_submit_goes_on_with_the_same_shards(tmp_path: Path) -> None:
    job = Killing(tmp_path, Scenario(lines=24, per_shard=6, faults={"slow_s": 0.1}, settings=SLOW.settings))

    def planned() -> int:
        return len(job.query("SELECT 1 FROM shards WHERE state = 'planned'"))

    with job.serving():
        assert job.done(("plan",)) == 0
        first = job.start(("submit", "--shards", "3"))
        wait_until(lambda: len(job.sandbox.lifecycle.batches) > 0)
        first.send_signal(signal.SIGINT)
        assert job.finish(first) == 3
        assert planned() == 1
        assert job.done(("submit", "--shards", "3")) == 0
        assert planned() == 1
        assert len(job.sandbox.lifecycle.batches) == 3
        assert job.done(("submit", "--shards", "3")) == 0
        assert planned() == 0


def test_the_one_that_waits_is_told_once_and_for_whom(tmp_path: Path) -> None:
    told: list[str] = []
    with (
        lane_lock(tmp_path, "batch", told.append, lambda _s: None, None),
        pytest.raises(StateError, match="is at work"),
        lane_lock(tmp_path, "batch", told.append, lambda _s: None, 1.0),
    ):
        pass
    assert told == [f"process {os.getpid()} is at work on this state; waiting for it to end"]


@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "folder"])
def test_a_lock_that_is_no_file_is_refused_and_nothing_written_through_it(tmp_path: Path, kind: str) -> None:
    precious, lock = tmp_path / "precious.txt", tmp_path / "batch.lock"
    precious.write_text("precious")
    match kind:
        case "link":
            lock.symlink_to(precious)
        case "link to nothing":
            lock.symlink_to(tmp_path / "new.txt")
        case "pipe":
            os.mkfifo(lock)
        case _:
            lock.mkdir()
    with (
        pytest.raises(StateError, match=r"batch\.lock is not a file of Batcher's .* remove it"),
        lane_lock(tmp_path, "batch", lambda _why: None, lambda _s: None, None),
    ):
        pass
    assert precious.read_text() == "precious"
    assert not (tmp_path / "new.txt").exists()
