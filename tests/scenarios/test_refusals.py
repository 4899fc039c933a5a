"""Refusals, pauses, delays and limits: what a shard waits for, and that no line pays for what is not its fault."""

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

import httpx2
import pytest
from rich.console import Console

from batcher.catalog.prices import resolve_prices
from batcher.core import events
from batcher.core.actions import Finish, Wait
from batcher.state import facts, intents, quota_pauses, shards, submissions
from batcher.state.reports.status import read_status
from batcher.state.snapshot import load_budget, load_room
from batcher.views.status import draw_status
from tests.support.protocol_kit import (
    BATCH_S,
    Rule,
    Send,
    Trial,
    answered,
    assert_paid_once,
    changed,
    every,
    is_call,
    nth,
    trial,
)

pytestmark = pytest.mark.slow("whole jobs against a service that refuses")

DAY = 86_400.0
ONE_AT_A_TIME = {"enqueued_tokens": 8000, "tokens_per_shard": 5000}


def test_a_full_queue_costs_no_try_and_the_file_is_kept(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"fail_batches": {"1": "token_limit_exceeded"}})
    it.act()
    assert it.rows("SELECT count(DISTINCT input_file_id), count(*) FROM batches") == [(1, 2)]
    assert it.rows("SELECT DISTINCT attempts FROM artists") == [(1,)]
    assert it.rows("SELECT outcome, count(*) FROM attempts GROUP BY ALL") == [("bio", 6)]
    assert_paid_once(it, 6)


def test_a_kept_file_that_is_too_old_is_uploaded_again(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"fail_batches": {"1": "token_limit_exceeded"}})
    it.once_told(events.ShardRefused, lambda: it.clock.sleep(26 * DAY))
    it.act()
    assert it.rows("SELECT count(DISTINCT input_file_id), count(*) FROM batches") == [(2, 2)]
    assert it.input_files() == []
    assert_paid_once(it, 6)


def test_a_refusal_at_the_call_itself_is_the_same(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12, settings={"refuse_at_create": True, "enqueued_tokens": 6000})
    it.act()
    assert events.ShardRefused in it.kinds()
    assert it.rows("SELECT count(DISTINCT input_file_id) FROM batches") == [(2,)]
    assert it.rows("SELECT max(attempts) FROM artists") == [(1,)]
    assert_paid_once(it, 12)


def test_none_overtakes_a_shard_that_was_refused_for_the_limit(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=18)
    it.rule = nth("POST", "/batches", 1, answered(400, "token_limit_exceeded"))
    ended = it.act(once=True)
    assert isinstance(ended, Wait)
    assert [status for _, status in it.batches()] == []
    assert it.rows("SELECT state, count(*) FROM shards GROUP BY ALL ORDER BY 1") == [("released", 2), ("uploaded", 1)]
    it.act()
    assert it.rows("SELECT shard FROM batches ORDER BY created_at, submission") == [(1,), (2,), (3,)]
    assert_paid_once(it, 18)


def test_the_limit_that_a_refusal_names_is_believed_for_a_day_and_the_latest_wins(tmp_path: Path) -> None:
    it = trial(tmp_path)

    def limit() -> int:
        with it.store.read_transaction() as tx:
            return load_room(tx, it.config).limit

    def say(tokens: int) -> None:
        with it.store.transaction("test") as tx:
            quota_pauses.record_refusal_sample(tx, it.config.model.name, limit_tokens=tokens)

    assert limit() == 40_000_000
    say(3_000_000)
    it.clock.sleep(3600)
    say(2_000_000)
    assert limit() == 2_000_000
    it.clock.sleep(DAY - 1)
    assert limit() == 2_000_000
    it.clock.sleep(2)
    assert limit() == 40_000_000


