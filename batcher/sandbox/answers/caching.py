"""The prompt cache of models that take breakpoints: which prefixes of a request are marked, written and read.

Sources: the official description of 2026-08 (PromptCacheOptionsParam, PromptCacheBreakpointParam), and Azure OpenAI's
page on prompt caching (2026-08): a prefix has 1,024 tokens at least, begins with tools and schema, is not rounded, and
lives for 30 minutes; a longer one is written without what was read; above about 15 requests a minute of one key and
prefix others are answered elsewhere, where nothing is cached yet.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import orjson

from batcher.sandbox.answers.text import extract_content_text

LEAST_TOKENS = 1024
LIFE_S = 1800.0
REQUESTS_A_MINUTE = 15  # of one key and prefix, which one machine answers
MOST_WRITES = 4
MARK = "prompt_cache_breakpoint"


@dataclass(frozen=True)
class MarkedPrefix:
    """What stands before a breakpoint: bytes of the text of messages, and a digest of all of it."""

    messages: int
    content_bytes: int
    digest: bytes


def find_marked_prefixes(messages: list[object], before: object) -> tuple[MarkedPrefix, ...]:
    """Return the prefixes of a request that end at a breakpoint. before: what stands before the messages, as JSON."""
    if not any(map(_is_marked, messages)):
        return ()
    return tuple(_walk_prefixes(messages, before))


def _is_marked(message: object) -> bool:
    content = message.get("content") if isinstance(message, Mapping) else None
    return isinstance(content, list) and any(isinstance(part, Mapping) and part.get(MARK) for part in content)


def _walk_prefixes(messages: list[object], before: object) -> Iterator[MarkedPrefix]:
    digest, size = blake2b(orjson.dumps(before), digest_size=16), 0
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping):
            continue
        content = message.get("content")
        digest.update(orjson.dumps(message.get("role")))
        for part in content if isinstance(content, list) else [content]:
            digest.update(orjson.dumps(part))
            size += len(extract_content_text([part] if isinstance(part, Mapping) else part).encode())
            if isinstance(part, Mapping) and part.get(MARK):
                yield MarkedPrefix(number, size, digest.digest())


@dataclass(frozen=True)
class CacheUse:
    """Tokens that a request reads from the cache and writes to it."""

    read: int = 0
    written: int = 0


class PromptCache:
    """What is cached, by model, key and prefix. The caller holds the sandbox's lock."""

    def __init__(self) -> None:
        self._used_at: dict[tuple[str, str, int, bytes], float] = {}
        self._asked: Counter[tuple[str, str, int]] = Counter()

    def use_prefixes(self, model: str, key: str, prefixes: list[tuple[int, bytes]], now: float) -> CacheUse:
        """Return what a request reads and writes, and keep that. prefixes: tokens and digest of each, in order."""
        marked = [(tokens, digest) for tokens, digest in prefixes if tokens >= LEAST_TOKENS][-MOST_WRITES:]
        if not marked:
            return CacheUse()
        minute = (model, key, int(now // 60))
        machine = self._asked[minute] // REQUESTS_A_MINUTE
        self._asked[minute] += 1
        places = [(tokens, (model, key, machine, digest)) for tokens, digest in marked]
        read = max((tokens for tokens, place in places if self._is_kept(place, now)), default=0)
        for _, place in places:
            self._used_at[place] = max(now, self._used_at.get(place, now))
        return CacheUse(read, max(marked[-1][0] - read, 0))

    def _is_kept(self, place: tuple[str, str, int, bytes], now: float) -> bool:
        """Return whether a prefix is cached. Batches are executed a piece at a time, so `now` may go back."""
        used_at = self._used_at.get(place)
        return used_at is not None and abs(now - used_at) <= LIFE_S
