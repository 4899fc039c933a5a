"""What the sandbox says: texts from the facts of the request, valid for the request's schema, counted tokens."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.catalog.prices import resolve_prices
from batcher.core.model import TokenUsage
from batcher.sandbox import SandboxSettings, apply_changes
from batcher.sandbox.answers.answers import BilledTokens, build_answer
from batcher.sandbox.answers.filling import plan_for_schema
from batcher.sandbox.answers.models import PRICES, bill_usd
from batcher.sandbox.answers.requests import parse_model_request
from batcher.sandbox.answers.text import Facts, build_placeholder_text, parse_message_facts, truncate_at_word
from tests.support.sandbox_kit import CHAT, PICASSO, RESPONSES, SCHEMA, bench, chat_body, line, response_body

IDENT = "0" * 32


def said(body: dict[str, Any], fault: str = "") -> dict[str, Any]:
    return build_answer(parse_model_request(CHAT, body), body, IDENT, 0, fault).body


def content(body: dict[str, Any], fault: str = "") -> str:
    return str(said(body, fault)["choices"][0]["message"]["content"])


def test_the_text_says_what_the_request_says() -> None:
    plain = chat_body(response_format=None)
    text = (
        "Sandbox text on Pablo Picasso: nationality Spanish; born 1881; died 1973. It stands in for a real answer, and "
        "says only what the request said."
    )
    assert content(plain) == text
    assert orjson.loads(content(chat_body())) == {
        "bio": text,
        "confidence": orjson.loads(content(chat_body()))["confidence"],
    }
    assert orjson.loads(content(chat_body(response_format={"type": "json_object"}))) == {"text": text}


def test_messages_of_other_shapes_are_read() -> None:
    parts = [{"type": "text", "text": "Hello Joan Miró"}, {"type": "image_url"}, 7]
    body = chat_body(messages=[{"role": "user", "content": parts}, {"role": "assistant", "content": "x"}])
    assert "Hello Joan Miró" in content(body)
    assert "an empty message" in content(chat_body(messages=[{"role": "system", "content": "x"}]))
    chat = parse_model_request(RESPONSES, {"model": "m", "input": [{"role": "user", "content": parts}]})
    assert chat.user_text == "Hello Joan Miró" and chat.messages == 1 and chat.content_bytes == 16


@pytest.mark.parametrize("bullet", ["", "- ", "* ", "\u2022 ", "  -  "])
def test_facts_may_stand_in_a_list(bullet: str) -> None:
    facts = parse_message_facts(
        f"Artist: Hilma\n\nFacts:\n{bullet}born: 1862\n{bullet}known for: paintings\n{bullet}and no more"
    )
    assert (facts.name, facts.pairs) == ("Hilma", (("born", "1862"), ("known for", "paintings")))


def test_a_text_is_as_long_as_a_sentence_or_two_unless_there_is_no_room() -> None:
    facts = parse_message_facts("Artist: Hilma\n\nFacts:\n- nothing is known but the name")
    text = build_placeholder_text(facts)
    assert text == build_placeholder_text(facts)
    assert text.startswith("Sandbox text on Hilma. ")
    assert len(text) >= 80
    assert build_placeholder_text(facts, most=79) == "Sandbox text on Hilma."


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+", text))


@given(st.text(max_size=300), st.integers(0, 300), st.integers(0, 300))
def test_a_text_keeps_to_its_length_and_to_the_numbers_of_the_message(message: str, least: int, room: int) -> None:
    facts = parse_message_facts(message)
    text = build_placeholder_text(facts, least, least + room)
    assert least <= len(text) <= least + room
    assert facts.name in build_placeholder_text(facts)
    assert all(number in message for number in numbers(build_placeholder_text(facts)))


def test_cutting_leaves_whole_numbers() -> None:
    assert truncate_at_word("born 1881 in Malaga", 8) == "born"
    assert truncate_at_word("born 1881 in Malaga", 9) == "born 1881"
    assert truncate_at_word("x1881", 3) == "x"
    text = build_placeholder_text(
        parse_message_facts("Artist: A\n" + "\n".join(f"key: {year}" for year in range(1900, 1950))), 0, 60
    )
    assert all(len(number) == 4 for number in numbers(text))


PROPERTY: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "string", "minLength": 500},
    {"type": "string", "maxLength": 12},
    {"type": ["string", "null"], "enum": ["a", "b"]},
    {"type": "boolean"},
    {"type": "integer", "minimum": 1, "maximum": 5},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "array", "items": {"type": "string"}, "minItems": 3, "maxItems": 4, "uniqueItems": True},
    {"type": "array", "items": {"enum": ["x", "y", "z"]}, "minItems": 2, "uniqueItems": True},
    {"type": "array", "items": {"type": "integer"}, "maxItems": 0},
    {"type": "number", "minimum": 0.4, "multipleOf": 0.25},
    {"type": "integer", "exclusiveMinimum": 3, "multipleOf": 7},
    {"type": "string", "format": "date"},
    {"type": "string", "pattern": "^[A-Z]{3}-[0-9]+$"},
    {"const": 4},
    {"anyOf": [{"type": "null"}, {"type": "string"}]},
    {"allOf": [{"$ref": "#/$defs/part"}], "description": "a part"},
    {"$ref": "#/$defs/tree"},
    {"type": "null"},
    {"properties": {"x": {}}},
]
DEFS = {
    "part": {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]},
    "tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#/$defs/tree"}}},
}


@given(st.lists(st.sampled_from(PROPERTY), max_size=6), st.sampled_from([PICASSO, "", "no facts", "Name: X\na: 0.5"]))
def test_every_schema_is_followed(parts: list[dict[str, Any]], message: str) -> None:
    names = ("name", "bio", "born", "a", "nationality", "score")
    properties = dict(zip(names, parts, strict=False))
    schema = {"type": "object", "properties": properties, "required": list(properties), "$defs": DEFS}
    value = plan_for_schema(schema)(parse_message_facts(message))
    jsonschema.validate(value, schema)
    assert orjson.loads(orjson.dumps(value)) == value


def test_properties_named_like_a_fact_take_it() -> None:
    fields = {"name": {"type": "string"}, "nationality": {"type": "string"}, "born": {"type": "integer"}}
    value = plan_for_schema({"type": "object", "properties": fields})(parse_message_facts(PICASSO))
    assert value == {"name": "Pablo Picasso", "nationality": "Spanish", "born": 1881}
    assert parse_message_facts(PICASSO) == Facts(
        "Pablo Picasso", (("nationality", "Spanish"), ("born", "1881"), ("died", "1973")), PICASSO
    )


def test_tokens_are_near_the_estimate_but_not_the_same() -> None:
    body = chat_body(PICASSO + "\nnotes: " + "é" * 500)
    ask = parse_model_request(CHAT, body)
    assert ask.estimated_tokens == -(
        -(len(("Write a short bio." + PICASSO + "\nnotes: " + "é" * 500).encode()) + ask.schema_bytes) // 4
    )
    assert 0.8 < ask.prompt_tokens / ask.estimated_tokens < 1.2 and ask.prompt_tokens != ask.estimated_tokens
    usage = said(body)["usage"]
    assert usage["prompt_tokens"] == ask.prompt_tokens
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_long_prompts_are_cached_in_part() -> None:
    bodies = [
        chat_body(
            f"Artist: {n}", messages=[{"role": "system", "content": "x" * 9000}, {"role": "user", "content": f"{n}"}]
        )
        for n in range(20)
    ]
    cached = {said(body)["usage"]["prompt_tokens_details"]["cached_tokens"] for body in bodies}
    assert 0 in cached and len(cached) == 2 and max(cached) % 128 == 0


def test_an_answer_ends_at_the_request_s_own_limit() -> None:
    found = said(chat_body(max_completion_tokens=5))
    assert found["choices"][0]["finish_reason"] == "length" and found["usage"]["completion_tokens"] == 5
    body = response_body(max_output_tokens=5)
    response = build_answer(parse_model_request(RESPONSES, body), body, IDENT, 0)
    assert response.outcome == "length" and response.body["incomplete_details"] == {"reason": "max_output_tokens"}


def told_usage(endpoint: str, body: dict[str, Any], **settings: object) -> tuple[BilledTokens, dict[str, Any]]:
    changed = apply_changes(SandboxSettings(), settings)
    found = build_answer(parse_model_request(endpoint, body), body, IDENT, 0, settings=changed)
    return found.usage, found.body


def test_what_is_written_to_the_cache_is_the_input_that_was_not_read_from_it() -> None:
    usage, body = told_usage(CHAT, chat_body(), cache_writes=1)
    assert usage.written == usage.prompt > 0
    assert body["usage"]["prompt_tokens_details"]["cache_write_tokens"] == usage.written
    usage, body = told_usage(RESPONSES, response_body(), cache_writes=1)
    assert body["usage"]["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": usage.prompt}
    assert told_usage(CHAT, chat_body())[0].written == 0
    long = [{"role": "system", "content": "x" * 9000}]
    for n in range(20):
        request = chat_body(messages=[*long, {"role": "user", "content": f"{n}"}])
        usage, _ = told_usage(CHAT, request, cache_writes=1)
        assert usage.cached + usage.written == usage.prompt


@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
def test_what_is_thought_is_a_part_of_the_output_and_of_its_maximum(endpoint: str) -> None:
    body, most = (chat_body, "max_completion_tokens") if endpoint == CHAT else (response_body, "max_output_tokens")
    plain, _ = told_usage(endpoint, body())
    usage, found = told_usage(endpoint, body(), reasoning_tokens=400)
    assert 200 <= usage.reasoning <= 600 and usage.completion == plain.completion + usage.reasoning
    details = found["usage"]["completion_tokens_details" if endpoint == CHAT else "output_tokens_details"]
    assert details["reasoning_tokens"] == usage.reasoning
    usage, found = told_usage(endpoint, {**body(), most: 150}, reasoning_tokens=400)
    assert usage.reasoning == usage.completion == 150
    if endpoint == CHAT:
        assert found["choices"][0]["finish_reason"] == "length" and found["choices"][0]["message"]["content"] == ""
    else:
        assert found["status"] == "incomplete" and [item["type"] for item in found["output"]] == ["reasoning"]


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [(CHAT, chat_body(reasoning_effort="none")), (RESPONSES, response_body(reasoning={"effort": "none"}))],
)
def test_a_model_that_shall_not_think_does_not(endpoint: str, body: dict[str, Any]) -> None:
    assert told_usage(endpoint, body, reasoning_tokens=400)[0].reasoning == 0


@pytest.mark.parametrize("fault", ["refusal", "length", "invalid_json", "empty"])
def test_no_answer_is_billed_beyond_its_maximum(fault: str) -> None:
    body = chat_body(max_completion_tokens=9)
    assert build_answer(parse_model_request(CHAT, body), body, IDENT, 0, fault).usage.completion <= 9


def test_the_ledger_bills_as_the_price_list_says() -> None:
    for model in PRICES:
        prices = resolve_prices(model)
        assert prices is not None
        for usage in (TokenUsage(1_000, 200, 500, 300), TokenUsage(400_000, 100_000, 50_000, 300)):
            tokens = (usage.input, usage.cached, usage.written, usage.output)
            assert bill_usd(model, tokens, True) == pytest.approx(prices.batch.usage_cost(usage))
            assert bill_usd(model, tokens, False) == pytest.approx(prices.standard.usage_cost(usage))
    assert bill_usd("unheard-of", (1, 0, 0, 1), True) is None


@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
def test_batches_of_both_endpoints_are_answered(tmp_path: Path, endpoint: str) -> None:
    body = chat_body() if endpoint == CHAT else response_body()
    with bench(tmp_path) as it:
        (row,) = it.results(it.run([line("a", body, endpoint)], endpoint).output_file_id)
        found: dict[str, Any] = row["response"]["body"]  # type: ignore[index]
        text = (
            found["choices"][0]["message"]["content"] if endpoint == CHAT else found["output"][0]["content"][0]["text"]
        )
        jsonschema.validate(orjson.loads(text), SCHEMA)
        assert row["response"]["status_code"] == 200 and row["error"] is None  # type: ignore[index]
        assert re.fullmatch("batch_req_[0-9a-f]{32}", str(row["id"]))
        assert re.fullmatch("[0-9a-f]{32}", row["response"]["request_id"])  # type: ignore[index]


@pytest.mark.parametrize(
    ("wrong", "code", "param"),
    [
        ({"max_completion_tokens": 0}, "integer_below_min_value", "max_completion_tokens"),
        ({"messages": [{"role": "user", "content": "a"}, {}]}, "missing_required_parameter", "messages[1].role"),
        ({"messages": ["a"]}, "invalid_type", "messages[0]"),
    ],
)
def test_what_validation_accepts_is_a_400_of_the_line(
    tmp_path: Path, wrong: dict[str, Any], code: str, param: str
) -> None:
    with bench(tmp_path) as it:
        body = chat_body(**wrong)
        (row,) = it.results(it.run([line("a", body)]).error_file_id)
        response: Any = row["response"]
        assert response["status_code"] == 400
        assert (response["body"]["error"]["code"], response["body"]["error"]["param"]) == (code, param)
        assert it.raw("POST", CHAT, json=body).json() == response["body"]
        assert not it.sandbox.ledger.execution_counts()
