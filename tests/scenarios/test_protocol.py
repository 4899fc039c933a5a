"""Paid once: what happens to a submission whose answer is lost, comes late, or comes twice."""

from pathlib import Path

import httpx2
import pytest

from batcher.core import events
from batcher.core.actions import INTERRUPTED, Finish
from tests.support.protocol_kit import (
    BATCH_S,
    CREATE,
    Rule,
    Send,
    answered,
    assert_paid_once,
    changed,
    is_call,
    lost,
    nth,
    trial,
    without_date,
)

pytestmark = pytest.mark.slow("whole jobs whose calls are lost")


def test_a_create_whose_answer_is_lost_is_adopted(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12)
    it.rule = nth(*CREATE, 1, lost)
    assert it.act() == Finish()
    assert events.BatchAdopted in it.kinds() and events.BatchAbsent not in it.kinds()
    assert len(it.batches()) == 2
    assert_paid_once(it, 12)


def test_a_create_that_answers_500_after_its_effect_is_adopted(tmp_path: Path) -> None:
    it = trial(tmp_path)
    it.rule = nth(*CREATE, 1, answered(500, act=True))
    it.act()
    assert events.BatchAdopted in it.kinds() and len(it.batches()) == 1
    assert_paid_once(it, 6)


def test_an_answer_that_cannot_be_read_is_no_answer(tmp_path: Path) -> None:
    it = trial(tmp_path)
    it.rule = nth(*CREATE, 1, changed(lambda body: body.clear()))
    it.act()
    assert events.BatchAdopted in it.kinds() and len(it.batches()) == 1
    assert_paid_once(it, 6)


def test_a_lost_create_is_adopted_though_the_listing_lags(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"list_lag_s": 40})
    it.rule = nth(*CREATE, 1, lost)
    it.act()
    assert events.BatchSearched in it.kinds() and events.BatchAdopted in it.kinds()
    assert len(it.batches()) == 1
    assert_paid_once(it, 6)


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_a_clock_of_ours_that_is_wrong_does_no_harm(tmp_path: Path, ahead: float) -> None:
    """The listing is bounded by the file's time in the service's clock, not in ours."""
    it = trial(tmp_path, faults={"list_lag_s": 40})
    it.sandbox._clock = lambda: it.clock() - ahead
    it.rule = nth(*CREATE, 1, lost)
    it.act()
    assert events.BatchAdopted in it.kinds() and len(it.batches()) == 1
    assert_paid_once(it, 6)


def test_a_service_that_tells_no_time_is_measured_by_our_clock(tmp_path: Path) -> None:
    it = trial(tmp_path)
    it.fault(refuse_before={"create": 1.0})
    it.once_told(events.CallFailed, lambda: it.fault(refuse_before={}))
    it.rule = without_date
    it.act()
    since, local = it.rows("SELECT absent_since, absent_since_local FROM submissions WHERE submission = 1")[0]
    assert since == 0 and local is not None
    assert events.BatchAbsent in it.kinds()
    assert_paid_once(it, 6)


@pytest.mark.parametrize("fault", ["refuse_before", "reset_before"])
def test_a_create_that_did_not_happen_is_repeated_once_that_is_proven(tmp_path: Path, fault: str) -> None:
    it = trial(tmp_path)
    it.fault(**{fault: {"create": 1.0}})
    it.once_told(events.CallFailed, lambda: it.fault(**{fault: {}}))
    it.act()
    looks = [kind for kind in it.kinds() if kind in {events.BatchSearched, events.BatchAbsent}]
    assert looks[0] == events.BatchSearched and looks[-1] == events.BatchAbsent
    first, second = it.rows("SELECT intended_at FROM submissions ORDER BY submission")
    assert second[0] - first[0] >= it.config.api.reconcile_grace_s  # type: ignore[operator]
    assert len(it.batches()) == 1
    assert_paid_once(it, 6)


def test_a_late_create_names_no_file(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"late_create_s": 400, "lose_answer": {"create": 1.0}})
    it.once_told(events.CallFailed, lambda: it.fault(lose_answer={}))
    it.act()
    it.clock.sleep(1000)
    assert events.BatchAbsent in it.kinds()
    assert len(it.batches()) == 1  # the second create's; the late one found no file
    assert_paid_once(it, 6)


