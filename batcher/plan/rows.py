"""Input rows made ready to become lines: read, checked, rendered and counted, a chunk at a time.

A row takes these forms: `TableRow` (a dict, from plan/tables.py), `LocatedArtist` (checked by the job), `RenderedRow`
(with its part of the prompt), `PreparedRow` (counted and hashed, as the staging table takes it).
"""

from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from batcher.catalog.prices import lookup_context_window
from batcher.catalog.tokens import TokenCounter
from batcher.config.derived import enqueued_token_limit
from batcher.config.sections import Config
from batcher.core.cutting import split_chunks
from batcher.core.endpoints.table import FORMS
from batcher.core.model import JobVersion
from batcher.core.rendering import LineRenderer, make_custom_id, overhead_tokens
from batcher.errors import ConfigError, InputError, JobError
from batcher.job.job import Job
from batcher.job.messages import measure_messages
from batcher.nouns import current_nouns
from batcher.plan.tables import TableRow, read_column_names, read_table
from batcher.state.plan import PreparedRow, SkippedRow, StoredRow

READ_ROWS = 5_000
"""Rows of a chunk: they are rendered, counted and staged together."""
AHEAD_CHUNKS = 4
"""Chunks that may be rendered before the first is counted. By then the tokenizer is loaded, or nearly."""
AHEAD_CHARACTERS = 12_000_000
"""Most characters of the texts in those chunks. The chunks of ordinary rows stay below it."""
LARGEST_PRIORITY = 2**31 - 1
"""The largest number in a column of type INTEGER."""
SMALLEST_WINDOW = 4_096
"""Tokens of prompt and answer that every model allows (the first gpt-3.5-turbo allowed no more, and none allows fewer).
For shorter lines the table of all models need not be loaded."""
DEFAULT_PRIORITY = 3
"""The priority of a table without such a column."""

SpoolPart = Callable[[bytes], int]
"""Stores the part of a line that no other line shares; returns where it is stored."""

BadRows = list[SkippedRow]
"""Rows that are left out or refused: number, and what is wrong."""


NAMED_BAD_ROWS = 3
"""Bad rows that an error names."""


def describe_bad_rows(table: Path, bad: BadRows) -> str:
    """Return what is wrong with the first few bad rows of a table, and how many there are."""
    first, *others = (message for _, message in bad[:NAMED_BAD_ROWS])
    told = "; ".join([first, *(message.removeprefix(f"{table}, ") for message in others)])
    return told if len(bad) <= NAMED_BAD_ROWS else f"{told}; {len(bad):,} bad rows in all"


class RowLocation:
    """A row of the table. Its text is made only when it is needed, which for nearly all rows is never."""

    __slots__ = ("_path", "row")

    def __init__(self, path: Path, row: int) -> None:
        self._path, self.row = path, row

    def __str__(self) -> str:
        return f"{self._path}, row {self.row}"


LocatedArtist = tuple[RowLocation, Any]
"""An artist, as the job's own model, and the row that it was read from."""

RenderedRow = tuple[RowLocation, Any, str]
"""An artist as in `LocatedArtist`, and the artist's part of the prompt."""


class RenderedChunk(NamedTuple):
    """Rows that are rendered and are being counted."""

    rows: list[RenderedRow]
    counts: Callable[[], list[int]]
    """Waits for the tokens of each row's part of the prompt, and returns them."""
    characters: int
    """Characters of all those parts."""


