"""Any result file for any shard: each artist in one state, no text in a wrong place, no count wrong.

The files are made by chance: a part of the lines, in any order, twice, failed in any way, with garbage between them.
"""

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import orjson
from hypothesis import HealthCheck, given, settings

from tests.results_kit import Bench, failed

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
one_line = st.one_of(
    st.tuples(st.just("good"), places),
    st.tuples(st.just("good"), places),
    st.tuples(st.just("failed"), places, st.sampled_from(FAILURES)),
    st.tuples(st.just("swapped"), places, places),
    st.tuples(st.just("garbage"), st.sampled_from(GARBAGE)),
)
one_file = st.lists(one_line, max_size=2 * LINES)
counts = st.tuples(st.integers(0, LINES + 1), st.integers(0, LINES + 1))


def make_line(rows: list[dict[str, Any]], made: tuple[Any, ...]) -> object:
    kind, what, *more = made
    if kind == "garbage":
        return what
    if kind == "failed":
        return failed(rows[what], *more[0])
    if kind == "swapped":  # the answer on one artist under the id of another
        return {**rows[what], "response": rows[more[0]]["response"]}
    return rows[what]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(output=one_file, errors=one_file, counted=counts, status=st.sampled_from(["completed", "expired", "cancelled"]))
def test_whatever_comes_each_artist_is_somewhere_and_has_its_own_text(
    output: list[Any], errors: list[Any], counted: tuple[int, int], status: str
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="batcher-property-"))
    bench = Bench(folder, LINES)
    try:
        rows = bench.read()
        bench.write([make_line(rows, made) for made in output])
        bench.write([make_line(rows, made) for made in errors], "error")
        bench.batch.completed, bench.batch.failed = counted
        bench.batch.status = status
        with bench.world.store.transaction("pause") as tx:  # nothing new is sent
            tx.run("insert_pause", scope="all", reason="by hand", until=None, tries=0, now=tx.now)
        bench.act()
        check(bench, rows, [*output, *errors])
        bench.world.clock.sleep(100_000)
        bench.act()
        check(bench, rows, [*output, *errors])
    finally:
        bench.close()
        shutil.rmtree(folder)


def check(bench: Bench, rows: list[dict[str, Any]], made: list[Any]) -> None:
    states = bench.world.states()
    assert set(states) <= STATES
    assert sum(states.values()) == LINES
    good = {rows[m[1]]["custom_id"] for m in made if m[0] == "good"}
    bios = {str(line): data for line, data in bench.world.rows("SELECT artist_id, data FROM bios")}
    assert good <= set(bios)  # a usable answer is taken, whatever stands beside it
    for artist_id, data in bios.items():
        text = orjson.loads(str(data))["bio"]
        own = next(r for r in rows if r["custom_id"] == artist_id)
        sent = orjson.loads(own["response"]["body"]["choices"][0]["message"]["content"])["bio"]
        swapped = any(m[0] == "swapped" and rows[m[1]]["custom_id"] == artist_id for m in made)
        assert text == sent or swapped
    tried = Counter(str(a) for (a,) in bench.world.rows("SELECT artist_id FROM attempts WHERE outcome <> 'repeated'"))
    assert max(tried.values(), default=0) <= 1  # one batch, one verdict
    assert bench.count("batches", "settled_at IS NULL") == bench.count("shards", "state = 'ended'")
    assert bench.count("artists", "state = 'in_batch'") == 0 or bench.count("shards", "state = 'ended'") == 1