def test_a_late_create_within_the_grace_is_adopted(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"late_create_s": 30, "lose_answer": {"create": 1.0}})
    it.once_told(events.CallFailed, lambda: it.fault(lose_answer={}))
    it.act()
    assert events.BatchAdopted in it.kinds() and len(it.batches()) == 1
    assert_paid_once(it, 6)


def test_a_batch_that_comes_to_light_after_the_deletion_is_adopted(tmp_path: Path) -> None:
    """It names a file that is deleted, fails for that alone, and the shard is uploaded again at once."""
    it = trial(tmp_path, settings={"validating_s": (90, 90)})
    hidden: list[str] = []

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if is_call(request, *CREATE) and not hidden:
            hidden.append("")
            return lost(request, send)
        if request.method == "DELETE":
            hidden.append("deleted")
        if is_call(request, "GET", "/batches") and "deleted" not in hidden:
            return changed(lambda body: body.update(data=[]))(request, send)
        return send(request)

    it.rule = rule
    it.act()
    assert [status for _, status in it.batches()] == ["failed", "completed"]
    assert events.BatchAdopted in it.kinds() and events.BatchAbsent not in it.kinds()
    assert it.rows("SELECT refusals FROM shards") == [(0,)]
    assert_paid_once(it, 6)


# --- a listing that lags longer than the grace ------------------------------------------------------------------------


def test_beyond_the_grace_the_deleted_file_stops_a_batch_in_validation(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"list_lag_s": 300}, settings={"validating_s": (100, 100)})
    it.rule = nth(*CREATE, 1, lost)
    it.act()
    assert [status for _, status in it.batches()] == ["failed", "completed"]
    assert events.BatchAbsent in it.kinds()
    assert_paid_once(it, 6)


def test_beyond_the_grace_a_batch_at_work_is_a_stray_and_one_of_two_is_cancelled(tmp_path: Path) -> None:
    """The one case that is not promised: the first batch is at work, unlisted for longer than the grace. It costs what
    the second has done until it is cancelled; every line has one bio, and the waste is recorded."""
    it = trial(tmp_path, faults={"list_lag_s": 90}, settings={"service_s": (1000, 1000)})
    it.rule = nth(*CREATE, 1, lost)
    it.act()
    assert events.StrayFound in it.kinds()
    assert [status for _, status in it.batches()] == ["completed", "cancelled"]  # most completed, then the oldest
    assert it.states() == {"done": 6}
    wasted = it.paid()["usable_more_than_once"]
    assert it.rows("SELECT count(*) FROM attempts WHERE outcome = 'repeated'") == [(wasted,)]
    assert wasted <= 2


def test_a_lag_that_was_seen_once_lengthens_the_grace(tmp_path: Path) -> None:
    it = trial(
        tmp_path, lines=12, faults={"list_lag_s": 90}, limits={"enqueued_tokens": 8000, "tokens_per_shard": 5000}
    )
    it.rule = nth(*CREATE, 2, lost)
    it.act()
    assert it.facts("listing_lag_s") >= 60
    assert events.BatchAdopted in it.kinds() and events.BatchAbsent not in it.kinds() and len(it.batches()) == 2
    assert_paid_once(it, 12)


# --- strays -----------------------------------------------------------------------------------------------------------


def test_of_two_batches_the_one_with_most_completed_is_kept(tmp_path: Path) -> None:
    it = trial(tmp_path, settings={"service_s": (600, 600)})
    it.once_told(events.BatchCreated, lambda: it.create_again(later=200))
    it.act()
    assert events.StrayFound in it.kinds()
    assert [status for _, status in it.batches()] == ["completed", "cancelled"]
    assert it.states() == {"done": 6}
    assert it.rows("SELECT stray, settled_at IS NOT NULL FROM batches ORDER BY created_at") == [
        (False, True),
        (True, True),
    ]


def test_a_stray_with_more_completed_takes_the_place_of_the_batch_we_know(tmp_path: Path) -> None:
    it = trial(tmp_path, settings={"service_s": (600, 600)})

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        """Hide a first create: neither the call nor its batch is seen for 200 seconds."""
        if is_call(request, *CREATE) and len(it.batches()) == 0:
            send(request).read()
            it.clock.sleep(200)
            hidden.append(it.batches()[0][0])
        if is_call(request, "GET", "/batches") and len(it.batches()) > 1 and it.clock() < started + 400:
            return changed(lambda body: body.update(data=[b for b in body["data"] if b["id"] not in hidden]))(
                request, send
            )
        return send(request)

    started, hidden = it.clock(), list[str]()
    it.rule = rule
    it.act()
    assert [status for _, status in it.batches()] == ["completed", "cancelled"]
    kept = it.rows("SELECT batch_id FROM batches WHERE NOT stray")
    assert kept == [(it.batches()[0][0],)] and it.states() == {"done": 6}


