"""The requests and answers of /v1/chat/completions."""

from batcher.core.endpoints.prompts import build_cache_options, build_messages, build_schema_format
from batcher.core.endpoints.values import (
    NO_JSON,
    Json,
    as_object,
    as_time,
    check_answer_text,
    get_name,
    get_text,
    parse_token_usage,
)
from batcher.core.model import JobVersion, LineResult


def build_body(version: JobVersion, user_text: str) -> dict[str, object]:
    """Return the body of a request. A version without a schema asks for no format, and is answered in plain text."""
    format = {"type": "json_schema", "json_schema": build_schema_format(version)}
    return {
        "model": version.model,
        "messages": build_messages(version, user_text, "text"),
        "max_completion_tokens": version.max_output_tokens,
        **({"response_format": format} if version.schema else {}),
        **version.parameters,
        **build_cache_options(version),
    }


def _get_first_choice(reply: Json) -> Json:
    choices = reply.get("choices")
    return as_object(choices[0]) if isinstance(choices, list) and choices else NO_JSON


def parse_body(line_id: str, reply: Json) -> LineResult:
    """Return the result in the body of an answer."""
    choice = _get_first_choice(reply)
    message = as_object(choice.get("message"))
    finish = get_name(choice, "finish_reason")
    text, failure = check_answer_text(_join_message_text(message), finish, get_text(message, "refusal"))
    usage = parse_token_usage(reply, "prompt_tokens", "completion_tokens")
    return LineResult(
        line_id,
        text,
        failure,
        200,
        get_name(reply, "model"),
        finish,
        usage,
        as_time(reply.get("created")),
    )


def _join_message_text(message: Json) -> str:
    """Return the text of a chat message. Some services send it in parts, of which others hold what was thought."""
    content = message.get("content")
    if not isinstance(content, list):
        return get_text(message, "content")
    parts = map(as_object, content)
    return "".join(get_text(part, "text") for part in parts if part.get("type") == "text")


def read_text(reply: Json) -> str:
    """Return all text in the body of an answer, be it a refusal."""
    message = as_object(_get_first_choice(reply).get("message"))
    return _join_message_text(message) or get_text(message, "refusal")
