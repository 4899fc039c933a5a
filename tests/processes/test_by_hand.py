"""`cancel`, `retry`, `show` and `doctor` as a user types them, and what the doctor finds."""

import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from batcher.cli.doctor import Finding, draw_findings, run_health_checks
from batcher.sandbox import Faults, Sandbox, SandboxSettings, apply_changes, scaled_clock
from batcher.sandbox.web.server import running_sandbox
from batcher.state import remote_files
from batcher.views.sheet import build_table, shorten_id
from tests.support.shop import DEMO_SETTINGS, KEY, Shop
from tests.support.world import ROOT, World, config_with, write_table

SLOW = {"validating_s": (1, 1), "service_s": (86_000, 86_000), "finalizing_s": (1, 1), "cancelling_s": (1, 1)}


@pytest.fixture
def slow_shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop whose batches take a day and do not end while a test runs."""
    folder = tmp_path / "shop"
    shutil.copytree(ROOT / "jobs" / "bios", folder / "jobs" / "bios")
    write_table(folder / "artists.csv", 60, priorities=(1, 2))
    settings = '[job]\ninput = "artists.csv"\n[limits]\nlines_per_shard = 15\n'
    (folder / "batcher.toml").write_text(settings + DEMO_SETTINGS, encoding="utf-8")
    sandbox = Sandbox(apply_changes(SandboxSettings(), SLOW), tmp_path / "sandbox", scaled_clock(600))
    with running_sandbox(sandbox) as url:
        yield Shop(folder, sandbox, url)


def answer(shop: Shop, line: str, code: int = 0) -> dict[str, Any]:
    """Runs a command with --json; its answer."""
    done = shop.shell(f"{line} --json")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_cancel_becomes_the_acting_process_where_there_is_none(slow_shop: Shop) -> None:
    assert slow_shop.shell("batcher plan && batcher submit --shards 2").returncode == 0
    told = answer(slow_shop, "batcher cancel --shard 1")
    (cancelled,) = told["cancelled"]
    assert (cancelled["shard"], cancelled["outcome"]) == (1, "cancelled")
    assert cancelled["bios"] + cancelled["held"] == 15
    assert [b.status for b in slow_shop.sandbox.lifecycle.batches.values()].count("cancelled") == 1
    assert "shard 7" in slow_shop.shell("batcher cancel --shard 7").stderr
    assert slow_shop.shell("batcher cancel --shard 7").returncode == 2
    assert "shard 1 is settled" in str(answer(slow_shop, "batcher cancel --shard 1", 2)["error"])


def test_cancel_is_carried_out_by_the_process_at_work(slow_shop: Shop) -> None:
    assert slow_shop.shell("batcher plan && batcher submit").returncode == 0
    command = [sys.executable, "-m", "batcher", "poll"]
    with subprocess.Popen(
        command, cwd=slow_shop.folder, env=slow_shop.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as poll:
        time.sleep(1.5)
        told = answer(slow_shop, "batcher cancel")
        assert poll.wait(timeout=30) == 0
    assert len(told["cancelled"]) == 4
    assert told["still_in_flight"] == []
    brought = answer(slow_shop, "batcher retry --held")
    (row,) = brought["lines"]
    assert (row["state"], row["class"]) == ("held", "cancelled")
    artist = slow_shop.shell("batcher show a00001 --json")
    assert any(event["kind"] in {"retry", "settled"} for event in json.loads(artist.stdout)["events"])


def test_retry_names_what_does_not_exist(slow_shop: Shop) -> None:
    assert "run `batcher plan` first" in str(answer(slow_shop, "batcher retry", 2)["error"])
    assert slow_shop.shell("batcher plan").returncode == 0
    assert "there are rate_limit" in str(answer(slow_shop, "batcher retry --class nonsense", 2)["error"])
    assert "no artist 'x'" in str(answer(slow_shop, "batcher retry --artist x", 2)["error"])
    assert answer(slow_shop, "batcher retry") == {"lines": [], "perhaps_paid": 0}


def test_the_doctor_finds_all_well_before_and_after_a_plan(slow_shop: Shop) -> None:
    for line in ("batcher doctor", "batcher plan && batcher doctor"):
        done = slow_shop.shell(line)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "wrong" not in done.stdout
        assert KEY not in done.stdout + done.stderr


def test_the_doctor_says_what_is_wrong_and_looks_at_the_rest_all_the_same(slow_shop: Shop) -> None:
    slow_shop.environment["OPENAI_BASE_URL"] = "http://127.0.0.1:9/v1"
    found = answer(slow_shop, "batcher doctor", 2)
    levels = {finding["what"]: finding["level"] for finding in found["findings"]}
    assert (levels["key"], levels["endpoint"], levels["limit"], levels["disk"] != "wrong") == (
        "ok",
        "wrong",
        "ok",
        True,
    )
    del slow_shop.environment["OPENAI_API_KEY"]
    found = answer(slow_shop, "batcher doctor", 2)
    assert found["findings"][1]["found"] == "OPENAI_API_KEY is not set"


# --- the doctor, thing by thing ------------------------------------------------------------------------------------


class Practice:
    """A world that the doctor looks at."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **sections: Mapping[str, object]) -> None:
        table = write_table(folder / "artists.csv", 4)
        job = {"path": ROOT / "jobs" / "bios", "input": table}
        self.world = World(folder, SandboxSettings(faults=Faults()), config_with(job=job, **sections))
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setattr("batcher.cli.doctor.connect_service", lambda *_: self.world.service())

    def look(self) -> dict[str, Finding]:
        """What was found, by what was looked at."""
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
    monkeypatch.setattr("batcher.cli.doctor.resolve_prices", lambda _name: None)
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
        tx.write_fact("stopped", text="the service refuses us")
        remote_files.queue_file(tx, "file-1", "batch", 1)
        tx.fetch_all("file_not_deleted", file_id="file-1", next=tx.now, error="503")
    monkeypatch.setattr("batcher.cli.doctor.shutil.disk_usage", lambda _path: shutil._ntuple_diskusage(1, 1, 1000))
    found = practice.look()
    assert found["stopped"].found == "the service refuses us"
    assert (found["disk"].level, found["files"].level) == ("wrong", "note")
    assert "file-1" in found["files"].found
    practice.world.store.path.write_bytes(b"something else" * 1000)
    assert practice.look()["state"].level == "wrong"


