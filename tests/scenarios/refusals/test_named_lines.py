"""Batches that fail in validation: lines that the service names pay alone; a fault of the setup leaves none dead."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from batcher.core import events
from batcher.core.actions import Finish
from tests.support.protocol_kit import (
    BATCH_S,
    Rule,
    Trial,
    assert_paid_once,
    changed,
    every,
    trial,
)

pytestmark = pytest.mark.slow("whole jobs against a service that refuses")


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
