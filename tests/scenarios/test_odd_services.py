"""Services whose looks lag, stop, are cut short or tell a wrong time: nothing is bought twice, given up or held up."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest

from batcher.core import events
from batcher.core.actions import Finish
from batcher.core.failures import FailureClass
from batcher.service.openai_service import OpenAIService
from batcher.state import costs, quota_pauses, wishes
from tests.support.protocol_kit import (
    Rule,
    Send,
    Trial,
    answered,
    assert_paid_once,
    changed,
    every,
    is_call,
    lost,
    nth,
    trial,
)
from tests.support.world import kept_open

pytestmark = pytest.mark.slow("whole jobs against services that are wrong about themselves")

CREATE = ("POST", "/batches")
LIST = ("GET", "/batches")
HOUR = 3600.0
UNCLEAR = "the listing of the batches: the 3rd object has no id"
Make = Callable[..., Trial]
HOURLY: dict[str, Any] = {"poll": {"interval_s": HOUR}, "retry": {"outage": {"base_s": HOUR, "cap_s": HOUR}}}
"""Settings under which a day passes in few looks."""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return how a planned and released job is made, whose state stays open."""
    with ExitStack() as stack:

        def build(**options: Any) -> Trial:
            it = trial(tmp_path, **options)
            stack.enter_context(kept_open(it.store))
            return it

        yield build


def told(it: Trial, kind: type[events.Event]) -> int:
    return list(it.kinds()).count(kind)


def times_of(it: Trial, kind: type[events.Event]) -> list[float]:
    """Return the list in which the time of each event of a type is kept from now on."""
    times: list[float] = []

    def note(event: events.Event) -> None:
        if isinstance(event, kind):
            times.append(it.clock())

    it.on = note
    return times


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


def with_date(response: httpx2.Response, seconds: float) -> httpx2.Response:
    """Return an answer that tells another time (epoch seconds)."""
    response.headers["date"] = formatdate(seconds, usegmt=True)
    return response


# --- listings that are not complete -----------------------------------------------------------------------------------


@pytest.mark.parametrize("complete_s", [0, 30])
def test_a_listing_that_is_not_complete_never_shows_absence(
    make: Make, monkeypatch: pytest.MonkeyPatch, complete_s: float
) -> None:
    """Neither at the first look nor at a later one."""
    it = make()
    unclear_from = it.clock() + complete_s
    unclear_until = it.clock() + 600
    lists_unclearly(monkeypatch, lambda: unclear_from <= it.clock() < unclear_until)
    it.rule = nth(*CREATE, 1, answered(503))
    absent = times_of(it, events.BatchAbsent)
    it.act()
    assert len(absent) == 1 and absent[0] >= unclear_until + (0 if complete_s else it.config.api.reconcile_grace_s)
    assert told(it, events.ListingUnclear) == 1
    assert it.rows("SELECT detail FROM events WHERE kind = 'listing_problem'") == [(UNCLEAR,)]
    assert_paid_once(it, 6)


