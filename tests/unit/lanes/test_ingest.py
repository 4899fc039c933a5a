"""Recording results: every oddity that a result file may have, by name, and what follows for the lines."""

import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from batcher.catalog.prices import resolve_prices
from batcher.core import events
from batcher.core.actions import Finish
from batcher.core.verdicts import FEWEST_READINGS, ReadingHistory
from batcher.errors import StateError
from batcher.lanes.batch.ingest import Ingestion
from batcher.sandbox import Faults
from batcher.sandbox.api.batches import Batch
from batcher.state import batches, results, strays, submissions
from batcher.state.costs import costs_by_shard, sum_costs
from batcher.state.versions import load_versions
from tests.support.results_kit import HOURS, LINES, Bench, Make, failed, patient_config, with_text
from tests.support.world import KEY


def test_every_line_becomes_a_bio_with_its_evidence(bench: Bench) -> None:
    raw = bench.read()
    bench.act(once=False)
    assert bench.world.states() == {"done": LINES}
    assert bench.outcomes() == {"bio": LINES}
    assert bench.odd() == ""
    (kept,) = (bench.world.store.folder / "results").iterdir()
    assert kept.name == f"{bench.batch.id}_output.jsonl.gz"
    assert [orjson.loads(line) for line in gzip.decompress(kept.read_bytes()).splitlines()] == raw


def test_shuffled_lines_find_their_artists(bench: Bench) -> None:
    bench.write(bench.read()[::-1])
    bench.act()
    assert bench.world.states() == {"done": LINES}


def test_raw_files_go_where_they_are_not_wanted(make: Make) -> None:
    bench = make(config=patient_config(results={"keep_raw": False}))
    bench.act(once=False)
    assert list((bench.world.store.folder / "results").iterdir()) == []


def test_pieces_that_a_killed_process_left_are_swept(bench: Bench) -> None:
    results = bench.world.store.folder / "results"
    results.mkdir()
    for name in ("x.jsonl.part", "y.jsonl", "y.jsonl.gz", "z.jsonl"):
        (results / name).write_bytes(b"")
    bench.act()
    left = sorted(path.name for path in results.iterdir() if path.name[0] in "xyz")
    assert left == ["y.jsonl.gz", "z.jsonl"]


NOBODY = {"custom_id": "nobody", "response": {"status_code": 200, "body": {}}, "error": None}
ODD_LINES: Mapping[str, tuple[Sequence[bytes], str]] = {
    "empty lines": ([b"", b"  ", b"\r"], ""),
    "no JSON": ([b"this is not JSON"], "1 malformed lines"),
    "not UTF-8": ([b'{"custom_id": "\xff\xfe"'], "1 malformed lines"),
    "a list": ([b"[1, 2]"], "1 malformed lines"),
    "a number": ([b"17"], "1 malformed lines"),
    "cut off": ([b'{"custom_id": "a00001", "resp'], "1 malformed lines"),
    "no custom_id": ([b'{"response": null}', b'{"custom_id": 7}'], "2 malformed lines"),
    "an id of nothing": ([b'{"custom_id": ""}'], "1 malformed lines"),
    "an unknown line": ([orjson.dumps(NOBODY)], "1 lines of nobody in this shard"),
    "an unknown line with NUL and a lone surrogate": (
        [rb'{"custom_id": "\u0000\ud800", "response": {"status_code": 200}}'],
        "1 lines of nobody in this shard",
    ),
    "nested too deep": ([b'{"a":' + b"[" * 100_000], "1 malformed lines"),
    "half a gigabyte of digits": ([b'{"custom_id": ' + b"9" * 5_000 + b"}"], "1 malformed lines"),
}


@pytest.mark.parametrize("name", ODD_LINES)
def test_an_odd_line_is_recorded_and_the_rest_taken(bench: Bench, name: str) -> None:
    lines, anomalies = ODD_LINES[name]
    bench.write([*lines[:1], *bench.read(), *lines[1:]])
    bench.act()
    assert bench.world.states() == {"done": LINES}
    assert bench.odd() == anomalies
    settled = next(event for event in bench.world.events if isinstance(event, events.BatchSettled))
    assert settled.anomalies == anomalies


