"""Interleavings that a review found: late files and ends, foreign keys, second batches, wishes during a call."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from batcher.catalog.prices import resolve_prices
from batcher.core import events
from batcher.core.actions import Finish
from batcher.core.admission import find_gate_obstacle
from batcher.core.events import Event
from batcher.lanes.batch.runner import BatchRunner
from batcher.sandbox import Sandbox, SandboxSettings
from batcher.state import facts, wishes
from batcher.state.snapshot import latest_valid_wait, load_send_gate, load_snapshot
from tests.scenarios.test_bad_luck import HOURS, Unlucky
from tests.support.protocol_kit import (
    CREATE,
    Rule,
    Send,
    Trial,
    answered,
    assert_paid_once,
    changed,
    is_call,
    lost,
    nth,
    trial,
)
from tests.support.results_kit import LINES, Bench

pytestmark = pytest.mark.slow("whole jobs, interrupted in the middle of each kind of call")

PATIENT = {"outage": {"base_s": 600, "cap_s": 3600}}
SELDOM = {"interval_s": 900}
HOURLY = {"interval_s": 3600}


def looks(change: Callable[[dict[str, Any]], object]) -> Rule:
    """Change every description of a batch in place, in listings too."""

    def each(body: dict[str, Any]) -> None:
        for batch in body.get("data", [body] if "status" in body else []):
            change(batch)

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        return changed(each)(request, send) if request.url.path.startswith("/v1/batches") else send(request)

    return rule


def pause(it: Trial, seconds: float) -> None:
    with it.store.transaction("pause") as tx:
        tx.fetch_all("insert_pause", scope="all", reason="by hand", until=tx.now + seconds, tries=0, now=tx.now)


def cancel(it: Trial, *shards: int) -> None:
    with it.store.transaction("cancel") as tx:
        wishes.request_cancel(tx, shards)


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


# --- late ends ------------------------------------------------------------------------------------------------------


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


# --- the key of another project -------------------------------------------------------------------------------------


def test_the_key_of_another_project_stops_the_job_and_loses_nothing(tmp_path: Path) -> None:
    it = trial(tmp_path, settings={"service_s": (3000, 3000)})
    it.act(once=True)
    ours, it.sandbox = it.sandbox, Sandbox(SandboxSettings(), tmp_path / "other", it.clock)
    ended = it.act()
    assert isinstance(ended, Finish) and "OPENAI_API_KEY of the project" in ended.problem
    assert it.states() == {"in_batch": 6}
    it.sandbox = ours
    it.clock.sleep(4000)
    assert it.act() == Finish()
    assert_paid_once(it, 6)


def test_a_lost_create_and_then_the_key_of_another_project(tmp_path: Path) -> None:
    it = trial(tmp_path)
    it.rule = nth(*CREATE, 1, lost)
    it.interrupted = lambda: events.CallFailed in it.kinds()
    it.act()
    it.interrupted = lambda: False
    ours, it.sandbox = it.sandbox, Sandbox(SandboxSettings(), tmp_path / "other", it.clock)
    ended = it.act()
    assert isinstance(ended, Finish) and "the file that we have uploaded for shard 1" in ended.problem
    it.sandbox = ours
    assert it.act() == Finish()
    assert_paid_once(it, 6)


# --- rivals ---------------------------------------------------------------------------------------------------------


def test_of_two_batches_one_is_cancelled_though_the_stray_came_first(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12, settings={"service_s": (3000, 3000)})
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


# --- wishes in the middle of a call ---------------------------------------------------------------------------------


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


# --- calls that are refused -----------------------------------------------------------------------------------------


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


# --- odd answers ----------------------------------------------------------------------------------------------------


def test_an_answer_of_status_0_with_a_whole_body_is_taken(bench: Bench) -> None:
    rows = bench.read()
    rows[0]["response"]["status_code"] = 0
    bench.write(rows)
    bench.act()
    bench.close()
    assert bench.world.states() == {"done": LINES}


@pytest.mark.parametrize("how", ["bom", "byte"])
def test_a_line_with_a_mark_or_a_byte_that_is_no_text_is_read(bench: Bench, how: str) -> None:
    rows = [orjson.dumps(row) for row in bench.read()]
    rows[0] = b"\xef\xbb\xbf" + rows[0] if how == "bom" else rows[0].replace(b'"request_id":"', b'"request_id":"\xff')
    bench.write(rows)
    bench.act()
    bench.close()
    assert bench.world.states() == {"done": LINES}


def test_without_counts_a_short_file_is_read_again(tmp_path: Path) -> None:
    it = trial(tmp_path)
    first: list[int] = []
    uncounted = looks(lambda batch: batch.update(request_counts=None))

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.url.path.endswith("/content") and not first:
            first.append(1)
            response = send(request)
            response.read()
            short = b"\n".join(response.content.split(b"\n")[:3]) + b"\n"
            return httpx2.Response(200, content=iter([short]), request=request)
        return uncounted(request, send)

    it.rule = rule
    it.act()
    assert_paid_once(it, 6)


@pytest.mark.parametrize("batch_id", ["../../../escaped", "batch_" + "x" * 240])
def test_any_id_of_a_batch_stays_in_the_folder(tmp_path: Path, batch_id: str) -> None:
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    it = trial(folder)
    true_id: list[str] = []

    def other(batch: dict[str, Any]) -> None:
        true_id.append(batch["id"])
        batch["id"] = batch_id

    renamed = looks(other)

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.method == "GET" and request.url.path.startswith("/v1/batches/"):
            request = httpx2.Request("GET", f"http://sandbox/v1/batches/{true_id[0]}", headers=request.headers)
        return renamed(request, send)

    it.rule = rule
    it.act()
    assert it.states() == {"done": 6}
    assert not [path for path in tmp_path.rglob("*escaped*") if "results" not in path.parts]


def test_absurd_counts_are_no_end(tmp_path: Path) -> None:
    it = trial(tmp_path)
    it.rule = looks(lambda batch: batch.update(request_counts={"total": 10**12, "completed": 6, "failed": -3}))
    it.act()
    assert_paid_once(it, 6)


def test_an_old_batch_out_of_its_place_does_not_end_a_listing(tmp_path: Path) -> None:
    it = trial(tmp_path)
    lose = nth(*CREATE, 1, lost)

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if not is_call(request, "GET", "/batches"):
            return lose(request, send)
        if b"after" in request.url.query:  # what the service really has comes on the second page
            return send(httpx2.Request("GET", "http://sandbox/v1/batches", headers=request.headers))

        def disturb(body: dict[str, Any]) -> None:
            plain = {"object": "batch", "status": "completed", "input_file_id": "file-x", "metadata": {"x": "y"}}
            plain |= {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
            times = (("new", int(it.clock()) - 30), ("newer", int(it.clock())), ("old", 1_000_000))
            body["data"] = [{**plain, "id": f"batch_{name}", "created_at": at} for name, at in times]
            body["has_more"] = True

        return changed(disturb)(request, send)

    it.rule = rule
    it.act()
    assert_paid_once(it, 6)


# --- the clock ------------------------------------------------------------------------------------------------------


def test_waits_of_a_clock_that_was_ahead_are_over(tmp_path: Path) -> None:
    world = Unlucky(tmp_path, tmp_path / "state", line_failures={"rate_limit": 0.2})
    world.begin()
    began = world.sandbox.now()
    world.act(once=True)
    world.set_back(-365 * 24 * HOURS)
    world.clock.sleep(6 * HOURS)
    world.act(once=True)
    assert world.states()["waiting"] > 0
    world.set_back(365 * 24 * HOURS)
    runner = BatchRunner(world.tools())
    runner.prepare_run()
    assert runner.run_until_idle() == Finish()
    world.check_complete()
    assert world.sandbox.now() - began < 3 * 24 * HOURS
