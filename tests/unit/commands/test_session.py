"""Whom a job speaks to: recorded at the first contact, named, and no other afterwards."""

from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from batcher.commands.base.process import _contact_service
from batcher.commands.base.session import Session
from batcher.core.failures import ErrorDetails
from batcher.errors import SetupError
from batcher.sandbox import SandboxSettings
from batcher.service.service import CallError, CallRefused, CallUnknown, Service
from batcher.state import facts
from batcher.views.progress import Display
from tests.support.world import World, config_with, write_table

OURS, OTHERS = "https://api.openai.com/v1", "http://127.0.0.1:9/v1"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    made = World(tmp_path, SandboxSettings(), config_with())
    made.plan(write_table(tmp_path / "artists.csv", 2))
    return made


def session_of(world: World, service_moved: bool = False) -> Session:
    return Session(world.config, world.store, Display(Console(quiet=True)), False, service_moved)


def named(session: Session) -> str:
    with session.store.read_transaction() as tx:
        return session.name_service(tx).describe()


def test_the_first_contact_settles_whom_a_job_speaks_to(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(world)
    assert named(session) == f"gpt-6-luna at {OURS}"
    monkeypatch.setenv("OPENAI_BASE_URL", OTHERS)
    assert named(session) == f"gpt-6-luna at {OTHERS}"  # nothing was sent yet
    monkeypatch.delenv("OPENAI_BASE_URL")
    _contact_service(session, world.service(), "batch")
    monkeypatch.setenv("OPENAI_BASE_URL", OTHERS)
    assert named(session) == f"gpt-6-luna at {OURS}; the address set now is {OTHERS}"
    for lane in ("batch", "direct"):
        with pytest.raises(SetupError, match="this job's work is at https://api"):
            _contact_service(session, world.service(), lane)
    _contact_service(session_of(world, service_moved=True), world.service(), "batch")
    assert named(session) == f"gpt-6-luna at {OTHERS}"
    _contact_service(session, world.service(), "batch")


def test_a_service_without_the_work_in_flight_is_not_taken_for_its_owner(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state of an earlier version does not tell whose service has its batches."""
    world.release()
    world.act(once=True)
    other = World(tmp_path / "other", SandboxSettings(id_salt="other"), config_with())
    monkeypatch.setenv("OPENAI_BASE_URL", OTHERS)
    for lane in ("batch", "direct"):
        with pytest.raises(SetupError, match=r"127\.0\.0\.1:9/v1 knows nothing of this job.s 2 batches"):
            _contact_service(session_of(world), other.service(), lane)
    silent = cast("Service", Gateway(CallUnknown(ErrorDetails(503))))
    _contact_service(session_of(world), silent, "batch")
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert named(session_of(world)) == f"gpt-6-luna at {OURS}"
    _contact_service(session_of(world), world.service(), "batch")
    monkeypatch.setenv("OPENAI_BASE_URL", OTHERS)
    assert named(session_of(world)) == f"gpt-6-luna at {OURS}; the address set now is {OTHERS}"


@pytest.mark.parametrize("kind", ["ended", "creating"])
def test_work_is_in_flight_as_long_as_its_results_are_not_read(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A batch that has ended, and a create whose answer was lost, are at the service as well."""
    world.release()
    world.act(once=True)
    with world.store.transaction("earlier") as tx:
        if kind == "ended":
            tx.con.execute("UPDATE batches SET ended_at = 1.0")
        else:
            tx.con.execute("DELETE FROM batches")
            tx.con.execute("UPDATE shards SET state = 'creating'")
    other = World(tmp_path / "other", SandboxSettings(id_salt="other"), config_with())
    monkeypatch.setenv("OPENAI_BASE_URL", OTHERS)
    with pytest.raises(SetupError, match=r"127\.0\.0\.1:9/v1 knows nothing of this job.s 2 batches"):
        _contact_service(session_of(world), other.service(), "batch")
    monkeypatch.delenv("OPENAI_BASE_URL")
    _contact_service(session_of(world), world.service(), "batch")
    monkeypatch.setenv("OPENAI_BASE_URL", OTHERS)
    assert named(session_of(world)) == f"gpt-6-luna at {OURS}; the address set now is {OTHERS}"


class Gateway:
    """A service that has no batches, or refuses every call."""

    def __init__(self, batches: CallError, key: CallError | None = None) -> None:
        self.batches, self.key = batches, key

    def check_access(self) -> None:
        raise self.batches

    def check_key(self) -> None:
        if self.key is not None:
            raise self.key

    def retrieve_batch(self, batch_id: str) -> None:
        raise self.batches


def test_a_service_that_does_not_answer_now_is_recorded_all_the_same(world: World) -> None:
    """What waits is sent as soon as it answers, by the same command."""
    _contact_service(session_of(world), cast("Service", Gateway(CallUnknown(ErrorDetails(503)))), "batch")
    with world.store.read_transaction() as tx:
        assert facts.read_service_origin(tx) == OURS
        assert not facts.has_reached_service(tx)


def test_a_server_without_batches_serves_the_direct_lane(world: World) -> None:
    server = cast("Service", Gateway(CallRefused(ErrorDetails(404, message="File Not Found"))))
    with pytest.raises(SetupError, match="the address does not speak the Batch API: File Not Found"):
        _contact_service(session_of(world), server, "batch")
    _contact_service(session_of(world), server, "direct")


@pytest.mark.parametrize("lane", ["batch", "direct"])
def test_a_wrong_key_is_refused_in_both_lanes(world: World, lane: str) -> None:
    wrong = CallRefused(ErrorDetails(401, message="wrong key"))
    with pytest.raises(SetupError, match="the service refuses the key: wrong key"):
        _contact_service(session_of(world), cast("Service", Gateway(wrong, wrong)), lane)
    with world.store.read_transaction() as tx:
        assert facts.read_service_origin(tx) == ""
