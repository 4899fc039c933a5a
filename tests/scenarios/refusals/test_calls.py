"""Calls that the service refuses while work is under way: no refusal is ignored."""

from itertools import pairwise
from pathlib import Path

import httpx2
import pytest

from batcher.core import events
from batcher.core.actions import INTERRUPTED, Finish
from batcher.state import facts, wishes
from tests.support.protocol_kit import (
    BATCH_S,
    CREATE,
    SELDOM,
    Send,
    Trial,
    answered,
    assert_paid_once,
    changed,
    is_call,
    nth,
    trial,
)

pytestmark = pytest.mark.slow("whole jobs whose calls are refused")

PATHS = {"list": ("GET", "/batches"), "download": ("GET", "/content"), "cancel": ("POST", "/cancel")}


def refused(it: Trial, call: str, status: int, code: str, times: int) -> list[float]:
    """Refuse the first such calls; return the times at which they came."""
    method, path = PATHS[call]
    came: list[float] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.method == method and request.url.path.endswith(path):
            came.append(it.clock())
            if len(came) <= times:
                return answered(status, code)(request, send)
        return send(request)

    it.rule = rule
    return came


def under_way(folder: Path, call: str) -> Trial:
    it = trial(folder, lines=12)
    it.act(once=True)
    if call == "cancel":
        with it.store.transaction("cancel") as tx:
            wishes.request_cancel(tx, [1])
    it.clock.sleep(BATCH_S / 2)
    return it


@pytest.mark.parametrize(("call", "status"), [("list", 401), ("list", 403), ("download", 401), ("cancel", 403)])
def test_a_key_that_is_refused_while_batches_run_ends_it_at_the_first_no(
    tmp_path: Path, call: str, status: int
) -> None:
    it = under_way(tmp_path, call)
    came = refused(it, call, status, "invalid_api_key", 1_000)
    ended = it.act()
    assert isinstance(ended, Finish) and "the service refused the request" in ended.problem
    assert len(came) == 1
    it.rule = lambda request, send: send(request)
    assert it.act() == Finish()
    assert set(it.states()) <= {"done", "ready", "held"} and it.paid()["usable_more_than_once"] == 0


@pytest.mark.parametrize("call", ["list", "cancel"])
def test_a_quota_that_is_gone_for_calls_is_asked_again_as_in_an_outage(tmp_path: Path, call: str) -> None:
    it = under_way(tmp_path, call)
    came = refused(it, call, 429, "insufficient_quota", 4)
    it.act()
    assert all(later - before >= 54 for before, later in pairwise(came[:5]))
    assert it.rows("SELECT DISTINCT reason FROM pauses") == [("quota",)]


def test_after_a_setup_failure_no_other_shard_is_sent(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=30)
    sent: list[str] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        sent.append(f"{request.method} {request.url.path}")
        return (
            answered(400, "model_not_found")(request, send) if is_call(request, "POST", "/batches") else send(request)
        )

    it.rule = rule
    ended = it.act()
    assert isinstance(ended, Finish) and "the service refused the request" in ended.problem
    assert sent.count("POST /v1/files") == sent.count("POST /v1/batches") == 1
    assert it.states() == {"ready": 30}


def test_a_retry_after_keeps_the_other_shards_back_too(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=18)
    made: list[float] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if is_call(request, "POST", "/batches"):
            made.append(it.clock())
            if len(made) == 1:
                return answered(503, headers={"Retry-After": "120"})(request, send)
        return send(request)

    it.rule = rule
    it.act()
    assert made[1] - made[0] >= 120
    assert_paid_once(it, 18)


def test_a_refused_upload_waits_as_long_as_the_service_asks(tmp_path: Path) -> None:
    it = trial(tmp_path)
    sent: list[float] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if is_call(request, "POST", "/files"):
            sent.append(it.clock())
            if len(sent) == 1:
                return answered(400, "odd", headers={"Retry-After": "900"})(request, send)
        return send(request)

    it.rule = rule
    it.act()
    assert sent[1] - sent[0] >= 900
    assert_paid_once(it, 6)


def test_a_batch_that_failed_in_validation_and_counts_its_lines_as_failed_costs_no_try(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"fail_batches": {"1": "token_limit_exceeded"}})

    def counted(body: dict[str, object]) -> None:
        for batch in body["data"]:  # type: ignore[attr-defined]
            if batch["status"] == "failed":
                batch["request_counts"] = {"total": 6, "completed": 0, "failed": 6}

    it.rule = lambda request, send: (
        changed(counted)(request, send) if is_call(request, "GET", "/batches") else send(request)
    )
    it.act()
    assert it.rows("SELECT count(*) FROM quota_samples WHERE source = 'refusal'") == [(1,)]
    assert it.rows("SELECT outcome, count(*) FROM attempts GROUP BY ALL") == [("bio", 6)]
    assert_paid_once(it, 6)


@pytest.mark.parametrize("call", ["list", "download"])
def test_a_look_that_the_user_ends_changes_nothing(tmp_path: Path, call: str) -> None:
    """End within the look, record no outage, and go on with the next start as if nothing had been asked."""
    it = under_way(tmp_path, call)
    method, path = PATHS[call]
    asked: list[str] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.method == method and request.url.path.endswith(path):
            asked.append(request.url.path)
            return answered(503, "overloaded")(request, send)
        return send(request)

    it.rule, it.interrupted = rule, lambda: bool(asked)
    assert it.act() == Finish(INTERRUPTED)
    assert len(asked) == 1
    with it.store.read_transaction() as tx:
        assert facts.read_wait(tx, facts.WaitFact.OUTAGE, tx.now + 1e9) == 0
    it.rule, it.interrupted = (lambda request, send: send(request)), lambda: False
    assert it.act() == Finish()
    assert_paid_once(it, 12)


def test_a_delete_that_is_refused_keeps_its_shard_and_holds_up_no_other(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12)
    first = nth(*CREATE, 1, answered(503))
    deletes: list[str] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.method == "DELETE" and len(deletes) < 3:
            deletes.append(request.url.path)
            return answered(409, "file_in_use")(request, send)
        return first(request, send)

    it.rule = rule
    it.act()
    assert len(deletes) == 3
    assert_paid_once(it, 12)


def test_a_cancel_that_always_fails_holds_up_nothing_else(tmp_path: Path) -> None:
    limits = {"enqueued_tokens": 16_000, "tokens_per_shard": 5_000}
    it = trial(tmp_path, lines=18, settings={"service_s": (600, 600)}, limits=limits)
    it.once_told(events.BatchCreated, lambda: it.create_again(later=200))
    it.rule = lambda r, s: answered(500)(r, s) if r.url.path.endswith("/cancel") else s(r)
    it.act()
    assert it.states() == {"done": 18}


def test_retry_after_of_a_download_is_kept(tmp_path: Path) -> None:
    it = trial(tmp_path, poll=SELDOM)
    asked: list[float] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.url.path.endswith("/content"):
            asked.append(it.clock())
            if len(asked) < 4:
                return answered(503, "", {"retry-after": "600"})(request, send)
        return send(request)

    it.rule = rule
    it.act()
    assert all(later - before >= 600 for before, later in pairwise(asked))
    assert_paid_once(it, 6)


def test_a_429_to_a_delete_spares_the_other_files(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12)
    asked: list[float] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.method == "DELETE":
            asked.append(it.clock())
            return answered(429, "rate_limit_exceeded", {"retry-after": "1800"})(request, send)
        return send(request)

    it.rule = rule
    it.act()
    assert all(b - a >= 1700 for a, b in pairwise(asked))
