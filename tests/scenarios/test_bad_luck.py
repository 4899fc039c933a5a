"""Disk full, folder read-only, clock set back, asleep for a day: said clearly, nothing lost, the next start goes on."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from batcher.core.actions import Finish
from batcher.errors import StateError, describe_disk_error
from batcher.lanes.batch.runner import BatchRunner
from batcher.sandbox import Faults, SandboxSettings, apply_changes
from batcher.state.db.store import Store
from tests.support.world import World, config_with, write_table

pytestmark = pytest.mark.slow("whole jobs on a disk that fails and a clock that jumps")

HOURS = 3600.0
LINES = 90
NO_SPACE = 28


class Disk:
    """A small file system of its own, that a test can fill and lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / "ballast"

    def fill(self, free: int) -> None:
        """Leaves so many bytes free."""
        self.ballast.unlink(missing_ok=True)
        room = shutil.disk_usage(self.path).free
        with self.ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, room - free))

    def clear(self) -> None:
        """Makes room again."""
        self.ballast.unlink(missing_ok=True)

    def remount(self, how: str) -> None:
        """how: ro, rw."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A tmpfs of 32 MB; skips where none can be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system of one's own can be mounted here: {mounted.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "-l", str(path)], check=True)


class Unlucky(World):
    """A world whose state stands on another disk than the service, and whose clock the service does not share."""

    def __init__(self, folder: Path, state: Path, **faults: object) -> None:
        settings = apply_changes(SandboxSettings(), {"faults": apply_changes(Faults(), faults)})
        super().__init__(folder, settings, config_with(poll={"interval_s": 600}, limits={"lines_per_shard": 30}))
        self.store = Store(state, self.clock, self.clock.sleep)
        self.skew = 0.0
        self.sandbox._clock = lambda: self.clock.now + self.skew

    def set_back(self, seconds: float) -> None:
        """Sets our clock back; the service's goes on."""
        self.clock.now -= seconds
        self.skew += seconds

    def begin(self) -> None:
        """Plans and releases."""
        self.plan(write_table(self.folder / "artists.csv", LINES, priorities=(1,)))
        self.release()

    def check_complete(self, executions: int = LINES) -> None:
        """All is done, and no line was executed twice."""
        assert self.states() == {"done": LINES}
        ledger = self.sandbox.ledger
        assert sum(ledger.execution_counts().values()) == executions


def refused(world: World) -> str:
    """One acting process that the disk stops; what it says."""
    try:
        world.act()
    except StateError as error:
        return str(error)
    except OSError as error:
        return describe_disk_error(error)
    return ""


# --- the disk -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("free", [0, 100_000, 300_000])
def test_a_disk_that_is_full_when_the_plan_is_made(tmp_path: Path, disk: Disk, free: int) -> None:
    world = Unlucky(tmp_path, disk.path / "state")
    disk.fill(free)
    with pytest.raises((StateError, OSError)) as caught:
        world.begin()
    told = describe_disk_error(caught.value) if isinstance(caught.value, OSError) else str(caught.value)
    assert "full" in told
    disk.clear()
    world.begin()
    assert world.act() == Finish()
    world.check_complete()


@pytest.mark.parametrize("free", [0, 300_000])
def test_a_disk_that_is_full_when_batches_are_sent(tmp_path: Path, disk: Disk, free: int) -> None:
    world = Unlucky(tmp_path, disk.path / "state")
    world.begin()
    disk.fill(free)
    told = refused(world)
    assert "full" in told or free
    disk.clear()
    assert sum(world.states().values()) == LINES
    assert world.act() == Finish()
    world.check_complete()


@pytest.mark.parametrize("free", [0, 150_000, 800_000])
def test_a_disk_that_is_full_when_results_come(tmp_path: Path, disk: Disk, free: int) -> None:
    world = Unlucky(tmp_path, disk.path / "state")
    world.begin()
    world.act(once=True)
    world.clock.sleep(6 * HOURS)
    disk.fill(free)
    told = refused(world)
    assert "full" in told or free
    assert sum(world.states().values()) == LINES
    disk.clear()
    assert world.act() == Finish()
    world.check_complete()


def test_a_state_folder_that_has_become_read_only(tmp_path: Path, disk: Disk) -> None:
    world = Unlucky(tmp_path, disk.path / "state")
    world.begin()
    world.act(once=True)
    world.clock.sleep(6 * HOURS)
    disk.remount("ro")
    told = refused(world)
    assert "read-only" in told
    assert sum(world.states().values()) == LINES  # it can still be looked at
    disk.remount("rw")
    assert world.act() == Finish()
    world.check_complete()


@pytest.mark.parametrize("command", [("pause",), ("retry",), ("poll",), ("plan",)])
def test_commands_say_what_is_wrong_with_a_read_only_folder(tmp_path: Path, disk: Disk, command: Sequence[str]) -> None:
    world = Unlucky(tmp_path, disk.path / "state")
    world.begin()
    config = tmp_path / "batcher.toml"
    root = Path(__file__).resolve().parents[2]
    config.write_text(
        f'[job]\npath = "{root}/jobs/bios"\ninput = "artists.csv"\n[model]\nmax_output_tokens = 600\n'
        f'[state]\ndir = "{disk.path}/state"\n',
        encoding="utf-8",
    )
    disk.remount("ro")
    environment = {**os.environ, "OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    done = subprocess.run(
        [sys.executable, "-m", "batcher", *command, "--config", str(config)],
        capture_output=True, text=True, check=False, env=environment, cwd=tmp_path,
    )  # fmt: skip
    disk.remount("rw")
    assert done.returncode == 2
    note, error = done.stderr.splitlines()
    assert note.startswith(f"the log {disk.path}/state/batcher.log cannot be written")
    assert error.startswith("batcher: ")
    assert "read-only" in error.lower()