def test_a_limit_that_has_lapsed_is_tested_by_one_shard(tmp_path: Path) -> None:
    """The second shard passes the limit that was named, alone; once it is at work the others follow."""
    it = trial(tmp_path, lines=24, settings={"service_s": (4000, 4000)}, poll={"interval_s": 300})
    with it.store.transaction("test") as tx:
        quota_pauses.record_refusal_sample(tx, it.config.model.name, limit_tokens=8000)
    it.clock.sleep(DAY + 1)
    it.act()
    times = [float(str(at)) for (at,) in it.rows("SELECT create_intended_at FROM submissions ORDER BY submission")]
    assert len(times) == 4
    assert times[1] - times[0] < 10 <= times[2] - times[1]  # the third waits for a look at the second
    assert times[3] - times[2] < 10
    assert_paid_once(it, 24)


def test_a_full_queue_is_tried_again_when_a_batch_of_ours_ends(tmp_path: Path) -> None:
    """The backoff is a week here: only the end of the first batch can have woken the second."""
    retry = {"enqueued_limit": {"base_s": 7 * DAY, "cap_s": 7 * DAY}}
    it = trial(tmp_path, lines=12, faults={"fail_batches": {"2": "unknown_limit"}}, retry=retry)
    text = "Enqueued token limit reached for gpt-6-luna. Please try again once some batches have been completed."

    def full(body: dict[str, object]) -> None:
        for batch in body["data"]:  # type: ignore[attr-defined]
            if batch["status"] == "failed":
                batch["errors"]["data"] = [
                    {"code": "token_limit_exceeded", "message": text, "line": None, "param": None}
                ]

    it.rule = every("GET", "/batches", changed(full))
    started = it.clock()
    it.act()
    assert it.clock() - started < DAY
    assert [status for _, status in it.batches()] == ["completed", "failed", "completed"]
    assert_paid_once(it, 12)


def test_a_shard_that_can_never_fit_is_split(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=6, per_shard=6, settings={"enqueued_tokens": 3600})
    it.act()
    assert it.rows("SELECT state, lines FROM shards WHERE shard = 1") == [("split", 6)]
    assert_paid_once(it, 6)


def test_a_shard_that_never_fits_beside_the_use_of_others_is_halved_until_it_does(tmp_path: Path) -> None:
    limits = {"enqueued_tokens": 16_000, "threshold": 1.0, "tokens_per_shard": 100_000}
    others = {"enqueued_tokens": 16_000, "phantom_tokens": 12_000}
    it = trial(tmp_path, lines=24, per_shard=24, settings=others, limits=limits, poll={"interval_s": 600})
    assert it.act() == Finish()
    split = it.rows("SELECT lines FROM shards WHERE state = 'split' ORDER BY shard")
    assert [lines for (lines,) in split] == [24, 23, 11, 11]
    alone = it.rows(
        "SELECT shard, count(*) FROM submissions WHERE outcome LIKE 'refused%' AND reserved_before = 0 GROUP BY 1"
    )
    assert max(int(str(n)) for _, n in alone) == 3
    assert it.rows("SELECT max(lines) FROM shards WHERE state = 'settled'") == [(5,)]
    assert_paid_once(it, 24)


def test_where_others_leave_nothing_shards_are_not_cut_to_single_lines(tmp_path: Path) -> None:
    limits = {"enqueued_tokens": 160_000, "threshold": 1.0}
    it = trial(tmp_path, lines=60, per_shard=60, limits=limits)
    with it.store.transaction("test") as tx:
        for _ in range(3):
            submission = intents.intend_upload(tx, shards.load_shard(tx, 1), submissions.Reservation(1, 1, 0, 0, 0))
            assert submission is not None
            intents.forget_upload(tx, submissions.load_submission(tx, submission), [])
            intents.close_submission(tx, submission, "refused: enqueued_limit")
        tx.con.execute("UPDATE shards SET tokens = 100 WHERE shard = 1")
        room = load_room(tx, it.config)
    assert room.largest == int(160_000 / room.factor) // 32


