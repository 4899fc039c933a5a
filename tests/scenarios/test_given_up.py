"""What was given up and is found after all: it was paid for, so it is looked for before anything is bought again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from batcher.core import events
from batcher.core.actions import Finish
from batcher.core.failures import FailureClass
from batcher.state import costs, wishes
from tests.support.protocol_kit import (
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

HOUR = 3600.0
CREATE = ("POST", "/batches")
LIST = ("GET", "/batches")
HOURLY: dict[str, Any] = {"poll": {"interval_s": HOUR}, "retry": {"outage": {"base_s": HOUR, "cap_s": HOUR}}}
"""Settings under which a day passes in few looks."""
Retry = Callable[[Trial], object]


def hides_second_shard(lose: Rule) -> Rule:
    """Return a rule by which `lose` applies to creates, and by which listings never show the second shard's batch.

    Nor do they say where they end.
    """

    def hide(body: dict[str, Any]) -> None:
        body["data"] = [each for each in body["data"] if each["metadata"]["batcher_shard"] != "2"]
        body["data"].append({"object": "batch"})

    return lambda request, send: (changed(hide) if is_call(request, *LIST) else lose)(request, send)


def fail_second_shard(body: dict[str, Any]) -> None:
    for batch in body.get("data", [body]):
        if batch["metadata"]["batcher_shard"] == "2":
            batch.update(status="failed", output_file_id=None, error_file_id=None, request_counts=None)
            batch["errors"] = {"data": [{"code": "invalid_request", "message": "no", "line": None}]}


def in_flight(it: Trial) -> float:
    """Return the dollars that what is in flight may cost."""
    with it.store.read_transaction() as tx:
        return costs.load_spending(tx).in_flight_usd


def retry_missing(it: Trial) -> int:
    """Ask again for what is perhaps paid, as `batcher retry --class missing` does; return how many lines there were."""
    with it.store.transaction("by_hand") as tx:
        return sum(row.lines for row in wishes.retry_lines(tx, wishes.RetryFilter(FailureClass.MISSING)).lines)


def given_up_trial(tmp_path: Path) -> Trial:
    """Return a job of two shards: one is done, the create of the other lost its answer and was given up."""
    it = trial(tmp_path, lines=12, budget={"max_usd": 100}, **HOURLY)
    it.rule = hides_second_shard(nth(*CREATE, 2, lost))
    assert it.act() == Finish()
    assert it.states() == {"done": 6, "held": 6} and in_flight(it) > 0
    it.rule = lambda request, send: send(request)
    return it


@pytest.mark.parametrize("retry", [lambda _it: None, retry_missing])
@pytest.mark.parametrize("later_s", [0.0, 9 * 24 * HOUR])
def test_the_batch_of_a_create_that_was_given_up_is_read_once_it_is_shown(
    tmp_path: Path, retry: Retry, later_s: float
) -> None:
    """Also where the user has asked for its lines again meanwhile; its place in the budget is what it has cost."""
    it = given_up_trial(tmp_path)
    it.clock.sleep(later_s)
    retry(it)
    assert it.act() == Finish()
    assert_paid_once(it, 12)
    assert in_flight(it) == 0


def test_a_batch_of_a_create_that_was_given_up_and_has_failed_costs_nothing(tmp_path: Path) -> None:
    it = given_up_trial(tmp_path)

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        is_look = request.method == "GET" and request.url.path.startswith("/v1/batches")
        return (changed(fail_second_shard) if is_look else lambda r, s: s(r))(request, send)

    it.rule = rule
    assert it.act() == Finish()
    assert it.states() == {"done": 6, "held": 6} and in_flight(it) == 0


def test_what_is_not_shown_is_looked_for_hourly_and_bought_again_at_the_users_word(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12, budget={"max_usd": 100}, **HOURLY)
    it.rule = hides_second_shard(nth(*CREATE, 2, lost))
    assert it.act() == Finish()
    kept, looks = in_flight(it), list[float]()

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if is_call(request, *LIST):
            looks.append(it.clock())
            return changed(
                lambda body: body.update(data=[b for b in body["data"] if b["metadata"]["batcher_shard"] != "2"])
            )(request, send)
        return send(request)

    it.rule = rule
    assert it.act() == Finish() and len(looks) == 1
    assert retry_missing(it) == 6
    assert it.act() == Finish()
    assert it.states() == {"done": 12} and it.paid()["usable_more_than_once"] == 6
    assert in_flight(it) == pytest.approx(kept)


def test_a_batch_that_was_given_up_is_looked_at_before_its_lines_are_bought_again(tmp_path: Path) -> None:
    it = trial(tmp_path, poll={"interval_s": 60.0})
    gone = httpx2.Response(404, json={"error": {"message": "No batch found with id 'batch_1'."}})

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if is_call(request, *LIST):
            return changed(lambda body: body.update(data=[]))(request, send)
        if request.method == "GET" and request.url.path.startswith("/v1/batches/"):
            return httpx2.Response(404, json=gone.json(), request=request)
        return send(request)

    it.rule = rule
    it.act()
    assert it.states() == {"held": 6}
    it.rule = lambda request, send: send(request)
    assert retry_missing(it) == 6
    assert it.act() == Finish()
    assert_paid_once(it, 6)


def test_one_look_after_a_standstill_gives_nothing_up(tmp_path: Path) -> None:
    """The process did not run for days, so that it has not looked for that long: the next look may prove what is so."""
    it = trial(tmp_path, lines=12)
    lose, refused = nth(*CREATE, 2, answered(503)), list[float]()

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.method == "DELETE" and it.clock() < (refused or [it.clock()])[0] + 120:
            refused.append(it.clock())
            return answered(500)(request, send)
        return lose(request, send)

    it.rule = rule
    it.once_told(events.CallFailed, lambda: setattr(it, "interrupted", lambda: True))
    it.act()
    assert it.rows("SELECT state FROM shards WHERE shard = 2") == [("creating",)]
    it.clock.sleep(72 * HOUR)
    it.interrupted = lambda: False
    assert it.act() == Finish()
    assert refused and it.states() == {"done": 12}


def test_a_batch_that_was_given_up_and_has_failed_costs_nothing(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=6, budget={"max_usd": 100}, poll={"interval_s": 60.0})

    def hide(request: httpx2.Request, send: Send) -> httpx2.Response:
        if is_call(request, *LIST):
            return changed(lambda body: body.update(data=[]))(request, send)
        is_look = request.method == "GET" and request.url.path.startswith("/v1/batches/")
        return (answered(404) if is_look else lambda r, s: s(r))(request, send)

    def fail(body: dict[str, Any]) -> None:
        for batch in body.get("data", [body]):
            batch.update(status="failed", output_file_id=None, error_file_id=None, request_counts=None)
            batch["errors"] = {"data": [{"code": "invalid_request", "message": "no", "line": None}]}

    def show_failure(request: httpx2.Request, send: Send) -> httpx2.Response:
        is_look = request.method == "GET" and request.url.path.startswith("/v1/batches")
        return (changed(fail) if is_look else lambda r, s: s(r))(request, send)

    it.rule = hide
    it.act()
    assert it.states() == {"held": 6} and in_flight(it) > 0
    it.rule = show_failure
    assert it.act() == Finish()
    assert it.states() == {"held": 6} and in_flight(it) == 0