def test_a_line_that_comes_twice_counts_once(bench: Bench) -> None:
    rows = bench.read()
    other = with_text(rows[0], lambda c: c.update(summary="Another summary."))
    bench.write([*rows, rows[0], rows[0], other])
    bench.act()
    assert bench.outcomes() == {"bio": LINES}
    assert bench.odd() == "3 lines that stand there twice"


def test_a_success_wins_over_a_failure_of_the_same_line(bench: Bench) -> None:
    rows = bench.read()
    bench.write([failed(rows[0], 500, "server_error"), *rows])
    bench.write([failed(rows[1], 500, "server_error")], "error")
    bench.act()
    assert bench.world.states() == {"done": LINES}
    assert bench.odd() == "2 lines that stand there twice"


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\u000b", "\u001e", "\r"])
def test_a_character_that_others_break_lines_at_stays_in_its_text(bench: Bench, character: str) -> None:
    rows = bench.read()
    bench.write([with_text(rows[0], lambda c: c.update(summary=f"A painter.{character}B")), *rows[1:]])
    bench.act()
    (data,) = bench.world.rows(f"SELECT data FROM bios WHERE artist_id = '{rows[0]['custom_id']}'")[0]
    assert orjson.loads(str(data))["summary"] == f"A painter.{character}B"
    assert bench.world.states() == {"done": LINES}


def test_lone_surrogates_and_nul_become_the_replacement_character(bench: Bench) -> None:
    raw = [orjson.dumps(row) for row in bench.read()]
    raw[0] = raw[0].replace(b'"request_id":"', rb'"request_id":"\ud800')  # beside the text
    raw[1] = raw[1].replace(rb"\"summary\":\"", rb"\"summary\":\"\ud83d")  # in the text
    raw[2] = raw[2].replace(rb"\"summary\":\"", rb"\"summary\":\"\\ud83d")  # in the text, escaped within
    raw[3] = raw[3].replace(rb"\"summary\":\"", rb"\"summary\":\"\u0000\\u0000")
    bench.write(raw)
    bench.act()
    assert bench.world.states() == {"done": LINES}
    assert bench.count("bios", 'data LIKE \'%"summary":"\ufffd%\'') == 3
    (kept,) = (bench.world.store.folder / "results").iterdir()
    assert gzip.decompress(kept.read_bytes()).splitlines() == raw  # what came


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ({"status_code": 200, "request_id": "x", "body": {}}, "empty_body"),
        ({"status_code": 200, "request_id": "x", "body": None}, "empty_body"),
        ({"status_code": 200, "body": {"choices": []}}, "empty"),
        ({"status_code": 200, "body": {"choices": "what", "usage": [], "created": "soon"}}, "empty"),
        ({"status_code": 0, "request_id": "x", "body": None}, "http_0"),
        ({"status_code": 10**30, "body": None}, "no_response"),
        ({"status_code": "200", "body": {}}, "no_response"),
        (None, "no_response"),
        ([], "no_response"),
    ],
)
def test_an_answer_of_no_use_fails_its_line_alone(bench: Bench, response: object, code: str) -> None:
    rows = bench.read()
    bench.write([{**rows[0], "response": response}, *rows[1:]])
    bench.act()
    assert bench.count("bios") == LINES - 1
    ((found, state),) = bench.world.rows(
        "SELECT t.code, a.state FROM attempts AS t JOIN artists AS a USING (artist_id) WHERE outcome <> 'bio'"
    )
    assert (found, state in {"ready", "waiting", "in_batch"}) == (code, True)


def test_unknown_fields_and_absurd_numbers_are_passed_over(bench: Bench) -> None:
    rows = bench.read()
    rows[0] |= {"new": {"deep": [1]}, "id": ""}
    rows[0]["response"]["body"] |= {"extra": None, "created": 10**40, "usage": {"prompt_tokens": 10**20}}
    rows[1]["response"]["body"] |= {"created": -1, "usage": {"prompt_tokens": -5, "completion_tokens": "many"}}
    bench.write(rows)
    bench.act()
    assert bench.world.states() == {"done": LINES}


