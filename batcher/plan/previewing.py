"""Requests as they will be sent, rendered for a look: of artists of the plan, or of a table. Nothing is written."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from batcher.core.cache.keys import count_prefix_tokens
from batcher.core.model import JobVersion
from batcher.errors import InputError
from batcher.job.job import Job
from batcher.plan.rows import ArtistReader, BadRows, LocatedArtist, RowPreparer, describe_bad_rows, parse_priority
from batcher.state.plan import PreparedRow
from batcher.state.reports.rows import PlannedRow
from batcher.state.reports.status import SimilarArtist

MOST_SIMILAR = 5
"""Artists that are named beside an id that does not exist."""

PreparerOf = Callable[[JobVersion], RowPreparer]
"""Makes the preparer of the lines of a version."""


class LinePreview(NamedTuple):
    """A line as it will be sent."""

    artist_id: str
    artist_name: str
    priority: int
    source: str
    """Where its row is from: "plan", or "table"."""
    state: str
    """The state of its artist; "" where the plan does not have it."""
    tokens: int
    constant_tokens: int
    """Those of the tokens that every line repeats."""
    version: JobVersion
    line: bytes
    """The line of the batch input file, newline included."""
    cache_prefix: int = 0
    """Those of the tokens before its cache breakpoint; 0: it has none."""


def spread_ranks(total: int, count: int) -> list[int]:
    """Return up to `count` ranks from 1 to `total`, evenly spaced: the first, the last and those between; of one rank
    the middle one."""
    if count == 1 or total <= 1:
        return [(total + 1) // 2] if total else []
    return sorted({1 + round(place * (total - 1) / (count - 1)) for place in range(count)})


def find_table_artists(table: Path, job: Job, artist_ids: Iterable[str]) -> dict[str, LocatedArtist]:
    """Return the artists of these ids that a table has, by id."""
    wanted, found = set(artist_ids), dict[str, LocatedArtist]()
    for where, artist in ArtistReader(job).read_artists(table, []):
        artist_id = job.read_id(artist)
        if artist_id in wanted and artist_id not in found:
            found[artist_id] = (where, artist)
            if len(found) == len(wanted):
                break
    return found


def find_urgent_artist(table: Path, job: Job) -> LocatedArtist:
    """Return the first of the most urgent artists of a table. Raises InputError where the table has no good row."""
    best: LocatedArtist | None = None
    most_urgent = 0
    bad: BadRows = []
    for where, artist in ArtistReader(job).read_artists(table, bad):
        priority = parse_priority(job, artist, where)
        if best is None or priority < most_urgent:
            best, most_urgent = (where, artist), priority
    if best is None:
        raise InputError(_describe_no_row(table, bad))
    return best


def sample_table_artists(table: Path, job: Job, count: int) -> list[LocatedArtist]:
    """Return `count` artists of a table, from its shortest row to its longest, evenly spaced.

    The table is read twice, so that it need not fit into memory. Raises InputError where it has no good row.
    """
    bad: BadRows = []
    lengths = [len(job.encode_row(artist)) for _, artist in ArtistReader(job).read_artists(table, bad)]
    if not lengths:
        raise InputError(_describe_no_row(table, bad))
    order = sorted(range(len(lengths)), key=lambda place: (lengths[place], place))
    ranks = {order[rank - 1]: rank for rank in spread_ranks(len(lengths), count)}
    chosen = [
        (ranks[place], located)
        for place, located in enumerate(ArtistReader(job).read_artists(table, []))
        if place in ranks
    ]
    return [located for _, located in sorted(chosen, key=lambda row: row[0])]


def _describe_no_row(table: Path, bad: BadRows) -> str:
    return (
        f"{describe_bad_rows(table, bad)}; fix the table" if bad else f"{table} has no rows; there is nothing to plan"
    )


def find_similar_ids(table: Path, job: Job, text: str) -> list[SimilarArtist]:
    """Return up to five artists of a table whose id or name holds a text, else whose id is spelt much like it."""
    rows = [
        SimilarArtist(job.read_id(artist), job.read_name(artist))
        for _, artist in ArtistReader(job).read_artists(table, [])
    ]
    part = text.lower()
    holding = [row for row in rows if part in row.artist_id.lower() or part in row.artist_name.lower()]
    if holding:
        return holding[:MOST_SIMILAR]
    words: dict[str, SimilarArtist] = {}
    for row in rows:
        for word in (row.artist_id.lower(), *row.artist_name.lower().split()):
            words.setdefault(word, row)
    return list(dict.fromkeys(words[word] for word in get_close_matches(part, words, MOST_SIMILAR)))


def preview_table_artists(artists: Sequence[LocatedArtist], preparer: RowPreparer) -> list[LinePreview]:
    """Return the lines of artists of a table. Raises InputError for one that cannot be a line, and JobError."""
    bad: BadRows = []
    parts: list[bytes] = []
    rows = list(preparer.prepare_artists(artists, _appender(parts), bad)) if artists else []
    if bad:
        raise InputError(f"{bad[0][1]}; fix the table")
    return [_build_preview(row, parts, preparer, "table", "") for row in rows]


def preview_planned_rows(
    rows: Sequence[PlannedRow], versions: Mapping[int, JobVersion], today: JobVersion, preparer_of: PreparerOf
) -> list[LinePreview]:
    """Return the lines of planned artists. Raises JobError.

    versions: those that a line keeps, by their numbers; a line of any other is shown as today's version asks it.
    """
    previews = []
    for row in rows:
        preparer = preparer_of(versions.get(row.version or 0, today))
        parts: list[bytes] = []
        (prepared,) = preparer.prepare_stored_rows([row.stored_row], _appender(parts))
        previews.append(_build_preview(prepared, parts, preparer, "plan", row.state))
    return previews


def _appender(parts: list[bytes]) -> Callable[[bytes], int]:
    """Return what appends to a list and returns the place."""

    def append_part(own: bytes) -> int:
        parts.append(own)
        return len(parts) - 1

    return append_part


def _build_preview(
    row: PreparedRow, parts: Sequence[bytes], preparer: RowPreparer, source: str, state: str
) -> LinePreview:
    _, artist_id, _, name, priority, _, place, tokens, *_ = row
    line, constant = preparer.renderer.render_line(parts[place]), preparer.constant_tokens
    prefix = count_prefix_tokens(preparer.version, constant)
    return LinePreview(artist_id, name, priority, source, state, tokens, constant, preparer.version, line, prefix)
