"""What `plan` and the cutting of retry shards write and read: artists, their lines, and shards.

The statements of a plan work on staging tables and views. These are temporary: they belong to the connection, and end
with it. They are made and used in this order, within one transaction:

1. `create_staging_tables` makes the empty tables prepared, done_rows, skipped_rows, cuts, sample and following, and
   three views: new_rows (rows of prepared whose artist the state does not hold), unplanned (rows that are to go into a
   shard) and planned (unplanned, each with the shard that cuts gives it).
2. `stage_prepared_rows` fills prepared from the input table; `remove_repeated_rows` drops the rows whose artist has
   an earlier row; `stage_skipped_rows` fills skipped_rows.
3. `stage_earlier_bios` fills done_rows; `find_repeated_bio` and `count_unknown_bios` check it.
4. `keep_most_urgent_rows` drops rows of prepared beyond --limit; `number_new_rows` sets the variable highest_seq, by
   which the view new_rows numbers its rows. Only now may new_rows, unplanned and planned be read.
5. `update_changed_rows` and `load_kept_rows` serve lines that are cut again: the first takes their rows from prepared,
   the second gives those that are not there, which the planner stages as in step 2.
6. Where rows that ask the same are one line, `state.following.staging` fills following, whose rows leave unplanned.
7. Where a pilot is to be sent first, `state.pilots` reads unplanned and fills sample. `stream_ordered_lines` reads
   unplanned in the order of sending, the sample apart; `stage_cuts` fills cuts, which completes planned.
8. `assign_lines` and `insert_new_artists` read planned; `record_skipped_rows` and `insert_earlier_bios` read the rest.

A retry shard has one staging table: `stage_planned_lines` makes and fills a table named planned, in the place of the
view of that name, and `assign_lines` reads it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from batcher.core.lifecycle import ShardState
from batcher.core.model import WrittenShard
from batcher.state.db.transaction import Transaction

CHUNK_ROWS = 10_000
"""Rows that a plan reads from the state at a time."""

# The rows of a plan are plain tuples, and only their shapes have names: there is one of each for every line, DuckDB
# takes and returns plain tuples, and building each PreparedRow as a NamedTuple took a hundredth of a plan.

PreparedRow = tuple[int, str, str, str, int, str, int, int, int, int, int | None]
"""An input row that is ready to become a line, in the order of the table prepared: row, artist_id, custom_id,
artist_name, priority, data, spooled, tokens, bytes, line_hash, request_hash.

row is its number in the input table, 0 where it comes from the state. spooled is the offset in the spool of the part of
its line that no other line shares. bytes is the size of the whole line. request_hash is that of the line without its
custom_id; None where it is not needed."""

OrderedLine = tuple[int, int, int, int, int]
"""A line to be cut: priority, seq, spooled, tokens, bytes. See `PreparedRow`; seq is the artist's number."""

StoredRow = tuple[str, str, str, int, str]
"""A row as the state keeps it: artist_id, custom_id, artist_name, priority, data (JSON)."""

EarlierBio = tuple[int, str, str]
"""A bio that exists, in the order of the table done_rows: row, artist_id, data (JSON)."""

SkippedRow = tuple[int, str]
"""A row of the input table that is left out: row, message."""


class Cut(NamedTuple):
    """A shard, and the priority and number (seq) of the first line in it, in the order of the table cuts."""

    shard: int
    priority: int
    seq: int


class PlannedLine(NamedTuple):
    """The shard that a line was put into, and what the line is, in the order of the table planned."""

    artist_id: str
    shard: int
    tokens: int
    bytes: int
    line_hash: int


class StoredLine(NamedTuple):
    """A line that was planned, as the state keeps it; data is the artist's row as JSON."""

    artist_id: str
    custom_id: str
    priority: int
    data: str
    tokens: int
    line_hash: int | None
    version: int


class RepeatedRow(NamedTuple):
    """A row of the input table whose artist has an earlier row."""

    row: int
    first_row: int
    artist_id: str


class RepeatedBio(NamedTuple):
    """An artist with two bios in the table of bios that exist, and the first and last of their rows."""

    artist_id: str
    first_row: int
    last_row: int


class UnsentShard(NamedTuple):
    """A shard that was not sent yet."""

    shard: int
    state: ShardState


class PriorityTotals(NamedTuple):
    """What the state holds of one priority; lines, tokens and bytes are of what is still to be sent."""

    priority: int
    artists: int
    done_before: int
    lines: int
    tokens: int
    bytes: int


class OpenShard(NamedTuple):
    """A shard that is not settled, stale or split."""

    shard: int
    priority: int
    retry: bool
    state: str
    lines: int
    tokens: int
    bytes: int


SHARD_COLUMNS = (
    "shard", "priority", "retry", "version", "state", "lines", "tokens", "bytes", "sha256", "created_at", "longest",
    "pilot",
)  # fmt: skip


