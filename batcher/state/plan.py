"""What `plan` writes and reads: artists, versions and shards. Functions of an open transaction."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

import orjson

from batcher.core.model import Endpoint, JobVersion, WrittenShard
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


def encode_version(version: JobVersion) -> str:
    """The version as the state keeps it. The schema keeps its order: a model answers in it, and lines repeat it."""
    return orjson.dumps(version._asdict()).decode()


def decode_version(definition: str) -> JobVersion:
    """The version that `encode_version` wrote."""
    data = orjson.loads(definition)
    return JobVersion(**{**data, "endpoint": Endpoint(data["endpoint"])})


def version_number(tx: Transaction, version: JobVersion) -> int:
    """The number of this version: the one that it has, or the next."""
    fingerprint = _fingerprint(version)
    known = tx.run("versions")
    return next((int(number) for number, seen in known if seen == fingerprint), len(known) + 1)


def register_version(tx: Transaction, version: JobVersion, constant_tokens: int) -> int:
    """The number of this version, new or known."""
    number = version_number(tx, version)
    tx.run(
        "insert_version",
        version=number, fingerprint=_fingerprint(version), definition=encode_version(version),
        constant_tokens=constant_tokens, now=tx.now,
    )  # fmt: skip
    return number


def _fingerprint(version: JobVersion) -> str:
    return sha256(encode_version(version).encode()).hexdigest()


def load_version(tx: Transaction, number: int) -> tuple[JobVersion, int]:
    """A stored version and the tokens that each of its lines has in common."""
    definition, constant_tokens = tx.one("version_definition", version=number)
    return decode_version(definition), constant_tokens


def load_versions(tx: Transaction) -> Mapping[int, JobVersion]:
    """Every version that anything was planned with."""
    return {int(number): decode_version(definition) for number, definition in tx.run("version_definitions")}


def widened(tx: Transaction, number: int, room: int) -> int | None:
    """The version that asks the same with `room` as max_output_tokens; None where the version has as much."""
    version, constant_tokens = load_version(tx, number)
    if version.max_output_tokens >= room:
        return None
    return register_version(tx, version._replace(max_output_tokens=room), constant_tokens)


def stage(tx: Transaction) -> None:
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
        tx.run(name)


def stage_prepared(tx: Transaction, rows: Sequence[PreparedRow]) -> None:
    """Stages input rows."""
    tx.append("prepared", rows)


def ordered_lines(tx: Transaction) -> Iterator[Sequence[OrderedLine]]:
    """The unplanned lines in priority order, ties in input order, chunk by chunk."""
    yield from tx.stream("ordered_lines", CHUNK_ROWS)


def stage_cuts(tx: Transaction, cuts: Sequence[Cut]) -> None:
    """Stages where the ordered lines were cut: that tells the shard of each."""
    tx.append("cuts", cuts)


def stage_planned(tx: Transaction, lines: Sequence[PlannedLine]) -> None:
    """Stages where lines were put."""
    tx.run("create_planned")
    tx.append("planned", lines)


def write_shards(tx: Transaction, shards: Sequence[WrittenShard], version: int, state: str, retry: bool) -> None:
    """Records shard files that are in place."""
    rows = [(s.shard, s.priority, retry, version, state, s.lines, s.tokens, s.bytes, s.sha256, tx.now) for s in shards]
    tx.append("shards", rows, SHARD_COLUMNS)


def place_lines(tx: Transaction, version: int) -> None:
    """Puts the lines that the state holds into the shards that they are planned for."""
    tx.run("write_planned", version=version)


def count_by_state(tx: Transaction) -> Mapping[str, int]:
    """Artists in each state that has any."""
    return {str(state): int(count) for state, count in tx.run("count_by_state")}