def test_a_line_of_fifty_megabytes_is_read(bench: Bench) -> None:
    rows = bench.read()
    rows[0]["padding"] = "x" * 50_000_000
    bench.write(rows)
    bench.act()
    assert bench.world.states() == {"done": LINES}


def test_all_lines_failed_and_there_is_no_output_file(bench: Bench) -> None:
    rows = bench.read()
    bench.write([failed(row, 500, "server_error") for row in rows], "error")
    bench.batch.output_file_id, bench.batch.completed, bench.batch.failed = None, 0, LINES
    bench.act()
    assert bench.outcomes() == {"server": LINES}
    assert bench.world.states().get("dead") is None


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
    split(bench, 3, 400, "context_length_exceeded")
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


def test_ingesting_twice_changes_nothing(bench: Bench) -> None:
    bench.act()
    before = [bench.world.rows(f"SELECT * FROM {t} ORDER BY ALL") for t in ("artists", "attempts", "bios", "events")]
    ingestion = Ingestion(bench.world.tools())
    assert ingestion.ingest_batch(ingestion.load_batch(bench.batch.id)) is None
    after = [bench.world.rows(f"SELECT * FROM {t} ORDER BY ALL") for t in ("artists", "attempts", "bios", "events")]
    assert before == after


@pytest.mark.parametrize(
    ("owner", "step"),
    [(results, "accept_bios"), (Ingestion, "_decide_failed_lines"), (Ingestion, "_settle_batch")],
)
def test_a_crash_within_leaves_nothing_changed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, owner: object, step: str
) -> None:
    rows = bench.read()
    bench.write([*rows[2:]])
    bench.write([failed(rows[0], 500, "server_error"), failed(rows[1], 400, "context_length_exceeded")], "error")
    bench.batch.completed, bench.batch.failed = LINES - 2, 2
    real = getattr(owner, step)

    def die(*args: Any) -> object:
        real(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, step, die)
    with pytest.raises(KeyboardInterrupt):
        bench.act()
    bench.check_conservation()
    assert bench.world.states() == {"in_batch": LINES}
    assert bench.outcomes() == {}
    monkeypatch.undo()
    bench.act()
    assert bench.count("bios") == LINES - 2
    assert bench.outcomes() == {"bio": LINES - 2, "server": 1, "invalid": 1}


def test_a_key_that_result_files_quote_is_kept_nowhere(bench: Bench) -> None:
    rows = bench.read()
    bench.write([failed(row, 400, "invalid_prompt", message=f"{KEY} at {n}") for n, row in enumerate(rows)], "error")
    bench.write([{**rows[0], "padding": "x" * n + KEY} for n in (0, 10_000, 65_530)])  # across the chunks of a download
    bench.batch.completed, bench.batch.failed = 1, LINES - 1
    bench.act()
    kept = b"".join(gzip.decompress(path.read_bytes()) for path in (bench.world.store.folder / "results").iterdir())
    assert b"... at 7" in kept
    assert b"xxx..." in kept
    assert KEY.encode() not in kept
    assert bench.count("artists", f"message LIKE '%{KEY}%'") == bench.count("attempts", f"message LIKE '%{KEY}%'") == 0
    assert bench.count("attempts", "message LIKE '%... at 7'") == 1
    for path in bench.world.store.folder.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_outputs_are_deleted_only_after_they_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("batcher.lanes.batch.ingest.archive_result_file", full)
    with pytest.raises((OSError, StateError)):
        bench.act()
    assert bench.world.states() == {"in_batch": LINES}
    assert bench.count("remote_files", "purpose = 'batch_output'") == 0
    monkeypatch.undo()
    bench.act(once=False)
    assert bench.count("remote_files", "purpose = 'batch_output' AND deleted_at IS NOT NULL") == 1


def split(bench: Bench, bad: int, status: int, code: str, kind: str = "") -> Iterator[str]:
    """Make the first `bad` lines fail; return their ids."""
    rows = bench.read()
    bench.write(rows[bad:])
    bench.write([failed(row, status, code, kind) for row in rows[:bad]], "error")
    bench.batch.completed, bench.batch.failed = len(rows) - bad, bad
    return (row["custom_id"] for row in rows[:bad])


