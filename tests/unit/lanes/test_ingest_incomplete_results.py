"""Results that are not complete: what is waited for, what is bought again, and what is held as perhaps paid."""

import orjson
import pytest

from batcher.core.actions import Finish
from batcher.core.verdicts import FEWEST_READINGS, ReadingHistory
from batcher.sandbox import Faults
from batcher.state import batches
from tests.support.results_kit import HOURS, LINES, NOBODY, Bench, Make, failed


def test_a_batch_without_any_file_leaves_its_lines_to_be_tried_again_once_the_readings_agree(bench: Bench) -> None:
    bench.batch.output_file_id, bench.batch.completed = None, 0
    for _ in range(2):
        bench.act_later()
        assert bench.outcomes() == {}  # its files may come later than its end
    bench.act_later()
    assert bench.outcomes() == {"server": LINES}
    assert set(bench.world.rows("SELECT DISTINCT code FROM attempts")) == {("no_result",)}


def test_only_the_last_readings_that_found_the_same_agree(bench: Bench) -> None:
    with bench.world.store.transaction("readings") as tx:
        batch = batches.load_batch(tx, bench.batch.id)
        assert batches.load_reading_history(tx, batch, "a") == ReadingHistory(0, None, 0, None)
    for finding in ("a", "b", "a", "a"):
        bench.world.clock.sleep(HOURS)
        with bench.world.store.transaction("reading") as tx:
            tx.record_event("results_incomplete", finding, batch_id=batch.batch_id)
            tx.record_event("results_incomplete", "c", batch_id="another")
    with bench.world.store.transaction("readings") as tx:
        found = batches.load_reading_history(tx, batch, "a")
        assert found == ReadingHistory(4, None, 2, bench.world.clock() - HOURS)
        assert batches.load_reading_history(tx, batch, "b") == ReadingHistory(4, None, 0, None)