def _names_lines(it: Trial, lines: Mapping[int, Sequence[int]]) -> None:
    """Fail batches in validation, and name these lines of each. lines: by the number of the batch, from 1."""
    it.fault(fail_batches={str(batch): "invalid_request" for batch in lines})

    def named(body: dict[str, object]) -> None:
        numbers = {batch_id: number for number, (batch_id, _) in enumerate(it.batches(), 1)}
        for batch in body["data"]:  # type: ignore[attr-defined]
            if batch["status"] == "failed":
                batch["errors"]["data"] = [
                    {"code": "invalid_request", "message": "Messages are required.", "line": line, "param": None}
                    for line in lines[numbers[batch["id"]]]
                ]

    it.rule = every("GET", "/batches", changed(named))


def test_a_line_that_the_service_names_once_is_tried_again_by_itself(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=8, per_shard=8)
    _names_lines(it, {1: [3]})
    assert it.act() == Finish()
    assert it.rows("SELECT lines FROM shards ORDER BY shard") == [(8,), (7,), (1,)]
    assert it.rows("SELECT outcome, counted, count(*) FROM attempts GROUP BY ALL ORDER BY 1") == [
        ("bio", True, 8),
        ("invalid", False, 1),
    ]
    assert it.rows("SELECT DISTINCT attempts, failure FROM artists") == [(1, None)]
    assert_paid_once(it, 8)


def test_lines_that_the_service_names_are_gathered_and_only_those_that_it_names_again_die(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=8, per_shard=8)
    _names_lines(it, {1: [3, 5, 6], 3: [2]})
    assert it.act() == Finish()
    assert it.rows("SELECT lines FROM shards ORDER BY shard") == [(8,), (5,), (3,), (2,)]
    assert it.states() == {"dead": 1, "done": 7}
    assert it.rows("SELECT artist_id, attempts FROM artists WHERE state = 'dead'") == [("a00004", 1)]


def test_a_shard_of_lines_that_are_all_named_again_is_no_fault_of_the_setup(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=8, per_shard=8)
    _names_lines(it, {1: [3, 5], 3: [1, 2]})
    assert it.act() == Finish()
    assert it.states() == {"dead": 2, "done": 6}


def test_a_line_that_the_service_names_twice_dies_alone(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=8, per_shard=8)
    _names_lines(it, {1: [3], 3: [1]})
    it.act()
    assert it.states() == {"dead": 1, "done": 7}
    assert it.rows("SELECT artist_id, failure, message FROM artists WHERE state = 'dead'") == [
        ("a00002", "invalid", "Messages are required.")
    ]
    assert it.paid()["executions"] == 7


def _fails_at(lines: range, code: str) -> Rule:
    """Fail every batch in validation, with an error for each of these lines."""

    def named(body: dict[str, object]) -> None:
        for batch in body["data"]:  # type: ignore[attr-defined]
            if batch["status"] == "failed":
                batch["errors"]["data"] = [
                    {"code": code, "message": "Streaming is not supported.", "line": line, "param": None}
                    for line in lines
                ]

    return every("GET", "/batches", changed(named))


def test_a_setup_that_the_service_names_by_a_few_lines_at_a_time_leaves_nothing_dead(tmp_path: Path) -> None:
    failing = {str(n): "invalid_request" for n in range(1, 20)}
    it = trial(tmp_path, lines=60, per_shard=60, faults={"fail_batches": failing})
    it.rule = _fails_at(range(1, 16), "streaming_unsupported")
    ended = it.act()
    assert isinstance(ended, Finish) and "Streaming is not supported" in ended.problem
    assert len(it.batches()) == 3  # the lines that were named first were sent by themselves meanwhile
    assert it.states() == {"ready": 60}
    assert it.rows("SELECT max(attempts) FROM artists") == [(0,)]


