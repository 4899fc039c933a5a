"""The service's prompt cache: the keys of lines, the tokens before the breakpoint, and how many are read. Pure.

A request marks the end of what all lines have in common. The first request with a key writes that to the cache, which
costs more than plain input; the later ones read it, for a tenth of the price.
"""

from hashlib import blake2b
from typing import NamedTuple

import orjson

from batcher.core.model import MESSAGE_TOKENS, CacheMode, JobVersion
from batcher.core.room import MeasuredUsage

KEYS = 16
"""Keys over which the lines of a version are spread, each always with the same one.

Of more than about 15 requests a minute with one key and prefix some miss the cache; the remedy is to spread them over
keys, each always with the same one. Source: Azure OpenAI, prompt caching (2026-08), after OpenAI's guide. 240 requests
a minute are 50,000 lines in 3.5 hours. Each key costs one write.
"""


class CacheShares(NamedTuple):
    """The shares of the input that are read from the cache and written to it."""

    read: float
    written: float


def cache_key(version: JobVersion, number: int) -> str:
    """Return a `prompt_cache_key` of a version. number: 0 to KEYS - 1, which is its last character.

    Versions whose lines begin alike have the same keys.
    """
    tools = [version.parameters.get(key) for key in ("tools", "functions")]
    prefix = orjson.dumps([version.model, version.system, dict(version.schema), tools])
    return f"batcher-{blake2b(prefix, digest_size=8).hexdigest()}-{number:x}"


def count_prefix_tokens(version: JobVersion, constant_tokens: int) -> int:
    """Return the tokens of each line before its cache breakpoint; 0 where it has none.

    constant_tokens: those that all lines have in common. Behind the breakpoint are those of the row's own message, but
    for its text, and those of the answer's start.
    """
    if version.cache is not CacheMode.BREAKPOINT:
        return 0
    behind = MESSAGE_TOKENS + (MESSAGE_TOKENS + 1 if version.template else 0)
    return constant_tokens - behind


def forecast_cache_shares(prefix: int, lines: int, tokens: int, measured: MeasuredUsage) -> CacheShares:
    """Return which shares of the input of lines will be read from the cache and written to it.

    prefix: tokens of each line before its breakpoint, 0 where it has none; tokens: counted ones of all the lines. Each
    key is written once. What was written beyond that so far, and what was not read, is expected of further lines too.
    """
    read, written = prefix * lines / max(tokens, 1), 0.0
    if measured.has_enough_lines:
        once = count_first_writes(prefix, measured.written, measured.token_ratio)
        read = (measured.cached + once) / max(measured.input, 1)
        written = (measured.written - once) / max(measured.input, 1)
    first = min(read, prefix * min(lines, KEYS) / max(tokens, 1))
    return CacheShares(read - first, written + first)


def count_first_writes(prefix: int, written: int, token_ratio: float) -> float:
    """Return how many of the tokens written to the cache are the first ones of each key, which are written once.

    prefix: as for `forecast_cache_shares`; token_ratio: tokens of the service for one of ours.
    """
    return min(written, KEYS * prefix * token_ratio)
