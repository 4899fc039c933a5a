"""Listings that lack batches, are not understood or never move: nothing is bought twice or given up by them."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import httpx2
import pytest

from batcher.core import events
from batcher.core.actions import Finish
from batcher.core.failures import FailureClass
from batcher.service.openai_service import OpenAIService
from batcher.state import costs, wishes
from tests.support.protocol_kit import (
    CREATE,
    HOUR,
    LIST,
    MakeTrial,
    Send,
    answered,
    assert_paid_once,
    changed,
    count_told,
    every,
    is_call,
    lost,
    nth,
    times_of,
)

pytestmark = pytest.mark.slow("whole jobs against services that are wrong about themselves")

UNCLEAR = "the listing of the batches: the 3rd object has no id"
HOURLY: dict[str, Any] = {"poll": {"interval_s": HOUR}, "retry": {"outage": {"base_s": HOUR, "cap_s": HOUR}}}
"""Settings under which a day passes in few looks."""


def lists_unclearly(monkeypatch: pytest.MonkeyPatch, while_true: Callable[[], bool], lacking: int = 0) -> None:
    """Have a part of each listing not understood. lacking: the oldest batches that it does not show."""
    whole = OpenAIService.list_batches

    def cut(service: OpenAIService, back_to: float) -> Any:
        listing = whole(service, back_to)
        if not while_true():
            return listing
        shown = listing.batches[: len(listing.batches) - lacking]
        return listing._replace(batches=shown, proves_absence=False, problems=(UNCLEAR,))

    monkeypatch.setattr(OpenAIService, "list_batches", cut)


# --- listings that are not complete -----------------------------------------------------------------------------------


@pytest.mark.parametrize("complete_s", [0, 30])
def test_a_listing_that_is_not_complete_never_shows_absence(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch, complete_s: float
) -> None:
    """Neither at the first look nor at a later one."""
    it = make_trial()
    unclear_from = it.clock() + complete_s
    unclear_until = it.clock() + 600
    lists_unclearly(monkeypatch, lambda: unclear_from <= it.clock() < unclear_until)
    it.rule = nth(*CREATE, 1, answered(503))
    absent = times_of(it, events.BatchAbsent)
    it.act()
    assert len(absent) == 1 and absent[0] >= unclear_until + (0 if complete_s else it.config.api.reconcile_grace_s)
    assert count_told(it, events.ListingUnclear) == 1
    assert it.rows("SELECT detail FROM events WHERE kind = 'listing_problem'") == [(UNCLEAR,)]
    assert_paid_once(it, 6)


def test_the_listing_after_the_deletion_must_be_complete_too(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It alone would show a batch that was made between the last listing and the deletion."""
    it = make_trial(settings={"validating_s": (100, 100)})
    deleted: list[float] = []
    lists_unclearly(monkeypatch, lambda: bool(deleted) and it.clock() < deleted[0] + 600)
    lose = nth(*CREATE, 1, lost)

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.method == "DELETE":
            deleted.append(it.clock())
        if is_call(request, *LIST) and (not deleted or it.clock() < deleted[0] + 300):
            return changed(lambda body: body.update(data=[]))(request, send)
        return lose(request, send)

    it.rule = rule
    it.act()
    assert events.BatchAbsent not in it.kinds() and events.BatchAdopted in it.kinds()
    assert_paid_once(it, 6)