def test_a_stray_counts_as_in_flight_at_once(tmp_path: Path) -> None:
    it = trial(tmp_path)
    reserved: list[int] = []

    def look() -> None:
        with it.store.read_transaction() as tx:
            reserved.append(int(tx.fetch_one("reserved", factor=0.0)[0]))

    it.on = lambda event: (
        it.create_again()
        if isinstance(event, events.BatchCreated)
        else look()
        if isinstance(event, events.StrayFound)
        else None
    )
    it.act()
    own = it.rows("SELECT max(reserved) FROM submissions")[0][0]
    assert reserved == [2 * own]  # type: ignore[operator]


def test_a_stray_of_a_shard_that_waits_to_be_sent_again_is_adopted(tmp_path: Path) -> None:
    """Answered as refused by something in between, and created all the same: nothing is sent a second time."""
    it = trial(tmp_path, lines=12)
    it.rule = nth(*CREATE, 2, answered(429, "rate_limit_exceeded", {"retry-after": "100000"}, act=True))
    it.act()
    assert events.BatchAdopted in it.kinds() and len(it.batches()) == 2
    assert_paid_once(it, 12)


def test_a_stray_that_failed_changes_nothing(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"fail_batches": {"2": "token_limit_exceeded"}})
    it.once_told(events.BatchCreated, lambda: it.create_again(then=20))
    it.act()
    assert [status for _, status in it.batches()] == ["completed", "failed"]
    assert_paid_once(it, 6)


def test_a_batch_that_failed_leaves_its_lines_to_the_stray_beside_it(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"fail_batches": {"1": "token_limit_exceeded"}})
    it.once_told(events.BatchCreated, lambda: it.create_again(then=20))
    it.act()
    assert [status for _, status in it.batches()] == ["failed", "completed"]
    assert_paid_once(it, 6)


def test_a_stray_of_a_settled_shard_is_cancelled_and_changes_nothing(tmp_path: Path) -> None:
    it = trial(
        tmp_path,
        lines=12,
        limits={"enqueued_tokens": 8000, "tokens_per_shard": 5000},
        api={"delete_remote_files": False},
    )
    it.once_told(events.BatchSettled, it.create_again)
    assert it.act() == Finish()
    assert [status for _, status in it.batches()].count("cancelled") == 1
    # What it executes before the cancel arrives was paid by whoever made it, and moves no line of ours.
    assert it.states() == {"done": 12}
    assert it.rows("SELECT count(*) FROM bios") == [(12,)]


def test_a_batch_of_another_run_or_of_a_state_put_back_is_left_alone(tmp_path: Path) -> None:
    it = trial(tmp_path)
    run = it.rows("SELECT run_id FROM runs")[0][0]
    foreign = [{"batcher_run": "other"}, {"batcher_run": str(run), "batcher_submission": "77", "batcher_shard": "9"}]
    it.once_told(events.BatchCreated, lambda: [it.create_again(metadata) for metadata in foreign])
    it.act()
    assert it.rows("SELECT count(*) FROM batches") == [(1,)]
    assert it.states() == {"done": 6}


def test_a_provider_that_drops_metadata_is_matched_by_the_input_file(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12, faults={"drop_metadata": True})
    it.rule = nth(*CREATE, 1, lost)
    it.act()
    assert events.BatchAdopted in it.kinds() and len(it.batches()) == 2
    assert_paid_once(it, 12)


def test_without_metadata_a_kept_files_earlier_batch_is_not_mistaken(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"drop_metadata": True, "fail_batches": {"1": "token_limit_exceeded"}})
    it.rule = nth(*CREATE, 2, lost)
    it.act()
    assert [status for _, status in it.batches()] == ["failed", "completed"]
    assert it.rows("SELECT count(DISTINCT input_file_id) FROM batches") == [(1,)]
    assert_paid_once(it, 6)


def test_without_metadata_a_stray_is_known_by_its_file(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"drop_metadata": True}, settings={"service_s": (600, 600)})
    it.once_told(events.BatchCreated, lambda: it.create_again(later=200))
    it.act()
    assert events.StrayFound in it.kinds() and it.states() == {"done": 6}
    assert [status for _, status in it.batches()] == ["completed", "cancelled"]


