"""The keys of lines in the service's prompt cache, and the tokens before their cache breakpoint. Pure."""

from hashlib import blake2b

import orjson

from batcher.core.model import MESSAGE_TOKENS, CacheMode, JobVersion

KEYS = 16
"""Keys over which the lines of a version are spread, each always with the same one.

Of more than about 15 requests a minute with one key and prefix some miss the cache; the remedy is to spread them over
keys, each always with the same one. Source: Azure OpenAI, prompt caching (2026-08), after OpenAI's guide. 240 requests
a minute are 50,000 lines in 3.5 hours. Each key costs one write.
"""


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
