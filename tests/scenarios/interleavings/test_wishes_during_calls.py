"""Waits, and a cancel, a pause or a stop during a call: each is checked before the next step."""

from pathlib import Path
from typing import Any

import pytest

from batcher.catalog.prices import resolve_prices
from batcher.core import events
from batcher.core.actions import Finish
from batcher.core.admission import find_gate_obstacle
from batcher.state import facts
from batcher.state.snapshot import latest_valid_wait, load_send_gate, load_snapshot
from tests.support.protocol_kit import assert_paid_once, cancel, looks, pause, trial

pytestmark = pytest.mark.slow("whole jobs, interrupted in the middle of each kind of call")


@pytest.mark.parametrize("wait", [wait for wait in facts.WaitFact if wait is not facts.WaitFact.DIRECT])
def test_every_wait_shuts_the_gate_until_it_is_over(tmp_path: Path, wait: facts.WaitFact) -> None:
    it = trial(tmp_path)
    with it.store.transaction("wait") as tx:
        assert find_gate_obstacle(load_send_gate(tx, it.config), tx.now) == ""
        facts.set_wait(tx, wait, tx.now + 60)
        gate = load_send_gate(tx, it.config)
        assert gate == load_snapshot(tx, it.config, resolve_prices).gate
        assert find_gate_obstacle(gate, tx.now) != "" and find_gate_obstacle(gate, tx.now + 60) == ""
        facts.set_wait(tx, wait, latest_valid_wait(tx, it.config) + 1)
        assert find_gate_obstacle(load_send_gate(tx, it.config), tx.now) == ""


def test_a_cancel_during_the_upload_is_in_time(tmp_path: Path) -> None:
    it = trial(tmp_path)
    it.once_told(events.UploadStarted, lambda: cancel(it))
    assert it.act() == Finish()
    assert it.batches() == []
    assert it.states() == {"ready": 6}


def test_a_pause_during_the_upload_is_in_time_and_keeps_the_file(tmp_path: Path) -> None:
    it = trial(tmp_path)
    it.once_told(events.UploadStarted, lambda: pause(it, 3600))
    it.act(once=True)
    assert it.batches() == []
    it.act()
    assert it.kinds() and list(it.kinds()).count(events.UploadStarted) == 1
    assert_paid_once(it, 6)


def test_a_stop_of_the_direct_lane_during_the_upload_keeps_the_next_shard_back_and_not_this_one(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12)

    def stop() -> None:
        with it.store.transaction("stop") as tx:
            facts.stop_sending(tx, "the key was refused")

    it.once_told(events.UploadStarted, stop)
    assert it.act() == Finish("the key was refused")
    assert len(it.batches()) == 1
    assert it.states() == {"in_batch": 6, "ready": 6}


def test_a_cancel_holds_though_the_batch_fails_for_single_lines(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"fail_batches": {"1": "unknown_thing"}})
    wrong = [{"code": "invalid_json_line", "message": "bad", "line": 1, "param": None}]

    def name_a_line(batch: dict[str, Any]) -> None:
        if batch.get("status") == "failed":
            batch["errors"] = {"object": "list", "data": wrong}

    it.rule = looks(name_a_line)

    def stop() -> None:
        it.clock.sleep(15)
        cancel(it)

    it.once_told(events.BatchCreated, stop)
    it.act()
    assert len(it.batches()) == 1
    assert it.states() == {"held": 6}