class ArtistReader:
    """Reads the artists of a table, as the job has them."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.rows_read = 0

    def read_artists(self, table: Path, bad: BadRows) -> Iterator[LocatedArtist]:
        """Yield the artists of valid rows; append the other rows to `bad`.

        Raises InputError or JobError for what is wrong with the whole table or with the job.
        """
        # Each row of JSONL has columns of its own, so a missing one is the fault of that row.
        columns_checked = table.suffix.lower() == ".jsonl"
        for number, row in read_table(table, self._job.columns):
            self.rows_read += 1
            where = RowLocation(table, number)
            try:
                if isinstance(row, InputError):
                    raise row
                if not columns_checked:
                    self._check_columns(table, row)
                    columns_checked = True
                artist = self._job.parse_artist_row(row, where)
            except WrongColumnsError:
                raise
            except InputError as error:
                bad.append((number, str(error)))
            else:
                yield where, artist

    def _check_columns(self, table: Path, row: TableRow) -> None:
        """Raise WrongColumnsError where the table lacks a column that every row needs."""
        missing = _find_missing_column(table, self._job, row)
        if missing:
            raise WrongColumnsError(missing)


class RowPreparer:
    """Makes the rows of a table ready, for one version of a job."""

    def __init__(
        self, config: Config, job: Job, version: JobVersion, counter: TokenCounter, hashes_requests: bool = False
    ) -> None:
        """hashes_requests: whether rows of a table are compared by what they ask."""
        self.job, self.version = job, version
        self.renderer = LineRenderer(version)
        self._hashes_requests = hashes_requests
        self._reader = ArtistReader(job)
        self._counter = counter
        self._encoding = FORMS[version.endpoint].encoding
        self._constant_counts = counter.count(self.renderer.constant_texts(), self._encoding)
        self._ceiling = int(enqueued_token_limit(config) * config.limits.threshold)
        self._factor = 1 + config.limits.margin

    @property
    def rows_read(self) -> int:
        """Rows of the table that were read so far, bad ones included."""
        return self._reader.rows_read

    @cached_property
    def _context_window(self) -> int | None:
        return lookup_context_window(self.version.model)

    @cached_property
    def constant_tokens(self) -> int:
        """Tokens that every line has in common. Raises ConfigError where the limit has no room for any line."""
        messages = 2 if not self.renderer.has_messages else 1 if self.version.system else 0
        overhead = overhead_tokens(messages) if self.version.endpoint.takes_prompt else 0
        constant = sum(self._constant_counts.result()) + overhead
        if constant * self._factor > self._ceiling:
            raise ConfigError(
                f"the enqueued-token limit x threshold is {self._ceiling:,} tokens, and the prompt alone takes "
                f"{constant:,} of each line; "
                "raise enqueued_tokens or threshold under [limits], or shorten the prompt"
            )
        return constant

    def prepare_rows(self, table: Path, spool_part: SpoolPart, bad: BadRows) -> Iterator[list[PreparedRow]]:
        """Yield the good rows of a table, a chunk at a time; append the others to `bad`.

        Raises InputError or JobError for what is wrong with the whole table or with the job.
        """
        ahead: deque[RenderedChunk] = deque()
        characters = 0
        for chunk in split_chunks(self._reader.read_artists(table, bad), READ_ROWS):
            ahead.append(self._render_artists(chunk))
            characters += ahead[-1].characters
            while len(ahead) > AHEAD_CHUNKS or characters > AHEAD_CHARACTERS:
                first = ahead.popleft()
                characters -= first.characters
                yield list(self._build_prepared_rows(first, spool_part, bad))
        for rest in ahead:
            yield list(self._build_prepared_rows(rest, spool_part, bad))

    def prepare_artists(
        self, artists: Sequence[LocatedArtist], spool_part: SpoolPart, bad: BadRows
    ) -> Iterator[PreparedRow]:
        """Yield artists of a table (at least one) made ready; append those that cannot be a line to `bad`.

        Raises JobError.
        """
        yield from self._build_prepared_rows(self._render_artists(artists), spool_part, bad)

    def _render_artists(self, artists: Sequence[LocatedArtist]) -> RenderedChunk:
        """Render artists and have their texts counted."""
        rendered = [(where, artist, self._render_text(artist, where)) for where, artist in artists]
        self._check_round_trip(*rendered[0])
        texts = [text for _, _, text in rendered]
        return RenderedChunk(rendered, self._count_texts(texts), sum(map(len, texts)))

    def _count_texts(self, texts: Sequence[str]) -> Callable[[], list[int]]:
        """Have the own parts of lines counted; return what waits for their tokens and returns them."""
        if not self.renderer.has_messages:
            return self._counter.count(texts, self._encoding).result
        measured = [measure_messages(text) for text in texts]
        counts = self._counter.count([each.text for each in measured])
        return lambda: [each.tokens + counted for each, counted in zip(measured, counts.result(), strict=True)]

    def _build_prepared_rows(self, chunk: RenderedChunk, spool_part: SpoolPart, bad: BadRows) -> Iterator[PreparedRow]:
        renderer, constant = self.renderer, self.constant_tokens
        for (where, artist, text), counted in zip(chunk.rows, chunk.counts(), strict=True):
            tokens = counted + constant
            priority = parse_priority(self.job, artist, where)
            artist_id, name = self.job.read_id(artist), self.job.read_name(artist)
            problem = self.find_problem(artist_id, priority, tokens)
            if problem:
                bad.append((where.row, f"{where} ({name}): {problem}"))
                continue
            line_id, data = make_custom_id(artist_id), self.job.encode_row(artist)
            own = renderer.encode_own_part(line_id, text)
            size, line_hash = renderer.line_size(own), renderer.hash_line(own)
            asks = renderer.hash_request(text) if self._hashes_requests else None
            yield where.row, artist_id, line_id, name, priority, data, spool_part(own), tokens, size, line_hash, asks

    def prepare_stored_rows(self, rows: Sequence[StoredRow], spool_part: SpoolPart) -> Iterator[PreparedRow]:
        """Yield rows as the state keeps them, made ready again. Raises JobError naming the artist."""
        renderer = self.renderer
        texts = [self._render_stored_text(artist_id, data) for artist_id, _, _, _, data in rows]
        counts, constant = self._count_texts(texts)(), self.constant_tokens
        for (artist_id, line_id, name, priority, data), text, counted in zip(rows, texts, counts, strict=True):
            own, tokens = renderer.encode_own_part(line_id, text), counted + constant
            size, hashes = renderer.line_size(own), (renderer.hash_line(own), renderer.hash_request(text))
            yield 0, artist_id, line_id, name, priority, data, spool_part(own), tokens, size, *hashes

    def _render_stored_text(self, artist_id: str, data: str) -> str:
        where = f"{current_nouns().row} {artist_id}"
        try:
            artist = self.job.restore_artist(data)
        except JobError as error:
            raise JobError(f"{where}: {error}", f"{where}: {error.logged}") from None
        return self._render_text(artist, where)

    def _render_text(self, artist: Any, where: object) -> str:
        """Return the artist's part of the prompt: a text, or messages as JSON. Raises JobError naming the row."""
        if self.renderer.has_messages:
            return self.job.render_messages(artist, self.version.endpoint, where)
        values = self.job.prompt_values(artist, where)
        try:
            text = self.renderer.render_user_text(values)
            text.encode()
        except JobError as error:
            raise JobError(f"{where}: {error}; it gives {', '.join(values) or 'nothing'}") from None
        except UnicodeEncodeError:
            raise JobError(f"{where}: prompt_values gives half of a surrogate pair, which is no text") from None
        return text

    def _check_round_trip(self, where: RowLocation, artist: Any, text: str) -> None:
        """Raise JobError where the row as the state keeps it gives another text: retries are rendered from that row."""
        if self._render_text(self.job.restore_artist(self.job.encode_row(artist)), where) != text:
            if self.renderer.has_messages and self._render_text(artist, where) != text:
                raise JobError(
                    f"{where}: messages gives something else at its second call; it must depend on the row alone"
                )
            raise JobError(
                f"{where}: the {current_nouns().row} reads otherwise once it was stored and read again; "
                f"the validators of {self.job.artist.__name__} must leave alone what they made"
            )

    def find_problem(self, artist_id: str, priority: int, tokens: int) -> str:
        """Return what is wrong with a row; "" where nothing is."""
        if not artist_id:
            return f"column {self.job.row_columns.id} is empty"
        if not 1 <= priority <= LARGEST_PRIORITY:
            return f"column {self.job.row_columns.priority}: must be 1 (the most urgent) or more (it is {priority})"
        most = tokens + self.version.max_output_tokens
        if not most:
            return "the text is empty; a text needs a word at least"
        if most > SMALLEST_WINDOW and self._context_window is not None and most > self._context_window:
            what = "prompt and answer are" if self.version.endpoint.takes_prompt else "the text is"
            return f"{what} {most:,} tokens, the context of {self.version.model} is {self._context_window:,}"
        if tokens * self._factor > self._ceiling:
            return f"one line of {tokens:,} tokens is over the enqueued-token limit x threshold of {self._ceiling:,}"
        return ""


