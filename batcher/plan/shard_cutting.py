"""Cutting shards: lines rendered in priority order into shard files, a new one wherever the limits say so."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from batcher.core.cutting import ShardCutter
from batcher.core.model import ShardLimits, WrittenShard
from batcher.core.rendering import LineRenderer
from batcher.disk.shard_files import ShardWriter, Spool
from batcher.state.plan import Cut, OrderedLine

BUFFER_LINES = 1_000
"""Lines that are written together: each write has a cost that does not depend on its size."""


class ShardCutting:
    """Renders lines in order and writes them into shard files, opening a new one where the limits say so.

    Hashing and syncing do not need the interpreter's lock, so they run in a thread while the next lines are rendered
    and written: in order, and never more than one step behind. Used as a context: a file that is not finished is
    removed.
    """

    def __init__(self, renderer: LineRenderer, limits: ShardLimits, folder: Path, first: int) -> None:
        """first: the number of the first shard."""
        self._renderer, self._folder, self._next = renderer, folder, first
        self._cutter = ShardCutter(limits)
        self._writer: ShardWriter | None = None
        self._written: list[WrittenShard] = []
        self._buffer: list[bytes] = []
        self._buffered_lines = self._buffered_tokens = self._buffered_longest = 0
        self.cuts: list[Cut] = []
        """Where each shard begins, of the lines that `cut_spooled_lines` was given."""
        self._thread = ThreadPoolExecutor(1)
        self._step: Future[None] | None = None

    def __enter__(self) -> "ShardCutting":
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Remove the file that is not finished."""
        self._thread.shutdown()
        if self._writer is not None:
            self._writer.discard_file()

    def cut_spooled_lines(self, spool: Spool, lines: Sequence[OrderedLine]) -> None:
        """Add lines whose own parts are in the spool. Raises OSError where the disk refuses them."""
        spool.flush()
        constant_bytes, add_line = self._renderer.constant_bytes, self.add_line
        for priority, seq, spooled, tokens, size in lines:
            if add_line(priority, spool.read_piece(spooled, size - constant_bytes), size, tokens):
                self.cuts.append(Cut(self._next - 1, priority, seq))

    def can_add_line(self, priority: int, size: int, tokens: int) -> bool:
        """Return whether a line of `size` bytes goes into the open shard."""
        return self._cutter.fits(priority, size, tokens)

    def add_line(self, priority: int, own: bytes, size: int, tokens: int) -> bool:
        """Add a line of `size` bytes, given by its own part; return whether it opened a new shard.

        Raises OSError where the disk refuses it.
        """
        opened = self._cutter.add_line(priority, size, tokens)
        if opened:
            self._close_shard()
            self._writer = ShardWriter(self._folder, self._next, priority)
            self._next += 1
        self._buffer += self._renderer.line_pieces(own)
        self._buffered_lines += 1
        self._buffered_tokens += tokens
        self._buffered_longest = max(self._buffered_longest, tokens)
        if self._buffered_lines >= BUFFER_LINES:
            self._flush_buffer()
        return opened

    def _flush_buffer(self) -> None:
        if self._writer is not None and self._buffer:
            data = b"".join(self._buffer)
            self._run_in_thread(self._writer.update_digest, data)
            self._writer.write_lines(data, self._buffered_lines, self._buffered_tokens, self._buffered_longest)
            self._buffer, self._buffered_lines, self._buffered_tokens, self._buffered_longest = [], 0, 0, 0

    def _close_shard(self) -> None:
        self._flush_buffer()
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
        """Wait for the thread's last task, raising its error, and submit the next one."""
        self._wait_for_thread()
        self._step = self._thread.submit(work, *arguments)

    def _wait_for_thread(self) -> None:
        if self._step is not None:
            self._step.result()

    def finish_shards(self) -> list[WrittenShard]:
        """Close the last shard; return all that were written. Raises OSError where the disk refuses a file."""
        self._close_shard()
        self._wait_for_thread()
        return self._written
