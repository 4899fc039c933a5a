"""Cutting a stream of lines into shards, within the limits of a batch. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from batcher.core.model import ShardLimits

MAX_LINES = 50_000
"""Requests in one batch (OpenAI, guides/batch, 2026-07)."""

MAX_BYTES = 209_715_200
"""Bytes of one batch input file: 200 MB (OpenAI, guides/batch, 2026-07, and the text of its error)."""

SHARDS_IN_HEADROOM = 24
"""Shards are cut so that this many fit into the headroom at once: when one ends another starts, and the room that is
too small for another shard is a 24th of the headroom at most. With 8, others' use of 30% of the limit cost up to one
wave more (benchmarks/makespan.py)."""

T = TypeVar("T")


def default_shard_limits(enqueued_tokens: int, threshold: float, factor: float) -> ShardLimits:
    """Return the shard size for an enqueued-token limit: SHARDS_IN_HEADROOM shards fit into the headroom at once.

    factor: reserved tokens for each counted one.
    """
    counted = int(enqueued_tokens * threshold / factor)
    return ShardLimits(MAX_LINES, MAX_BYTES, max(1, counted // SHARDS_IN_HEADROOM))


@dataclass(slots=True)
class ShardCutter:
    """Cuts a stream of lines, in priority order, into shards. A shard holds lines of one priority only."""

    limits: ShardLimits
    lines: int = 0
    bytes: int = 0
    tokens: int = 0
    priority: int | None = None

    def fits(self, priority: int, size: int, tokens: int) -> bool:
        """Return whether a line of `size` bytes goes into the open shard. The first line never does: none is open."""
        limits = self.limits
        return (
            self.priority == priority
            and self.lines < limits.lines
            and self.bytes + size <= limits.bytes
            and self.tokens + tokens <= limits.tokens
        )

    def add_line(self, priority: int, size: int, tokens: int) -> bool:
        """Add the next line, of `size` bytes; return whether it opened a new shard."""
        opened = not self.fits(priority, size, tokens)
        if opened:
            self.lines = self.bytes = self.tokens = 0
            self.priority = priority
        self.lines += 1
        self.bytes += size
        self.tokens += tokens
        return opened


def count_waves(shard_tokens: Iterable[int], headroom: int) -> int:
    """Return how often the headroom must be filled to send all shards.

    Shards go into a wave in order while they fit, and a wave ends as a whole before the next begins.
    """
    count, used = 0, headroom + 1
    for tokens in shard_tokens:
        if used + tokens > headroom:
            count, used = count + 1, 0
        used += tokens
    return count


def split_chunks(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the rows in lists of `size`; the last may be shorter."""
    chunk: list[T] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
