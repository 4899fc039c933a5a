"""Messages that a job writes itself, in place of system.md and user.md: checked, encoded, and what they count as."""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import orjson

from batcher.core.model import MESSAGE_TOKENS, Endpoint
from batcher.errors import JobError

ROLES = ("system", "developer", "user", "assistant")
"""The roles that a message may have, at both endpoints."""
IMAGE_TOKENS = 2_489
"""Tokens that an image is taken for, whatever its size: 1,536 patches x 1.62.

Source: OpenAI, guides/images-vision: at most 1,536 patches of 32 x 32 pixels an image, times 1.62 on the mini models.
What was measured is less (gpt-5-mini 1.2, gpt-5-nano 1.5 a patch: community.openai.com/t/1344040).
"""
FILE_TOKENS = 5 * (IMAGE_TOKENS + 700)
"""Tokens that a file is taken for: five pages, each as an image and as 700 tokens of text, as its size is not known.

Source: OpenAI, guides/pdf-files: a model is given the text of each page and an image of it. How many pages, and how
many tokens of text a page has, is assumed.
"""
PART_TOKENS: Mapping[Endpoint, Mapping[str, int]] = MappingProxyType(
    {
        Endpoint.CHAT: {"text": 0, "image_url": IMAGE_TOKENS, "file": FILE_TOKENS},
        Endpoint.RESPONSES: {
            "input_text": 0,
            "output_text": 0,
            "input_image": IMAGE_TOKENS,
            "input_file": FILE_TOKENS,
        },
    }
)
"""The content parts that each endpoint takes, and the tokens of each beside its text.

Source: openai/openai-openapi, commit f85dbe22 (2026-08-21): ChatCompletionRequestMessage and EasyInputMessage.
"""


class MeasuredMessages(NamedTuple):
    """What messages count as: a text whose tokens are to be counted, and the tokens beside it."""

    text: str
    tokens: int


def encode_messages(endpoint: Endpoint, messages: object) -> str:
    """Return messages as the JSON that a request carries. Raises JobError with what is wrong with them."""
    fault = find_messages_fault(endpoint, messages)
    if fault:
        raise JobError(f"messages gives {fault}")
    try:
        return orjson.dumps(messages).decode()
    except TypeError as error:  # half of a surrogate pair, or a whole number of over 64 bits
        raise JobError(f"messages gives what a request cannot carry: {error}") from None


def measure_messages(encoded: str) -> MeasuredMessages:
    """Return what messages count as, from the JSON of `encode_messages`."""
    texts: list[str] = []
    tokens = 0
    for message in orjson.loads(encoded):
        tokens += MESSAGE_TOKENS + 1  # and its role
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            if isinstance(part.get("text"), str):
                texts.append(part["text"])
            tokens += max(known.get(part["type"], 0) for known in PART_TOKENS.values())
    return MeasuredMessages("\n".join(texts), tokens)


def find_messages_fault(endpoint: Endpoint, messages: object) -> str:
    """Return what is wrong with the messages of a request to this endpoint; "" where nothing is."""
    if not isinstance(messages, list) or not messages:
        given = "an empty list" if messages == [] else type(messages).__name__
        return f"{given}; return a list of messages, each a dict of role and content"
    return next(_find_faults(endpoint, messages), "")


def _find_faults(endpoint: Endpoint, messages: Sequence[object]) -> Iterator[str]:
    for number, message in enumerate(messages, 1):
        where = f"in message {number}"
        if not isinstance(message, dict):
            yield f"{type(message).__name__} {where}; a message is a dict of role and content"
        elif message.get("role") not in ROLES:
            yield f"the role {message.get('role')!r} {where}; roles are {', '.join(ROLES)}"
        else:
            yield from _find_content_faults(endpoint, message.get("content"), where)
            yield from _find_value_faults(message, where)


def _find_content_faults(endpoint: Endpoint, content: object, where: str) -> Iterator[str]:
    if isinstance(content, str):
        return
    if not isinstance(content, list) or not content:
        yield f"no content {where}; give a text, or a list of content parts"
        return
    known = PART_TOKENS[endpoint]
    for number, part in enumerate(content, 1):
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str) or kind not in known:
            yield f"part {number} of type {kind!r} {where}; {endpoint} takes the parts {', '.join(known)}"
        elif not known[kind] and not isinstance(part.get("text"), str):
            yield f"part {number} without a text {where}; give it one as text"


def _find_value_faults(value: object, where: str) -> Iterator[str]:
    """Yield what a value holds that JSON, or a request, cannot carry."""
    if isinstance(value, dict | list):
        names = value if isinstance(value, dict) else ()
        yield from (f"the key {name!r} {where}; a key is a text" for name in names if not isinstance(name, str))
        for part in value.values() if isinstance(value, dict) else value:
            yield from _find_value_faults(part, where)
    elif isinstance(value, str):
        if "\0" in value:
            yield f"a NUL character {where}, which no request can carry; remove it"
    elif not (value is None or type(value) in {bool, int} or (isinstance(value, float) and math.isfinite(value))):
        yield f"{type(value).__name__} {where}, which is no value of JSON; write it as a text or a number"
