"""Batches that cannot be looked at: they hold up no other, are held after a day, and are read once they show."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from batcher.core import events
from batcher.core.actions import Finish
from tests.support.protocol_kit import (
    CREATE,
    HOUR,
    LIST,
    PATIENT,
    MakeTrial,
    Rule,
    Send,
    Trial,
    answered,
    assert_paid_once,
    changed,
    every,
    is_call,
    times_of,
)

pytestmark = pytest.mark.slow("whole jobs against services that are wrong about themselves")


# --- one object that cannot be handled --------------------------------------------------------------------------------


def spoils_first_batch(it: Trial, until: float, status: int, spoil: Callable[[dict[str, Any], str], object]) -> Rule:
    """Return a rule by which the first batch cannot be asked for by itself until a time.

    spoil: changes what a listing says of it, given the listing and the batch's id.
    """

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        first = next((batch_id for batch_id, _ in it.batches()), "")
        if not first or it.clock() >= until:
            return send(request)
        if request.url.path == f"/v1/batches/{first}":
            return answered(status)(request, send)
        return changed(lambda body: spoil(body, first))(request, send) if is_call(request, *LIST) else send(request)

    return rule


def assert_others_settle(it: Trial, until: float) -> None:
    """Check that two of three batches are settled long before `until`, and all three are in the end."""
    settled = times_of(it, events.BatchSettled)
    assert it.act() == Finish()
    assert len([at for at in settled if at < until - 450]) == 2
    assert it.rows("SELECT count(*) FROM events WHERE kind = 'outage'") == [(0,)]
    assert_paid_once(it, 18)


@pytest.mark.parametrize("status", [400, 500])
def test_a_batch_that_cannot_be_looked_at_holds_up_no_other(make_trial: MakeTrial, status: int) -> None:
    """It is neither listed nor shown; its results are read once it is."""
    it = make_trial(lines=18, poll={"interval_s": 60})

    def remove(body: dict[str, Any], batch_id: str) -> None:
        body["data"] = [batch for batch in body["data"] if batch["id"] != batch_id]

    until = it.clock() + 900
    it.rule = spoils_first_batch(it, until, status, remove)
    assert_others_settle(it, until)


@pytest.mark.parametrize("status", [400, 500])
def test_an_ended_batch_that_cannot_be_asked_for_holds_up_no_other(make_trial: MakeTrial, status: int) -> None:
    it = make_trial(lines=18, poll={"interval_s": 60})

    def bare(body: dict[str, Any], batch_id: str) -> None:
        for batch in body["data"]:
            if batch["id"] == batch_id:
                batch.update(output_file_id=None, error_file_id=None)

    until = it.clock() + 900
    it.rule = spoils_first_batch(it, until, status, bare)
    assert_others_settle(it, until)


def test_a_create_that_is_answered_with_an_earlier_batch_is_looked_for(make_trial: MakeTrial) -> None:
    it = make_trial(lines=12)
    first: list[dict[str, Any]] = []

    def repeat(body: dict[str, Any]) -> None:
        first.append(dict(body))
        body.clear()
        body.update(first[0])

    it.rule = every(*CREATE, changed(repeat))
    assert it.act() == Finish()
    assert events.BatchAdopted in it.kinds() and len(it.batches()) == 2
    assert_paid_once(it, 12)


# --- what cannot be asked for, and what comes to light late -----------------------------------------------------------


def hides_batches(until: Callable[[], bool], alone: Rule) -> Rule:
    """Return a rule by which listings are empty and `alone` answers for a batch by itself, while `until` is False."""

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.method != "GET" or not request.url.path.startswith("/v1/batches") or until():
            return send(request)
        if is_call(request, *LIST):
            return changed(lambda body: body.update(data=[]))(request, send)
        return alone(request, send)

    return rule


def test_an_ended_batch_that_can_never_be_asked_for_is_held_after_a_day(make_trial: MakeTrial) -> None:
    """Its listing names no files, and nothing else is said of it."""
    it = make_trial(poll={"interval_s": 3600}, retry=PATIENT)
    started = it.clock()

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.method == "GET" and request.url.path.startswith("/v1/batches/"):
            return answered(500)(request, send)
        if is_call(request, *LIST):
            return changed(
                lambda body: [
                    b.update(output_file_id=None, error_file_id=None, request_counts=None) for b in body["data"]
                ]
            )(request, send)
        return send(request)

    it.rule = rule
    it.interrupted = lambda: it.clock() > started + 60 * HOUR
    assert it.act() == Finish()
    assert it.states() == {"held": 6} and it.clock() < started + 27 * HOUR
    it.rule = lambda request, send: send(request)
    assert it.act() == Finish()
    assert_paid_once(it, 6)


@pytest.mark.parametrize("line", [None, 1])
def test_a_batch_that_was_given_up_and_has_failed_is_settled_and_buys_nothing(
    make_trial: MakeTrial, line: int | None
) -> None:
    it = make_trial(poll={"interval_s": 60})
    shown = False
    it.rule = hides_batches(lambda: shown, answered(404))
    it.act()
    assert it.states() == {"held": 6}

    def fail(body: dict[str, Any]) -> None:
        for batch in body.get("data", [body]):
            batch.update(status="failed", output_file_id=None, error_file_id=None, request_counts=None)
            batch["errors"] = {"data": [{"code": "invalid_request", "message": "no", "line": line}]}

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.method == "GET" and request.url.path.startswith("/v1/batches"):
            return changed(fail)(request, send)
        return send(request)

    shown, it.rule = True, rule
    assert it.act() == Finish()
    assert it.states() == {"held": 6} and len(it.batches()) == 1
    assert it.rows("SELECT unread, settled_at IS NULL FROM batches") == [(False, False)]
    assert it.act() == Finish()


def test_a_batch_of_which_the_service_never_says_anything_is_given_up_at_last(make_trial: MakeTrial) -> None:
    it = make_trial(poll={"interval_s": 1800})
    started = it.clock()
    it.rule = hides_batches(lambda: it.clock() > started + 40 * HOUR, answered(500))
    it.interrupted = lambda: it.clock() > started + 60 * HOUR
    it.act()
    assert it.states() == {"held": 6} and it.clock() < started + 30 * HOUR
    assert it.rows("SELECT status FROM batches") == [("overdue",)]
    it.clock.sleep(15 * HOUR)
    it.interrupted = lambda: False
    assert it.act() == Finish()
    assert_paid_once(it, 6)
