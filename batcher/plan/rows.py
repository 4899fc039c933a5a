"""Input rows made ready to become lines: read, checked, rendered and counted, a chunk at a time."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from batcher.catalog.prices import lookup_context_window
from batcher.catalog.tokens import TokenCounter
from batcher.config import Config, enqueued_token_limit
from batcher.core.cutting import split_chunks
from batcher.core.model import JobVersion
from batcher.core.rendering import LineRenderer, make_custom_id, overhead_tokens
from batcher.errors import ConfigError, InputError, JobError
from batcher.job.job import Job, encode_row
from batcher.plan.tables import read_table
from batcher.state.plan import PreparedRow

READ_ROWS = 5_000
AHEAD_CHUNKS = 4
"""Chunks that may be rendered before the first is counted: by then the tokenizer is loaded, or nearly."""
AHEAD_CHARACTERS = 12_000_000
"""And what their texts may come to: so much that of usual rows all the chunks fit."""
LARGEST_PRIORITY = 2**31 - 1
SMALLEST_WINDOW = 4_096
"""Tokens of prompt and answer that every model takes (the first gpt-3.5-turbo took no more, and none takes fewer): for
shorter lines the table of all models need not be loaded."""
DEFAULT_PRIORITY = 3
"""The priority of a table without such a column."""

Keep = Callable[[bytes], int]
"""Keeps what a line has of its own; gives back where."""

BadRows = list[tuple[int, str]]
"""Rows that are left out or refused: number, and what is wrong."""

TokenCounts = Future[list[int]]


class RowLocation:
    """A row of the table; its words are made when somebody asks for them, which for nearly all rows is never."""

    __slots__ = ("_path", "row")

    def __init__(self, path: Path, row: int) -> None:
        self._path, self.row = path, row

    def __str__(self) -> str:
        return f"{self._path}, row {self.row}"


Rendered = list[tuple[RowLocation, Any, str]]
"""Artists with their places, and each one's part of the prompt."""


