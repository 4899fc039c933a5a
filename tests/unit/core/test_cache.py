"""Lines and the prompt cache: what they say of it, their keys, and what is forecast to be read and written."""

import json
from collections import Counter
from typing import Any

import pytest

from batcher.core.cache.keys import KEYS, cache_key, count_prefix_tokens
from batcher.core.cache.shares import count_first_writes, forecast_cache_shares
from batcher.core.model import CacheMode, Endpoint, JobVersion
from batcher.core.rendering import LineRenderer, build_request_body
from batcher.core.room import FEWEST_MEASURED, MeasuredUsage
from batcher.state.versions import decode_version, encode_version

PLAIN = JobVersion(
    "bios", "gpt-6-luna", Endpoint.CHAT, 600, "You write bios.", "Name: {name}", {"type": "object"}, "bio"
)
MARKED = PLAIN._replace(cache=CacheMode.BREAKPOINT)
BOTH = [Endpoint.CHAT, Endpoint.RESPONSES]


def body_of(version: JobVersion, line_id: str = "a1", text: str = "Bea") -> dict[str, Any]:
    renderer = LineRenderer(version)
    own = renderer.encode_own_part(line_id, text)
    line = renderer.render_line(own)
    assert renderer.line_size(own) == len(line)
    found: dict[str, Any] = json.loads(line)["body"]
    return found


def messages_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body.get("messages") or body["input"]
    return found


@pytest.mark.parametrize("endpoint", BOTH)
def test_a_line_without_a_mode_says_nothing_of_the_cache(endpoint: Endpoint) -> None:
    version = PLAIN._replace(endpoint=endpoint)
    assert "cache" not in json.dumps(body_of(version))
    assert "cache" not in encode_version(version)
    assert decode_version(encode_version(version)) == version


@pytest.mark.parametrize("endpoint", BOTH)
def test_a_marked_line_has_a_breakpoint_behind_the_system_message_alone(endpoint: Endpoint) -> None:
    version = MARKED._replace(endpoint=endpoint)
    body = body_of(version)
    system, user = messages_of(body)
    kind = "text" if endpoint is Endpoint.CHAT else "input_text"
    mark = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    assert system["content"] == [{"type": kind, "text": PLAIN.system, **mark}]
    assert user == {"role": "user", "content": "Bea"}
    assert body["prompt_cache_options"] == {"mode": "explicit"}
    number = int(body.pop("prompt_cache_key")[-1], 16)
    asked = build_request_body(version, "Bea")
    assert asked.pop("prompt_cache_key") == cache_key(version, 0)
    assert (asked, number < KEYS) == (body, True)
    assert decode_version(encode_version(version)) == version


@pytest.mark.parametrize("endpoint", BOTH)
def test_a_line_without_a_breakpoint_writes_nothing(endpoint: Endpoint) -> None:
    version = PLAIN._replace(endpoint=endpoint, cache=CacheMode.EXPLICIT)
    body = body_of(version)
    assert body.pop("prompt_cache_options") == {"mode": "explicit"}
    assert body == body_of(PLAIN._replace(endpoint=endpoint))


def test_lines_are_spread_over_all_keys_and_keep_theirs() -> None:
    keys = Counter(body_of(MARKED, f"a{n}")["prompt_cache_key"] for n in range(2_000))
    assert set(keys) == {cache_key(MARKED, n) for n in range(KEYS)}
    assert max(keys.values()) < 2 * min(keys.values())
    assert body_of(MARKED, "a7", "Another text")["prompt_cache_key"] == body_of(MARKED, "a7")["prompt_cache_key"]
    assert max(map(len, keys)) <= 64


def test_versions_that_begin_alike_share_their_keys() -> None:
    wider = MARKED._replace(max_output_tokens=9_000, template="{other}")
    assert cache_key(wider, 3) == cache_key(MARKED, 3)
    for other in (
        MARKED._replace(system="Else."),
        MARKED._replace(model="gpt-6-sol"),
        MARKED._replace(schema={}),
        MARKED._replace(parameters={"tools": [{}]}),
    ):
        assert cache_key(other, 3) != cache_key(MARKED, 3)


def test_a_marked_line_with_messages_of_its_own_keeps_them() -> None:
    body = body_of(
        MARKED._replace(template=""), text='[{"role":"user","content":"One"},{"role":"user","content":"Two"}]'
    )
    system, *own = messages_of(body)
    assert system["content"][0]["text"] == PLAIN.system
    assert [message["content"] for message in own] == ["One", "Two"]


@pytest.mark.parametrize(
    ("version", "constant", "prefix"),
    [
        (PLAIN, 1_511, 0),
        (PLAIN._replace(cache=CacheMode.EXPLICIT), 1_511, 0),
        (MARKED, 1_511, 1_504),  # behind it: a message, its role, and the start of the answer
        (MARKED._replace(template=""), 1_507, 1_504),
    ],
)
def test_the_prefix_is_what_stands_before_the_breakpoint(version: JobVersion, constant: int, prefix: int) -> None:
    assert count_prefix_tokens(version, constant) == prefix


def seen(cached: int, written: int) -> MeasuredUsage:
    tokens = FEWEST_MEASURED * 2_000
    return MeasuredUsage(FEWEST_MEASURED, counted=tokens, input=tokens, cached=cached, written=written)


@pytest.mark.parametrize(
    ("prefix", "lines", "measured", "read", "written"),
    [
        (0, 1_000, MeasuredUsage(), 0, 0),
        (1_500, 1_000, MeasuredUsage(), 1_500 * 984, 1_500 * KEYS),
        (1_500, 5, MeasuredUsage(), 0, 1_500 * 5),  # each of few lines may be the first of its key
        # A sample of 200 lines that wrote each key once and read the rest: so does the rest.
        (1_500, 1_000, seen(1_500 * 184, 1_500 * KEYS), 1_500 * 984, 1_500 * KEYS),
        # One in which every line was written: nothing is read of the rest, but for what 16 lines stand for.
        (1_500, 1_000, seen(0, 1_500 * 200), 1_500 * 64, 1_500 * 936),
        # One in which nothing was cached.
        (1_500, 1_000, seen(0, 0), 0, 0),
        # Lines that say nothing of the cache: as measured.
        (0, 1_000, seen(100_000, 40_000), 250_000 * 2, 100_000 * 2),
    ],
)
def test_what_is_read_and_written_is_forecast(
    prefix: int, lines: int, measured: MeasuredUsage, read: int, written: int
) -> None:
    tokens = lines * 2_000
    shares = forecast_cache_shares(prefix, lines, tokens, measured)
    assert [shares.read * tokens, shares.written * tokens] == pytest.approx([read, written])


def test_first_writes_are_no_more_than_were_written() -> None:
    assert count_first_writes(1_500, 0, 1.0) == 0
    assert count_first_writes(1_500, 9_000, 1.0) == 9_000
    assert count_first_writes(1_500, 900_000, 1.2) == 1_500 * KEYS * 1.2
