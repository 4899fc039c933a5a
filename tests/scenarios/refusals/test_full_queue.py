"""A full queue: what a refusal for the enqueued-token limit costs, what it teaches, and shards that can never fit."""

from pathlib import Path

import pytest

from batcher.core import events
from batcher.core.actions import Finish, Wait
from batcher.state import intents, quota_pauses, shards, submissions
from batcher.state.snapshot import load_room
from tests.support.protocol_kit import (
    answered,
    assert_paid_once,
    changed,
    every,
    nth,
    trial,
)

pytestmark = pytest.mark.slow("whole jobs against a service that refuses")

DAY = 86_400.0


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
