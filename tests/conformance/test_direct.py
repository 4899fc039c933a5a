"""The synchronous calls of our service: made once, answered with headers; unsent and lost calls differ."""

import json

import httpx2
import openai
import pytest

from batcher.service.openai_service import OpenAIService
from batcher.service.service import CallRefused, CallUnknown, CallUnsent
from tests.support.api_kit import KEY, QUICK, Rig, answer, refusal, scripted

CHAT = "/v1/chat/completions"


def asked(**more: object) -> dict[str, object]:
    return {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Who was Vermeer?"}], **more}


def test_an_answer_comes_with_its_headers(rig: Rig) -> None:
    found = rig.service.request_completion(CHAT, asked())
    assert json.loads(found.body)["choices"][0]["message"]["content"]
    assert found.headers["x-ratelimit-limit-requests"] == "5000"
    assert all(name == name.lower() for name in found.headers)


def test_a_refusal_comes_with_its_headers_and_is_not_asked_again(rig: Rig) -> None:
    rig.sandbox.update_settings({"rpm": 1})
    rig.service.request_completion(CHAT, asked())
    with pytest.raises(CallRefused) as error:
        rig.service.request_completion(CHAT, asked())
    assert error.value.details.status == 429
    assert error.value.headers["x-ratelimit-remaining-requests"] == "0"
    assert error.value.wait_s and not rig.slept


def test_a_lost_answer_is_not_asked_for_again_and_may_be_paid(rig: Rig) -> None:
    rig.fault(lose_answer={"direct": 1.0})
    with pytest.raises(CallUnknown) as error:
        rig.service.request_completion(CHAT, asked())
    assert not isinstance(error.value, CallUnsent)
    assert sum(rig.sandbox.ledger.attempt_counts().values()) == 1


def test_what_no_connection_took_never_went_out() -> None:
    with httpx2.Client(trust_env=False) as http:
        client = openai.OpenAI(api_key=KEY, base_url="http://127.0.0.1:1/v1", http_client=http)
        with pytest.raises(CallUnsent):
            OpenAIService(client, QUICK, lambda _s: None, lambda: 0.0).request_completion(CHAT, asked())


def test_a_stored_answer_is_found_by_its_metadata_alone(rig: Rig) -> None:
    for number in ("1", "2"):
        rig.service.request_completion(CHAT, asked(store=True, metadata={"batcher_call": number}))
    first, second = (rig.service.find_stored_completion("gpt-6-luna", {"batcher_call": n}) for n in ("1", "2"))
    assert first and second and json.loads(first)["id"] != json.loads(second)["id"]
    assert json.loads(second)["metadata"] == {"batcher_call": "2"}
    assert rig.service.find_stored_completion("gpt-6-luna", {"batcher_call": "3"}) is None


def test_what_a_message_may_not_hold_is_replaced() -> None:
    """Replace a lone surrogate: JSON can carry one, and the database cannot store it."""
    body = b'{"error": {"message": "a \\ud800 b", "type": null, "param": null, "code": null}}'
    service, _ = scripted([answer(400, body, content_type="application/json")])
    with pytest.raises(CallRefused, match="a \ufffd b"):
        service.request_completion(CHAT, asked())


def test_a_refused_search_is_told() -> None:
    service, _ = scripted([answer(403, refusal("not you"))])
    with pytest.raises(CallRefused, match="not you"):
        service.find_stored_completion("gpt-6-luna", {"batcher_call": "1"})