def test_a_create_that_no_listing_ever_clears_up_is_held_after_a_day(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been paid: it stays in the budget, and is asked for again at the user's word only."""
    it = make_trial(lines=12, budget={"max_usd": 100}, **HOURLY)
    is_unclear = True
    lists_unclearly(monkeypatch, lambda: is_unclear)
    it.rule = nth(*CREATE, 2, answered(503))
    began = it.clock()
    assert it.act() == Finish()
    assert 26 * HOUR <= it.clock() - began < 28 * HOUR
    assert count_told(it, events.CreateGivenUp) == 1 and count_told(it, events.BatchAbsent) == 0
    assert it.states() == {"done": 6, "held": 6}
    assert it.rows("SELECT state, submission FROM shards ORDER BY shard")[1] == ("stale", None)
    with it.store.transaction("by_hand") as tx:
        assert costs.load_spending(tx).in_flight_usd > 0
        assert wishes.retry_lines(tx, wishes.RetryFilter(FailureClass.MISSING)).lines[0].lines == 6
    is_unclear = False
    assert it.act() == Finish()
    assert_paid_once(it, 12)


def test_a_lost_create_whose_file_cannot_be_deleted_is_held_after_a_day(make_trial: MakeTrial) -> None:
    it = make_trial(lines=12, **HOURLY)
    lose = nth(*CREATE, 2, answered(503))

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        return answered(405)(request, send) if request.method == "DELETE" else lose(request, send)

    it.rule = rule
    assert it.act() == Finish()
    assert count_told(it, events.CreateGivenUp) == 1 and it.states() == {"done": 6, "held": 6}


def test_what_an_incomplete_listing_shows_is_followed(make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    it = make_trial(lines=12)
    lists_unclearly(monkeypatch, lambda: True, lacking=1)
    it.rule = nth(*CREATE, 2, lost)
    assert it.act() == Finish()
    assert events.BatchAdopted in it.kinds() and count_told(it, events.ListingUnclear) == 1
    assert it.facts("listing_lag_s") == 0
    assert_paid_once(it, 12)


@pytest.mark.parametrize("odd", [{"object": "batch"}, {"id": "batch_x", "status": ["done"], "created_at": 10**400}, 7])
def test_an_object_of_somebody_else_that_is_odd_holds_up_nothing(make_trial: MakeTrial, odd: object) -> None:
    it = make_trial(lines=12)
    lose = nth(*CREATE, 2, lost)
    spoil = every(*LIST, changed(lambda body: body["data"].insert(0, odd)))
    it.rule = lambda request, send: spoil(request, lambda asked: lose(asked, send))
    assert it.act() == Finish()
    assert events.BatchAdopted in it.kinds() and count_told(it, events.ListingUnclear) <= 1
    assert_paid_once(it, 12)


# --- listings that do not move ----------------------------------------------------------------------------------------


def freeze(body: dict[str, Any]) -> None:
    for batch in body["data"]:
        batch.update(status="validating", output_file_id=None, error_file_id=None, request_counts=None)


def test_a_batch_whose_listing_never_moves_is_asked_for_by_itself_one_a_round(make_trial: MakeTrial) -> None:
    it = make_trial(lines=18, poll={"interval_s": 200})
    looks: list[str] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.method == "GET" and request.url.path.startswith("/v1/batches"):
            looks.append(request.url.path.removeprefix("/v1/batches"))
        return changed(freeze)(request, send) if is_call(request, *LIST) else send(request)

    it.rule = rule
    started = it.clock()
    assert it.act() == Finish()
    assert it.clock() - started < HOUR
    alone = [look != "" for look in looks]
    assert sum(alone) >= 3 and not any(a and b for a, b in pairwise(alone))
    assert_paid_once(it, 18)


def test_batches_that_are_late_by_the_listing_alone_are_not_given_up(make_trial: MakeTrial) -> None:
    it = make_trial(lines=18, poll={"interval_s": 200})
    it.rule = every(*LIST, changed(freeze))
    it.act(once=True)
    it.clock.sleep(30 * HOUR)
    assert it.act() == Finish()
    assert it.rows("SELECT DISTINCT status FROM batches") == [("completed",)]
    assert_paid_once(it, 18)


def test_a_batch_that_moves_is_not_asked_for_by_itself(make_trial: MakeTrial) -> None:
    it = make_trial(poll={"interval_s": 300}, settings={"service_s": (HOUR, HOUR)})
    alone: list[str] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.url.path.startswith("/v1/batches/"):
            alone.append(request.url.path)
        return send(request)

    it.rule = rule
    it.act()
    assert len(alone) <= 7  # six lines in an hour: each change is followed by ten minutes of trust
