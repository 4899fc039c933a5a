"""The faults: lines that fail, calls that are lost, refused or late, files that are damaged."""

from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest
from openai.types import Batch

from batcher.sandbox import Faults, SandboxSettings, SettingError, apply_changes
from batcher.sandbox.base.settings import LINE_KINDS
from tests.support.sandbox_kit import DAY, START, Bench, bench, lines


def first_result(it: Bench, batch: Batch) -> tuple[str, dict[str, Any]]:
    """Return the kind of the file that holds the one result, and the result."""
    output, errors = it.results(batch.output_file_id), it.results(batch.error_file_id)
    assert len(output) + len(errors) == 1
    return ("output", output[0]) if output else ("error", errors[0])


LINE_CASES: list[tuple[str, str, int | None, str | None]] = [
    ("rate_limit", "error", 429, "rate_limit_exceeded"),
    ("insufficient_quota", "error", 429, "insufficient_quota"),
    ("server", "error", 500, "server_error"),
    ("request_timeout", "error", None, "request_timeout"),
    ("content_policy", "error", 400, "content_policy_violation"),
    ("context_length", "error", 400, "context_length_exceeded"),
    ("refusal", "output", 200, None),
    ("length", "output", 200, None),
    ("invalid_json", "output", 200, None),
    ("empty", "output", 200, None),
    ("status_0", "output", 0, None),
]


@pytest.mark.parametrize(("kind", "place", "status", "code"), LINE_CASES)
def test_each_kind_of_failing_line(tmp_path: Path, kind: str, place: str, status: int | None, code: str | None) -> None:
    with bench(tmp_path, {"line_failures": {kind: 1.0}}) as it:
        batch = it.run(lines(1))
        where, row = first_result(it, batch)
        assert where == place and batch.status == "completed"
        assert batch.request_counts and batch.request_counts.completed == (place == "output")
        response = row["response"] or {}
        assert response.get("status_code") == status
        error = row["error"] or (response.get("body") or {}).get("error") or {}
        assert error.get("code") == code
        assert sum(it.sandbox.ledger.execution_counts().values()) == (status == 200)
        assert not it.sandbox.ledger.usable_counts()


def test_what_the_failing_answers_look_like(tmp_path: Path) -> None:
    found = {}
    for kind in ("refusal", "length", "invalid_json", "empty"):
        with bench(tmp_path / kind, {"line_failures": {kind: 1.0}}) as it:
            _, row = first_result(it, it.run(lines(1)))
            found[kind] = row["response"]["body"]["choices"][0]
    assert found["refusal"]["message"]["content"] is None and found["refusal"]["message"]["refusal"]
    assert found["length"]["finish_reason"] == "length"
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(found["length"]["message"]["content"])
    assert orjson.loads(found["invalid_json"]["message"]["content"]) == {"unexpected": True}
    assert found["empty"]["message"]["content"] == ""


def test_every_kind_is_tested() -> None:
    assert {case[0] for case in LINE_CASES} == set(LINE_KINDS) - {"resource_unavailable"}  # no line of a batch meets it


def test_failures_pass_unless_they_are_set_to_last(tmp_path: Path) -> None:
    with bench(tmp_path, {"line_failures": {"server": 1.0}, "poison": ["a0"]}) as it:
        assert it.run(lines(3)).output_file_id is None
        again = it.run(lines(3))
        assert again.request_counts and again.request_counts.completed == 2
        assert [row["custom_id"] for row in it.results(again.error_file_id)] == ["a0"]
        assert it.sandbox.ledger.attempt_counts() == {"a0": 2, "a1": 2, "a2": 2}
        it.fault(transient_failures=False, poison=[])
        assert it.run(lines(3)).output_file_id is None
        it.fault(transient_failures=True, line_failures={"content_policy": 1.0})
        assert it.run(lines(3)).output_file_id is None