def start_run(tx: Transaction, run_id: str) -> None:
    """Record the random id of this job's run, unless the state has one."""
    tx.fetch_all("insert_run", run_id=run_id, now=tx.now)


def create_staging_tables(tx: Transaction) -> None:
    """Create the staging tables of a plan and the views of them."""
    tx.fetch_all("create_prepared")
    tx.fetch_all("create_done")
    tx.fetch_all("create_skipped")
    tx.fetch_all("create_cuts")
    tx.fetch_all("create_sample")
    tx.fetch_all("create_following")
    tx.fetch_all("view_new_rows")
    tx.fetch_all("view_unplanned")
    tx.fetch_all("view_planned")


def stage_prepared_rows(tx: Transaction, rows: Sequence[PreparedRow]) -> None:
    """Stage rows that are ready to become lines."""
    tx.insert_rows("prepared", rows)


def set_plan_memory(tx: Transaction, rows_read: int) -> None:
    """Give a plan the memory that its artists need: those in the state and `rows_read` more."""
    tx.set_memory_limit(_read_highest_number(tx) + rows_read)


def remove_repeated_rows(tx: Transaction) -> list[RepeatedRow]:
    """Remove staged rows whose artist has an earlier row; return them."""
    repeated = [RepeatedRow(*row) for row in tx.fetch_all("repeated_rows")]
    if repeated:
        tx.fetch_all("drop_repeated_rows")
    return repeated


def stage_skipped_rows(tx: Transaction, rows: Sequence[SkippedRow]) -> None:
    """Stage rows that are left out."""
    tx.insert_rows("skipped_rows", rows)


def stage_earlier_bios(tx: Transaction, rows: Sequence[EarlierBio]) -> None:
    """Stage bios that exist."""
    tx.insert_rows("done_rows", rows)


def find_repeated_bio(tx: Transaction) -> RepeatedBio | None:
    """Return the first artist with two staged bios; None where each has one."""
    rows = tx.fetch_all("repeated_bio")
    return RepeatedBio(*rows[0]) if rows else None


def count_unknown_bios(tx: Transaction) -> int:
    """Return how many staged bios belong to no artist, neither of the input table nor of the state."""
    return int(tx.fetch_one("count_unknown_bios")[0])


def count_changed_rows(tx: Transaction) -> int:
    """Return how many staged rows differ from what the state holds of their artists."""
    return int(tx.fetch_one("count_changed_rows")[0])


def keep_most_urgent_rows(tx: Transaction, most: int) -> int:
    """Drop staged rows of new artists, all but the `most` that are to be sent first; return how many were dropped."""
    return tx.count_changed("limit_prepared", limit=most)


def number_new_rows(tx: Transaction) -> int:
    """Number the rows of new artists from the highest number in the state on; return that number, 0 for none."""
    highest = _read_highest_number(tx)
    tx.fetch_all("number_from", highest=highest)
    return highest


def _read_highest_number(tx: Transaction) -> int:
    return int(tx.fetch_one("highest_seq")[0])


def load_unsent_shards_with_bios(tx: Transaction) -> list[UnsentShard]:
    """Return the unsent shards that hold a line whose artist has a staged bio."""
    return [UnsentShard(shard, ShardState(state)) for shard, state in tx.fetch_all("unsent_shards_of_done")]


def load_unsent_shards(tx: Transaction, retries: bool = True) -> list[int]:
    """Return the numbers of the shards that were not sent yet. retries: also those of lines that were sent before."""
    return [int(row[0]) for row in tx.fetch_all("unsent_shards", retries=retries)]


def unplan_shard_lines(tx: Transaction, shard: int) -> None:
    """Take the ready lines out of a shard and have them rendered and cut again by this plan."""
    tx.fetch_all("unplan_shard", shard=shard)


def unplan_untried_lines(tx: Transaction, version: int) -> None:
    """Have the lines of a version that are in no shard, and were never sent with it, rendered and cut by this plan."""
    tx.fetch_all("unplan_untried_lines", version=version)


def unplan_ready_lines(tx: Transaction) -> None:
    """Take all ready lines out of their shards and have them rendered and cut again by this plan."""
    tx.fetch_all("unplan_ready_lines")


def mark_done_before(tx: Transaction) -> None:
    """Mark the artists with a staged bio, whose lines are not sent, as done before; they need no line."""
    tx.fetch_all("mark_done_before")


def count_artists_not_in_table(tx: Transaction) -> int:
    """Return how many artists are still to be sent and have no staged row."""
    return int(tx.fetch_one("count_not_in_table")[0])


def update_changed_rows(tx: Transaction) -> None:
    """Replace the rows of artists whose lines are cut again by the staged ones, where those differ."""
    tx.fetch_all("update_changed_rows")


