"""`cancel`, `retry`, `show` and `doctor` as a user types them."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batcher.sandbox import Sandbox, SandboxSettings, apply_changes, scaled_clock
from batcher.sandbox.web.server import running_sandbox
from tests.support.shop import DEMO_SETTINGS, KEY, Shop
from tests.support.world import ROOT, write_table

SLOW = {"validating_s": (1, 1), "service_s": (86_000, 86_000), "finalizing_s": (1, 1), "cancelling_s": (1, 1)}


@pytest.fixture
def slow_shop(tmp_path: Path) -> Iterator[Shop]:
    """Yield a shop whose batches take a day and do not end while a test runs."""
    folder = tmp_path / "shop"
    shutil.copytree(ROOT / "jobs" / "bios", folder / "jobs" / "bios")
    write_table(folder / "artists.csv", 60, priorities=(1, 2))
    settings = '[job]\ninput = "artists.csv"\n[limits]\nlines_per_shard = 15\n'
    (folder / "batcher.toml").write_text(settings + DEMO_SETTINGS, encoding="utf-8")
    sandbox = Sandbox(apply_changes(SandboxSettings(), SLOW), tmp_path / "sandbox", scaled_clock(600))
    with running_sandbox(sandbox) as url:
        yield Shop(folder, sandbox, url)


def answer(shop: Shop, line: str, code: int = 0) -> dict[str, Any]:
    """Run a command with --json; return its answer."""
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


def test_an_interrupted_cancel_says_what_it_leaves_in_flight(slow_shop: Shop) -> None:
    slow_shop.sandbox.update_settings({"cancelling_s": (86_000, 86_000)})
    assert slow_shop.shell("batcher plan && batcher submit --shards 1").returncode == 0
    (batch,) = slow_shop.sandbox.lifecycle.batches.values()
    with subprocess.Popen(
        [sys.executable, "-m", "batcher", "cancel", "--json"],
        cwd=slow_shop.folder, env=slow_shop.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as cancel:  # fmt: skip
        while batch.status != "cancelling":
            assert cancel.poll() is None
            time.sleep(0.05)
        cancel.send_signal(signal.SIGINT)
        told = json.loads(cancel.communicate(timeout=60)[0])
    assert (cancel.returncode, told["still_in_flight"]) == (3, [1])
    slow_shop.sandbox.advance_clock(86_400)
    assert answer(slow_shop, "batcher cancel")["still_in_flight"] == []


def test_retry_names_what_does_not_exist(slow_shop: Shop) -> None:
    assert "run `batcher plan` first" in str(answer(slow_shop, "batcher retry", 2)["error"])
    assert slow_shop.shell("batcher plan").returncode == 0
    assert "there are rate_limit" in str(answer(slow_shop, "batcher retry --class nonsense", 2)["error"])
    assert "no artist 'x'" in str(answer(slow_shop, "batcher retry --artist x", 2)["error"])
    assert answer(slow_shop, "batcher retry") == {"version": 1, "lines": [], "perhaps_paid": 0, "prompts": []}


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
    (key,) = (finding for finding in found["findings"] if finding["what"] == "key")
    assert key["found"] == "OPENAI_API_KEY is not set"
