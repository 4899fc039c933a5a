"""Lines that failed: which are tried again, at whose cost, and when the job stops."""

import pytest

from batcher.core.actions import Finish
from batcher.sandbox.api.batches import Batch
from tests.support.results_kit import HOURS, LINES, Bench, Make, failed, with_text


def test_all_lines_failed_and_there_is_no_output_file(bench: Bench) -> None:
    rows = bench.read()
    bench.write([failed(row, 500, "server_error") for row in rows], "error")
    bench.batch.output_file_id, bench.batch.completed, bench.batch.failed = None, 0, LINES
    bench.act()
    assert bench.outcomes() == {"server": LINES}
    assert bench.world.states().get("dead") is None


def test_a_storm_of_rate_limits_costs_no_try(make: Make) -> None:
    bench = make(lines=60)
    bench.fail_first(30, 429, "rate_limit_exceeded", "requests")
    bench.act()
    assert bench.world.states() == {"done": 30, "waiting": 30}
    assert bench.count("artists", "state = 'waiting' AND attempts = 0") == 30
    (first,) = bench.world.rows("SELECT min(wait_until) FROM artists")[0]
    assert 50 < float(str(first)) - bench.world.clock() <= 60


def test_few_rate_limits_cost_a_try_each(make: Make) -> None:
    bench = make(lines=60)
    bench.fail_first(3, 429, "rate_limit_exceeded", "requests")
    bench.act()
    assert bench.count("artists", "state = 'waiting' AND attempts = 1") == 3


def test_a_line_that_is_always_limited_dies_at_last(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batcher.core.verdicts.FREE_STORMS", 2)
    bench = make(lines=3, line_failures={"rate_limit": 1.0}, transient_failures=False)
    assert bench.act(once=False) == Finish()
    assert bench.world.states() == {"dead": 3}
    assert bench.outcomes()["rate_limit"] == 3 * (2 + 6)


def test_quota_in_lines_is_one_event_and_costs_no_try(make: Make) -> None:
    bench = make(lines=40)
    bench.fail_first(25, 429, "insufficient_quota")
    bench.act()
    assert bench.world.states() == {"done": 15, "ready": 25}
    assert bench.count("artists", "attempts > 0 AND state = 'ready'") == 0
    assert bench.count("pauses", "reason = 'quota' AND ended_at IS NULL") == 1
    assert len(bench.events("pause")) == 1


@pytest.mark.parametrize(("status", "code"), [(401, "invalid_api_key"), (404, "model_not_found"), (403, "forbidden")])
def test_a_refused_setup_stops_the_job_and_nothing_dies(bench: Bench, status: int, code: str) -> None:
    bench.fail_first(LINES, status, code)
    bench.batch.output_file_id = None
    ended = bench.act(once=False)
    assert isinstance(ended, Finish)
    assert code in ended.problem
    assert bench.world.states() == {"ready": LINES}
    assert bench.count("artists", "attempts > 0") == 0


def test_a_few_lines_refused_like_the_setup_are_tried_again(bench: Bench) -> None:
    bench.fail_first(2, 404, "model_not_found")
    assert bench.act() != Finish()
    assert bench.world.rows("SELECT text FROM facts WHERE name = 'stopped'") == [("",)]
    assert bench.count("artists", "failure = 'setup' AND attempts = 1") == 2


def test_twenty_invalid_lines_of_one_reason_stop_the_job(make: Make) -> None:
    bench = make(lines=40)
    bench.fail_first(20, 400, "integer_below_min_value")
    ended = bench.act(once=False)
    assert isinstance(ended, Finish)
    assert "integer_below_min_value" in ended.problem
    assert bench.world.states() == {"done": 20, "ready": 20}


def test_few_invalid_lines_die(make: Make) -> None:
    bench = make(lines=40)
    bench.fail_first(19, 400, "context_length_exceeded")
    bench.act()
    assert bench.world.states() == {"done": 21, "dead": 19}


def test_answers_that_never_were_of_use_stop_the_job(make: Make) -> None:
    bench = make(lines=20, line_failures={"length": 1.0}, transient_failures=False)
    ended = bench.act(once=False)
    assert isinstance(ended, Finish)
    assert "length" in ended.problem
    assert bench.world.states() == {"ready": 20}
    assert len(bench.world.sandbox.lifecycle.batches) == 1  # asked and paid for once, not three times


def no_use(bench: Bench, batch: Batch, bad: int) -> None:
    """Make the first `bad` answers of a batch name nobody, so that the job does not accept them."""
    bench.batch = batch
    rows = bench.read()
    bench.write([with_text(row, lambda c: c.update(bio="Nobody.")) for row in rows[:bad]] + rows[bad:])


def test_answers_that_are_suddenly_of_no_use_stop_a_job_that_has_bios(make: Make) -> None:
    bench = make(lines=100, per_shard=25)
    first, *rest = bench.world.sandbox.lifecycle.batches.values()
    assert len(rest) == 3
    no_use(bench, first, 4)
    for batch in rest:
        no_use(bench, batch, 25)
    ended = bench.act(once=False)
    assert isinstance(ended, Finish)
    assert "25 of 25 lines gave unusable answers (not_accepted)" in ended.problem
    assert bench.world.states() == {"done": 21, "ready": 79}
    assert bench.count("artists", "attempts > 0 AND state <> 'done'") == 4  # of the first batch: that was by chance
    assert bench.count("attempts", "NOT counted AND code = 'not_accepted'") == 75


def test_hard_lines_in_a_retry_shard_stop_nothing(make: Make) -> None:
    bench = make(lines=100, per_shard=25)
    for batch in bench.world.sandbox.lifecycle.batches.values():
        no_use(bench, batch, 10)
    bench.act()
    assert bench.world.states() == {"done": 60, "in_batch": 40}
    bench.world.clock.sleep(3 * HOURS)
    bench.world.sandbox.run_due_events()
    again = list(bench.world.sandbox.lifecycle.batches.values())[4:]
    for batch in again:
        no_use(bench, batch, 40)
    bench.act()
    assert bench.world.rows("SELECT text FROM facts WHERE name = 'stopped'") in ([("",)], [])
    assert bench.count("artists", "attempts = 2 AND state <> 'done'") == 40


def test_lines_of_an_expired_batch_go_again_and_those_of_a_cancelled_one_are_held(make: Make) -> None:
    bench = make(lines=LINES)
    bench.fail_first(4, 400, "")
    rows = bench.read("error")
    for row, code in zip(rows, ["batch_expired"] * 2 + ["batch_cancelled"] * 2, strict=True):
        row |= {"response": None, "error": {"code": code, "message": "not executed"}}
    bench.write(rows, "error")
    bench.act()
    states = bench.world.states()
    assert (states["done"], states["held"]) == (LINES - 4, 2)
    assert bench.count("artists", "failure = 'expired' AND state IN ('ready', 'in_batch')") == 2
