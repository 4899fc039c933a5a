"""One view of what a request asks, for all endpoints that the sandbox serves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from batcher.sandbox.answers.caching import MARK, CacheUse, MarkedPrefix, find_marked_prefixes
from batcher.sandbox.answers.models import EMBEDDING_CONTEXT, FIXED_LENGTH, VECTOR_LENGTHS, takes_breakpoints
from batcher.sandbox.answers.text import extract_content_text, last_user_text
from batcher.sandbox.base.errors import (
    ApiError,
    invalid_type_error,
    invalid_value_error,
    missing_parameter_error,
    out_of_range_error,
    unsupported_parameter_error,
)

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
EMBEDDINGS = "/v1/embeddings"
MODERATIONS = "/v1/moderations"
TEXT_ENDPOINTS = (EMBEDDINGS, MODERATIONS)  # a request is one text, or several, and no prompt
_FORMATS = ("float", "base64")
_MOST_INPUTS = 2048  # of a request for vectors
ESTIMATE = 0.25  # enqueued tokens per byte: the sandbox's own guess, the real estimator is unpublished
_BYTES_PER_TOKEN = 4.3  # for the usage: a little unlike the estimate, as in life
_MESSAGE_OVERHEAD = 4
_MAX_TOKENS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_MOST_TOKENS = 1_000_000
_CACHE_MODES = ("implicit", "explicit")

Body = Mapping[str, object]


@dataclass(frozen=True)
class ModelRequest:
    """What is asked: byte counts are of UTF-8; `schema` is None for plain text, empty for any JSON object."""

    endpoint: str
    model: str
    messages: int
    content_bytes: int
    first_bytes: int  # of the first message: what a prompt cache can hold
    schema_bytes: int
    user_text: str
    schema: Mapping[str, object] | None
    max_tokens: int | None
    thinks: bool = True  # whether the model may think first: it does, unless the request says that it shall not
    cache_mode: str = "implicit"  # explicit: nothing is cached but what stands before a breakpoint
    cache_key: str = ""
    marked: tuple[MarkedPrefix, ...] = ()  # what stands before each breakpoint
    inputs: tuple[str, ...] = ()  # the texts of a request that is no prompt
    cache_use: CacheUse | None = None  # what it has read and written; None: it says nothing of the cache

    @property
    def estimated_tokens(self) -> int:
        """Tokens that count against the queue."""
        return math.ceil((self.content_bytes + self.schema_bytes) * ESTIMATE)

    @property
    def prompt_tokens(self) -> int:
        """Tokens that are billed as input."""
        counted = (self.content_bytes + self.schema_bytes) / _BYTES_PER_TOKEN
        return math.ceil(counted) + (_MESSAGE_OVERHEAD * self.messages + 3 if self.messages else 0)

    def count_prefix_tokens(self, prefix: MarkedPrefix) -> int:
        """Return the tokens of a marked prefix; the schema stands before the messages."""
        counted = (prefix.content_bytes + self.schema_bytes) / _BYTES_PER_TOKEN
        return min(math.ceil(counted) + _MESSAGE_OVERHEAD * prefix.messages, self.prompt_tokens)


def parse_model_request(endpoint: str, body: Body) -> ModelRequest:
    """Return the view of a body that was validated before."""
    if endpoint in TEXT_ENDPOINTS:
        return _parse_text_request(endpoint, body)
    chat = endpoint == CHAT
    messages = _read_chat_messages(body) if chat else _read_response_messages(body)
    sizes = [_message_bytes(message) for message in messages]
    schema = _requested_schema(
        body.get("response_format") if chat else _as_mapping(body.get("text")).get("format"), chat
    )
    return ModelRequest(
        endpoint=endpoint,
        model=str(body.get("model")),
        messages=len(messages),
        content_bytes=sum(sizes),
        first_bytes=sizes[0] if sizes else 0,
        schema_bytes=len(orjson.dumps(schema)) if schema else 0,
        user_text=last_user_text(messages),
        schema=schema,
        max_tokens=_requested_max_tokens(body),
        thinks="none" not in (body.get("reasoning_effort"), _as_mapping(body.get("reasoning")).get("effort")),
        cache_mode=str(_as_mapping(body.get("prompt_cache_options")).get("mode") or "implicit"),
        cache_key=str(body.get("prompt_cache_key") or ""),
        marked=find_marked_prefixes(messages, [body.get("tools"), schema]),
    )


def _parse_text_request(endpoint: str, body: Body) -> ModelRequest:
    inputs = tuple(map(_read_input_text, _list_inputs(body)))
    return ModelRequest(
        endpoint=endpoint,
        model=str(body.get("model")),
        messages=0,
        content_bytes=sum(len(text.encode("utf-8", "surrogatepass")) for text in inputs),
        first_bytes=0,
        schema_bytes=0,
        user_text="\n".join(inputs),
        schema=None,
        max_tokens=0,
        thinks=False,
        inputs=inputs,
    )


def _list_inputs(body: Body) -> list[object]:
    """Return the inputs of a request: a text, tokens, or a list of several of either."""
    given = body.get("input")
    if isinstance(given, list) and not all(isinstance(each, int) for each in given):
        return given
    return [given]


def _read_input_text(value: object) -> str:
    """Return an input as text: a part of a request to moderate by what it says, tokens by their numbers."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return extract_content_text([value])
    return " ".join(map(str, value)) if isinstance(value, list) else ""


