"""Cutting shards: lines rendered in priority order into shard files, a new one wherever the limits say so."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from batcher.core.cutting import ShardCutter
from batcher.core.model import ShardLimits, WrittenShard
from batcher.core.rendering import LineRenderer
from batcher.disk.shard_files import ShardWriter, Spool
from batcher.errors import StateError
from batcher.state.plan import Cut, OrderedLine

HELD_LINES = 1_000
"""Lines that are written together: a write has a cost of its own."""


class ShardCutting:
    """Renders lines in order and writes them into shard files, opening a new one where the limits say so.

    Hashing and syncing need no interpreter, so they go on in a thread beside the rendering and writing: in order, and
    never more than one step behind. Used as a context: a file that is not finished goes away.
    """

    def __init__(self, renderer: LineRenderer, spool: Spool, limits: ShardLimits, folder: Path, first: int) -> None:
        self._renderer, self._spool, self._folder, self._next = renderer, spool, folder, first
        self._cutter = ShardCutter(limits)
        self._writer: ShardWriter | None = None
        self._written: list[WrittenShard] = []
        self._held: list[bytes] = []
        self._held_lines = self._held_tokens = 0
        self.cuts: list[Cut] = []
        """Where each shard begins."""
        self._thread = ThreadPoolExecutor(1)
        self._step: Future[None] | None = None

    def __enter__(self) -> "ShardCutting":
        """Itself."""
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Gives up the file that is not finished. Raises StateError for what the disk refuses."""
        self._thread.shutdown()
        if self._writer is not None:
            self._writer.discard_file()
        if isinstance(error, OSError):
            raise StateError(
                f"{error.filename or self._folder} cannot be written: {error.strerror}; make room or mend the rights "
                "of the state folder, and plan again"
            ) from error

    def cut_lines(self, lines: Sequence[OrderedLine]) -> None:
        """Writes lines."""
        self._spool.flush()
        for priority, seq, spooled, tokens, size in lines:
            if self._cutter.add_line(priority, size, tokens):
                self._start_shard(priority, seq)
            self._held += self._renderer.line_pieces(self._spool.read_piece(spooled, size - self._renderer.shared))
            self._held_lines += 1
            self._held_tokens += tokens
            if self._held_lines >= HELD_LINES:
                self._flush_lines()

    def _start_shard(self, priority: int, seq: int) -> None:
        self._close_shard()
        self._writer = ShardWriter(self._folder, self._next, priority)
        self.cuts.append(Cut(self._next, priority, seq))
        self._next += 1

    def _flush_lines(self) -> None:
        if self._writer is not None and self._held:
            data = b"".join(self._held)
            self._run_in_thread(self._writer.update_digest, data)
            self._writer.write_lines(data, self._held_lines, self._held_tokens)
            self._held, self._held_lines, self._held_tokens = [], 0, 0

    def _close_shard(self) -> None:
        self._flush_lines()
        if self._writer is not None:
            self._run_in_thread(self._close_writer, self._writer)
            self._writer = None

    def _close_writer(self, writer: ShardWriter) -> None:
        try:
            self._written.append(writer.close())
        except BaseException:
            writer.discard_file()
            raise

    def _run_in_thread(self, work: Callable[..., None], *arguments: object) -> None:
        """Does this in the thread, once what it does now has come to its end; raises what that has raised."""
        self._wait_for_thread()
        self._step = self._thread.submit(work, *arguments)

    def _wait_for_thread(self) -> None:
        if self._step is not None:
            self._step.result()

    def finish_shards(self) -> list[WrittenShard]:
        """Closes the last shard; all that were written."""
        self._close_shard()
        self._wait_for_thread()
        return self._written