def test_lines_that_die_one_by_one_do_not_stop_a_job_that_has_bios(tmp_path: Path) -> None:
    failing = {str(n): "invalid_request" for n in range(2, 26)}
    it = trial(tmp_path, lines=60, per_shard=30, faults={"fail_batches": failing})
    it.once_told(events.BatchCreated, lambda: it.clock.sleep(BATCH_S + 60))
    it.rule = _fails_at(range(1, 2), "invalid_request")
    assert it.act() == Finish()
    assert it.states() == {"dead": 11, "done": 49}


def test_a_line_number_that_is_none_of_ours_ends_in_a_stop_not_in_a_circle(tmp_path: Path) -> None:
    it = trial(
        tmp_path, lines=3, per_shard=3, faults={"fail_batches": {str(n): "invalid_request" for n in range(1, 9)}}
    )

    def named(body: dict[str, object]) -> None:
        for batch in body["data"]:  # type: ignore[attr-defined]
            if batch["status"] == "failed":
                batch["errors"]["data"][0]["line"] = 77

    it.rule = every("GET", "/batches", changed(named))
    ended = it.act()
    assert isinstance(ended, Finish) and ended.problem
    assert len(it.batches()) == 4 and it.states() == {"ready": 3}


def test_a_refusal_without_a_line_stops_after_its_tries_and_nothing_is_dead(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"fail_batches": {str(n): "no_such_code" for n in range(1, 9)}})
    ended = it.act()
    assert isinstance(ended, Finish) and "no_such_code" in ended.problem
    assert len(it.batches()) == 4 and it.states() == {"ready": 6}


@pytest.mark.parametrize("path", ["/files", "/batches"])
def test_a_refused_key_stops_and_nothing_is_dead(tmp_path: Path, path: str) -> None:
    it = trial(tmp_path)
    it.rule = nth("POST", path, 1, answered(401, "invalid_api_key"))
    ended = it.act()
    assert isinstance(ended, Finish) and "the service refused the request" in ended.problem
    assert it.states() == {"ready": 6}
    assert it.act() == Finish()
    assert_paid_once(it, 6)


def test_a_quota_failure_pauses_longer_each_time_probes_with_one_and_ends_at_the_first_success(tmp_path: Path) -> None:
    failing = {str(n): "insufficient_quota" for n in range(1, 6)}
    it = trial(tmp_path, lines=18, faults={"fail_batches": failing}, poll={"interval_s": 120})
    it.act()
    delays = it.rows("SELECT until - since, ended_at IS NOT NULL FROM pauses WHERE reason = 'quota' ORDER BY pause")
    assert all(ended for _, ended in delays)
    waits = [float(str(wait)) for wait, _ in delays]  # three batches failed at once: that is one incident
    assert all(0.9 * full <= wait <= full for wait, full in zip(waits, (300, 600, 1200), strict=True))
    assert it.rows("SELECT max(attempts) FROM artists") == [(1,)]
    assert_paid_once(it, 18)


def test_an_outage_is_a_row_and_nobody_pays(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12, poll={"interval_s": 300})
    it.fault(outage_between=[it.clock() + 60, it.clock() + 4000])
    it.act()
    assert it.rows("SELECT count(*) > 2 FROM events WHERE kind = 'outage'") == [(True,)]
    assert it.rows("SELECT max(attempts) FROM artists") == [(1,)]
    assert_paid_once(it, 12)


def test_a_long_retry_after_is_a_row_that_outlives_the_process(tmp_path: Path) -> None:
    it = trial(tmp_path)
    asked_at: list[float] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if is_call(request, "GET", "/batches"):
            asked_at.append(it.clock())
            if len(asked_at) == 1:
                return answered(429, "rate_limit_exceeded", {"retry-after": "600"})(request, send)
        return send(request)

    it.rule = rule
    ended = it.act(once=True)
    assert isinstance(ended, Wait) and ended.until >= asked_at[0] + 600
    it.act()
    assert asked_at[1] >= asked_at[0] + 600
    assert_paid_once(it, 6)