class RowPreparer:
    """Makes the rows of a table ready, for one version of a job."""

    def __init__(self, config: Config, job: Job, version: JobVersion, counter: TokenCounter) -> None:
        self.job, self.version = job, version
        self.renderer = LineRenderer(version)
        self.rows_read = 0
        self._counter = counter
        self._counted = counter.count(self.renderer.constant_texts())
        self._ceiling = int(enqueued_token_limit(config) * config.limits.threshold)
        self._factor = 1 + config.limits.margin

    @cached_property
    def _context_window(self) -> int | None:
        return lookup_context_window(self.version.model)

    @cached_property
    def constant_tokens(self) -> int:
        """Tokens that every line has in common. Raises ConfigError where the limit has no room for any line."""
        constant = sum(self._counted.result()) + overhead_tokens()
        if constant * self._factor > self._ceiling:
            raise ConfigError(
                f"the enqueued-token limit x threshold is {self._ceiling:,} tokens, and the prompt alone takes "
                f"{constant:,} of each line; "
                "raise enqueued_tokens or threshold under [limits], or shorten the prompt"
            )
        return constant

    def prepare_rows(self, table: Path, keep: Keep, bad: BadRows) -> Iterator[list[PreparedRow]]:
        """The good rows of a table; others go to `bad`. Raises InputError or JobError for what is no row's fault."""
        ahead: deque[tuple[Rendered, TokenCounts, int]] = deque()
        characters = 0
        for chunk in split_chunks(self._read_artists(table, bad), READ_ROWS):
            rendered = self._render_chunk(chunk)
            texts = [text for _, _, text in rendered]
            ahead.append((rendered, self._counter.count(texts), sum(map(len, texts))))
            characters += ahead[-1][2]
            while len(ahead) > AHEAD_CHUNKS or characters > AHEAD_CHARACTERS:
                first, counts, long = ahead.popleft()
                characters -= long
                yield list(self._build_prepared_rows(first, counts, keep, bad))
        for rendered, counts, _ in ahead:
            yield list(self._build_prepared_rows(rendered, counts, keep, bad))

    def _read_artists(self, table: Path, bad: BadRows) -> Iterator[tuple[RowLocation, Any]]:
        """Valid artists with their places."""
        # Each row of JSONL has columns of its own, so a missing one is that row's fault.
        checked = table.suffix.lower() == ".jsonl"
        for number, row in read_table(table, self.job.columns):
            self.rows_read += 1
            where = RowLocation(table, number)
            try:
                if isinstance(row, InputError):
                    raise row
                if not checked:
                    self._check_columns(table, row)
                    checked = True
                artist = self.job.parse_artist_row(row, where)
            except WrongColumnsError:
                raise
            except InputError as error:
                bad.append((number, str(error)))
            else:
                yield where, artist

    def _check_columns(self, table: Path, row: dict[str, object]) -> None:
        fields = self.job.artist.model_fields
        missing = [name for name, info in fields.items() if _is_column_required(info) and name not in row]
        if missing:
            _, whole = next(read_table(table))
            columns = ", ".join(whole) if isinstance(whole, dict) else ""
            raise WrongColumnsError(
                f"{table} has no column {missing[0]}; its columns are {columns or 'none'}: "
                "rename one, or give it an alias in job.py"
            )

    def _render_chunk(self, chunk: Sequence[tuple[RowLocation, Any]]) -> Rendered:
        rendered = [(where, artist, self._render_text(artist, where)) for where, artist in chunk]
        self._check_round_trip(*rendered[0])
        return rendered

    def _build_prepared_rows(
        self, rendered: Rendered, counts: TokenCounts, keep: Keep, bad: BadRows
    ) -> Iterator[PreparedRow]:
        renderer, constant = self.renderer, self.constant_tokens
        for (where, artist, text), counted in zip(rendered, counts.result(), strict=True):
            tokens = counted + constant
            priority = _parse_priority(artist, where)
            artist_id, name = str(artist.artist_id), str(artist.artist_name)
            problem = self._find_problem(artist_id, priority, tokens)
            if problem:
                bad.append((where.row, f"{where} ({name}): {problem}"))
                continue
            line_id, data = make_custom_id(artist_id), encode_row(artist)
            own = renderer.encode_own_part(line_id, text)
            row = (where.row, artist_id, line_id, name, priority, data, keep(own), tokens)
            yield (*row, renderer.line_size(own), renderer.hash_line(own))

    def prepare_stored_rows(self, rows: Sequence[tuple[Any, ...]], keep: Keep) -> Iterator[PreparedRow]:
        """Rows as the state keeps them (artist_id, custom_id, name, priority, data). Raises JobError."""
        texts = [self._render_text(self.job.restore_artist(row[4]), f"artist {row[0]}") for row in rows]
        renderer = self.renderer
        for (artist_id, line_id, name, priority, data), text, counted in zip(
            rows, texts, self._counter.count(texts).result(), strict=True
        ):
            own, tokens = renderer.encode_own_part(line_id, text), counted + self.constant_tokens
            row = (0, artist_id, line_id, name, priority, data, keep(own), tokens)
            yield (*row, renderer.line_size(own), renderer.hash_line(own))

    def _render_text(self, artist: Any, where: object) -> str:
        """The artist's part of the prompt. Raises JobError naming the row."""
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
        """A line that fails is rendered from the row as the state keeps it: that must give the same text."""
        if self._render_text(self.job.restore_artist(encode_row(artist)), where) != text:
            raise JobError(
                f"{where}: the artist reads otherwise once it was stored and read again; "
                "the validators of Artist must leave alone what they made"
            )

    def _find_problem(self, artist_id: str, priority: int, tokens: int) -> str:
        if not artist_id:
            return "column artist_id is empty"
        if not 1 <= priority <= LARGEST_PRIORITY:
            return f"column priority: must be 1 (the most urgent) or more (it is {priority})"
        return self._find_length_problem(tokens)

    def _find_length_problem(self, tokens: int) -> str:
        whole = tokens + self.version.max_output_tokens
        if whole > SMALLEST_WINDOW and self._context_window is not None and whole > self._context_window:
            window = self._context_window
            return f"prompt and answer are {whole:,} tokens, the context of {self.version.model} is {window:,}"
        if tokens * self._factor > self._ceiling:
            return f"one line of {tokens:,} tokens is over the enqueued-token limit x threshold of {self._ceiling:,}"
        return ""


class WrongColumnsError(InputError):
    """The table lacks a column that every row needs: no row is at fault."""


def _is_column_required(field: FieldInfo) -> bool:
    return field.is_required() and field.validation_alias is None


def _parse_priority(artist: Any, where: object) -> int:
    value = getattr(artist, "priority", None)
    if type(value) is int:
        return value
    if value is None:
        return DEFAULT_PRIORITY
    if isinstance(value, Decimal | float) and float(value).is_integer():
        return int(value)
    if not isinstance(value, int):
        raise JobError(f"{where}: Artist.priority is {type(value).__name__}; declare it as int")
    return value
