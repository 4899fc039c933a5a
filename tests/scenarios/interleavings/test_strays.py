"""A stray beside another batch of its shard: one of the two is cancelled, and nothing is bought again."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from batcher.core import events
from batcher.core.events import Event
from tests.support.protocol_kit import CREATE, PATIENT, SELDOM, Send, changed, is_call, lost, trial

pytestmark = pytest.mark.slow("whole jobs, interrupted in the middle of each kind of call")


def test_of_two_batches_one_is_cancelled_though_the_stray_came_first(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12, settings={"service_s": (600, 600)})
    creates: list[float] = []

    def hide(body: dict[str, Any]) -> None:
        ids = list(it.sandbox.lifecycle.batches)
        hidden = set(ids[1:2]) if len(creates) < 3 else set()
        if len(creates) > 2 and it.clock() < creates[2] + 45:
            hidden |= set(ids[2:3])
        body["data"] = [batch for batch in body["data"] if batch["id"] not in hidden]

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if is_call(request, *CREATE):
            creates.append(it.clock())
            if len(creates) in {2, 3}:
                return lost(request, send)
        return changed(hide)(request, send) if is_call(request, "GET", "/batches") else send(request)

    it.rule = rule
    it.act()
    assert it.states() == {"done": 12}
    assert [status for _, status in it.batches()].count("cancelled") == 1


def test_perhaps_paid_in_a_stray_is_not_bought_again_where_the_other_batch_failed(tmp_path: Path) -> None:
    it = trial(
        tmp_path,
        faults={"fail_batches": {"1": "token_limit_exceeded"}},
        settings={"service_s": (1000, 1000)},
        retry=PATIENT,
        poll=SELDOM,
    )
    began: list[float] = []
    gone: dict[str, Any] = {}

    def react(event: Event) -> None:
        if isinstance(event, events.BatchCreated) and not began:
            began.append(it.clock())
            it.create_again(then=20)
        batches = it.sandbox.lifecycle.batches
        if events.StrayFound in it.kinds() and not gone and it.clock() > began[0] + 300:
            last = list(batches)[-1]
            gone[last] = batches.pop(last)

    it.on = react
    it.act()
    assert it.states() == {"held": 6}
    assert len(it.sandbox.lifecycle.batches) == 1