def test_a_disk_fault_is_told_in_words_and_another_error_is_not_hidden() -> None:
    assert describe_disk_error(OSError(NO_SPACE, "No space left on device", "/a/b")).startswith(
        "/a/b: the disk is full"
    )
    assert describe_disk_error(OSError(NO_SPACE, "No space left on device")).startswith("the disk is full")
    assert describe_disk_error(OSError(2, "No such file or directory", "/a/b")) == ""
    assert describe_disk_error(OSError("without a number")) == ""


# --- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 9])
def test_a_clock_that_is_set_back_by_an_hour(tmp_path: Path, steps: int) -> None:
    world = Unlucky(tmp_path, tmp_path / "state", line_failures={"server": 0.1, "rate_limit": 0.05})
    world.begin()
    began = world.sandbox.now()
    world.act(once=True)
    for _ in range(steps):
        world.clock.sleep(600)
        world.act(once=True)
    world.set_back(HOURS)
    assert world.act() == Finish()
    failures = len(world.rows("SELECT 1 FROM attempts WHERE outcome NOT IN ('bio', 'repeated')"))
    assert failures > 0
    world.check_complete(executions=LINES)  # a line that failed with 500 or 429 was not billed
    assert world.sandbox.now() - began < 12 * HOURS


def test_a_clock_that_jumps_on_by_a_year_and_back(tmp_path: Path) -> None:
    world = Unlucky(tmp_path, tmp_path / "state", line_failures={"rate_limit": 0.2})
    world.begin()
    world.act(once=True)
    world.set_back(-365 * 24 * HOURS)
    world.act(once=True)
    world.set_back(365 * 24 * HOURS)
    assert world.act() == Finish()
    world.check_complete()


def test_a_pause_that_a_clock_ahead_has_set_is_over_when_the_clock_is_right(tmp_path: Path) -> None:
    world = Unlucky(tmp_path, tmp_path / "state")
    world.begin()
    world.set_back(-365 * 24 * HOURS)
    began = world.sandbox.now()
    world.sandbox.update_faults({"quota_gone_between": [began, began + 12 * HOURS]})
    world.act(once=True)
    world.clock.sleep(8 * HOURS)
    world.act(once=True)
    assert len(world.rows("SELECT 1 FROM pauses WHERE ended_at IS NULL")) == 1
    world.sandbox.update_faults({"quota_gone_between": None})
    world.set_back(365 * 24 * HOURS)
    assert world.act() == Finish()
    world.check_complete()
    assert world.sandbox.now() - began < 24 * HOURS
    assert not world.rows("SELECT 1 FROM pauses WHERE ended_at IS NULL")


def test_a_quota_failure_after_a_pause_of_a_clock_ahead_is_an_incident_of_its_own(tmp_path: Path) -> None:
    world = Unlucky(tmp_path, tmp_path / "state")
    world.begin()
    ahead = world.clock.now + 365 * 24 * HOURS
    with world.store.transaction("test") as tx:
        tx.fetch_all("insert_pause", scope="all", reason="quota", until=ahead + 300, tries=0, now=ahead)
        tx.fetch_all("end_pauses", reasons=["quota"], now=ahead + 400)
    began = world.sandbox.now()
    world.sandbox.update_faults({"quota_gone_between": [began, began + 2 * HOURS]})
    assert world.act() == Finish()
    world.check_complete()
    assert world.rows("SELECT 1 FROM pauses WHERE since < " + str(ahead))


def test_a_laptop_that_slept_for_a_day_while_its_batches_expired(tmp_path: Path) -> None:
    world = Unlucky(tmp_path, tmp_path / "state", expire_batches=(1, 3))
    world.begin()
    world.act(once=True)
    world.clock.sleep(30 * HOURS)
    assert world.act() == Finish()
    world.check_complete()
    expired = len(world.rows("SELECT 1 FROM attempts WHERE outcome = 'expired'"))
    assert 0 < expired < 60  # half of two batches was done, and was taken
    statuses = [b.status for b in world.sandbox.lifecycle.batches.values()]
    assert statuses.count("expired") == 2


def test_a_laptop_that_wakes_without_a_network(tmp_path: Path) -> None:
    world = Unlucky(tmp_path, tmp_path / "state")
    world.begin()
    world.act(once=True)
    world.clock.sleep(30 * HOURS)
    world.sandbox.update_faults({"reset_before": {"list": 1.0, "retrieve": 1.0, "content": 1.0}})
    world.act(once=True)
    world.clock.sleep(2 * HOURS)
    world.act(once=True)
    assert world.states() == {"in_batch": LINES}
    world.sandbox.update_faults({"reset_before": {}})
    assert world.act() == Finish()
    world.check_complete()


def test_waits_of_a_clock_that_was_ahead_are_over(tmp_path: Path) -> None:
    world = Unlucky(tmp_path, tmp_path / "state", line_failures={"rate_limit": 0.2})
    world.begin()
    began = world.sandbox.now()
    world.act(once=True)
    world.set_back(-365 * 24 * HOURS)
    world.clock.sleep(6 * HOURS)
    world.act(once=True)
    assert world.states()["waiting"] > 0
    world.set_back(365 * 24 * HOURS)
    runner = BatchRunner(world.tools())
    runner.prepare_run()
    assert runner.run_until_idle() == Finish()
    world.check_complete()
    assert world.sandbox.now() - began < 3 * 24 * HOURS