def load_kept_rows(tx: Transaction) -> Sequence[StoredRow]:
    """Return the rows of artists whose lines are cut again and that have no staged row."""
    return tx.fetch_all("kept_rows")


def stream_artist_ids(tx: Transaction) -> Iterator[str]:
    """Yield the ids of all artists in the order of their bytes."""
    for rows in tx.stream_rows("artist_ids", CHUNK_ROWS):
        yield from (str(artist_id) for (artist_id,) in rows)


def stream_ordered_lines(tx: Transaction, sampled: bool) -> Iterator[Sequence[OrderedLine]]:
    """Yield the unplanned lines in priority order, ties in input order, CHUNK_ROWS at a time.

    sampled: those of the staged sample; else all others.
    """
    yield from tx.stream_rows("ordered_lines", CHUNK_ROWS, sampled=sampled)


def stage_cuts(tx: Transaction, cuts: Sequence[Cut], sampled: bool) -> None:
    """Stage where the ordered lines of the sample, or the others, were cut, which gives each its shard."""
    tx.insert_rows("cuts", [(sampled, *cut) for cut in cuts])


def stage_planned_lines(tx: Transaction, lines: Sequence[PlannedLine]) -> None:
    """Stage the lines of a retry shard."""
    tx.fetch_all("create_planned")
    tx.insert_rows("planned", lines)


def record_shards(
    tx: Transaction,
    shards: Sequence[WrittenShard],
    version: int,
    state: str,
    retry: bool,
    pilot: int | None = None,
) -> None:
    """Record shard files that are in place. pilot: the pilot that they are of."""
    rows = [
        (s.shard, s.priority, retry, version, state, s.lines, s.tokens, s.bytes, s.sha256, tx.now, s.longest, pilot)
        for s in shards
    ]
    tx.insert_rows("shards", rows, SHARD_COLUMNS)


def assign_lines(tx: Transaction, version: int) -> None:
    """Put the lines of artists that the state holds into the shards that they are planned for."""
    tx.fetch_all("write_planned", version=version)


def insert_new_artists(tx: Transaction, version: int) -> int:
    """Insert the artists of the staged rows that the state does not hold; return how many there were."""
    return tx.count_changed("insert_new_artists", version=version)


def record_skipped_rows(tx: Transaction, table: str) -> None:
    """Record the staged bad rows of a table as skipped artists; those that are no longer bad are removed."""
    tx.fetch_all("delete_corrected_rows", table=table)
    tx.fetch_all("insert_skipped", table=table)


def insert_earlier_bios(tx: Transaction) -> None:
    """Insert the staged bios of artists that are done before, where the state has none."""
    tx.fetch_all("insert_earlier_bios")


def record_table_read(tx: Transaction, table: str) -> None:
    """Record that a plan read this table, by its path as seen from the folder that holds the state's folder."""
    tx.fetch_all("insert_table_name", table=table)


def load_tables_read(tx: Transaction) -> list[str]:
    """Return every table that a plan of this state read, as `record_table_read` was given it."""
    return [str(row[0]) for row in tx.fetch_all("tables_read")]


def load_priority_totals(tx: Transaction) -> list[PriorityTotals]:
    """Return what the state holds of each priority, the most urgent first."""
    return [PriorityTotals(*row) for row in tx.fetch_all("plan_by_priority")]


def load_open_shards(tx: Transaction) -> list[OpenShard]:
    """Return the shards that are not settled, stale or split, in the order of sending."""
    return [OpenShard(*row) for row in tx.fetch_all("plan_shards")]


def count_artists_by_state(tx: Transaction) -> Mapping[str, int]:
    """Return the number of artists in each state that has any."""
    return {str(state): int(count) for state, count in tx.fetch_all("count_by_state")}


def load_due_lines(tx: Transaction, priority: int, version: int, most: int, latest: float) -> list[StoredLine]:
    """Return up to `most` due lines of a priority and job version that are in no shard, in input order.

    latest: a time to wait for that is later was set by a clock that was ahead, and counts as past.
    """
    tx.move_lines("fall_due", "fall_due", priority=priority, now=tx.now, latest=latest)
    return [StoredLine(*row) for row in tx.fetch_all("loose_to_gather", priority=priority, version=version, most=most)]


class ParkedLines(NamedTuple):
    """Lines that were left in shards that were never released, of one priority and job version.

    pilot: the pilot that they are of; None: of none.
    """

    lines: list[StoredLine]
    pilot: int | None


def load_parked_lines(tx: Transaction, most: int) -> ParkedLines:
    """Return up to `most` lines that were left in unreleased shards from which others were taken."""
    rows = tx.fetch_all("parked_lines", most=most)
    return ParkedLines([StoredLine(*row[:-1]) for row in rows], rows[0][-1] if rows else None)
