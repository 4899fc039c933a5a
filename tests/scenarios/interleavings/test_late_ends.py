"""Batches, files and counts that come later than expected are taken up, and no line is paid for twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from batcher.core import events
from batcher.core.actions import Finish
from batcher.core.events import Event
from tests.support.protocol_kit import (
    CREATE,
    PATIENT,
    SELDOM,
    Send,
    Trial,
    assert_paid_once,
    cancel,
    changed,
    is_call,
    looks,
    lost,
    pause,
    trial,
)
from tests.support.results_kit import HOURS

pytestmark = pytest.mark.slow("whole jobs, interrupted in the middle of each kind of call")

HOURLY = {"interval_s": 3600}


def hides_the_second_until_absent(it: Trial, then: Callable[[], None]) -> None:
    """Lose the second create's answer, and show its batch only once it was judged absent."""
    creates: list[int] = []
    absent: list[int] = []

    def hide(body: dict[str, Any]) -> None:
        ids = list(it.sandbox.lifecycle.batches)
        body["data"] = [batch for batch in body["data"] if batch["id"] not in ids[1:2]]

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if is_call(request, *CREATE):
            creates.append(1)
            if len(creates) == 2:
                return lost(request, send)
        if is_call(request, "GET", "/batches") and not absent:
            return changed(hide)(request, send)
        return send(request)

    def react(event: Event) -> None:
        if isinstance(event, events.BatchAbsent):
            absent.append(1)
            then()
            it.clock.sleep(120)

    it.rule, it.on = rule, react


@pytest.mark.parametrize("how", ["released", "withdrawn"])
def test_a_late_batch_whose_file_we_deleted_costs_its_shard_nothing(tmp_path: Path, how: str) -> None:
    it = trial(tmp_path, lines=12, settings={"validating_s": (150, 150), "service_s": (3000, 3000)}, poll=SELDOM)
    hides_the_second_until_absent(it, (lambda: pause(it, 3000)) if how == "released" else (lambda: cancel(it, 2)))
    assert it.act() == Finish()
    assert it.paid()["usable_more_than_once"] == 0
    if how == "released":
        assert_paid_once(it, 12)
    assert it.rows("SELECT max(refusals) FROM shards") == [(0,)]


@pytest.mark.parametrize("missing", ["output_file_id", "counts"])
def test_files_and_counts_may_come_later_than_the_end(tmp_path: Path, missing: str) -> None:
    expired = missing == "counts"
    it = trial(tmp_path, faults={"expire_batches": [1]} if expired else {}, retry=PATIENT, poll=HOURLY)
    seen: list[float] = []

    def late(batch: dict[str, Any]) -> None:
        if batch.get("status") not in {"completed", "expired"}:
            return
        seen.append(it.clock())
        if it.clock() < seen[0] + 60:
            batch["output_file_id"] = None
            if expired:
                batch["error_file_id"] = None
                batch["request_counts"] = {"total": 6, "completed": 0, "failed": 0}

    it.rule = looks(late)
    it.act()
    assert it.states() == {"done": 6}
    assert it.paid()["usable_more_than_once"] == 0
    assert it.clock() - seen[0] < 30 * HOURS


def test_what_was_not_read_is_not_deleted_and_read_later(tmp_path: Path) -> None:
    it = trial(tmp_path, retry=PATIENT, poll=HOURLY)
    it.fault(refuse_before={"content": 1.0})
    it.act()
    assert it.states() == {"held": 6}
    (output,) = it.rows("SELECT output_file_id FROM batches")[0]
    assert it.rows(f"SELECT count(*) FROM remote_files WHERE file_id = '{output}'") == [(0,)]
    it.fault(refuse_before={})
    it.act()  # a new start asks again for what was given up
    assert_paid_once(it, 6)


def test_batches_that_were_gone_for_a_while_are_taken_up_again(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12, settings={"service_s": (3000, 3000)}, poll=SELDOM)
    gone: dict[str, Any] = {}

    def vanish() -> None:
        batches = it.sandbox.lifecycle.batches
        gone.update({key: batches.pop(key) for key in list(batches)[:1]})

    it.once_told(events.BatchCreated, vanish)
    it.act()
    assert it.states() == {"done": 6, "held": 6}
    it.sandbox.lifecycle.batches.update(gone)
    it.clock.sleep(4000)
    it.act()
    assert_paid_once(it, 12)


def test_a_batch_that_ends_after_thirty_hours_is_taken_up_again(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"stuck_finalizing_s": 29 * 3600}, poll=HOURLY)
    it.act()
    assert it.states() == {"held": 6}
    it.clock.sleep(10 * 3600)
    it.act()
    assert_paid_once(it, 6)


def test_a_batch_without_an_expiry_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"stuck_finalizing_s": 10**7}, poll={"interval_s": 9000})
    it.rule = looks(lambda batch: batch.update(expires_at=None))
    began = it.clock()
    it.act()
    assert it.states() == {"held": 6}
    assert it.clock() - began < 40 * HOURS
