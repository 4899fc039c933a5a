"""Services that ask for a long wait: what waits for it, and what does not."""

import pytest

from batcher.core import events
from batcher.core.actions import Finish
from batcher.state import quota_pauses, wishes
from tests.support.protocol_kit import CREATE, HOUR, LIST, MakeTrial, answered, assert_paid_once, lost, nth, times_of

pytestmark = pytest.mark.slow("whole jobs against services that are wrong about themselves")


def test_a_look_is_not_put_off_for_a_day(make_trial: MakeTrial) -> None:
    it = make_trial()
    it.rule = nth(*LIST, 1, answered(503, headers={"retry-after": "86400"}))
    started = it.clock()
    assert it.act() == Finish()
    assert 900 <= it.clock() - started < HOUR


def test_a_create_that_asks_for_a_day_holds_back_what_is_sent_and_no_look(make_trial: MakeTrial) -> None:
    it = make_trial(lines=12, poll={"interval_s": 600})
    it.rule = nth(*CREATE, 2, answered(503, headers={"retry-after": "7000"}))
    settled = times_of(it, events.BatchSettled)
    started = it.clock()
    it.act()
    assert settled[0] - started < 1800 and it.clock() - started > 7000
    assert_paid_once(it, 12)


def test_resume_ends_what_the_service_asked_for(make_trial: MakeTrial) -> None:
    it = make_trial()
    it.rule = nth(*LIST, 1, answered(503, headers={"retry-after": "86400"}))
    it.act(once=True)
    assert it.facts("asked_until") > it.clock()
    with it.store.transaction("resume") as tx:
        quota_pauses.resume_sending(tx)
    assert it.facts("asked_until") == 0
    assert it.act() == Finish()


def test_a_batch_that_a_search_finds_does_not_wait_for_the_search(make_trial: MakeTrial) -> None:
    it = make_trial(
        lines=12,
        faults={"list_lag_s": 40, "fail_batches": {"2": "token_limit_exceeded"}},
        api={"reconcile_grace_s": 3000},
    )
    it.rule = nth(*CREATE, 2, lost)
    started = it.clock()
    it.act()
    assert [status for _, status in it.batches()] == ["completed", "failed", "completed"]
    assert it.clock() - started < 1500
    assert_paid_once(it, 12)


def test_a_cancel_that_is_not_answered_does_not_delay_what_is_read(make_trial: MakeTrial) -> None:
    it = make_trial(poll={"interval_s": 10})
    it.rule = lambda request, send: (
        answered(500)(request, send) if request.url.path.endswith("/cancel") else send(request)
    )

    def cancel() -> None:
        it.clock.sleep(100)
        with it.store.transaction("cancel") as tx:
            wishes.request_cancel(tx, [1])

    it.once_told(events.BatchCreated, cancel)
    it.act()
    assert it.rows("SELECT settled_at - ended_at < 5 FROM batches") == [(True,)]
    assert it.rows("SELECT cancel_asked_at IS NULL, cancel_due > 0 FROM batches") == [(True, True)]
    assert_paid_once(it, 6)
