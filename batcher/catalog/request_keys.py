"""The keys of a request: which of them an endpoint takes, and which Batcher sets itself.

Source: openai/openai-openapi, commit f85dbe22 (2026-08-21): CreateChatCompletionRequest and CreateResponse; and its
CreateEmbeddingRequest and CreateModerationRequest as the client openai 3.57 has them.
"""

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType

from batcher.core.model import Endpoint, Parameters

_OF_BOTH = (
    "metadata model moderation parallel_tool_calls prompt_cache_key prompt_cache_options prompt_cache_retention "
    "safety_identifier service_tier store stream stream_options temperature tool_choice tools top_logprobs top_p user"
)
REQUEST_KEYS: Mapping[Endpoint, frozenset[str]] = MappingProxyType(
    {
        Endpoint.CHAT: frozenset(
            f"{_OF_BOTH} audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens "
            "max_tokens messages modalities n prediction presence_penalty reasoning_effort response_format seed stop "
            "verbosity web_search_options".split()
        ),
        Endpoint.RESPONSES: frozenset(
            f"{_OF_BOTH} background context_management conversation include input instructions max_output_tokens "
            "max_tool_calls previous_response_id prompt reasoning text truncation".split()
        ),
        Endpoint.EMBEDDINGS: frozenset({"dimensions", "encoding_format", "input", "model", "user"}),
        Endpoint.MODERATIONS: frozenset({"input", "model"}),
    }
)
"""The keys of each endpoint, those that Batcher sets included."""
TRANSLATED_KEYS = frozenset({"reasoning_effort", "verbosity"})
"""Keys of chat/completions that Batcher writes for responses too, which has them within `reasoning` and `text`."""
OWN_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "model": "[model] name sets it",
        "messages": "system.md and user.md are the messages",
        "input": "system.md and user.md are the messages",
        "instructions": "system.md has the instructions",
        "prompt": "system.md and user.md are the prompt",
        "max_completion_tokens": "[model] max_output_tokens sets it",
        "max_output_tokens": "[model] max_output_tokens sets it",
        "max_tokens": "[model] max_output_tokens sets it",
        "response_format": "the output model of job.py sets it",
        "text": "the output model of job.py sets its format, and verbosity is a key of its own",
        "n": "one answer a line is read",
        "stream": "a line is answered whole",
        "stream_options": "a line is answered whole",
        "background": "a line is answered at once",
        "conversation": "each line stands alone",
        "previous_response_id": "each line stands alone",
        "audio": "answers are read as text",
        "modalities": "answers are read as text",
    }
)
"""Keys that are no parameters, each with the reason."""
TEXT_KEYS: Mapping[str, str] = MappingProxyType({"model": OWN_KEYS["model"], "input": "user.md is the text"})
"""Those of a request that is one text."""
ENCODING_FORMATS = ("base64", "float")
MOST_DIMENSIONS = 100_000
"""The longest vector that may be asked for; no model is known to make one of a tenth of it."""


def find_parameter_fault(endpoint: Endpoint, parameters: Parameters) -> str:
    """Return what is wrong with the parameters of a request to this endpoint, as a sentence; "" where nothing is."""
    faults = (
        _find_key_fault(endpoint, key) or _find_value_fault(value) or _find_vector_fault(key, value)
        for key, value in parameters.items()
    )
    reasoning = parameters.get("reasoning")
    if "reasoning_effort" in parameters and isinstance(reasoning, Mapping) and "effort" in reasoning:
        return "reasoning_effort and reasoning.effort are the same; remove one of them"
    return next(filter(None, faults), "")


def _find_key_fault(endpoint: Endpoint, key: str) -> str:
    if not endpoint.takes_prompt:
        return _find_numbers_key_fault(endpoint, key)
    if key in OWN_KEYS:
        return f"{key} is no parameter, as {OWN_KEYS[key]}; remove it"
    known = REQUEST_KEYS[endpoint] | TRANSLATED_KEYS
    if key in known:
        return ""
    others = [other for other, keys in REQUEST_KEYS.items() if key in keys and other.takes_prompt]
    if others:
        return f'{endpoint} takes no {key}; remove it, or set endpoint = "{others[0]}"'
    near = _find_nearest(key, known - OWN_KEYS.keys())
    return f"{endpoint} takes no {key}; " + (f"the nearest is {near[0]}" if near else "remove it")


def _find_numbers_key_fault(endpoint: Endpoint, key: str) -> str:
    """Return what is wrong with a key of a request that is answered in numbers; "" where nothing is."""
    if key in TEXT_KEYS:
        return f"{key} is no parameter, as {TEXT_KEYS[key]}; remove it"
    parameters = sorted(REQUEST_KEYS[endpoint] - TEXT_KEYS.keys())
    if key in parameters:
        return ""
    near = _find_nearest(key, parameters)
    others = f"its parameters are {', '.join(parameters)}" if parameters else "nor any other parameter"
    return f"{endpoint} takes no {key}" + (f"; the nearest is {near[0]}" if near else f", {others}; remove it")


def _find_vector_fault(key: str, value: object) -> str:
    """Return what is wrong with a parameter of vectors, which would else be seen only in the answers."""
    if key == "encoding_format" and value not in ENCODING_FORMATS:
        return f"encoding_format is {' or '.join(ENCODING_FORMATS)}"
    if key == "dimensions" and (type(value) is not int or not 1 <= value <= MOST_DIMENSIONS):
        return f"dimensions is a whole number from 1 to {MOST_DIMENSIONS:,}"
    return ""


def _find_nearest(key: str, known: Iterable[str]) -> list[str]:
    """Return the known key that is spelled most like this one; empty where none is near."""
    return get_close_matches(key, known, n=1, cutoff=0.5)


def _find_value_fault(value: object) -> str:
    """Return what a value holds that a request, which is JSON, cannot carry."""
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return next(filter(None, map(_find_value_fault, parts)), "")
    is_json = isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
    return "" if is_json else f"{value} is no value of JSON; write it as a text or a number"
