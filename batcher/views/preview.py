"""Requests before they are sent, as JSON and as text. The text is as wide as the prompt: nothing in it is broken."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from batcher.catalog.prices import PriceOf
from batcher.core.cache.keys import KEYS
from batcher.core.endpoints.table import describe_plain_answer
from batcher.core.model import CacheMode
from batcher.nouns import current_nouns
from batcher.plan.previewing import LinePreview
from batcher.state.reports.expectation import assume_output_tokens
from batcher.views.plan import describe_unused_columns
from batcher.views.sheet import format_usd, name_with_id

LONGEST_PART = 400
"""Characters of a content part that is no text, an image or a file, up to which it is shown whole."""


class PricedLine(NamedTuple):
    """A line and its price in the batch lane: with an answer of ordinary length, and the most that it can be."""

    preview: LinePreview
    expected_usd: float | None
    """Where it has a cache breakpoint: with what is before that read from the cache."""
    most_usd: float | None
    cache_write_usd: float | None = None
    """As `expected_usd`, with what is before the breakpoint written to the cache; None: it has none."""
    uncached_usd: float | None = None
    """As `expected_usd`, without the cache; None: it has no breakpoint."""


def price_line(preview: LinePreview, price_of: PriceOf) -> PricedLine:
    """Return a line with its price; None for a model whose price is not known."""
    prices = price_of(preview.version.model)
    if prices is None:
        return PricedLine(preview, None, None)
    bound = prices.for_cache(preview.version.cache).batch
    rates = bound.at_length(preview.tokens)
    _, answer = assume_output_tokens(preview.version)
    plain = preview.tokens * rates.input + answer * rates.output
    most = bound.most_cost(preview.tokens, preview.version.max_output_tokens)
    prefix = preview.cache_prefix
    if not prefix:
        return PricedLine(preview, plain, most)
    read, written = (plain + prefix * (rate - rates.input) for rate in (rates.cached, rates.written))
    return PricedLine(preview, read, most, written, plain)


def preview_to_json(
    lines: Sequence[PricedLine], table: Path, unused: Sequence[str], notes: Sequence[str]
) -> dict[str, object]:
    """Return requests as JSON: `line` is the text of the line in the batch input file, `request` what it says."""
    return {
        "table": str(table),
        "unused_columns": list(unused),
        "notes": list(notes),
        "artists": [
            {
                "artist_id": preview.artist_id,
                "artist_name": preview.artist_name,
                "priority": preview.priority,
                "source": preview.source,
                "state": preview.state,
                "tokens": preview.tokens,
                "constant_tokens": preview.constant_tokens,
                "artist_tokens": preview.tokens - preview.constant_tokens,
                "cache": preview.version.cache.value,
                "cache_prefix": preview.cache_prefix,
                **dict(zip(PricedLine._fields[1:], prices, strict=True)),
                "request": orjson.loads(preview.line),
                "line": preview.line.decode(),
            }
            for preview, *prices in lines
        ],
    }


def draw_previews(
    service: str, lines: Sequence[PricedLine], table: Path, unused: Sequence[str], notes: Sequence[str]
) -> str:
    """Return requests as text: what all have in common once, then what is of each artist alone."""
    parts = [service]
    before: object = None
    for line in lines:
        if line.preview.version != before:
            parts += _draw_constant_part(line)
            before = line.preview.version
        parts += _draw_artist_part(line, table)
    parts += ["", *describe_unused_columns(unused), *notes]
    return "\n".join(parts).rstrip("\n")


def _draw_constant_part(line: PricedLine) -> Iterator[str]:
    preview, version = line.preview, line.preview.version
    request = orjson.loads(preview.line)
    yield ""
    yield f"In every request: {preview.constant_tokens:,} tokens"
    yield f"{request['method']} {request['url']}"
    for name, value in request["body"].items():
        shown = {key: part for key, part in value.items() if key != "format"} if name == "text" else value
        if name not in {"messages", "input", "response_format", "prompt_cache_key"} and shown != {}:
            yield f"{name}: {shown if isinstance(shown, str) else orjson.dumps(shown).decode()}"
    if "prompt_cache_key" in request["body"]:
        first, row = f"{request['body']['prompt_cache_key'][:-1]}0", current_nouns().row
        yield f"prompt_cache_key: {first} to {KEYS - 1:x}, by the {row}'s id"
    if version.system:
        yield from ("", "[system]", version.system)
    yield from _describe_cache(line)
    if not version.schema:
        yield from ("", f"[answer: {describe_plain_answer(version.endpoint)}]")
        return
    yield from ("", f"[answer: strict JSON schema {version.schema_name!r}]")
    yield orjson.dumps(version.schema, option=orjson.OPT_INDENT_2).decode()


def _describe_cache(line: PricedLine) -> Iterator[str]:
    """Yield where the cache breakpoint is and what it saves, or that nothing is cached; nothing where none is asked."""
    mode, prefix = line.preview.version.cache, line.preview.cache_prefix
    if mode is CacheMode.EXPLICIT:
        yield "[no cache breakpoint: nothing is written to the prompt cache, and nothing read from it]"
    elif mode is CacheMode.BREAKPOINT:
        yield f"[cache breakpoint: behind {prefix:,} tokens, those of the answer's schema counted in]"
    if mode is CacheMode.BREAKPOINT and line.expected_usd is not None:
        yield (
            f"[a line costs about {format_usd(line.expected_usd)} where they are read, "
            f"{format_usd(line.cache_write_usd)} where they are written (once a key), "
            f"{format_usd(line.uncached_usd)} without the cache]"
        )


def _draw_artist_part(line: PricedLine, table: Path) -> Iterator[str]:
    preview = line.preview
    request = orjson.loads(preview.line)
    origin = f"from the plan, {preview.state}" if preview.source == "plan" else f"from {table.name}"
    own = preview.tokens - preview.constant_tokens
    yield ""
    named = name_with_id(preview.artist_id, preview.artist_name, id_first=True)
    yield f"{named}, priority {preview.priority}, {origin}"
    yield (
        f"{preview.tokens:,} tokens: {preview.constant_tokens:,} of every request and {own:,} of this "
        f"{current_nouns().row}; {_describe_price(line)}"
    )
    yield f"custom_id: {request['custom_id']}"
    if not preview.version.endpoint.takes_prompt:
        yield from ("", "[input]", request["body"]["input"])
        return
    messages = request["body"].get("messages") or request["body"]["input"]
    has_system = preview.version.system or preview.version.template
    for message in messages[1:] if has_system else messages:
        yield from ("", f"[{message['role']}]", *_draw_content(message["content"]))


def _draw_content(content: str | Sequence[Mapping[str, object]]) -> Iterator[str]:
    """Yield the content of a message: its text, or each of its parts, a text as it is, any other as JSON."""
    if isinstance(content, str):
        yield content
        return
    for part in content:
        text = part.get("text")
        yield text if isinstance(text, str) else _shorten(orjson.dumps(part).decode())


def _shorten(text: str) -> str:
    """Return a text without its middle where it is long, as an image within a request is."""
    if len(text) <= LONGEST_PART:
        return text
    half = LONGEST_PART // 2
    return f"{text[:half]}... ({len(text) - 2 * half:,} characters) ...{text[-half:]}"


def _describe_price(line: PricedLine) -> str:
    if line.expected_usd is None:
        return "price unknown for this model"
    return f"about {format_usd(line.expected_usd)} at the batch price, at most {format_usd(line.most_usd)}"