def test_the_listing_after_the_deletion_must_be_complete_too(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It alone would show a batch that was made between the last listing and the deletion."""
    it = make(settings={"validating_s": (100, 100)})
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
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been paid: it stays in the budget, and is asked for again at the user's word only."""
    it = make(lines=12, budget={"max_usd": 100}, **HOURLY)
    is_unclear = True
    lists_unclearly(monkeypatch, lambda: is_unclear)
    it.rule = nth(*CREATE, 2, answered(503))
    began = it.clock()
    assert it.act() == Finish()
    assert 26 * HOUR <= it.clock() - began < 28 * HOUR
    assert told(it, events.CreateGivenUp) == 1 and told(it, events.BatchAbsent) == 0
    assert it.states() == {"done": 6, "held": 6}
    assert it.rows("SELECT state, submission FROM shards ORDER BY shard")[1] == ("stale", None)
    with it.store.transaction("by_hand") as tx:
        assert costs.load_spending(tx).in_flight_usd > 0
        assert wishes.retry_lines(tx, wishes.RetryFilter(FailureClass.MISSING)).lines[0].lines == 6
    is_unclear = False
    assert it.act() == Finish()
    assert_paid_once(it, 12)


def test_a_lost_create_whose_file_cannot_be_deleted_is_held_after_a_day(make: Make) -> None:
    it = make(lines=12, **HOURLY)
    lose = nth(*CREATE, 2, answered(503))

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        return answered(405)(request, send) if request.method == "DELETE" else lose(request, send)

    it.rule = rule
    assert it.act() == Finish()
    assert told(it, events.CreateGivenUp) == 1 and it.states() == {"done": 6, "held": 6}


def test_what_an_incomplete_listing_shows_is_followed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    it = make(lines=12)
    lists_unclearly(monkeypatch, lambda: True, lacking=1)
    it.rule = nth(*CREATE, 2, lost)
    assert it.act() == Finish()
    assert events.BatchAdopted in it.kinds() and told(it, events.ListingUnclear) == 1
    assert it.facts("listing_lag_s") == 0
    assert_paid_once(it, 12)


@pytest.mark.parametrize("odd", [{"object": "batch"}, {"id": "batch_x", "status": ["done"], "created_at": 10**400}, 7])
def test_an_object_of_somebody_else_that_is_odd_holds_up_nothing(make: Make, odd: object) -> None:
    it = make(lines=12)
    lose = nth(*CREATE, 2, lost)
    spoil = every(*LIST, changed(lambda body: body["data"].insert(0, odd)))
    it.rule = lambda request, send: spoil(request, lambda asked: lose(asked, send))
    assert it.act() == Finish()
    assert events.BatchAdopted in it.kinds() and told(it, events.ListingUnclear) <= 1
    assert_paid_once(it, 12)


# --- listings that do not move ----------------------------------------------------------------------------------------


def freeze(body: dict[str, Any]) -> None:
    for batch in body["data"]:
        batch.update(status="validating", output_file_id=None, error_file_id=None, request_counts=None)


def test_a_batch_whose_listing_never_moves_is_asked_for_by_itself_one_a_round(make: Make) -> None:
    it = make(lines=18, poll={"interval_s": 200})
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


def test_batches_that_are_late_by_the_listing_alone_are_not_given_up(make: Make) -> None:
    it = make(lines=18, poll={"interval_s": 200})
    it.rule = every(*LIST, changed(freeze))
    it.act(once=True)
    it.clock.sleep(30 * HOUR)
    assert it.act() == Finish()
    assert it.rows("SELECT DISTINCT status FROM batches") == [("completed",)]
    assert_paid_once(it, 18)


def test_a_batch_that_moves_is_not_asked_for_by_itself(make: Make) -> None:
    it = make(poll={"interval_s": 300}, settings={"service_s": (HOUR, HOUR)})
    alone: list[str] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.url.path.startswith("/v1/batches/"):
            alone.append(request.url.path)
        return send(request)

    it.rule = rule
    it.act()
    assert len(alone) <= 7  # six lines in an hour: each change is followed by ten minutes of trust


# --- a time that is wrong ---------------------------------------------------------------------------------------------


def test_one_wrong_date_gives_no_batch_up(make: Make) -> None:
    it = make(settings={"service_s": (1000, 1000)})
    wrong = nth(*LIST, 3, lambda request, send: with_date(send(request), it.clock() + 30 * HOUR))
    it.rule = wrong
    assert it.act() == Finish()
    assert "overdue" not in [status for (status,) in it.rows("SELECT detail FROM events WHERE kind = 'status'")]
    assert_paid_once(it, 6)


def test_one_wrong_date_does_not_make_a_second_404_count(make: Make) -> None:
    it = make(settings={"service_s": (1000, 1000)})
    gone: dict[str, Any] = {}

    def react(event: events.Event) -> None:
        batches = it.sandbox.lifecycle.batches
        if isinstance(event, events.BatchCreated):
            gone.update(batches)
            batches.clear()
        elif told(it, events.LinesProgressed) == 2:
            batches.update(gone)

    it.on = react
    it.rule = nth(*LIST, 2, lambda request, send: with_date(send(request), it.clock() + 30 * HOUR))
    assert it.act() == Finish()
    assert_paid_once(it, 6)


def test_our_clock_an_hour_ahead_does_not_make_the_second_look_count(make: Make) -> None:
    it = make(faults={"list_lag_s": 50})
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


def test_a_service_whose_dates_are_ahead_teaches_no_lag(make: Make) -> None:
    """Its batches seem to be created long before any look at them."""
    it = make(lines=12, faults={"list_lag_s": 5})
    it.rule = lambda request, send: with_date(send(request), it.clock() + 200)
    it.act()
    assert it.facts("listing_lag_s") <= 30
    assert_paid_once(it, 12)


def test_an_old_batch_that_one_listing_lacks_teaches_the_time_between_two_looks(make: Make) -> None:
    it = make(settings={"service_s": (20 * HOUR, 20 * HOUR)}, poll={"interval_s": 3000})
    it.rule = nth(*LIST, 20, changed(lambda body: body.update(data=[])))
    it.act()
    assert 2900 <= it.facts("listing_lag_s") <= 3000
    assert_paid_once(it, 6)


def test_a_lost_create_that_a_later_listing_shows_teaches_its_lag(make: Make) -> None:
    it = make(faults={"list_lag_s": 40})
    it.rule = nth(*CREATE, 1, lost)
    it.act()
    assert 40 <= it.facts("listing_lag_s") <= 61
    assert_paid_once(it, 6)


# --- one object that cannot be handled --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 500])
def test_a_batch_that_cannot_be_looked_at_holds_up_no_other(make: Make, status: int) -> None:
    """It is neither listed nor shown; its results are read once it is."""
    it = make(lines=18, poll={"interval_s": 60})
    bad: list[str] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        bad.extend([batch_id for batch_id, _ in it.batches()][: 1 - len(bad)])
        if bad and it.clock() < until and request.url.path == f"/v1/batches/{bad[0]}":
            return answered(status)(request, send)
        if is_call(request, *LIST) and it.clock() < until:
            return changed(lambda body: body.update(data=[b for b in body["data"] if b["id"] not in bad]))(
                request, send
            )
        return send(request)

    until = it.clock() + 900
    it.rule = rule
    settled = times_of(it, events.BatchSettled)
    assert it.act() == Finish()
    assert len([at for at in settled if at < until - 450]) == 2
    assert it.rows("SELECT count(*) FROM events WHERE kind = 'outage'") == [(0,)]
    assert_paid_once(it, 18)


@pytest.mark.parametrize("status", [400, 500])
def test_an_ended_batch_that_cannot_be_asked_for_holds_up_no_other(make: Make, status: int) -> None:
    it = make(lines=18, poll={"interval_s": 60})
    bad: list[str] = []

    def bare(body: dict[str, Any]) -> None:
        for batch in body["data"]:
            if batch["id"] in bad:
                batch.update(output_file_id=None, error_file_id=None)

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        bad.extend([batch_id for batch_id, _ in it.batches()][: 1 - len(bad)])
        if bad and it.clock() < until and request.url.path == f"/v1/batches/{bad[0]}":
            return answered(status)(request, send)
        return changed(bare)(request, send) if is_call(request, *LIST) and it.clock() < until else send(request)

    until = it.clock() + 900
    it.rule = rule
    settled = times_of(it, events.BatchSettled)
    assert it.act() == Finish()
    assert len([at for at in settled if at < until - 450]) == 2
    assert it.rows("SELECT count(*) FROM events WHERE kind = 'outage'") == [(0,)]
    assert_paid_once(it, 18)


def test_a_create_that_is_answered_with_an_earlier_batch_is_looked_for(make: Make) -> None:
    it = make(lines=12)
    first: list[dict[str, Any]] = []

    def repeat(body: dict[str, Any]) -> None:
        first.append(dict(body))
        body.clear()
        body.update(first[0])

    it.rule = every(*CREATE, changed(repeat))
    assert it.act() == Finish()
    assert events.BatchAdopted in it.kinds() and len(it.batches()) == 2
    assert_paid_once(it, 12)


# --- waits ------------------------------------------------------------------------------------------------------------


def test_a_look_is_not_put_off_for_a_day(make: Make) -> None:
    it = make()
    it.rule = nth(*LIST, 1, answered(503, headers={"retry-after": "86400"}))
    started = it.clock()
    assert it.act() == Finish()
    assert 900 <= it.clock() - started < HOUR


def test_a_create_that_asks_for_a_day_holds_back_what_is_sent_and_no_look(make: Make) -> None:
    it = make(lines=12, poll={"interval_s": 600})
    it.rule = nth(*CREATE, 2, answered(503, headers={"retry-after": "7000"}))
    settled = times_of(it, events.BatchSettled)
    started = it.clock()
    it.act()
    assert settled[0] - started < 1800 and it.clock() - started > 7000
    assert_paid_once(it, 12)


def test_resume_ends_what_the_service_asked_for(make: Make) -> None:
    it = make()
    it.rule = nth(*LIST, 1, answered(503, headers={"retry-after": "86400"}))
    it.act(once=True)
    assert it.facts("asked_until") > it.clock()
    with it.store.transaction("resume") as tx:
        quota_pauses.resume_sending(tx)
    assert it.facts("asked_until") == 0
    assert it.act() == Finish()


def test_a_batch_that_a_search_finds_does_not_wait_for_the_search(make: Make) -> None:
    it = make(
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


def test_a_cancel_that_is_not_answered_does_not_delay_what_is_read(make: Make) -> None:
    it = make(poll={"interval_s": 10})
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


# --- files ------------------------------------------------------------------------------------------------------------


def not_found_before(it: Trial, age_s: float) -> Rule:
    """Refuse to make a batch of a file that is younger than this."""

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        newest = max((file.created_at for file in it.sandbox.files._files.values()), default=0.0)
        if it.clock() - newest >= age_s:
            return send(request)
        error = {"message": "Cannot find file", "type": "invalid_request_error", "param": None, "code": None}
        return httpx2.Response(400, json={"error": error}, request=request)

    return every(*CREATE, rule)


@pytest.mark.parametrize("age_s", [1.0, 100.0, 900.0])
def test_a_file_that_is_not_found_at_once_is_kept_and_tried_again(make: Make, age_s: float) -> None:
    it = make()
    it.rule = not_found_before(it, age_s)
    assert it.act() == Finish()
    assert told(it, events.UploadStarted) == 1
    assert it.rows("SELECT refusals, file_missing_since FROM shards") == [(0, None)]
    assert it.input_files() == []
    assert_paid_once(it, 6)


def test_a_file_that_is_gone_is_uploaded_anew_once_the_service_says_so(make: Make) -> None:
    it = make(faults={"fail_batches": {"1": "token_limit_exceeded"}})
    files: list[str] = []

    def remove() -> None:
        files.extend(it.input_files())
        it.sandbox.files.delete(files[0], it.sandbox.now())

    it.once_told(events.ShardRefused, remove)
    assert it.act() == Finish()
    assert told(it, events.UploadStarted) == 2
    assert it.input_files() == [] and len(files) == 1
    assert_paid_once(it, 6)


def test_a_shard_that_was_given_up_has_its_tries_again_at_the_next_start(make: Make) -> None:
    it = make()
    creates: list[float] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        creates.append(it.clock())
        return not_found_before(it, 10 * HOUR)(request, send)

    it.rule = every(*CREATE, rule)
    for _start in (1, 2):
        ended = it.act()
        assert isinstance(ended, Finish) and "Cannot find file" in ended.problem
    counted = [at for at in creates if at - creates[0] >= HOUR]  # for an hour none costs a try
    assert len(counted) == 2 * 4 and len(creates) - len(counted) < 20
    assert told(it, events.UploadStarted) == 1 and it.states() == {"ready": 6}


def test_a_service_that_loses_what_it_takes_stops_the_job(make: Make) -> None:
    it = make()

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        for file_id in it.input_files():
            it.sandbox.files.delete(file_id, it.sandbox.now())
        return send(request)

    it.rule = every(*CREATE, rule)
    ended = it.act()
    assert isinstance(ended, Finish) and "it loses the files that it takes (shard 1)" in ended.problem
    assert told(it, events.UploadStarted) == 4 and it.states() == {"ready": 6}


@pytest.mark.parametrize("answer", [answered(405), answered(422), answered(503), answered(429)])
def test_looking_for_an_orphan_never_blocks_what_is_sent(make: Make, answer: Rule) -> None:
    it = make(lines=18)
    upload = nth("POST", "/files", 2, lost)
    it.rule = lambda request, send: (
        answer(request, send) if is_call(request, "GET", "/files") else upload(request, send)
    )
    started = it.clock()
    assert it.act() == Finish()
    assert it.clock() - started < HOUR
    assert it.rows("SELECT count(*) FROM events WHERE kind = 'outage'") == [(0,)]
    assert_paid_once(it, 18)


def test_a_refused_key_is_told_while_an_orphan_is_looked_for(make: Make) -> None:
    it = make()
    upload = nth("POST", "/files", 1, lost)
    it.rule = lambda request, send: (
        answered(401, "invalid_api_key")(request, send) if is_call(request, "GET", "/files") else upload(request, send)
    )
    ended = it.act()
    assert isinstance(ended, Finish) and "the service refuses us" in ended.problem


@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_an_orphan_is_searched_for_three_times_more(make: Make, hidden: int) -> None:
    """Once at the repetition, then after the grace, and after 10 and 100 times that."""
    it = make(settings={"service_s": (3 * HOUR, 3 * HOUR)}, poll={"interval_s": 700})
    upload = nth("POST", "/files", 1, lost)
    searches: list[float] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if is_call(request, "GET", "/files"):
            searches.append(it.clock())
            if len(searches) <= hidden:
                return changed(lambda body: body.update(data=[]))(request, send)
        return upload(request, send)

    it.rule = rule
    it.act()
    assert len(searches) == hidden + 1
    waits = [later - before for before, later in pairwise(searches)]
    assert all(wait >= least for wait, least in zip(waits, (60, 600, 6000), strict=False))
    assert it.input_files() == []


def test_after_three_searches_an_orphan_is_left_to_expire(make: Make) -> None:
    it = make(settings={"service_s": (9 * HOUR, 9 * HOUR)}, poll={"interval_s": HOUR})
    upload = nth("POST", "/files", 1, lost)
    listing = every("GET", "/files", changed(lambda body: body.update(data=[])))
    it.rule = lambda request, send: listing(request, lambda asked: upload(asked, send))
    it.act()
    assert it.rows("SELECT orphan_looks, orphan_due FROM submissions WHERE submission = 1") == [(3, None)]
    assert len(it.input_files()) == 1


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


def test_an_ended_batch_that_can_never_be_asked_for_is_held_after_a_day(make: Make) -> None:
    """Its listing names no files, and nothing else is said of it."""
    it = make(poll={"interval_s": 1800})
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
def test_a_batch_that_was_given_up_and_has_failed_is_settled_and_buys_nothing(make: Make, line: int | None) -> None:
    it = make(poll={"interval_s": 60})
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


def test_a_batch_of_which_the_service_never_says_anything_is_given_up_at_last(make: Make) -> None:
    it = make(poll={"interval_s": 1800})
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


def plain_404(request: httpx2.Request, _send: Send) -> httpx2.Response:
    """Answer as a framework does where it has no such address."""
    return httpx2.Response(404, json={"detail": "Not Found"}, request=request)


def is_file_look(request: httpx2.Request) -> bool:
    path = request.url.path
    return request.method == "GET" and path.startswith("/v1/files/") and not path.endswith("/content")


@pytest.mark.parametrize("answer", [plain_404, answered(500)])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_input_file_that_cannot_be_asked_for_holds_up_no_other_shard(make: Make, answer: Rule, method: str) -> None:
    """A create without an effect waits for it alone."""
    it = make(lines=18, poll={"interval_s": 60})
    started, failed = it.clock(), list[str]()

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if is_call(request, *CREATE) and not failed:
            failed.append("create")
            raise httpx2.ReadTimeout("no answer", request=request)
        is_about_file = is_file_look(request) if method == "GET" else request.method == "DELETE"
        if is_about_file and it.clock() < started + HOUR:
            return answer(request, send)
        return send(request)

    it.rule = rule
    settled = times_of(it, events.BatchSettled)
    it.interrupted = lambda: it.clock() > started + 3 * HOUR
    assert it.act() == Finish()
    assert [at < started + 900 for at in settled] == [True, True, False]
    assert it.rows("SELECT count(*) FROM events WHERE kind = 'outage'") == [(0,)]
    assert_paid_once(it, 18)


@pytest.mark.parametrize("answer", [plain_404, answered(500)])
def test_a_batch_that_is_gone_is_given_up_where_files_cannot_be_asked_for(make: Make, answer: Rule) -> None:
    it = make(poll={"interval_s": 60})
    started = it.clock()
    it.once_told(events.BatchCreated, it.sandbox.lifecycle.batches.clear)
    it.rule = lambda request, send: answer(request, send) if is_file_look(request) else send(request)
    it.interrupted = lambda: it.clock() > started + HOUR
    assert it.act() == Finish()
    assert it.states() == {"held": 6}
