"""What the doctor finds, thing by thing, and how it is drawn."""

import io
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from batcher.commands.tools.doctor import draw_findings, run_health_checks
from batcher.commands.tools.findings import Finding
from batcher.config.sections import NotifySection
from batcher.disk.locks import LockOwner, lane_lock
from batcher.sandbox import Faults, SandboxSettings
from batcher.state import facts, quota_pauses, remote_files
from tests.support.world import ROOT, World, config_with, write_table

KEY = "sk-test-of-the-doctor"


class Practice:
    """A world that the doctor checks."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **sections: Mapping[str, object]) -> None:
        table = write_table(folder / "artists.csv", 4)
        job = {"path": ROOT / "jobs" / "bios", "input": table}
        self.world = World(folder, SandboxSettings(faults=Faults()), config_with(job=job, **sections))
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
        monkeypatch.setattr("batcher.commands.tools.doctor.connect_service", lambda *_, **__: self.world.service())

    def look(self) -> dict[str, Finding]:
        """Return what was found, by what was checked."""
        found = run_health_checks(self.world.config, self.world.store, self.world.clock)
        assert all(finding.todo for finding in found if finding.level != "ok")
        return {finding.what: finding for finding in found}


@pytest.mark.parametrize(
    ("model", "level", "words"),
    [
        ("gpt-6-luna", "ok", "no day is set"),
        ("gpt-5-mini", "note", "2026-12-11"),
        ("gpt-4o-mini", "ok", "until 2027-01-14"),
        ("gpt-99", "wrong", "not known"),
    ],
)
def test_the_model_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, level: str, words: str
) -> None:
    practice = Practice(tmp_path, monkeypatch, model={"name": model}, limits={"enqueued_tokens": 10**6})
    found = practice.look()["model"]
    assert found.level == level
    assert words in found.found


def test_what_another_server_does_not_list_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many servers answer for models that they do not list; OpenAI lists all that it has."""
    practice = Practice(tmp_path, monkeypatch, model={"name": "gpt-99"}, limits={"enqueued_tokens": 10**6})
    assert practice.look()["model"].level == "wrong"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://ana:secret@10.0.0.1:8000/v1")
    found = practice.look()
    assert (found["model"].level, found["way"].level) == ("note", "note")
    assert found["endpoint"].found == "http://10.0.0.1:8000/v1 answers"


def test_a_job_whose_work_is_at_another_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    practice = Practice(tmp_path, monkeypatch)
    practice.world.plan(tmp_path / "artists.csv")
    with practice.world.store.transaction("test") as tx:
        facts.record_service_origin(tx, "https://api.openai.com/v1")
    assert "service" not in practice.look()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    assert practice.look()["service"].level == "wrong"


def test_the_limit_and_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    practice = Practice(tmp_path, monkeypatch)
    practice.world.plan(tmp_path / "artists.csv")
    assert practice.look()["limit"].found == "40,000,000 enqueued tokens (the table of tiers, tier 3)"
    with practice.world.store.transaction("test") as tx:
        tx.fetch_all(
            "insert_quota_sample",
            now=tx.now, source="refusal", model="gpt-6-luna", limit_tokens=2_000_000, reserved=None, own=None,
            headroom=None, shard=None, detail=None,
        )  # fmt: skip
    assert practice.look()["limit"].found.startswith("2,000,000 enqueued tokens, as the service said")
    practice.world.config = config_with(model={"name": "gpt-99"}, job=practice.world.config.job.model_dump())
    assert practice.look()["limit"].level == "wrong"


def test_a_key_that_is_refused_and_an_unknown_price_with_a_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    practice = Practice(tmp_path, monkeypatch, budget={"max_usd": 5})
    monkeypatch.setattr("batcher.commands.tools.doctor.resolve_prices", lambda _name: None)
    assert practice.look()["price"].level == "wrong"
    practice.world.sandbox.update_settings({"api_key": "sk-other"})
    found = practice.look()["endpoint"]
    assert "refuses the key" in found.found
    assert KEY not in found.found