def test_a_storm_of_rate_limits_costs_no_try(make: Make) -> None:
    bench = make(lines=60)
    split(bench, 30, 429, "rate_limit_exceeded", "requests")
    bench.act()
    assert bench.world.states() == {"done": 30, "waiting": 30}
    assert bench.count("artists", "state = 'waiting' AND attempts = 0") == 30
    (first,) = bench.world.rows("SELECT min(wait_until) FROM artists")[0]
    assert 50 < float(str(first)) - bench.world.clock() <= 60


def test_few_rate_limits_cost_a_try_each(make: Make) -> None:
    bench = make(lines=60)
    split(bench, 3, 429, "rate_limit_exceeded", "requests")
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
    split(bench, 25, 429, "insufficient_quota")
    bench.act()
    assert bench.world.states() == {"done": 15, "ready": 25}
    assert bench.count("artists", "attempts > 0 AND state = 'ready'") == 0
    assert bench.count("pauses", "reason = 'quota' AND ended_at IS NULL") == 1
    assert len(bench.events("pause")) == 1


@pytest.mark.parametrize(("status", "code"), [(401, "invalid_api_key"), (404, "model_not_found"), (403, "forbidden")])
def test_a_refused_setup_stops_the_job_and_nothing_dies(bench: Bench, status: int, code: str) -> None:
    split(bench, LINES, status, code)
    bench.batch.output_file_id = None
    ended = bench.act(once=False)
    assert isinstance(ended, Finish)
    assert code in ended.problem
    assert bench.world.states() == {"ready": LINES}
    assert bench.count("artists", "attempts > 0") == 0


def test_a_few_lines_refused_like_the_setup_are_tried_again(bench: Bench) -> None:
    split(bench, 2, 404, "model_not_found")
    assert bench.act() != Finish()
    assert bench.world.rows("SELECT text FROM facts WHERE name = 'stopped'") == [("",)]
    assert bench.count("artists", "failure = 'setup' AND attempts = 1") == 2


def test_twenty_invalid_lines_of_one_reason_stop_the_job(make: Make) -> None:
    bench = make(lines=40)
    split(bench, 20, 400, "integer_below_min_value")
    ended = bench.act(once=False)
    assert isinstance(ended, Finish)
    assert "integer_below_min_value" in ended.problem
    assert bench.world.states() == {"done": 20, "ready": 20}


def test_few_invalid_lines_die(make: Make) -> None:
    bench = make(lines=40)
    split(bench, 19, 400, "context_length_exceeded")
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
    assert "25 of 25 lines were answered of no use (not_accepted)" in ended.problem
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
    split(bench, 4, 400, "")
    rows = bench.read("error")
    for row, code in zip(rows, ["batch_expired"] * 2 + ["batch_cancelled"] * 2, strict=True):
        row |= {"response": None, "error": {"code": code, "message": "not executed"}}
    bench.write(rows, "error")
    bench.act()
    states = bench.world.states()
    assert (states["done"], states["held"]) == (LINES - 4, 2)
    assert bench.count("artists", "failure = 'expired' AND state IN ('ready', 'in_batch')") == 2


