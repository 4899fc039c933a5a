"""Recording results: every oddity that a result file may have, by name, and what is kept of it."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from batcher.core import events
from batcher.errors import StateError
from batcher.lanes.batch.ingest import Ingestion
from batcher.state import results
from tests.support.results_kit import LINES, NOBODY, Bench, Make, failed, patient_config, with_text
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
