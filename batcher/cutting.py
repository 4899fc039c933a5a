"""Cutting shards: lines rendered in priority order into shard files, a new one wherever the limits say so."""

from collections.abc import Sequence
from pathlib import Path

from batcher.errors import StateError
from batcher.model import ShardLimits, WrittenShard
from batcher.planning import Cutter, Renderer, line_hash
from batcher.shardfiles import ShardWriter
from batcher.store.planned import OrderedLine, PlannedLine

HELD_LINES = 1_000
"""Lines that are written together: a write has a cost of its own."""


class ShardCutting:
    """Renders lines in order and writes them into shard files, opening a new one where the limits say so.

    Used as a context: a file that is not finished goes away.
    """

    def __init__(self, renderer: Renderer, limits: ShardLimits, folder: Path, first: int) -> None:
        self._renderer, self._folder, self._next = renderer, folder, first
        self._cutter = Cutter(limits)
        self._writer: ShardWriter | None = None
        self._written: list[WrittenShard] = []
        self._held: list[bytes] = []
        self._held_tokens = 0

    def __enter__(self) -> "ShardCutting":
        """Itself."""
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Gives up the file that is not finished. Raises StateError for what the disk refuses."""
        if self._writer is not None:
            self._writer.abandon()
        if isinstance(error, OSError):
            raise StateError(
                f"{error.filename or self._folder} cannot be written: {error.strerror}; make room or mend the rights "
                "of the state folder, and plan again"
            ) from error

    def put(self, lines: Sequence[OrderedLine]) -> list[PlannedLine]:
        """Writes lines; where each was put."""
        return [self._put(line) for line in lines]

    def _put(self, line: OrderedLine) -> PlannedLine:
        data = self._renderer.line(line.custom_id, line.user_text)
        if self._cutter.starts_new(line.priority, len(data), line.tokens):
            self._close()
            self._writer = ShardWriter(self._folder, self._next, line.priority)
            self._next += 1
        self._held.append(data)
        self._held_tokens += line.tokens
        if len(self._held) >= HELD_LINES:
            self._flush()
        return PlannedLine(line.artist_id, self._next - 1, line.tokens, len(data), line_hash(data))

    def _flush(self) -> None:
        if self._writer is not None and self._held:
            self._writer.write(self._held, self._held_tokens)
            self._held, self._held_tokens = [], 0

    def _close(self) -> None:
        self._flush()
        if self._writer is not None:
            self._written.append(self._writer.close())
            self._writer = None

    def finish(self) -> list[WrittenShard]:
        """Closes the last shard; all that were written."""
        self._close()
        return self._written