def test_a_retry_after_of_a_create_holds_back_what_is_sent_and_nothing_else(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12, poll={"interval_s": 600})
    it.rule = nth("POST", "/batches", 2, answered(429, "rate_limit_exceeded", {"retry-after": "3000"}))
    it.act()
    _, refused, second = it.rows("SELECT create_intended_at FROM submissions ORDER BY submission")
    assert float(str(second[0])) >= float(str(refused[0])) + 3000  # though the first batch ended long before
    assert_paid_once(it, 12)


def test_the_budget_is_never_passed(tmp_path: Path) -> None:
    free = trial(tmp_path / "free", lines=12)
    free.act()
    reserved = float(str(free.rows("SELECT max(reserved) FROM submissions")[0][0]))
    assert reserved > 0
    it = trial(tmp_path / "bound", lines=12, budget={"max_usd": 0.0012})

    def check(event: events.Event) -> None:
        with it.store.read_transaction() as tx:
            budget = load_budget(tx, it.config, resolve_prices, load_room(tx, it.config))
        assert budget.spent_usd + budget.in_flight_usd <= 0.0012, event

    it.on = check
    ended = it.act()
    assert it.states().get("done", 0) in {6, 12}
    assert isinstance(ended, Finish)


def test_a_budget_that_lost_calls_hold_is_told_and_not_waited_for(tmp_path: Path) -> None:
    it = trial(tmp_path, budget={"max_usd": 0.0008})
    with it.store.transaction("test") as tx:
        tx.con.execute(
            "INSERT INTO direct_calls VALUES (1, 'a00000', 1, 0.0005, ?, ?, 'lost')", [it.clock(), it.clock()]
        )
        tx.con.execute("INSERT INTO direct_calls VALUES (2, 'a00001', 1, 0.0001, ?, NULL, NULL)", [it.clock() - 5000])
    ended = it.act(once=True)
    assert isinstance(ended, Finish) and "of the budget of $0.000800 is left" in ended.problem
    assert it.states() == {"ready": 6}
    with it.store.transaction("test") as tx:
        tx.con.execute("UPDATE direct_calls SET intended_at = ? WHERE call = 2", [it.clock()])
    assert isinstance(it.act(once=True), Wait)


def test_a_pause_between_the_look_and_the_send_holds_the_shard(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12, poll={"interval_s": 600})

    def pause() -> None:
        with it.store.transaction("test") as tx:
            tx.fetch_all("insert_pause", scope="all", reason="user", until=tx.now + 5000, tries=0, now=tx.now)

    it.once_told(events.BatchCreated, pause)
    it.act()
    first, second = it.rows("SELECT create_intended_at FROM submissions ORDER BY submission")
    assert float(str(second[0])) >= float(str(first[0])) + 5000
    assert_paid_once(it, 12)


def test_a_plan_that_cuts_again_between_the_look_and_the_send_does_no_harm(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12)
    it.once_told(events.BatchCreated, lambda: it.plan(it.folder / "artists.csv", replan=True))
    assert it.act() == Finish()
    assert it.states() == {"done": 6, "ready": 6}
    it.release()
    it.act()
    assert_paid_once(it, 12)


def test_what_was_sent_before_a_pause_and_ends_after_it_is_the_same_incident(tmp_path: Path) -> None:
    """The quota is gone while three batches work; they end at different times, all of them after the pause began."""
    it = trial(
        tmp_path,
        lines=18,
        settings={"service_s": (200, 2400)},
        retry={"quota": {"base_s": 900, "cap_s": 3600}},
        poll={"interval_s": 300},
    )
    it.act(once=True)
    now = it.clock()
    it.fault(quota_gone_between=[now, now + 600])
    assert it.act() == Finish()
    assert it.states() == {"done": 18}
    failed = it.rows("SELECT DISTINCT batch_id FROM attempts WHERE outcome = 'quota'")
    assert len(failed) > 1
    assert it.rows("SELECT count(*), max(tries) FROM pauses WHERE reason = 'quota'") == [(1, 0)]