def test_rates_add_up(tmp_path: Path) -> None:
    with bench(tmp_path, {"line_failures": {"server": 0.2, "rate_limit": 0.3}}) as it:
        batch = it.run(lines(1000))
        codes = Counter(row["response"]["status_code"] for row in it.results(batch.error_file_id))  # type: ignore[index]
        assert 150 < codes[500] < 250 and 250 < codes[429] < 350


def lost(call: Any) -> None:
    with pytest.raises(openai.APIConnectionError):
        call()


def test_a_lost_answer_has_its_effect(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        stored = it.upload(lines(2))
        operations = ("upload", "create", "cancel", "delete", "list", "retrieve", "content", "direct")
        it.fault(lose_answer=dict.fromkeys(operations, 1.0))
        lost(lambda: it.create_from(stored.id))
        lost(lambda: it.upload(lines(2)))
        lost(it.client.batches.list)
        it.fault(lose_answer={"cancel": 1, "delete": 1})
        (batch,) = it.client.batches.list().data
        assert len(it.client.files.list().data) == 2
        lost(lambda: it.client.batches.cancel(batch.id))
        lost(lambda: it.client.files.delete(stored.id))
        assert it.client.batches.retrieve(batch.id).status == "cancelling"
        assert len(it.client.files.list().data) == 1


def test_refused_and_reset_calls_have_none(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        stored = it.upload(lines(2))
        it.fault(refuse_before={"create": 1.0}, reset_before={"upload": 1.0})
        with pytest.raises(openai.InternalServerError) as caught:
            it.create_from(stored.id)
        assert caught.value.status_code == 503
        lost(lambda: it.upload(lines(2)))
        it.fault(refuse_before={}, reset_before={})
        assert not it.client.batches.list().data and len(it.client.files.list().data) == 1


def test_lost_answers_are_time_outs_or_closed_connections(tmp_path: Path) -> None:
    with bench(tmp_path, {"lose_answer": {"list": 0.5}}) as it:
        seen: Counter[str] = Counter()
        for _ in range(100):
            try:
                it.raw("GET", "/v1/batches")
                seen["fine"] += 1
            except httpx2.TransportError as error:
                seen[type(error).__name__] += 1
        assert set(seen) == {"fine", "ReadTimeout", "RemoteProtocolError"} and 30 < seen["fine"] < 70


def test_a_late_creation_needs_its_file(tmp_path: Path) -> None:
    with bench(tmp_path, {"lose_answer": {"create": 1.0}, "late_create_s": 100}) as it:
        kept, gone = it.upload(lines(1)), it.upload(lines(1))
        for stored in (kept, gone):
            lost(lambda stored=stored: it.create_from(stored.id))
        it.now += 99
        it.client.files.delete(gone.id)
        assert not it.client.batches.list().data
        it.now += 1
        (batch,) = it.client.batches.list().data
        assert batch.input_file_id == kept.id and batch.created_at == int(START) + 100


def test_a_slow_answer_meets_the_client_s_patience(tmp_path: Path) -> None:
    with bench(tmp_path, {"slow_s": 30}) as it:
        stored = it.upload(lines(1))
        with pytest.raises(openai.APITimeoutError):
            it.client.with_options(timeout=10).files.delete(stored.id)
        assert not it.client.files.list().data


def test_a_download_that_breaks_off(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        batch = it.run(lines(10))
        whole = it.content(batch.output_file_id)
        it.fault(truncate_download=1.0)
        with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
            it.content(batch.output_file_id)
        path = f"http://sandbox/v1/files/{batch.output_file_id}/content"
        got = b""
        with it.http.stream("GET", path, headers={"authorization": "Bearer k"}) as answer:
            assert int(answer.headers["content-length"]) == len(whole)
            with pytest.raises(httpx2.RemoteProtocolError, match="without sending complete"):
                for chunk in answer.iter_raw():
                    got += chunk
        assert got == whole[: len(whole) // 2]


def test_lists_lag(tmp_path: Path) -> None:
    with bench(tmp_path, {"list_lag_s": 60}) as it:
        batch = it.create(lines(1))
        assert it.client.batches.retrieve(batch.id).id == batch.id
        assert not it.client.batches.list().data
        it.now += 60
        assert len(it.client.batches.list().data) == 1


def test_files_are_not_ready_at_once(tmp_path: Path) -> None:
    with bench(tmp_path, {"file_not_ready_s": 60}) as it:
        stored = it.upload(lines(1))
        with pytest.raises(openai.NotFoundError):
            it.client.files.retrieve(stored.id)
        with pytest.raises(openai.BadRequestError, match="Cannot find file"):
            it.create_from(stored.id)
        it.now += 60
        batch = it.later(it.create_from(stored.id), 1020)
        assert batch.status == "completed"
        with pytest.raises(openai.NotFoundError):
            it.content(batch.output_file_id)
        it.now += 60
        assert it.content(batch.output_file_id)


def test_batches_can_lose_their_metadata(tmp_path: Path) -> None:
    with bench(tmp_path, {"drop_metadata": True}) as it:
        assert it.create(lines(1), {"a": "b"}).metadata is None
        it.fault(drop_metadata=False)
        assert it.client.batches.list().data[0].metadata == {"a": "b"}


def test_output_files_hold_odd_lines(tmp_path: Path) -> None:
    with bench(tmp_path, {"corrupt_output": 0.5}) as it:
        batch = it.run(lines(200))
        assert batch.request_counts and batch.request_counts.completed == 200
        seen: Counter[str] = Counter()
        for raw in it.content(batch.output_file_id).split(b"\n")[:-1]:
            try:
                seen[orjson.loads(raw)["custom_id"]] += 1
            except orjson.JSONDecodeError:
                seen["blank" if not raw else "utf-8" if b"\xff" in raw else "json"] += 1
        assert {f"a{number}" for number in range(200)} <= set(seen)
        assert seen["blank"] and seen["utf-8"] and seen["json"]
        assert any(name.startswith("nobody-") for name in seen)
        assert any(seen[f"a{number}"] == 2 for number in range(200))


def test_batches_fail_by_their_ordinal(tmp_path: Path) -> None:
    codes = {"1": "token_limit_exceeded", "2": "billing_hard_limit_reached", "3": "something_new"}
    with bench(tmp_path, {"fail_batches": codes}) as it:
        for code, text in zip(codes.values(), ("Limit: 40,000,000 enqueued", "Billing hard limit", "new"), strict=True):
            batch = it.run(lines(1))
            assert batch.status == "failed" and batch.errors and batch.errors.data
            error = batch.errors.data[0]
            assert error.code == code and text in str(error.message) and error.line is None
        assert it.run(lines(1)).status == "completed"


def test_the_quota_can_be_gone_for_a_while(tmp_path: Path) -> None:
    with bench(tmp_path, {"quota_gone_between": [START + 10, START + 510]}) as it:
        batch = it.run(lines(10))
        codes = {row["response"]["body"]["error"]["code"] for row in it.results(batch.error_file_id)}  # type: ignore[index]
        assert codes == {"insufficient_quota"}
        assert batch.request_counts and 3 < batch.request_counts.failed < 6


def test_an_outage_stops_calls_and_not_batches(tmp_path: Path) -> None:
    with bench(tmp_path, {"outage_between": [START + 100, START + 2000]}) as it:
        batch = it.create(lines(3))
        with pytest.raises(openai.InternalServerError):
            it.later(batch, 100)
        assert it.later(batch, 1900).completed_at == int(START) + 1020


def test_finalizing_can_take_long(tmp_path: Path) -> None:
    with bench(tmp_path, {"stuck_finalizing_s": 2 * DAY}) as it:
        batch = it.create(lines(3))
        assert it.later(batch, DAY + 7200).status == "finalizing"
        assert it.later(batch, DAY).status == "completed"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lose_answers": {}}, "unknown name lose_answers; valid: corrupt_output, cut_output, drop_metadata"),
        ({"lose_answer": {"uplod": 0.1}}, "unknown name 'uplod' in lose_answer; valid: upload, create"),
        ({"line_failures": {"bang": 0.1}}, "valid: rate_limit"),
        ({"line_failures": {"server": 2}}, "share between 0 and 1"),
        ({"line_failures": 1}, "must be an object"),
        ({"slow_s": "x"}, "must be a number"),
        ({"poison": "x"}, "must be a list"),
        ({"poison": [1]}, "must be text"),
        ({"expire_batches": [0.5]}, "must be a whole number"),
        ({"drop_metadata": 1}, "must be true or false"),
        ({"fail_batches": {"x": "y"}}, "ordinals"),
        ({"outage_between": [1]}, "must be two numbers"),
        ({"cut_output": {"nowhere": 1}}, "valid: in_last_line, in_line, at_line"),
        ({"lone_surrogates": 2}, "share between 0 and 1"),
    ],
)
def test_wrong_faults_are_refused_with_the_valid_names(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        apply_changes(Faults(), changes)
    with bench(tmp_path) as it:
        answer = it.raw("POST", "/_sandbox/faults", json=changes)
        assert answer.status_code == 400 and words in answer.json()["error"]["message"]
        assert it.sandbox.faults == Faults()


def test_settings_are_merged_like_faults() -> None:
    found = apply_changes(SandboxSettings(), {"faults": {"slow_s": 2}, "tier": 1, "api_key": "k", "rpd": None})
    assert (found.faults.slow_s, found.tier, found.api_key, found.rpd) == (2, 1, "k", None)
    with pytest.raises(SettingError, match="valid: accept_missing_input, admin_key, api_key"):
        apply_changes(SandboxSettings(), {"teir": 1})


def test_the_admin_routes(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        assert it.http.get("http://sandbox/_sandbox/health").json()["status"] == "ok"
        assert it.raw("POST", "/_sandbox/faults", json={"list_lag_s": 5}).json()["list_lag_s"] == 5
        assert it.raw("GET", "/_sandbox/faults").json()["list_lag_s"] == 5
        limits = it.raw("POST", "/_sandbox/limits", json={"enqueued_tokens": 9, "phantom_tokens": 3}).json()
        assert limits["enqueued_tokens"] == 9 and it.sandbox.settings.phantom_tokens == 3
        assert it.raw("POST", "/_sandbox/limits", json={"seed": 1}).status_code == 400
        assert it.raw("POST", "/_sandbox/limits", json={"cache_writes": 1, "reasoning_tokens": 9}).status_code == 200
        assert it.raw("POST", "/_sandbox/limits", json={"cache_writes": 1.1}).status_code == 400
        assert it.raw("POST", "/_sandbox/limits", json={"reasoning_tokens": -1}).status_code == 400
        it.sandbox.update_settings({"enqueued_tokens": None})
        batch, other = it.create(lines(3)), it.create(lines(3))
        assert it.raw("POST", f"/_sandbox/cancel/{other.id}").json()["status"] == "cancelling"
        assert it.raw("POST", "/_sandbox/advance", json={"seconds": 2000}).json()["now"] == START + 2000
        assert it.raw("POST", "/_sandbox/advance", json={"seconds": -1}).status_code == 400
        first, second = it.raw("GET", "/_sandbox/batches").json()["batches"]
        assert (first["id"], first["status"], first["done"], first["ordinal"]) == (batch.id, "completed", 3, 1)
        assert second["status"] == "cancelled"
        ledger = it.raw("GET", "/_sandbox/ledger").json()
        assert ledger["usd"] > 0 and ledger["totals"]["tokens_written"] > 0
        assert ledger["totals"]["executions"] == 3 and len(ledger["finished"]) == 2 and "executions" not in ledger
        full = it.raw("GET", "/_sandbox/ledger?full=1").json()
        assert full["executions"] == full["usable"] == {"a0": 1, "a1": 1, "a2": 1}
        assert it.raw("GET", "/_sandbox/fun").status_code == 404
        assert it.raw("POST", "/_sandbox/cancel/batch_x").status_code == 404
