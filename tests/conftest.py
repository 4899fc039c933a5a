"""Fixtures that several test modules share; what they return is defined in tests/support."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batcher.state.db.store import Store
from tests.support.api_kit import Rig, attached
from tests.support.checkpoint_kit import plan_filled
from tests.support.job_kit import WriteJob, write_small_job
from tests.support.place import Place
from tests.support.planner_kit import Desk
from tests.support.protocol_kit import MakeTrial, Trial, trial
from tests.support.results_kit import Bench, Make
from tests.support.state_kit import Naps, plan_two_artists
from tests.support.world import Clock, kept_open


def pytest_configure() -> None:
    """Have signals end what the tests start. What a shell or `nohup` has ignored would be ignored by it too."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the properties first: each is one test of a minute or more, which would keep one worker busy at the end."""
    items.sort(key=lambda item: "properties" not in item.path.parts)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Return a world with a table and a job of the test's own, in which nothing is planned."""
    return Desk(tmp_path)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a folder as a user has it, for the real command."""
    folder = tmp_path / "place"
    folder.mkdir()
    return Place(folder)


@pytest.fixture
def naps() -> Naps:
    """Return a sleep that only counts."""
    return Naps()


@pytest.fixture
def store(tmp_path: Path, naps: Naps) -> Store:
    """Return a state that is not there yet."""
    return Store(tmp_path / "state", Clock(), naps)


@pytest.fixture
def planned(store: Store) -> Store:
    """Return a state with a run, two artists and a planned shard."""
    plan_two_artists(store)
    return store


@pytest.fixture
def filled(tmp_path: Path) -> Store:
    """Return a state with rows in its file and none in its log."""
    return plan_filled(tmp_path / "state")


@pytest.fixture
def write_job(tmp_path: Path) -> WriteJob:
    """Return a function that writes a small job, or a changed one."""
    return partial(write_small_job, tmp_path)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return a function that makes benches, which are closed at the end."""
    with ExitStack() as made:

        def build(kind: type[Bench] = Bench, **options: object) -> Bench:
            bench = kind(tmp_path, **options)  # type: ignore[arg-type]
            made.callback(bench.close)
            return bench

        yield build


@pytest.fixture
def bench(make: Make) -> Bench:
    """Return a job whose one batch has ended, and whose result files can be overwritten."""
    return make()


@pytest.fixture
def make_trial(tmp_path: Path) -> Iterator[MakeTrial]:
    """Return a function that plans and releases a job, whose state stays open."""
    with ExitStack() as opened:

        def build(**options: Any) -> Trial:
            it = trial(tmp_path, **options)
            opened.enter_context(kept_open(it.store))
            return it

        yield build


@pytest.fixture(params=["memory", "loopback"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return how the client reaches the sandbox: in memory, or over a socket."""
    return str(request.param)


@pytest.fixture
def rig(kind: str, tmp_path: Path) -> Iterator[Rig]:
    """Return our service before a sandbox, once for each way to reach it."""
    with attached(kind, tmp_path) as found:
        yield found
