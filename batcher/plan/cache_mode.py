"""What the requests of a version say of the prompt cache: whether what they have in common is long enough for it."""

from typing import Literal

from batcher.catalog.limits import lookup_cache_minimum
from batcher.catalog.tokens import TokenCounter, count_fewest_tokens
from batcher.core.model import MESSAGE_TOKENS, CacheMode, JobVersion
from batcher.core.rendering import LineRenderer


def choose_cache_mode(
    cache: Literal["auto", "off"] | None, version: JobVersion, counter: TokenCounter | None
) -> CacheMode:
    """Return the mode of a version under `[model] cache`.

    A breakpoint needs a system message at whose end it stands, and as many tokens before it as the service caches at
    least, those of the schema and the tools counted in: they stand before the system message. counter: is used where
    the length of the texts leaves that open; None: one is started for it.
    """
    least = lookup_cache_minimum(version.model)
    if cache is None or least is None:
        return CacheMode.UNSET
    if cache == "off" or not version.system:
        return CacheMode.EXPLICIT
    texts = LineRenderer(version).constant_texts()
    return CacheMode.BREAKPOINT if _have_tokens(texts, least - (MESSAGE_TOKENS + 1), counter) else CacheMode.EXPLICIT


def _have_tokens(texts: list[str], least: int, counter: TokenCounter | None) -> bool:
    """Return whether texts have at least so many tokens. They are counted only where that is not plain to see, as a
    command that sends would else load the tokenizer for it."""
    if sum(len(text.encode()) for text in texts) < least:  # no token is shorter than a byte
        return False
    if sum(map(count_fewest_tokens, texts)) >= least:
        return True
    if counter is not None:
        return sum(counter.count(texts).result()) >= least
    with TokenCounter() as own:
        return sum(own.count(texts).result()) >= least
