"""How much of the input of lines is read from the service's prompt cache and written to it: a forecast. Pure.

The first request with a key writes what stands before the breakpoint, which costs more than plain input; the later ones
read it, for a tenth of the price.
"""

from typing import NamedTuple

from batcher.core.cache.keys import KEYS
from batcher.core.room import MeasuredUsage


class CacheShares(NamedTuple):
    """The shares of the input that are read from the cache and written to it."""

    read: float
    written: float


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
