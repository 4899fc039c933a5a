"""The sandbox's prompt cache: what a request marks is written once and then read, by key, for half an hour."""

from typing import Any

import pytest

from batcher.sandbox.answers.answers import build_answer, use_cache
from batcher.sandbox.answers.caching import LEAST_TOKENS, LIFE_S, REQUESTS_A_MINUTE, PromptCache
from batcher.sandbox.answers.models import takes_breakpoints
from batcher.sandbox.answers.requests import CHAT, RESPONSES, find_value_error, parse_model_request
from tests.support.sandbox_kit import chat_body

IDENT = "0" * 32
LONG = "word " * 1_400
EXPLICIT = {"mode": "explicit"}


def body(text: str = "Bea", system: str = LONG, model: str = "gpt-6-luna", **more: object) -> dict[str, Any]:
    part = {"type": "text", "text": system, "prompt_cache_breakpoint": EXPLICIT}
    messages = [{"role": "system", "content": [part]}, {"role": "user", "content": text}]
    return chat_body() | {"model": model, "messages": messages, "prompt_cache_options": EXPLICIT, **more}


def ask(cache: PromptCache, asked: dict[str, Any], now: float = 0.0, endpoint: str = CHAT) -> tuple[int, int, int]:
    """Return the tokens of input, read and written."""
    request = use_cache(parse_model_request(endpoint, asked), cache, now, 1.0)
    usage = build_answer(request, asked, IDENT, int(now)).usage
    return usage.prompt, usage.cached, usage.written


def test_the_first_request_writes_the_prefix_and_the_next_reads_it() -> None:
    cache = PromptCache()
    prompt, read, written = ask(cache, body("Bea", prompt_cache_key="k"))
    assert read == 0 and LEAST_TOKENS < written < prompt
    assert ask(cache, body("Another, of another length", prompt_cache_key="k"))[1:] == (written, 0)
    for other in (
        body(prompt_cache_key="other"),
        body(prompt_cache_key="k", system=LONG + "!"),
        body(prompt_cache_key="k", model="gpt-6-sol"),
        body(prompt_cache_key="k", response_format={"type": "text"}),
    ):
        assert ask(cache, other)[1] == 0


def test_responses_are_cached_alike() -> None:
    cache = PromptCache()
    part = {"type": "input_text", "text": LONG, "prompt_cache_breakpoint": EXPLICIT}
    asked = {
        "model": "gpt-6-luna",
        "input": [{"role": "system", "content": [part]}, {"role": "user", "content": "Bea"}],
        "prompt_cache_options": EXPLICIT,
    }
    _, _, written = ask(cache, asked, endpoint=RESPONSES)
    assert ask(cache, asked, endpoint=RESPONSES)[1:] == (written, 0) != (0, 0)


def test_a_prefix_is_forgotten_half_an_hour_after_its_last_use() -> None:
    cache = PromptCache()
    written = ask(cache, body())[2]
    assert ask(cache, body(), LIFE_S)[1] == written
    assert ask(cache, body(), 2 * LIFE_S)[1] == written
    assert ask(cache, body(), 3 * LIFE_S + 1)[1:] == (0, written)


def test_a_short_prefix_and_a_request_without_a_breakpoint_are_not_cached() -> None:
    cache = PromptCache()
    plain = chat_body("Bea", prompt_cache_options=EXPLICIT)
    for _ in range(2):
        assert ask(cache, body(system="word " * 750))[1:] == (0, 0)
        assert ask(cache, plain)[1:] == (0, 0)


def test_beside_the_implicit_breakpoint_the_rest_is_written_each_time() -> None:
    cache = PromptCache()
    asked = body(prompt_cache_options={"mode": "implicit"})
    prompt, read, written = ask(cache, asked)
    assert (read, written) == (0, prompt)
    _, read, written = ask(cache, asked)
    assert read > LEAST_TOKENS and read + written == prompt


def test_what_was_read_is_not_written_again_with_a_longer_prefix() -> None:
    cache = PromptCache()
    first = ask(cache, body())[2]
    longer = body()
    longer["messages"][1]["content"] = [{"type": "text", "text": "word " * 500, "prompt_cache_breakpoint": EXPLICIT}]
    _, read, written = ask(cache, longer)
    assert read == first and 0 < written < first


def test_of_too_many_requests_a_minute_some_are_answered_where_nothing_is_cached() -> None:
    cache = PromptCache()
    hits = [ask(cache, body(str(n)), 1.0)[1] > 0 for n in range(2 * REQUESTS_A_MINUTE)]
    assert [n for n, hit in enumerate(hits) if not hit] == [0, REQUESTS_A_MINUTE]
    assert ask(cache, body(), 61.0)[1] > 0


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("gpt-6-luna", True),
        ("gpt-5.6", True),
        ("gpt-10", True),
        ("gpt-5.5", False),
        ("gpt-5-mini", False),
        ("o3", False),
    ],
)
def test_earlier_models_refuse_the_parameters(model: str, takes: bool) -> None:
    assert takes_breakpoints(model) is takes
    for asked in (body(model=model), body(model=model, prompt_cache_options=None)):
        error = find_value_error(asked)
        assert (error is None) is takes
        if error:
            assert (error.status, error.code) == (400, "unsupported_parameter")
    assert find_value_error(chat_body(model=model, prompt_cache_key="k")) is None


def test_a_mode_that_does_not_exist_is_refused() -> None:
    error = find_value_error(body(prompt_cache_options={"mode": "on"}))
    assert error is not None and error.param == "prompt_cache_options.mode"