def count_inputs(endpoint: str, body: Body) -> int:
    """Return how many vectors a line asks for."""
    return len(_list_inputs(body)) if endpoint == EMBEDDINGS else 0


def _find_vector_error(body: Body) -> ApiError | None:
    """Return the 400 of a request for vectors: for a parameter that the model does not take, or a text too long."""
    wanted, model = body.get("encoding_format", "float"), str(body.get("model"))
    if wanted not in _FORMATS:
        return invalid_value_error("encoding_format", wanted, _FORMATS)
    dimensions, most = body.get("dimensions"), VECTOR_LENGTHS.get(model, _MOST_TOKENS)
    if dimensions is not None and model in FIXED_LENGTH:
        return ApiError(400, "This model does not support specifying dimensions.")
    if dimensions is not None and not (isinstance(dimensions, int) and 1 <= dimensions <= most):
        return out_of_range_error("dimensions", dimensions if isinstance(dimensions, int) else 0, 1, most)
    inputs = _list_inputs(body)
    if len(inputs) > _MOST_INPUTS or "" in inputs:
        return ApiError(400, "'$.input' is invalid. Please check the API reference.", param="input")
    tokens = max(math.ceil(len(_read_input_text(each).encode()) / _BYTES_PER_TOKEN) for each in inputs)
    if tokens > EMBEDDING_CONTEXT:
        return ApiError(
            400,
            f"This model's maximum context length is {EMBEDDING_CONTEXT} tokens, however you requested {tokens} tokens "
            f"({tokens} in your prompt; 0 for the completion). Please reduce your prompt; or completion length.",
        )
    return None


def _message_bytes(message: object) -> int:
    if not isinstance(message, Mapping):
        return 0
    text = extract_content_text(message.get("content"))
    return len(text) if text.isascii() else len(text.encode())


def _as_mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _read_chat_messages(body: Body) -> list[object]:
    messages = body.get("messages")
    return messages if isinstance(messages, list) else []


def _read_response_messages(body: Body) -> list[object]:
    given = body.get("input")
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else list(given or [])  # type: ignore[call-overload]
    if isinstance(body.get("instructions"), str):
        messages.insert(0, {"role": "system", "content": body["instructions"]})
    return messages


def _requested_schema(wanted: object, chat: bool) -> Mapping[str, object] | None:
    wanted = _as_mapping(wanted)
    kind = wanted.get("type")
    if kind == "json_object":
        return {}
    if kind != "json_schema":
        return None
    holder = _as_mapping(wanted.get("json_schema")) if chat else wanted
    return _as_mapping(holder.get("schema"))


def _requested_max_tokens(body: Body) -> int | None:
    found = next((body[name] for name in _MAX_TOKENS if body.get(name) is not None), None)
    return found if isinstance(found, int) else None


def find_value_error(body: Body, endpoint: str = CHAT) -> ApiError | None:
    """Return the 400 that a line or a direct call meets for what validation accepts: a value out of range, a message
    without a role."""
    if endpoint in TEXT_ENDPOINTS:
        return _find_vector_error(body) if endpoint == EMBEDDINGS else None
    for name in _MAX_TOKENS:
        value = body.get(name)
        if isinstance(value, int) and value < 1:
            return out_of_range_error(name, value, 1, _MOST_TOKENS)
    messages = body.get("messages")
    found = (_find_message_error(*each) for each in enumerate(messages if isinstance(messages, list) else ()))
    return next(filter(None, found), None) or _find_cache_error(body)


def _find_message_error(place: int, message: object) -> ApiError | None:
    name = f"messages[{place}]"
    if not isinstance(message, Mapping):
        return invalid_type_error(name, "an object", message)
    if message.get("role") is None:
        return missing_parameter_error(f"{name}.role")
    return None


def _find_cache_error(body: Body) -> ApiError | None:
    """Return the 400 of models that take no breakpoints, and of a mode that does not exist."""
    options = body.get("prompt_cache_options")
    messages = body.get("messages") or body.get("input")
    is_marked = isinstance(messages, list) and bool(find_marked_prefixes(messages, None))
    if options is None and not is_marked:
        return None
    if not takes_breakpoints(str(body.get("model"))):
        return unsupported_parameter_error("prompt_cache_options" if options is not None else MARK)
    mode = _as_mapping(options).get("mode", "implicit")
    return None if mode in _CACHE_MODES else invalid_value_error("prompt_cache_options.mode", mode, _CACHE_MODES)


def find_body_error(endpoint: str, body: Body) -> tuple[str, str, str] | None:
    """Return (code, message, param without "body.") of the first thing wrong in a body, or None."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        return ("invalid_request", "Model parameter is required.", "model")
    if body.get("stream"):
        return ("streaming_unsupported", "Chat Completions: Streaming is not supported in the Batch API.", "stream")
    if endpoint == CHAT and not (isinstance(body.get("messages"), list) and body["messages"]):
        return ("invalid_request", "Messages parameter is required.", "messages")
    if endpoint != CHAT and not (isinstance(body.get("input"), str | list) and body["input"]):
        return ("invalid_request", "Input parameter is required.", "input")
    return None