# --- uploads and deletions --------------------------------------------------------------------------------------------


def test_the_orphan_of_a_lost_upload_is_deleted(tmp_path: Path) -> None:
    it = trial(tmp_path)
    it.rule = nth("POST", "/files", 1, lost)
    it.act()
    assert events.UploadRepeated in it.kinds()
    assert it.input_files() == []
    assert_paid_once(it, 6)


def test_an_orphan_that_comes_to_light_late_is_deleted(tmp_path: Path) -> None:
    it = trial(tmp_path, settings={"service_s": (1000, 1000)}, poll={"interval_s": 100})
    first = nth("POST", "/files", 1, lost)
    listed = nth("GET", "/files", 1, changed(lambda body: body.update(data=[])))
    it.rule = lambda request, send: first(request, lambda r: listed(r, send))
    it.act()
    assert it.rows("SELECT orphan_looks, orphan_due FROM submissions WHERE submission = 1") == [(1, None)]
    assert it.input_files() == []
    assert_paid_once(it, 6)


def test_a_file_that_was_changed_on_disk_is_cut_again(tmp_path: Path) -> None:
    it = trial(tmp_path)
    path = next((it.store.folder / "shards").glob("*.jsonl"))
    path.write_bytes(path.read_bytes().replace(b"Artist Number 1", b"Artist Number 9"))
    it.act()
    assert it.rows("SELECT state FROM shards ORDER BY shard") == [("stale",), ("settled",)]
    assert_paid_once(it, 6)


@pytest.mark.parametrize("fate", [lost, answered(503)])
def test_a_cancel_that_is_not_answered_is_asked_again(tmp_path: Path, fate: Rule) -> None:
    it = trial(tmp_path, settings={"service_s": (600, 600)})
    it.once_told(events.BatchCreated, lambda: it.create_again(later=200))

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.url.path.endswith("/cancel") and len(asked) < 5:  # more than the quick tries of a call
            asked.append(request.url.path)
            return fate(request, send)
        return send(request)

    asked: list[str] = []
    it.rule = rule
    it.act()
    assert len(asked) >= 4 and it.states() == {"done": 6}  # a cancel whose answer is lost has acted, and shows
    assert [status for _, status in it.batches()].count("cancelled") == 1


# --- ends that never come ---------------------------------------------------------------------------------------------


def test_a_batch_that_is_gone_is_held_after_the_grace(tmp_path: Path) -> None:
    it = trial(tmp_path)
    it.once_told(events.BatchCreated, it.sandbox.lifecycle.batches.clear)
    it.act()
    assert it.states() == {"held": 6}
    assert it.rows("SELECT status FROM batches") == [("overdue",)]
    assert it.rows("SELECT DISTINCT failure, code FROM artists") == [("missing", "perhaps_paid")]


def test_one_404_is_a_hiccup(tmp_path: Path) -> None:
    it = trial(tmp_path)
    gone: dict[str, object] = {}

    def vanish() -> None:
        gone.update(it.sandbox.lifecycle.batches)
        it.sandbox.lifecycle.batches.clear()

    def react(event: events.Event) -> None:
        if isinstance(event, events.BatchCreated):
            vanish()
        elif isinstance(event, events.LinesProgressed):
            it.sandbox.lifecycle.batches.update(gone)  # type: ignore[arg-type]

    it.on = react
    it.act()
    assert_paid_once(it, 6)


def test_a_batch_that_does_not_end_is_overdue_two_hours_after_its_window(tmp_path: Path) -> None:
    it = trial(tmp_path, faults={"stuck_finalizing_s": 10**6}, poll={"interval_s": 9000})
    started = it.clock()
    it.act()
    assert it.states() == {"held": 6}
    assert 26 * 3600 <= it.clock() - started < 31 * 3600 + BATCH_S  # at the second look that finds it late


# --- the process ------------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_at_a_safe_point_and_the_next_start_goes_on(tmp_path: Path) -> None:
    it = trial(tmp_path, lines=12)
    it.interrupted = lambda: events.BatchCreated in it.kinds()
    assert it.act() == Finish(INTERRUPTED)
    assert len(it.batches()) == 1
    it.interrupted = lambda: False
    assert it.act() == Finish()
    assert_paid_once(it, 12)