# --- drawing --------------------------------------------------------------------------------------------------------


def drawn(what: object, width: int) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(what)
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_fits_its_terminal_without_folding(width: int) -> None:
    row = ("batch_" + "a1" * 16, "12", "1", "in_progress", "49,999 of 50,000", "23.9 h")
    sheet = build_table(
        "In flight", ["batch", "shard", "priority", "status", "lines", "for"], [row], 4, ["priority", "for"]
    )
    lines = drawn(sheet, width)
    assert max(map(len, lines)) <= width
    assert len([line for line in lines if line.strip()]) == 4  # title, head, rule, one row
    assert lines[0].strip() == "In flight"
    assert ("batch_" + "a1" * 16 in lines[3]) == (width == 120)


def test_a_title_is_as_long_as_it_needs_to_be_and_markup_is_text() -> None:
    lines = drawn(build_table("A title that is longer than its table", ["a"], [["[red]x[/red] :heart:"]]), 80)
    assert lines[0].rstrip() == "A title that is longer than its table"
    assert "[red]x[/red] :heart:" in lines[3]
    assert shorten_id("file-short") == "file-short"


def test_findings_are_drawn_with_what_to_do_under_them() -> None:
    lines = drawn(draw_findings([Finding("key", "wrong", "[none]", "set it"), Finding("disk", "ok", "fine")]), 80)
    assert [line.split() for line in lines] == [["wrong", "key", "[none]"], ["->", "set", "it"], ["ok", "disk", "fine"]]
