"""Result lines, counts, ids and listings of an unusual form are read or ignored, and no result is lost."""

from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.support.protocol_kit import CREATE, Send, assert_paid_once, changed, is_call, looks, lost, nth, trial
from tests.support.results_kit import LINES, Bench

pytestmark = pytest.mark.slow("whole jobs, interrupted in the middle of each kind of call")


def test_an_answer_of_status_0_with_a_whole_body_is_taken(bench: Bench) -> None:
    rows = bench.read()
    rows[0]["response"]["status_code"] = 0
    bench.write(rows)
    bench.act()
    bench.close()
    assert bench.world.states() == {"done": LINES}


@pytest.mark.parametrize("how", ["bom", "byte"])
def test_a_line_with_a_mark_or_a_byte_that_is_no_text_is_read(bench: Bench, how: str) -> None:
    rows = [orjson.dumps(row) for row in bench.read()]
    rows[0] = b"\xef\xbb\xbf" + rows[0] if how == "bom" else rows[0].replace(b'"request_id":"', b'"request_id":"\xff')
    bench.write(rows)
    bench.act()
    bench.close()
    assert bench.world.states() == {"done": LINES}


def test_without_counts_a_short_file_is_read_again(tmp_path: Path) -> None:
    it = trial(tmp_path)
    first: list[int] = []
    uncounted = looks(lambda batch: batch.update(request_counts=None))

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.url.path.endswith("/content") and not first:
            first.append(1)
            response = send(request)
            response.read()
            short = b"\n".join(response.content.split(b"\n")[:3]) + b"\n"
            return httpx2.Response(200, content=iter([short]), request=request)
        return uncounted(request, send)

    it.rule = rule
    it.act()
    assert_paid_once(it, 6)


@pytest.mark.parametrize("batch_id", ["../../../escaped", "batch_" + "x" * 240])
def test_any_id_of_a_batch_stays_in_the_folder(tmp_path: Path, batch_id: str) -> None:
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    it = trial(folder)
    true_id: list[str] = []

    def other(batch: dict[str, Any]) -> None:
        true_id.append(batch["id"])
        batch["id"] = batch_id

    renamed = looks(other)

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if request.method == "GET" and request.url.path.startswith("/v1/batches/"):
            request = httpx2.Request("GET", f"http://sandbox/v1/batches/{true_id[0]}", headers=request.headers)
        return renamed(request, send)

    it.rule = rule
    it.act()
    assert it.states() == {"done": 6}
    assert not [path for path in tmp_path.rglob("*escaped*") if "results" not in path.parts]


def test_absurd_counts_are_no_end(tmp_path: Path) -> None:
    it = trial(tmp_path)
    it.rule = looks(lambda batch: batch.update(request_counts={"total": 10**12, "completed": 6, "failed": -3}))
    it.act()
    assert_paid_once(it, 6)


def test_an_old_batch_out_of_its_place_does_not_end_a_listing(tmp_path: Path) -> None:
    it = trial(tmp_path)
    lose = nth(*CREATE, 1, lost)

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if not is_call(request, "GET", "/batches"):
            return lose(request, send)
        if b"after" in request.url.query:  # what the service really has comes on the second page
            return send(httpx2.Request("GET", "http://sandbox/v1/batches", headers=request.headers))

        def disturb(body: dict[str, Any]) -> None:
            plain = {"object": "batch", "status": "completed", "input_file_id": "file-x", "metadata": {"x": "y"}}
            plain |= {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
            times = (("new", int(it.clock()) - 30), ("newer", int(it.clock())), ("old", 1_000_000))
            body["data"] = [{**plain, "id": f"batch_{name}", "created_at": at} for name, at in times]
            body["has_more"] = True

        return changed(disturb)(request, send)

    it.rule = rule
    it.act()
    assert_paid_once(it, 6)
