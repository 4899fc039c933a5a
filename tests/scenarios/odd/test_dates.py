"""Services and clocks that tell a wrong time: no batch is given up by it, and no lag is learned from it."""

from email.utils import formatdate
from typing import Any

import httpx2
import pytest

from batcher.core import events
from batcher.core.actions import Finish
from tests.support.protocol_kit import CREATE, HOUR, LIST, MakeTrial, assert_paid_once, changed, count_told, lost, nth

pytestmark = pytest.mark.slow("whole jobs against services that are wrong about themselves")


def with_date(response: httpx2.Response, seconds: float) -> httpx2.Response:
    """Return an answer that tells another time (epoch seconds)."""
    response.headers["date"] = formatdate(seconds, usegmt=True)
    return response


def test_one_wrong_date_gives_no_batch_up(make_trial: MakeTrial) -> None:
    it = make_trial(settings={"service_s": (1000, 1000)})
    wrong = nth(*LIST, 3, lambda request, send: with_date(send(request), it.clock() + 30 * HOUR))
    it.rule = wrong
    assert it.act() == Finish()
    assert "overdue" not in [status for (status,) in it.rows("SELECT detail FROM events WHERE kind = 'status'")]
    assert_paid_once(it, 6)


def test_one_wrong_date_does_not_make_a_second_404_count(make_trial: MakeTrial) -> None:
    it = make_trial(settings={"service_s": (1000, 1000)})
    gone: dict[str, Any] = {}

    def react(event: events.Event) -> None:
        batches = it.sandbox.lifecycle.batches
        if isinstance(event, events.BatchCreated):
            gone.update(batches)
            batches.clear()
        elif count_told(it, events.LinesProgressed) == 2:
            batches.update(gone)

    it.on = react
    it.rule = nth(*LIST, 2, lambda request, send: with_date(send(request), it.clock() + 30 * HOUR))
    assert it.act() == Finish()
    assert_paid_once(it, 6)


def test_our_clock_an_hour_ahead_does_not_make_the_second_look_count(make_trial: MakeTrial) -> None:
    it = make_trial(faults={"list_lag_s": 50})
    ahead = [0.0]
    it.sandbox._clock = lambda: it.clock() - ahead[0]

    def jump() -> None:
        ahead[0] = HOUR
        it.clock.sleep(HOUR)

    it.once_told(events.BatchSearched, jump)
    it.rule = nth(*CREATE, 1, lost)
    it.act()
    assert events.BatchAdopted in it.kinds() and events.BatchAbsent not in it.kinds()
    assert len(it.batches()) == 1
    assert_paid_once(it, 6)


def test_a_service_whose_dates_are_ahead_teaches_no_lag(make_trial: MakeTrial) -> None:
    """Its batches seem to be created long before any look at them."""
    it = make_trial(lines=12, faults={"list_lag_s": 5})
    it.rule = lambda request, send: with_date(send(request), it.clock() + 200)
    it.act()
    assert it.facts("listing_lag_s") <= 30
    assert_paid_once(it, 12)


def test_an_old_batch_that_one_listing_lacks_teaches_the_time_between_two_looks(make_trial: MakeTrial) -> None:
    it = make_trial(settings={"service_s": (20 * HOUR, 20 * HOUR)}, poll={"interval_s": 3000})
    it.rule = nth(*LIST, 20, changed(lambda body: body.update(data=[])))
    it.act()
    assert 2900 <= it.facts("listing_lag_s") <= 3000
    assert_paid_once(it, 6)


def test_a_lost_create_that_a_later_listing_shows_teaches_its_lag(make_trial: MakeTrial) -> None:
    it = make_trial(faults={"list_lag_s": 40})
    it.rule = nth(*CREATE, 1, lost)
    it.act()
    assert 40 <= it.facts("listing_lag_s") <= 61
    assert_paid_once(it, 6)
