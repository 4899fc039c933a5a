"""What `plan` writes and reads: artists, versions and shards. Functions of an open transaction."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from batcher.core.model import WrittenShard
from batcher.state.db.transaction import Transaction

CHUNK_ROWS = 10_000

# Tuples, not dataclasses: there is one of each a line, and a table takes them as they are.


PreparedRow = tuple[int, str, str, str, int, str, int, int, int, int]
"""An input row that is ready to become a line, in the order of the staging table: row, artist_id, custom_id,
artist_name, priority, data, spooled, tokens, bytes, line_hash.

row: its number. spooled: where in the spool stands what its line does not share with the others. Plain, because making
it by name took a hundredth of a plan."""


class OrderedLine(NamedTuple):
    """A line to be cut, in the order of (priority, seq)."""

    priority: int
    seq: int
    spooled: int
    tokens: int
    bytes: int


class Cut(NamedTuple):
    """A shard, and the first line in it."""

    shard: int
    priority: int
    seq: int


class PlannedLine(NamedTuple):
    """Where a line was put, and what it is, in the order of the staging table."""

    artist_id: str
    shard: int
    tokens: int
    bytes: int
    line_hash: int


SHARD_COLUMNS = (
    "shard", "priority", "retry", "version", "state", "lines", "tokens", "bytes", "sha256", "created_at",
)  # fmt: skip


def create_staging_tables(tx: Transaction) -> None:
    """Makes the staging tables and the views of them, which live as long as the connection."""
    for name in (
        "create_prepared",
        "create_done",
        "create_skipped",
        "create_cuts",
        "view_new_rows",
        "view_unplanned",
        "view_planned",
    ):
        tx.fetch_all(name)


def stage_prepared_rows(tx: Transaction, rows: Sequence[PreparedRow]) -> None:
    """Stages input rows."""
    tx.insert_rows("prepared", rows)


def stream_ordered_lines(tx: Transaction) -> Iterator[Sequence[OrderedLine]]:
    """The unplanned lines in priority order, ties in input order, chunk by chunk."""
    yield from tx.stream_rows("ordered_lines", CHUNK_ROWS)


def stage_cuts(tx: Transaction, cuts: Sequence[Cut]) -> None:
    """Stages where the ordered lines were cut: that tells the shard of each."""
    tx.insert_rows("cuts", cuts)


def stage_planned_lines(tx: Transaction, lines: Sequence[PlannedLine]) -> None:
    """Stages where lines were put."""
    tx.fetch_all("create_planned")
    tx.insert_rows("planned", lines)


def record_shards(tx: Transaction, shards: Sequence[WrittenShard], version: int, state: str, retry: bool) -> None:
    """Records shard files that are in place."""
    rows = [(s.shard, s.priority, retry, version, state, s.lines, s.tokens, s.bytes, s.sha256, tx.now) for s in shards]
    tx.insert_rows("shards", rows, SHARD_COLUMNS)


def assign_lines(tx: Transaction, version: int) -> None:
    """Puts the lines that the state holds into the shards that they are planned for."""
    tx.fetch_all("write_planned", version=version)


def count_artists_by_state(tx: Transaction) -> Mapping[str, int]:
    """Artists in each state that has any."""
    return {str(state): int(count) for state, count in tx.fetch_all("count_by_state")}