class Twins(Bench):
    """Two batches of one shard: the recorded one, and a stray that a lost answer left."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        with self.world.store.read_transaction() as tx:
            run_id = tx.fetch_one("run")[0]
        client = self.world.service()
        wish = self.batch.request
        metadata = dict(wish.metadata or {})
        assert metadata["batcher_run"] == run_id
        self.recorded = self.batch
        self.world.clock.sleep(5)
        client.create_batch(wish.input_file_id, wish.endpoint, metadata)
        self.stray = list(self.world.sandbox.lifecycle.batches.values())[-1]
        self.world.clock.sleep(3 * HOURS)
        self.world.sandbox.run_due_events()


@pytest.fixture
def twins(make: Make) -> Bench:
    return make(Twins)


def fail_in(bench: Bench, batch: Batch, bad: Mapping[int, tuple[int, str]], absent: Sequence[int] = ()) -> None:
    """Make lines of a batch fail, by number, or leave them out of both files."""
    bench.batch = batch
    rows = sorted(bench.read(), key=lambda row: str(row["custom_id"]))
    good = [row for n, row in enumerate(rows) if n not in bad and n not in absent]
    bench.write(good)
    bench.write([failed(rows[n], *how) for n, how in bad.items()], "error")
    batch.completed, batch.failed, batch.total = len(good), len(bad), len(rows)


def verdicts(bench: Bench) -> dict[str, tuple[object, ...]]:
    rows = bench.world.rows("SELECT artist_id, state, failure, attempts FROM artists WHERE state <> 'done'")
    return {str(row[0]): row[1:] for row in rows}


def test_successes_of_both_are_taken_and_the_second_is_wasted_cost(twins: Twins) -> None:
    fail_in(twins, twins.recorded, {0: (500, "server_error"), 1: (500, "server_error")})
    fail_in(twins, twins.stray, {1: (500, "server_error"), 2: (500, "server_error")})
    twins.act()
    assert verdicts(twins).keys() == {"a00001"}
    assert twins.outcomes()["repeated"] == LINES - 3
    assert twins.count("attempts", "outcome = 'repeated' AND cost_usd > 0") == LINES - 3
    assert "second answers" in twins.odd()
    with twins.world.store.read_transaction() as tx:
        wasted = sum_costs(costs_by_shard(tx, load_versions(tx), resolve_prices)).wasted
    assert wasted


def test_a_failure_of_the_first_is_kept_where_the_second_lacks_the_line(twins: Twins) -> None:
    fail_in(twins, twins.stray, {0: (400, "context_length_exceeded"), 1: (500, "server_error")})
    fail_in(twins, twins.recorded, {}, absent=(0, 1))
    for _ in range(4):
        twins.act_later()
    assert verdicts(twins)["a00000"] == ("dead", "invalid", 1)
    assert verdicts(twins)["a00001"][1:] == ("server", 1)


def test_what_was_not_executed_says_less_than_what_was(twins: Twins) -> None:
    fail_in(twins, twins.recorded, {0: (500, "server_error")})
    fail_in(twins, twins.stray, {0: (0, "batch_cancelled"), 1: (0, "batch_cancelled")})
    twins.act()
    assert verdicts(twins)["a00000"][1:] == ("server", 1)
    assert twins.count("attempts", "artist_id = 'a00000' AND counted") == 1


def test_failures_wait_for_the_last_sibling(twins: Twins) -> None:
    fail_in(twins, twins.stray, {0: (500, "server_error")})
    fail_in(twins, twins.recorded, {0: (500, "server_error")})
    assert twins.recorded.output_file_id is not None
    twins.world.sandbox.files._files[twins.recorded.output_file_id].ready_at = twins.world.clock() + HOURS
    twins.act()
    assert verdicts(twins) == {"a00000": ("in_batch", None, 0)}
    twins.act(once=False)
    assert twins.world.states() == {"done": LINES}


def test_a_late_batch_of_a_settled_shard_gives_what_is_still_wanted(make: Make) -> None:
    twins = make(Twins)
    assert isinstance(twins, Twins)
    del twins.world.sandbox.lifecycle.batches[twins.stray.id]  # not seen yet
    fail_in(twins, twins.recorded, {0: (400, "context_length_exceeded"), 1: (429, "insufficient_quota")})
    twins.act()
    assert twins.world.states() == {"done": LINES - 2, "dead": 1, "ready": 1}
    twins.world.sandbox.lifecycle.batches[twins.stray.id] = twins.stray
    late = twins.world.service().retrieve_batch(twins.stray.id)
    assert late is not None
    with twins.world.store.transaction("late") as tx:
        assert strays.record_found_batch(tx, submissions.load_submission(tx, 1), late) == events.StrayFound(
            1, late.batch_id
        )
    twins.act()
    assert twins.world.states() == {"done": LINES}
    assert twins.outcomes()["repeated"] == LINES - 2
