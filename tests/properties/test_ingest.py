"""Any result file for any shard: each artist is in one state, no text is in a wrong place, and no count is wrong.

The files are random: some of the lines, in any order, twice, failed in any way, with garbage between them, any JSON at
any place of a line, any text in an answer, and cut at their end.
"""

import atexit
import json
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import HealthCheck, given, settings

from batcher.lanes.batch.ingest import Ingestion
from batcher.lanes.batch.watching import BatchWatcher
from tests.support.examples import SOAK
from tests.support.results_kit import Bench, failed, patient_config

pytestmark = pytest.mark.slow("100 examples, each a batch recorded on a real state")

LINES = 9
FAILURES = (
    (500, "server_error"),
    (429, "rate_limit_exceeded"),
    (429, "insufficient_quota"),
    (400, "context_length_exceeded"),
    (0, "batch_expired"),
    (0, "batch_cancelled"),
    (0, ""),
)
GARBAGE = (b"", b"not JSON", b'{"custom_id": "\xff"}', b'{"custom_id": ""}', b"[]", b'{"custom_id": "nobody"}', b"\x00")
STATES = {"done", "ready", "waiting", "in_batch", "held", "dead"}

places = st.integers(0, LINES - 1)
any_text = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates and NUL are among them
any_number = st.one_of(st.integers(), st.sampled_from([10**30, -(2**63), 1e308]), st.floats())
any_json = st.recursive(
    st.one_of(st.none(), st.booleans(), any_number, any_text),
    lambda each: st.one_of(st.lists(each, max_size=3), st.dictionaries(any_text, each, max_size=3)),
    max_leaves=5,
)
SPOTS = ("response", "status_code", "body", "body as text", "usage", "choices", "message", "content", "model", "error")
one_line = st.one_of(
    st.tuples(st.just("good"), places),
    st.tuples(st.just("good"), places),
    st.tuples(st.just("failed"), places, st.sampled_from(FAILURES)),
    st.tuples(st.just("swapped"), places, places),
    st.tuples(st.just("garbage"), st.sampled_from(GARBAGE)),
    st.tuples(st.just("garbage"), st.binary(max_size=30)),
    st.tuples(st.just("odd"), places, st.sampled_from(SPOTS), any_json),
    st.tuples(st.just("odd"), places, st.just("summary"), any_text),
)
one_file = st.lists(one_line, max_size=2 * LINES)
counts = st.tuples(st.integers(0, LINES + 1), st.integers(0, LINES + 1))


def make_line(rows: list[dict[str, Any]], made: tuple[Any, ...]) -> object:
    kind, what, *more = made
    if kind == "garbage":
        return what
    if kind == "odd":
        return make_odd(rows[what], *more)
    if kind == "failed":
        return failed(rows[what], *more[0])
    if kind == "swapped":  # the answer on one artist under the id of another
        return {**rows[what], "response": rows[more[0]]["response"]}
    return rows[what]


def make_odd(row: dict[str, Any], spot: str, value: object) -> bytes:
    """Return the bytes of a line that has any value at one place; `json` writes what orjson refuses."""
    line: dict[str, Any] = orjson.loads(orjson.dumps(row))
    response = line["response"]
    choice = response["body"]["choices"][0]
    if spot == "summary":
        content = {**orjson.loads(choice["message"]["content"]), "summary": value}
        choice["message"]["content"] = json.dumps(content)
    elif spot == "body as text":
        response["body"] = json.dumps(value)
    elif spot == "error":
        response["status_code"], response["body"] = 500, {"error": {"message": value, "code": value}}
        line["error"] = value
    else:
        {
            "response": line,
            "status_code": response,
            "body": response,
            "message": choice,
            "content": choice["message"],
        }.get(spot, response["body"])[spot] = value
    return json.dumps(line).encode()


@cache
def ended() -> tuple[Bench, bytes, float]:
    """Return a bench whose batch has ended and was not read, its state file, and the time."""
    folder = Path(tempfile.mkdtemp(prefix="batcher-property-"))
    atexit.register(shutil.rmtree, folder)
    bench = Bench(folder, LINES)
    bench.write([], "error")
    BatchWatcher(bench.world.tools()).refresh_batches()
    bench.close()
    return bench, bench.world.store.path.read_bytes(), bench.world.clock()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batcher.core.verdicts.FEWEST_READINGS", 1)


@settings(max_examples=100 * SOAK, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    output=one_file,
    errors=one_file,
    cut=st.sampled_from([0, 0, 1, 2, 30]),
    counted=counts,
    status=st.sampled_from(["completed", "expired", "cancelled"]),
)
def test_whatever_comes_each_artist_is_somewhere_and_has_its_own_text(
    output: list[Any], errors: list[Any], cut: int, counted: tuple[int, int], status: str
) -> None:
    rows = answers()
    bench, state, began = ended()
    bench.world.clock.now = began
    bench.world.store.path.write_bytes(state)
    with bench.opened():
        lines = [make_line(rows, made) for made in output]
        bench.write(lines)
        if cut and lines and isinstance(lines[-1], dict):  # these are longer than what is cut
            bench.write_bytes(bench.read_bytes()[:-cut])
            output = [*output[:-1], ("garbage" if cut > 1 else output[-1][0], *output[-1][1:])]
        bench.write([make_line(rows, made) for made in errors], "error")
        bench.anchor.execute("UPDATE batches SET completed = ?, failed = ?, status = ?", [*counted, status])
        ingestion = reader()
        first = ingestion.ingest_batch(ingestion.load_batch(bench.batch.id))
        check(bench, rows, [*output, *errors], first is not None)
        bench.world.clock.sleep(100_000)
        again = ingestion.ingest_batch(ingestion.load_batch(bench.batch.id))
        assert (first is None) == (again is not None)  # settled, once
        check(bench, rows, [*output, *errors], True)


@cache
def reader() -> Ingestion:
    """Return an ingestion that does not keep the files, for speed."""
    context = ended()[0].world.tools()
    return Ingestion(replace(context, config=patient_config(results={"keep_raw": False})))


@cache
def answers() -> list[dict[str, Any]]:
    """Return what the service has answered, in the order of the artists."""
    bench, _, _ = ended()
    return sorted(bench.read(), key=lambda row: str(row["custom_id"]))


def check(bench: Bench, rows: list[dict[str, Any]], made: list[Any], settled: bool) -> None:
    bench.check_conservation(texts=False)
    states = bench.world.states()
    assert set(states) <= STATES
    assert bool(states.get("in_batch")) <= (not settled)
    bios = {str(key): text_of(str(data)) for key, data in bench.world.rows("SELECT artist_id, data FROM bios")}
    sent = {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in rows}
    good = {rows[m[1]]["custom_id"] for m in made if m[0] == "good"}
    swapped = {rows[m[1]]["custom_id"] for m in made if m[0] == "swapped"}
    odd = {rows[m[1]]["custom_id"] for m in made if m[0] == "odd"}
    assert good <= set(bios) <= good | swapped | odd  # a usable answer is taken, whatever stands beside it
    assert all(text == text_of(sent[key]) for key, text in bios.items() if key not in swapped)
    tried = Counter(str(key) for (key,) in bench.world.rows("SELECT artist_id FROM attempts"))
    assert max(tried.values(), default=0) <= 1  # one batch, one verdict
    assert set(tried) == set(sent) or not settled
    assert bench.count("batches", "settled_at IS NULL") == bench.count("shards", "state = 'ended'") == (not settled)


def text_of(data: str) -> str:
    return str(orjson.loads(data)["bio"])
