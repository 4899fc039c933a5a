"""Bodies of the model's answers. What they say depends on the request alone; ids and times come from outside."""

import math
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace

import orjson

from batcher.sandbox.answers.caching import CacheUse, PromptCache
from batcher.sandbox.answers.filling import plan_for_schema
from batcher.sandbox.answers.models import answering_name
from batcher.sandbox.answers.numbers import build_numbers_body
from batcher.sandbox.answers.requests import CHAT, EMBEDDINGS, TEXT_ENDPOINTS, ModelRequest
from batcher.sandbox.answers.text import build_placeholder_text, parse_message_facts
from batcher.sandbox.base.chance import seeded_fraction, seeded_uniform
from batcher.sandbox.base.settings import DEFAULT_SETTINGS, SandboxSettings

_BYTES_PER_TOKEN = 4.3
_REFUSAL = "I'm sorry, but I can't help with that request."
_FINGERPRINT = "fp_sandbox"
_CACHE_BLOCK = 128  # a prompt cache holds blocks of 128 tokens, from 1,024 on
_CACHE_MIN = 1024


@dataclass(frozen=True)
class BilledTokens:
    """Billed tokens; `cached` and `written` are parts of `prompt`, `reasoning` is part of `completion`."""

    prompt: int
    completion: int
    cached: int
    written: int = 0
    reasoning: int = 0

    def __add__(self, other: "BilledTokens") -> "BilledTokens":
        """Return the sums."""
        return BilledTokens(*map(sum, zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class ModelAnswer:
    """A 200 answer; `outcome` is "ok" or the fault that it plays (refusal, length, invalid_json, empty)."""

    body: dict[str, object]
    usage: BilledTokens
    outcome: str


def build_answer(
    request: ModelRequest,
    body: Mapping[str, object],
    ident: str,
    created: int,
    fault: str = "",
    settings: SandboxSettings = DEFAULT_SETTINGS,
) -> ModelAnswer:
    """Return the answer to one request. `ident`: 32 hex digits; `fault`: a kind of LINE_KINDS that answers 200."""
    if request.endpoint in TEXT_ENDPOINTS:
        tokens = request.prompt_tokens if request.endpoint == EMBEDDINGS else 0  # a judgement reports none
        answer = build_numbers_body(request, body, ident, fault)
        return ModelAnswer(answer, BilledTokens(tokens, 0, 0), fault or "ok")
    thought = _draw_reasoning_tokens(request, ident, settings.reasoning_tokens)
    content, cut = _build_content(request, fault, thought)
    completion = thought + _count_tokens(_REFUSAL if fault == "refusal" else content)
    if request.max_tokens is not None:
        completion = min(completion, request.max_tokens)
    used = request.cache_use or _draw_cache_use(request, settings.cache_writes)
    usage = BilledTokens(request.prompt_tokens, completion, used.read, used.written, thought)
    outcome = fault or ("length" if cut else "ok")
    build = _build_chat_body if request.endpoint == CHAT else _build_response_body
    return ModelAnswer(build(request, body, _AnswerParts(ident, created, content, usage, outcome)), usage, outcome)


@dataclass(frozen=True)
class _AnswerParts:
    ident: str
    created: int
    content: str
    usage: BilledTokens
    outcome: str


def _draw_reasoning_tokens(request: ModelRequest, ident: str, mean: int) -> int:
    """Return the tokens that are thought before an answer: half to one and a half of the mean, within its maximum."""
    if not request.thinks:
        return 0
    thought = round(seeded_uniform((0.5, 1.5), 0, "reasoning", ident) * mean)
    return thought if request.max_tokens is None else min(thought, request.max_tokens)


def _build_content(request: ModelRequest, fault: str, thought: int) -> tuple[str, bool]:
    """Return the text, and whether it was cut at the request's own limit, of which `thought` tokens are gone."""
    if fault in ("empty", "refusal"):
        return "", False
    facts = parse_message_facts(request.user_text)
    if request.schema is None:
        content = build_placeholder_text(facts)
    elif request.schema:
        content = orjson.dumps(plan_for_schema(request.schema)(facts)).decode()
    else:
        content = orjson.dumps({"text": build_placeholder_text(facts)}).decode()
    if fault in _SPOILERS:
        content = _SPOILERS[fault](content)
    return _cut_to_tokens(content, None if request.max_tokens is None else request.max_tokens - thought)


_SPOILERS: Mapping[str, Callable[[str], str]] = {
    "length": lambda content: content[: len(content) // 2],
    "invalid_json": lambda _content: '{"unexpected": true}',
}


def _count_tokens(text: str) -> int:
    return math.ceil(len(text.encode()) / _BYTES_PER_TOKEN)


def _cut_to_tokens(content: str, most: int | None) -> tuple[str, bool]:
    if most is None or _count_tokens(content) <= most:
        return content, False
    return content.encode()[: int(most * _BYTES_PER_TOKEN)].decode("utf-8", "ignore"), True


def use_cache(request: ModelRequest, cache: PromptCache, now: float, cache_writes: float) -> ModelRequest:
    """Return a request with what it reads from the cache and writes to it, where it says anything of it.

    cache_writes: the share of the prompts of which the implicit breakpoint writes the rest.
    """
    if request.cache_mode == "implicit" and not request.marked:
        return request
    prefixes = [(request.count_prefix_tokens(prefix), prefix.digest) for prefix in request.marked]
    used = cache.use_prefixes(request.model, request.cache_key, prefixes, now)
    if request.cache_mode == "explicit" or seeded_fraction(0, "written", request.user_text) >= cache_writes:
        return replace(request, cache_use=used)
    return replace(request, cache_use=CacheUse(used.read, request.prompt_tokens - used.read))


def _draw_cache_use(request: ModelRequest, cache_writes: float) -> CacheUse:
    """Return what a request that says nothing of the cache may read and write: by its text, whatever came before it."""
    prompt = request.prompt_tokens
    prefix = int((request.first_bytes + request.schema_bytes) / _BYTES_PER_TOKEN) // _CACHE_BLOCK * _CACHE_BLOCK
    hit = prefix >= _CACHE_MIN and seeded_fraction(0, "cache", request.user_text) < 0.7
    cached = min(prefix, prompt) if hit else 0
    written = prompt - cached if seeded_fraction(0, "written", request.user_text) < cache_writes else 0
    return CacheUse(cached, written)


def _build_chat_body(request: ModelRequest, body: Mapping[str, object], parts: _AnswerParts) -> dict[str, object]:
    refused = parts.outcome == "refusal"
    message: dict[str, object] = {
        "role": "assistant",
        "content": None if refused else parts.content,
        "refusal": _REFUSAL if refused else None,
        "annotations": [],
    }
    finish = "length" if parts.outcome == "length" else "stop"
    found: dict[str, object] = {
        "id": f"chatcmpl-{parts.ident[:29]}",
        "object": "chat.completion",
        "created": parts.created,
        "model": answering_name(request.model),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": _chat_usage_json(parts.usage),
        "service_tier": "default",
        "system_fingerprint": _FINGERPRINT,
    }
    if body.get("metadata"):
        found["metadata"] = body["metadata"]
    return found


def _chat_usage_json(usage: BilledTokens) -> dict[str, object]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": usage.written,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _build_response_body(request: ModelRequest, body: Mapping[str, object], parts: _AnswerParts) -> dict[str, object]:
    cut = parts.outcome == "length"
    status = "incomplete" if cut else "completed"
    given = {name: default if body.get(name) is None else body[name] for name, default in _RESPONSE_DEFAULTS.items()}
    return {
        "id": f"resp_{parts.ident}",
        "object": "response",
        "created_at": parts.created,
        "completed_at": None if cut else parts.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "model": answering_name(request.model),
        "output": _build_output(parts, status),
        "service_tier": "default",
        "usage": response_usage_json(parts.usage),
        **given,
    }


_RESPONSE_DEFAULTS: Mapping[str, object] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": None,
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}


def _build_output(parts: _AnswerParts, status: str) -> list[dict[str, object]]:
    """Return the thoughts, where there were any, and the message, unless all was thought."""
    reasoning = parts.usage.reasoning
    thoughts: list[dict[str, object]] = [{"id": f"rs_{parts.ident}", "type": "reasoning", "summary": []}]
    message = [] if reasoning and reasoning == parts.usage.completion else [_build_output_message(parts, status)]
    return (thoughts if reasoning else []) + message


def _build_output_message(parts: _AnswerParts, status: str) -> dict[str, object]:
    content: dict[str, object]
    if parts.outcome == "refusal":
        content = {"type": "refusal", "refusal": _REFUSAL}
    else:
        content = {"type": "output_text", "text": parts.content, "annotations": [], "logprobs": []}
    return {"id": f"msg_{parts.ident}", "type": "message", "role": "assistant", "status": status, "content": [content]}


def response_usage_json(usage: BilledTokens) -> dict[str, object]:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.written},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }


def batch_usage_json(usage: BilledTokens) -> dict[str, object]:
    """Return the usage of a batch: that of a response, without the tokens written to the cache."""
    return {**response_usage_json(usage), "input_tokens_details": {"cached_tokens": usage.cached}}