def test_a_foreign_state_a_full_disk_a_stopped_job_and_files_that_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    practice = Practice(tmp_path, monkeypatch)
    practice.world.plan(tmp_path / "artists.csv")
    with practice.world.store.transaction("test") as tx:
        tx.write_fact("stopped", text="the service refused the request")
        remote_files.queue_file(tx, "file-1", "batch", 1)
        tx.fetch_all("file_not_deleted", file_id="file-1", next=tx.now, error="503")
    monkeypatch.setattr(
        "batcher.commands.tools.doctor.shutil.disk_usage", lambda _path: shutil._ntuple_diskusage(1, 1, 1000)
    )
    found = practice.look()
    assert found["stopped"].found.startswith("Stopped: the service refused the request. `batcher doctor` checks key")
    assert (found["disk"].level, found["files"].level) == ("wrong", "note")
    assert "file-1" in found["files"].found
    practice.world.store.path.write_bytes(b"something else" * 1000)
    assert practice.look()["state"].level == "wrong"


def test_an_unknown_model_is_told_with_those_that_the_key_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    practice = Practice(tmp_path, monkeypatch, model={"name": "gpt-6-lunna"}, limits={"enqueued_tokens": 10**6})
    found = practice.look()["model"]
    assert found.level == "wrong"
    assert found.todo.startswith(
        "set [model] name to one that it can use, then `batcher plan --replan`: gpt-6-luna, gpt-"
    )


@pytest.mark.parametrize(
    ("header", "level", "words"),
    [
        ("artist_id,artist_name,priority,colour", "ok", "has the columns that the job needs"),
        ("artist_id,name,priority,colour", "wrong", "has no column artist_name; its columns are artist_id, name, "),
    ],
)
def test_the_columns_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str, level: str, words: str
) -> None:
    practice = Practice(tmp_path, monkeypatch)
    (tmp_path / "artists.csv").write_text(f"{header}\n1,Ana,2,red\n", encoding="utf-8")
    found = practice.look()
    assert found["table"].level == level and words in found["table"].found
    if level == "ok":
        assert found["columns"].found == "the job does not read colour of artists.csv"
    (tmp_path / "artists.csv").unlink()
    assert practice.look()["table"].level == "note"


def test_what_waits_for_a_person_and_who_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    practice = Practice(tmp_path, monkeypatch)
    world = practice.world
    world.plan(tmp_path / "artists.csv")
    world.release()
    world.act(once=True)
    with world.store.transaction("test") as tx:
        quota_pauses.pause_sending(tx, "all", "quota", tx.now + 60, "no credit")
        quota_pauses.pause_sending(tx, "all", "by hand", None, "by hand")
        facts.record_quota_sentence(tx, "You exceeded your current quota.")
    found = practice.look()
    assert (found["quota"].level, found["paused"].level, found["lock"].level) == ("wrong", "note", "note")
    assert 'OpenAI says: "You exceeded your current quota." Add credit at' in found["quota"].found
    assert found["lock"].found == "nobody follows what is in flight (3 batches)"
    owner = LockOwner(os.getpid(), "poll", 1_795_700_000.0)
    with lane_lock(world.store.folder, "batch", lambda _: None, lambda _: None, 0.0, owner):
        lock = practice.look()["lock"]
    expected = f"process {os.getpid()} (`batcher poll`, since 2026-11-26 13:33:20 UTC) acts in the batch lane"
    assert (lock.level, lock.found) == ("ok", expected)


def test_who_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    practice = Practice(tmp_path, monkeypatch)
    assert "notify" not in practice.look()
    told = NotifySection(command="cat", urls=("json://localhost",))
    practice.world.config = practice.world.config.model_copy(update={"notify": told})
    monkeypatch.setattr("batcher.commands.base.notices.importlib.util.find_spec", lambda _name: None)
    assert practice.look()["notify"].level == "wrong"
    monkeypatch.setattr("batcher.commands.base.notices.importlib.util.find_spec", lambda _name: True)
    assert practice.look()["notify"].found == "the end, stops and pauses go to a command and 1 url"


def test_findings_are_drawn_with_what_to_do_under_them() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(draw_findings([Finding("key", "wrong", "[none]", "set it"), Finding("disk", "ok", "fine")]))
    lines = console.export_text().splitlines()
    assert [line.split() for line in lines] == [["wrong", "key", "[none]"], ["->", "set", "it"], ["ok", "disk", "fine"]]
