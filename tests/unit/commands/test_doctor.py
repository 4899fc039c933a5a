"""What the doctor finds, thing by thing, and how it is drawn."""

import io
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from batcher.commands.tools.doctor import Finding, draw_findings, run_health_checks
from batcher.sandbox import Faults, SandboxSettings
from batcher.state import facts, remote_files
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
        monkeypatch.setattr("batcher.commands.tools.doctor.connect_service", lambda *_: self.world.service())

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
    assert found["stopped"].found == "the service refused the request"
    assert (found["disk"].level, found["files"].level) == ("wrong", "note")
    assert "file-1" in found["files"].found
    practice.world.store.path.write_bytes(b"something else" * 1000)
    assert practice.look()["state"].level == "wrong"


def test_findings_are_drawn_with_what_to_do_under_them() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(draw_findings([Finding("key", "wrong", "[none]", "set it"), Finding("disk", "ok", "fine")]))
    lines = console.export_text().splitlines()
    assert [line.split() for line in lines] == [["wrong", "key", "[none]"], ["->", "set", "it"], ["ok", "disk", "fine"]]
