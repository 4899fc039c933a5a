"""What the tests of result lines share: bodies of both endpoints, lines around them, and what is read of one."""

from typing import Any

import orjson

from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, LineResult
from batcher.core.result_line import parse_result_line

CHAT, RESPONSES = Endpoint.CHAT, Endpoint.RESPONSES
EMBEDDINGS, MODERATIONS = Endpoint.EMBEDDINGS, Endpoint.MODERATIONS
PROMPTED = (CHAT, RESPONSES)
"""The endpoints whose answers are words."""


def chat_body(content: object = "A bio.", finish: object = "stop", **more: object) -> dict[str, Any]:
    """Return the body of a chat completion; more: other keys of the body."""
    message = {"role": "assistant", "content": content, "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_795_000_100,
        "model": "gpt-6-luna-2026-08-01",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": 24,
            "completion_tokens": 7,
            "total_tokens": 31,
            "prompt_tokens_details": {"cached_tokens": 16},
        },
        "service_tier": "default",
    } | more


def response_body(*parts: object, **more: object) -> dict[str, Any]:
    """Return the body of a response whose message has these parts, else one text; more: other keys of the body."""
    content = list(parts) or [{"type": "output_text", "text": "A bio.", "annotations": []}]
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_795_000_000,
        "completed_at": 1_795_000_100,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "gpt-6-luna-2026-08-01",
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "role": "assistant", "status": "completed", "content": content},
        ],
        "usage": {
            "input_tokens": 24,
            "input_tokens_details": {"cached_tokens": 16},
            "output_tokens": 7,
            "total_tokens": 31,
        },
    } | more


def line_of(body: object, status: object = 200, **more: object) -> bytes:
    """Return the result line of artist a1 with this body; more: other keys of the line."""
    response = {"status_code": status, "request_id": "97d81ac7", "body": body}
    return orjson.dumps({"id": "batch_req_1", "custom_id": "a1", "response": response, "error": None} | more) + b"\n"


def error_line(status: object, error: object) -> bytes:
    """Return a result line whose body is an error."""
    return line_of({"error": error}, status)


def read_line(raw: bytes, endpoint: Endpoint = CHAT) -> LineResult:
    """Read a line that is not empty."""
    result = parse_result_line(raw, endpoint)
    assert result is not None
    return result


def failure_of(result: LineResult) -> tuple[FailureClass, str]:
    """Return the class and the code of a line without a text."""
    assert result.text is None
    assert result.failure is not None
    return result.failure.failure, result.failure.code


def embedding_body(vector: object = (0.5, -0.25, 1), **more: object) -> dict[str, Any]:
    """Return the body of an answer that is a vector: numbers, or base64 of them; more: other keys of the body."""
    value = list(vector) if isinstance(vector, tuple) else vector
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": value}],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 24, "total_tokens": 24},
    } | more


def moderation_body(**more: object) -> dict[str, Any]:
    """Return the body of an answer that judges a text; more: other keys of its result."""
    flags = {"hate": False, "self-harm/intent": True}
    scores = {"hate": 0.0625, "self-harm/intent": 0.75}
    result = {"flagged": True, "categories": flags, "category_scores": scores} | more
    return {"id": "modr-1", "model": "omni-moderation-latest", "results": [result]}


GOOD = {
    CHAT: chat_body(),
    RESPONSES: response_body(),
    EMBEDDINGS: embedding_body(),
    MODERATIONS: moderation_body(),
}
GOOD_LINE = line_of(chat_body())
