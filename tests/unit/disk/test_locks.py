"""The lock of a lane: one owner, and what is said where a folder takes no lock."""

import os

import pytest

from batcher.disk.locks import LockOwner, find_lock_owner, lane_lock
from batcher.errors import StateError
from batcher.state.db.store import Store
from tests.support.state_kit import Naps, enter


def test_a_lane_has_one_owner(planned: Store, naps: Naps) -> None:
    told: list[str] = []
    with lane_lock(planned.folder, "batch", told.append, naps, None):
        with (
            pytest.raises(StateError, match=f"process {os.getpid()} is at work on this state"),
            lane_lock(planned.folder, "batch", told.append, naps, 1.0),
        ):
            pass
        with lane_lock(planned.folder, "direct", told.append, naps, 0.0):
            pass
    assert told == [f"process {os.getpid()} is at work on this state; waiting for it to end"]
    with lane_lock(planned.folder, "batch", told.append, naps, 0.0):
        pass


@pytest.mark.parametrize(
    ("written", "owner"),
    [
        ("PID 5.500 poll\n", LockOwner(0, "poll", 5.5)),
        ("PID 0.000 \n", LockOwner(0)),
        ("PID\n", LockOwner(0)),  # by an earlier version
        ("", None),
        ("something else", None),
    ],
)
def test_the_owner_of_a_lock_is_the_one_that_its_file_names(
    planned: Store, naps: Naps, written: str, owner: LockOwner | None
) -> None:
    path = planned.folder / "batch.lock"
    written = written.replace("PID", str(os.getpid()))
    with lane_lock(planned.folder, "batch", print, naps, 0.0):
        path.write_text(written, encoding="utf-8")
        assert find_lock_owner(planned.folder, "batch") == (owner and owner._replace(pid=os.getpid()))
    assert path.read_text(encoding="utf-8") == written
    assert find_lock_owner(planned.folder, "batch") is None


def test_a_lock_that_the_folder_does_not_take(planned: Store, naps: Naps, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StateError, match=r"cannot be opened: No such file or directory"):
        enter(lane_lock(planned.folder / "nowhere", "batch", print, naps, 0.0))

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("batcher.disk.locks.fcntl.flock", refuse)
    with pytest.raises(StateError, match=r"cannot be locked: No locks available; set \[state\] dir"):
        enter(lane_lock(planned.folder, "batch", print, naps, 0.0))
