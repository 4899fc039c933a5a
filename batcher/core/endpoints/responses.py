"""The requests and answers of /v1/responses."""

from collections.abc import Mapping

from batcher.core.endpoints.prompts import build_cache_options, build_messages, build_schema_format
from batcher.core.endpoints.values import (
    NO_JSON,
    Json,
    as_object,
    as_time,
    check_answer_text,
    get_name,
    get_text,
    parse_failure,
    parse_token_usage,
)
from batcher.core.model import JobVersion, LineResult


def build_body(version: JobVersion, user_text: str) -> dict[str, object]:
    """Return the body of a request. A version without a schema asks for no format, and is answered in plain text."""
    parameters = dict(version.parameters)
    format = {"type": "json_schema", **build_schema_format(version)}
    text: dict[str, object] = {"format": format} if version.schema else {}
    if "verbosity" in parameters:
        text["verbosity"] = parameters.pop("verbosity")
    if "reasoning_effort" in parameters:
        reasoning = parameters.get("reasoning")
        effort = {"effort": parameters.pop("reasoning_effort")}
        parameters["reasoning"] = {**reasoning, **effort} if isinstance(reasoning, Mapping) else effort
    return {
        "model": version.model,
        "input": build_messages(version, user_text, "input_text"),
        "max_output_tokens": version.max_output_tokens,
        **({"text": text} if text else {}),
        **parameters,
        **build_cache_options(version),
    }


def parse_body(line_id: str, reply: Json) -> LineResult:
    """Return the result in the body of an answer."""
    content, refusal = _join_output_text(reply)
    reason = get_name(as_object(reply.get("incomplete_details")), "reason")
    finish = {"max_output_tokens": "length", "": "stop"}.get(reason, reason)
    text, failure = check_answer_text(content, finish, refusal)
    if any(get_text(as_object(reply.get("error")), key) for key in ("code", "message")):
        # A response that failed has status 200 as well.
        text, failure = None, parse_failure(None, reply, NO_JSON)
    usage = parse_token_usage(reply, "input_tokens", "output_tokens")
    ended = as_time(reply.get("completed_at") or reply.get("created_at"))
    return LineResult(line_id, text, failure, 200, get_name(reply, "model"), finish, usage, ended)


def _join_output_text(reply: Json) -> tuple[str, str]:
    """Return the joined output_text parts and the joined refusals of a response's messages."""
    output = reply.get("output")
    messages = [as_object(item) for item in output] if isinstance(output, list) else []
    contents = [message.get("content") for message in messages if message.get("type") == "message"]
    parts = [as_object(part) for content in contents if isinstance(content, list) for part in content]
    texts = [get_text(p, "text") for p in parts if p.get("type") == "output_text"]
    return "".join(texts), "".join(get_text(p, "refusal") for p in parts if p.get("type") == "refusal")


def read_text(reply: Json) -> str:
    """Return all text in the body of an answer, be it a refusal."""
    content, refusal = _join_output_text(reply)
    return content or refusal
