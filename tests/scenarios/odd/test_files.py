"""Input files that are not found, lost or not shown: a file is kept, sent again or left, and nothing waits for it."""

from itertools import pairwise

import httpx2
import pytest

from batcher.core import events
from batcher.core.actions import Finish
from tests.support.protocol_kit import (
    CREATE,
    HOUR,
    MakeTrial,
    Rule,
    Send,
    Trial,
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
def test_a_file_that_is_not_found_at_once_is_kept_and_tried_again(make_trial: MakeTrial, age_s: float) -> None:
    it = make_trial()
    it.rule = not_found_before(it, age_s)
    assert it.act() == Finish()
    assert count_told(it, events.UploadStarted) == 1
    assert it.rows("SELECT refusals, file_missing_since FROM shards") == [(0, None)]
    assert it.input_files() == []
    assert_paid_once(it, 6)


def test_a_file_that_is_gone_is_uploaded_anew_once_the_service_says_so(make_trial: MakeTrial) -> None:
    it = make_trial(faults={"fail_batches": {"1": "token_limit_exceeded"}})
    files: list[str] = []

    def remove() -> None:
        files.extend(it.input_files())
        it.sandbox.files.delete(files[0], it.sandbox.now())

    it.once_told(events.ShardRefused, remove)
    assert it.act() == Finish()
    assert count_told(it, events.UploadStarted) == 2
    assert it.input_files() == [] and len(files) == 1
    assert_paid_once(it, 6)


def test_a_shard_that_was_given_up_has_its_tries_again_at_the_next_start(make_trial: MakeTrial) -> None:
    it = make_trial()
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
    assert count_told(it, events.UploadStarted) == 1 and it.states() == {"ready": 6}


def test_a_service_that_loses_what_it_takes_stops_the_job(make_trial: MakeTrial) -> None:
    it = make_trial()

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        for file_id in it.input_files():
            it.sandbox.files.delete(file_id, it.sandbox.now())
        return send(request)

    it.rule = every(*CREATE, rule)
    ended = it.act()
    assert isinstance(ended, Finish) and "it loses the files that it takes (shard 1)" in ended.problem
    assert count_told(it, events.UploadStarted) == 4 and it.states() == {"ready": 6}


@pytest.mark.parametrize("answer", [answered(405), answered(422), answered(503), answered(429)])
def test_looking_for_an_orphan_never_blocks_what_is_sent(make_trial: MakeTrial, answer: Rule) -> None:
    it = make_trial(lines=18)
    upload = nth("POST", "/files", 2, lost)
    it.rule = lambda request, send: (
        answer(request, send) if is_call(request, "GET", "/files") else upload(request, send)
    )
    started = it.clock()
    assert it.act() == Finish()
    assert it.clock() - started < HOUR
    assert it.rows("SELECT count(*) FROM events WHERE kind = 'outage'") == [(0,)]
    assert_paid_once(it, 18)


def test_a_refused_key_is_told_while_an_orphan_is_looked_for(make_trial: MakeTrial) -> None:
    it = make_trial()
    upload = nth("POST", "/files", 1, lost)
    it.rule = lambda request, send: (
        answered(401, "invalid_api_key")(request, send) if is_call(request, "GET", "/files") else upload(request, send)
    )
    ended = it.act()
    assert isinstance(ended, Finish) and "the service refused the request" in ended.problem


@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_an_orphan_is_searched_for_three_times_more(make_trial: MakeTrial, hidden: int) -> None:
    """Once at the repetition, then after the grace, and after 10 and 100 times that."""
    it = make_trial(settings={"service_s": (3 * HOUR, 3 * HOUR)}, poll={"interval_s": 700})
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


def test_after_three_searches_an_orphan_is_left_to_expire(make_trial: MakeTrial) -> None:
    it = make_trial(settings={"service_s": (9 * HOUR, 9 * HOUR)}, poll={"interval_s": HOUR})
    upload = nth("POST", "/files", 1, lost)
    listing = every("GET", "/files", changed(lambda body: body.update(data=[])))
    it.rule = lambda request, send: listing(request, lambda asked: upload(asked, send))
    it.act()
    assert it.rows("SELECT orphan_looks, orphan_due FROM submissions WHERE submission = 1") == [(3, None)]
    assert len(it.input_files()) == 1


# --- what cannot be asked for, and what comes to light late -----------------------------------------------------------


def plain_404(request: httpx2.Request, _send: Send) -> httpx2.Response:
    """Answer as a framework does where it has no such address."""
    return httpx2.Response(404, json={"detail": "Not Found"}, request=request)


def is_file_look(request: httpx2.Request) -> bool:
    path = request.url.path
    return request.method == "GET" and path.startswith("/v1/files/") and not path.endswith("/content")


@pytest.mark.parametrize("answer", [plain_404, answered(500)])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_input_file_that_cannot_be_asked_for_holds_up_no_other_shard(
    make_trial: MakeTrial, answer: Rule, method: str
) -> None:
    """A create without an effect waits for it alone."""
    it = make_trial(lines=18, poll={"interval_s": 60})
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
def test_a_batch_that_is_gone_is_given_up_where_files_cannot_be_asked_for(make_trial: MakeTrial, answer: Rule) -> None:
    it = make_trial(poll={"interval_s": 60})
    started = it.clock()
    it.once_told(events.BatchCreated, it.sandbox.lifecycle.batches.clear)
    it.rule = lambda request, send: answer(request, send) if is_file_look(request) else send(request)
    it.interrupted = lambda: it.clock() > started + HOUR
    assert it.act() == Finish()
    assert it.states() == {"held": 6}