def find_missing_column(table: Path, job: Job) -> str:
    """Return that a table lacks a column which every row needs, as a sentence; "" where it has them all.

    A table of JSONL is judged by its first rows. Raises InputError as `read_table` does.
    """
    return _find_missing_column(table, job, read_column_names(table))


def _find_missing_column(table: Path, job: Job, found: Container[str]) -> str:
    for name, field in job.artist.model_fields.items():
        column = field.validation_alias or name
        if field.is_required() and isinstance(column, str) and not (column in found or name in found):
            columns = ", ".join(read_column_names(table))
            return (
                f"{table} has no column {column}; its columns are {columns or 'none'}: "
                "rename one, or give it an alias in job.py"
            )
    return ""


def find_unused_columns(table: Path, job: Job) -> list[str]:
    """Return the columns of a table that the job's rows do not read, in the order of the table.

    None are returned where a row may read any column: where its model has code that is given whole rows, or keeps them.
    Raises InputError as `read_table` does.
    """
    if job.columns is None:
        return []
    return [name for name in read_column_names(table) if name not in job.columns]


class WrongColumnsError(InputError):
    """The table lacks a column that every row needs: no row is at fault."""


def parse_priority(job: Job, artist: Any, where: object) -> int:
    """Return a row's priority, DEFAULT_PRIORITY where it has none. Raises JobError where it is no whole number."""
    column = job.row_columns.priority
    value = getattr(artist, column, None) if column is not None else None
    if type(value) is int:
        return value
    if value is None:
        return DEFAULT_PRIORITY
    if isinstance(value, Decimal | float) and float(value).is_integer():
        return int(value)
    if not isinstance(value, int):
        raise JobError(f"{where}: {job.artist.__name__}.{column} is {type(value).__name__}; declare it as int")
    return value
