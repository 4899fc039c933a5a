"""Messages that a job writes itself: what is refused, how they stand in a line, and what they count as."""

from typing import Any

import orjson
import pytest

from batcher.core.model import Endpoint, JobVersion
from batcher.core.rendering import LineRenderer, build_request_body
from batcher.errors import JobError
from batcher.job.messages import FILE_TOKENS, IMAGE_TOKENS, encode_messages, find_messages_fault, measure_messages
from tests.support.result_lines import PROMPTED

TALK: list[dict[str, Any]] = [
    {"role": "user", "content": 'Who?\n\u2028 "Ana"'},
    {"role": "assistant", "content": "Bea."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "And this?"},
            {"type": "image_url", "image_url": {"url": "https://x.example/a.jpg", "detail": None}},
            {"type": "file", "file": {"file_id": "file-1"}},
        ],
    },
]


def version(system: str, endpoint: Endpoint = Endpoint.CHAT) -> JobVersion:
    return JobVersion("talks", "gpt-6-luna", endpoint, 600, system, "", {}, "")


@pytest.mark.parametrize("endpoint", PROMPTED)
@pytest.mark.parametrize("system", ["Be brief.", "user", ""])
def test_the_messages_are_the_own_part_of_a_line(endpoint: Endpoint, system: str) -> None:
    renderer = LineRenderer(version(system, endpoint))
    own = renderer.encode_own_part("a", orjson.dumps(TALK).decode())
    line = renderer.render_line(own)
    sent = orjson.loads(line)
    shared = [{"role": "system", "content": system}] if system else []
    assert sent["body"]["messages" if endpoint is Endpoint.CHAT else "input"] == [*shared, *TALK]
    assert (sent["custom_id"], line.count(b"\n"), len(line)) == ("a", 1, renderer.line_size(own))
    assert renderer.hash_line(own) != renderer.hash_line(renderer.encode_own_part("a", orjson.dumps(TALK[:1]).decode()))


def test_a_version_with_a_template_keeps_its_two_messages() -> None:
    body = build_request_body(version("Be brief.")._replace(template="{name}"), "Ana")
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Ana"}]


def test_texts_are_counted_and_the_rest_is_assumed() -> None:
    text, tokens = measure_messages(encode_messages(Endpoint.CHAT, TALK))
    assert text == 'Who?\n\u2028 "Ana"\nBea.\nAnd this?'
    assert tokens == 3 * 4 + IMAGE_TOKENS + FILE_TOKENS
    part = {"type": "input_image", "image_url": "https://x.example/a.jpg"}
    image = encode_messages(Endpoint.RESPONSES, [{"role": "user", "content": [part]}])
    assert measure_messages(image) == ("", 4 + IMAGE_TOKENS)


def user(content: object) -> list[object]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ("Who?", "str; return a list of messages, each a dict of role and content"),
        ([], "an empty list; return a list of messages, each a dict of role and content"),
        (["Who?"], "str in message 1; a message is a dict of role and content"),
        (
            [*TALK, {"role": "tool", "content": "x"}],
            "the role 'tool' in message 4; roles are system, developer, user, assistant",
        ),
        (
            [{"role": ["user"], "content": "x"}],
            "the role ['user'] in message 1; roles are system, developer, user, assistant",
        ),
        ([{"role": "user"}], "no content in message 1; give a text, or a list of content parts"),
        (user([]), "no content in message 1; give a text, or a list of content parts"),
        (
            user([{"type": "input_image"}]),
            "part 1 of type 'input_image' in message 1; /v1/chat/completions takes the parts text, image_url, file",
        ),
        (user(["x"]), "part 1 of type None in message 1; /v1/chat/completions takes the parts text, image_url, file"),
        (user([{"type": "text"}]), "part 1 without a text in message 1; give it one as text"),
        (user("a\0b"), "a NUL character in message 1, which no request can carry; remove it"),
        (
            user([{"type": "file", "file": {"file_data": b"x"}}]),
            "bytes in message 1, which is no value of JSON; write it as a text or a number",
        ),
        (
            user([{"type": "file", "file": {"pages": [float("nan")]}}]),
            "float in message 1, which is no value of JSON; write it as a text or a number",
        ),
        (user([{"type": "file", 1: "x"}]), "the key 1 in message 1; a key is a text"),
    ],
)
def test_what_is_no_list_of_messages_is_refused(messages: object, fault: str) -> None:
    assert find_messages_fault(Endpoint.CHAT, messages) == fault
    with pytest.raises(JobError, match=r"^messages gives "):
        encode_messages(Endpoint.CHAT, messages)


@pytest.mark.parametrize("messages", [user("\ud83d"), user([{"type": "file", "file": {"size": 2**70}}])])
def test_what_no_request_can_carry_is_refused(messages: object) -> None:
    with pytest.raises(JobError, match=r"^messages gives what a request cannot carry: "):
        encode_messages(Endpoint.CHAT, messages)
