"""The synchronous endpoints: answers, limits for real, headers, stored completions."""

from pathlib import Path
from typing import Any

import openai
import pytest

from batcher.sandbox.api.direct import format_go_duration
from tests.support.sandbox_kit import CHAT, MODEL, RESPONSES, bench, chat_body, response_body


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.236, "236ms"),
        (8.64, "8.64s"),
        (39.801, "39.801s"),
        (64.296, "1m4.296s"),
        (360, "6m0s"),
        (7200, "2h0m0s"),
    ],
)
def test_durations_are_written_as_go_does(seconds: float, text: str) -> None:
    assert format_go_duration(seconds) == text


def test_both_endpoints_answer_and_are_billed(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        chat = it.client.chat.completions.create(**chat_body(metadata={"custom_id": "a7"}))
        assert "Pablo Picasso" in chat.choices[0].message.content and chat.model == f"{MODEL}-sandbox"
        response = it.client.responses.create(**response_body())
        assert "Pablo Picasso" in response.output_text
        counts = it.sandbox.ledger.execution_counts()
        assert counts["a7"] == 1 and sum(counts.values()) == 2
        assert (tmp_path / "ledger.jsonl").read_bytes().count(b'"batch_id":null') == 2


def test_flex_processing_is_half_the_price_and_refused_without_charge(tmp_path: Path) -> None:
    with bench(tmp_path, {"line_failures": {"resource_unavailable": 1.0}}) as it:
        flex = chat_body(service_tier="flex")
        with pytest.raises(openai.RateLimitError) as caught:
            it.client.chat.completions.create(**flex)
        assert caught.value.code == "resource_unavailable" and caught.value.status_code == 429
        assert it.sandbox.ledger.billed_usd == 0 and not it.sandbox.ledger.execution_counts()
        assert it.client.chat.completions.create(**flex).service_tier == "flex"
        half = it.sandbox.ledger.billed_usd
        assert it.client.chat.completions.create(**chat_body(service_tier="auto")).service_tier == "default"
        assert half and it.sandbox.ledger.billed_usd == pytest.approx(3 * half)
        assert list(it.sandbox.ledger.execution_counts().values()) == [2]  # one line, whatever its tier
        assert it.client.responses.create(**response_body()).service_tier == "default"
        it.fault(transient_failures=False)
        assert it.client.chat.completions.create(**chat_body()).service_tier == "default"  # only flex is refused


def test_requests_a_minute_are_limited(tmp_path: Path) -> None:
    with bench(tmp_path, rpm=60, organization="org-X") as it:
        first = it.raw("POST", CHAT, json=chat_body())
        assert first.headers["x-ratelimit-limit-requests"] == "60"
        assert first.headers["x-ratelimit-remaining-requests"] == "59"
        assert first.headers["x-ratelimit-reset-requests"] == "1s"
        assert int(first.headers["x-ratelimit-remaining-tokens"]) < 4_000_000
        for _ in range(59):
            it.raw("POST", CHAT, json=chat_body())
        with pytest.raises(openai.RateLimitError) as caught:
            it.client.chat.completions.create(**chat_body())
        error: Any = caught.value
        assert error.code == "rate_limit_exceeded" and error.type == "requests"
        assert (
            f"Rate limit reached for {MODEL} in organization org-X on requests per min (RPM): Limit 60, Used 60, "
            "Requested 1. Please try again in 1s." in error.message
        )
        assert float(error.response.headers["retry-after"]) >= 1
        it.now += 1
        assert it.raw("POST", CHAT, json=chat_body()).status_code == 200
        assert sum(it.sandbox.ledger.execution_counts().values()) == 61  # a refused one is no execution


def test_tokens_a_minute_and_requests_a_day_are_limited(tmp_path: Path) -> None:
    with bench(tmp_path, tpm=1500) as it:
        assert it.raw("POST", CHAT, json=chat_body()).status_code == 200
        it.raw("POST", CHAT, json=chat_body())
        refused = it.raw("POST", CHAT, json=chat_body())
        assert refused.status_code == 429 and refused.json()["error"]["type"] == "tokens"
        large = it.raw("POST", CHAT, json=chat_body(max_completion_tokens=5000)).json()["error"]["message"]
        assert large.startswith("Request too large for")
    with bench(tmp_path / "daily", rpd=2) as it:
        codes = [it.raw("POST", RESPONSES, json=response_body()) for _ in range(3)]
        assert [each.status_code for each in codes] == [200, 200, 429]
        assert codes[0].headers["x-ratelimit-limit-requests"] == "2"
        assert "requests per day (RPD)" in codes[2].json()["error"]["message"]


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        cases = [
            (chat_body(model="gpt-9"), 404, "model_not_found"),
            (chat_body(model=None), 400, "missing_required_parameter"),
            (chat_body(messages=None), 400, "missing_required_parameter"),
            (chat_body(stream=True), 400, "unsupported_value"),
            (chat_body(metadata={"a": 1}), 400, "invalid_type"),
        ]
        for body, status, code in cases:
            answer = it.raw("POST", CHAT, json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("rate_limit", 429),
        ("insufficient_quota", 429),
        ("server", 500),
        ("content_policy", 400),
        ("request_timeout", 500),
    ],
)
def test_line_faults_reach_the_direct_endpoints(tmp_path: Path, kind: str, status: int) -> None:
    with bench(tmp_path, {"line_failures": {kind: 1.0}}) as it:
        body = chat_body(metadata={"custom_id": "a"})
        assert it.raw("POST", CHAT, json=body).status_code == status
        assert not it.sandbox.ledger.execution_counts()
        assert it.raw("POST", CHAT, json=body).status_code == (400 if status == 400 else 200)


def test_stored_completions_are_found_by_metadata(tmp_path: Path) -> None:
    with bench(tmp_path, {"lose_answer": {"direct": 1.0}}) as it:
        for name in ("a", "b", "c"):
            body = chat_body(store=name != "c", metadata={"custom_id": name, "run": "r"})
            with pytest.raises(openai.APIConnectionError):
                it.client.chat.completions.create(**body)
        (found,) = it.client.chat.completions.list(metadata={"custom_id": "a"}).data
        assert found.choices[0].message.content and found.metadata == {"custom_id": "a", "run": "r"}
        assert len(it.client.chat.completions.list(metadata={"run": "r"}, limit=1, model=MODEL).data) == 1
        assert next(each.id for each in it.client.chat.completions.list(limit=1, order="asc")) == found.id
        assert not it.client.chat.completions.list(model="gpt-4o").data
        assert it.client.chat.completions.retrieve(found.id) == found
        with pytest.raises(openai.NotFoundError):
            it.client.chat.completions.retrieve("chatcmpl-x")