@pytest.mark.parametrize("counts", [(0, 0, LINES), (0, LINES, LINES)])
def test_an_output_cut_short_is_not_bought_again_on_the_word_of_counts_that_cannot_be(
    bench: Bench, counts: tuple[int, int, int]
) -> None:
    whole = bench.read()
    bench.write(whole[: LINES // 2])
    bench.batch.completed, bench.batch.failed, bench.batch.total = counts
    bench.act(once=False)
    assert bench.world.states() == {"done": LINES // 2, "held": LINES // 2}
    assert bench.outcomes()["missing"] == LINES // 2
    assert len(bench.world.sandbox.lifecycle.batches) == 1
    bench.write(whole)  # it comes after all
    bench.act_later()
    assert bench.world.states() == {"done": LINES}


def test_nothing_is_short_where_every_line_stands_in_a_file(bench: Bench) -> None:
    bench.fail_first(3, 400, "context_length_exceeded")
    bench.batch.completed = LINES  # the failed ones are counted as completed, too
    bench.act()
    assert bench.world.states() == {"done": LINES - 3, "dead": 3}
    assert bench.events("results_incomplete") == []


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_a_batch_that_ended_early_may_show_its_files_late(bench: Bench, status: str) -> None:
    whole, file_id = bench.read(), bench.batch.output_file_id
    bench.batch.status, bench.batch.output_file_id, bench.batch.completed = status, None, 0
    for _ in range(20):
        bench.act_later()
    assert bench.outcomes() == {}
    bench.batch.output_file_id, bench.batch.completed = file_id, LINES - 1
    bench.write(whole[1:])
    bench.write([{**whole[0], "response": None, "error": {"code": f"batch_{status}", "message": "no"}}], "error")
    bench.act_later()
    assert bench.outcomes() == {"bio": LINES - 1, status: 1}


def test_lines_of_an_expired_batch_are_bought_again_once_its_files_did_not_come_for_a_day(bench: Bench) -> None:
    bench.batch.status, bench.batch.output_file_id, bench.batch.completed = "expired", None, 0
    began = bench.world.clock()
    while not bench.outcomes():
        bench.act_later()
    assert 24 * HOURS <= bench.world.clock() - began <= 26 * HOURS
    assert bench.outcomes() == {"expired": LINES}


def test_counts_that_say_that_all_was_read_need_no_patience(bench: Bench) -> None:
    bench.write(bench.read()[2:])
    bench.batch.status, bench.batch.completed = "expired", LINES - 2
    bench.act()
    assert bench.world.states() == {"done": LINES - 2, "in_batch": 2}  # one more look
    bench.act_later()
    assert bench.outcomes() == {"bio": LINES - 2, "expired": 2}


@pytest.mark.parametrize(
    "wish",
    [
        "UPDATE batches SET cancel_asked_at = 1",
        "UPDATE batches SET cancel_wanted_at = 1",
        "INSERT INTO wishes SELECT shard, 1, NULL, NULL FROM batches",
    ],
)
def test_lines_of_a_batch_that_we_cancelled_are_not_waited_for(bench: Bench, wish: str) -> None:
    bench.batch.status, bench.batch.output_file_id, bench.batch.completed = "cancelled", None, 0
    bench.anchor.execute(wish)
    bench.act()
    bench.act_later()
    assert bench.outcomes() == {"cancelled": LINES}


def test_ids_of_nothing_count_as_none(bench: Bench) -> None:
    bench.batch.error_file_id = ""
    bench.act()
    assert bench.world.states() == {"done": LINES}


def test_counts_that_do_not_add_up_are_noted(bench: Bench) -> None:
    bench.batch.completed, bench.batch.failed, bench.batch.total = LINES - 2, 5, LINES
    bench.act()
    assert bench.world.states() == {"done": LINES}
    assert bench.odd() == f"the service counts 10 done and 5 failed of {LINES}, {LINES} answers were read"


def test_counts_that_add_up_with_failed_lines_are_not_noted(bench: Bench) -> None:
    whole = bench.read()
    bench.write(whole[2:])
    bench.write([failed(row, 500, "server_error") for row in whole[:2]], "error")
    bench.batch.completed, bench.batch.failed, bench.batch.total = LINES - 2, 2, LINES
    bench.act()
    assert bench.outcomes() == {"bio": LINES - 2, "server": 2}
    assert bench.odd() == ""


def test_what_is_there_is_taken_at_once_and_the_rest_asked_for_again(bench: Bench) -> None:
    whole = bench.read()
    bench.write(whole[:-2])
    bench.act()
    assert bench.world.states() == {"done": LINES - 2, "in_batch": 2}
    assert bench.events("results_incomplete") == ["12 lines are done, 10 were read"]
    bench.write(whole)
    bench.act(once=False)
    assert bench.world.states() == {"done": LINES}
    assert bench.outcomes() == {"bio": LINES}


def test_lines_that_never_come_are_held_as_perhaps_paid(bench: Bench) -> None:
    bench.write(bench.read()[:-2])
    began = bench.world.clock()
    bench.act(once=False)
    assert bench.world.states() == {"done": LINES - 2, "held": 2}
    assert bench.outcomes() == {"bio": LINES - 2, "missing": 2}
    assert 24 * HOURS <= bench.world.clock() - began < 25 * HOURS
    bench.act(once=False)
    assert len(bench.world.sandbox.lifecycle.batches) == 1  # nothing of it was bought again


def test_a_machine_that_slept_through_the_day_asks_more_than_twice(bench: Bench) -> None:
    whole = bench.read()
    bench.write(whole[:-2])
    bench.act()
    bench.world.clock.sleep(30 * HOURS)
    bench.act()
    assert bench.world.states()["in_batch"] == 2
    for _ in range(FEWEST_READINGS):
        bench.world.clock.sleep(HOURS)
        bench.act()
    assert bench.world.states() == {"done": LINES - 2, "held": 2}


def test_a_file_that_ends_within_a_line_is_read_again(bench: Bench) -> None:
    bench.batch.completed = 0  # no count tells that a line is missing
    rows = bench.read()
    whole = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    bench.write_bytes(whole[:-7])
    bench.act()
    assert bench.world.states() == {"done": LINES - 1, "in_batch": 1}
    assert bench.count("remote_files", "purpose = 'batch_output'") == 0
    bench.write_bytes(whole)
    bench.act_later()
    assert bench.world.states() == {"done": LINES}
    assert bench.count("remote_files", "purpose = 'batch_output'") == 1


def test_an_answer_that_stays_malformed_is_held_and_its_file_kept_at_the_service(bench: Bench) -> None:
    rows = bench.read()
    bench.write([b'{"custom_id": "a0', *rows[1:]])
    bench.act(once=False)
    assert bench.world.states() == {"done": LINES - 1, "held": 1}
    assert bench.outcomes()["missing"] == 1
    assert bench.count("remote_files", "purpose = 'batch_output'") == 0
    bench.write(rows)  # it is mended at last, and asked for hourly
    bench.act_later()
    bench.act_later()
    assert bench.world.states() == {"done": LINES}
    assert bench.count("remote_files", "purpose = 'batch_output'") == 1


def test_a_file_that_was_not_read_is_not_deleted(bench: Bench) -> None:
    rows = bench.read()
    bench.write([failed(row, 400, "context_length_exceeded") for row in rows[:2]], "error")
    bench.batch.completed, bench.batch.failed = LINES - 2, 2
    output = bench.batch.output_file_id
    assert output is not None
    bench.world.sandbox.files._files[output].ready_at = bench.world.clock() + 1_000 * HOURS
    bench.act(once=False)
    assert bench.world.states() == {"held": LINES - 2, "dead": 2}
    assert output in bench.world.sandbox.files._files
    assert bench.count("remote_files", f"file_id = '{output}'") == 0


def test_an_error_file_that_cannot_be_read_is_not_missed_where_the_output_holds_every_line(bench: Bench) -> None:
    bench.write([], "error")
    error = bench.batch.error_file_id
    assert error is not None
    bench.world.sandbox.files._files[error].ready_at = bench.world.clock() + 1_000 * HOURS
    bench.act()
    assert bench.world.states() == {"done": LINES}
    assert bench.count("remote_files", f"file_id = '{error}'") == 0


def test_a_stranger_does_not_stand_in_for_a_line_that_is_missing(bench: Bench) -> None:
    bench.write([NOBODY, *bench.read()[1:]])
    bench.act(once=False)
    assert bench.world.states() == {"done": LINES - 1, "held": 1}


@pytest.mark.parametrize("faults", [{"truncate_download": 1.0}, {"refuse_before": {"content": 1.0}}])
def test_a_file_that_cannot_be_read_is_read_later(bench: Bench, faults: dict[str, object]) -> None:
    bench.world.sandbox.update_faults(faults)
    bench.act()
    assert bench.world.states() == {"in_batch": LINES}
    assert len(bench.events("results_incomplete")) == 1
    bench.world.sandbox.update_faults({name: Faults().__getattribute__(name) for name in faults})
    bench.act(once=False)
    assert bench.world.states() == {"done": LINES}


def test_a_file_that_is_not_ready_is_read_later(make: Make) -> None:
    bench = make()
    assert bench.batch.output_file_id is not None
    bench.world.sandbox.files._files[bench.batch.output_file_id].ready_at = bench.world.clock() + 6 * HOURS
    assert bench.act(once=False) == Finish()
    assert bench.world.states() == {"done": LINES}
    assert len(bench.events("results_incomplete")) >= 6


def test_an_output_file_that_is_gone_holds_what_is_perhaps_paid(bench: Bench) -> None:
    rows = bench.read()
    bench.write([failed(rows[0], 400, "content_policy_violation")], "error")
    bench.batch.completed, bench.batch.failed = LINES - 1, 1
    assert bench.batch.output_file_id is not None
    bench.world.sandbox.files.delete(bench.batch.output_file_id, bench.world.clock())
    bench.act(once=False)
    assert bench.world.states() == {"held": LINES - 1, "dead": 1}