def test_work_goes_on_within_five_minutes_of_the_end_of_a_rate_limit(tmp_path: Path) -> None:
    """Two batches an hour: the third is refused until the first leaves the window."""
    it = trial(tmp_path, lines=24, settings={"batches_per_hour": 2, "service_s": (100, 100)}, poll={"interval_s": 900})
    assert it.act() == Finish()
    began = [batch.created_at for batch in it.sandbox.lifecycle.batches.values()]
    assert len(began) == 4
    for earlier, later in zip(began, began[2:], strict=False):
        assert 0 <= later - (earlier + 3600) < 300
    assert_paid_once(it, 24)


def test_every_refusal_is_a_row_of_the_history(tmp_path: Path) -> None:
    refusals = "SELECT reserved, detail FROM quota_samples WHERE source = 'refusal'"
    gone = trial(tmp_path / "gone", faults={"fail_batches": {"1": "insufficient_quota"}})
    gone.act()
    assert gone.rows(refusals) == [(None, "insufficient quota (shard 1)")]
    many = trial(tmp_path / "many")
    many.rule = nth("POST", "/batches", 1, answered(429, "rate_limit_exceeded"))
    many.act()
    assert many.rows(refusals) == [(None, "answered 429")]
    with many.store.read_transaction() as tx:
        assert read_status(tx, many.config, resolve_prices).refusals.times == 0  # not for the limit


def test_the_limit_that_a_refused_stray_names_is_learned(tmp_path: Path) -> None:
    it = trial(tmp_path)
    it.act(once=True)
    stray = it.create_again()
    text = "Enqueued token limit reached for gpt-6-luna. Limit: 1,900,000 enqueued tokens."

    def full(body: dict[str, object]) -> None:
        for batch in body["data"]:  # type: ignore[attr-defined]
            if batch["id"] == stray:
                error = {"code": "token_limit_exceeded", "message": text, "line": None, "param": None}
                batch.update(
                    status="failed", failed_at=batch["created_at"], output_file_id=None, error_file_id=None,
                    request_counts={"total": 0, "completed": 0, "failed": 0}, errors={"data": [error]},
                )  # fmt: skip

    it.rule = every("GET", "/batches", changed(full))
    it.act()
    assert it.states() == {"done": 6}
    assert it.rows("SELECT limit_tokens FROM quota_samples WHERE source = 'refusal'") == [(1_900_000,)]


@pytest.mark.parametrize(("status", "code"), [(422, "no_such_code"), (429, "insufficient_quota")])
def test_a_retry_after_holds_whatever_the_refusal_is_for(tmp_path: Path, status: int, code: str) -> None:
    it = trial(tmp_path)
    it.rule = nth("POST", "/batches", 1, answered(status, code, {"retry-after": "3000"}))
    it.act()
    refused, second = it.rows("SELECT create_intended_at FROM submissions ORDER BY submission")
    assert float(str(second[0])) >= float(str(refused[0])) + 3000
    assert_paid_once(it, 6)


def test_a_status_says_what_a_shard_waits_for_and_when_the_direct_lane_goes_on(tmp_path: Path) -> None:
    it = trial(tmp_path)
    it.rule = nth("POST", "/batches", 1, answered(422, "no_such_code"))
    it.act(once=True)
    with it.store.transaction("test") as tx:
        facts.extend_wait(tx, facts.WaitFact.DIRECT, tx.now + 900)
    with it.store.read_transaction() as tx:
        seen = read_status(tx, it.config, resolve_prices)
    told = StringIO()
    Console(width=200, file=told).print(draw_status(seen))
    assert re.search(r"Shard 1 waits until .* UTC, in \d+ s, to be sent again: it was refused\.", told.getvalue())
    assert "The direct lane was refused or not answered; it calls again at" in told.getvalue()
