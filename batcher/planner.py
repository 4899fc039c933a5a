"""`batcher plan`: reads the table, renders and counts every line, cuts shards, writes them and the state.

Nothing is changed until the whole input is sound: all happens in one transaction, and shard files are moved into
place before it commits. The same input and settings on an empty state give the same files, byte for byte.
"""

import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from batcher.config import Config, enqueued_limit, shard_limits
from batcher.errors import ConfigError, InputError
from batcher.inputs import read_table
from batcher.job import Job, encode_row
from batcher.model import JobVersion, ShardLimits, WrittenShard
from batcher.planning import Cutter, Renderer, chunks, custom_id, line_hash, overhead_tokens
from batcher.prices import context_window
from batcher.shardfiles import ShardWriter
from batcher.store import Store, Transaction
from batcher.store import planned as state
from batcher.store.planned import OrderedLine, PlannedLine, PreparedRow
from batcher.tokens import count_tokens

READ_ROWS = 5_000
DEFAULT_PRIORITY = 3
"""The priority of a table without such a column (docs/design.md, "artist")."""

Progress = Callable[[str, int], None]
"""Told what is going on and how many rows are done."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the user asked of `plan`."""

    input: Path
    done: Path | None = None
    limit: int | None = None
    skip_bad_rows: bool = False
    replan: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class PriorityRow:
    """What a plan holds of one priority; lines, tokens and bytes of what is still to be sent."""

    priority: int
    artists: int
    done_before: int
    lines: int
    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ShardRow:
    """A shard that is not over."""

    shard: int
    priority: int
    retry: bool
    state: str
    lines: int
    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PlanReport:
    """The whole plan as it stands: what the state holds, whoever put it there."""

    priorities: list[PriorityRow]
    shards: list[ShardRow]
    states: Mapping[str, int]


def read_plan(tx: Transaction) -> PlanReport:
    """The plan as it stands."""
    return PlanReport(
        [PriorityRow(*row) for row in tx.run("plan_by_priority")],
        [ShardRow(*row) for row in tx.run("plan_shards")],
        state.count_by_state(tx),
    )


@dataclass(slots=True)
class PlanResult:
    """What `plan` did; the numbers of the whole state are in the report that is read afterwards."""

    lines_planned: int = 0
    shards_cut: int = 0
    artists_new: int = 0
    rows_read: int = 0
    changed_rows: int = 0
    done_unknown: int = 0
    skipped: list[tuple[int, str]] = field(default_factory=list)
    outdated_shards: int = 0


def plan(
    config: Config, job: Job, store: Store, options: PlanOptions, progress: Progress
) -> tuple[PlanResult, PlanReport]:
    """Plans the job. Raises InputError, JobError, ConfigError or StateError; then nothing was changed."""
    version = job.version(config.model.name, config.model.endpoint, config.model.max_output_tokens)
    planner = Planner(config, job, version, options, progress)
    if not options.dry_run:
        store.create()
        with store.transaction("plan") as tx:
            return planner.run(tx, store.folder)
    with tempfile.TemporaryDirectory(prefix="batcher-dry-run-") as name:
        return _rehearse(planner, store, Path(name))


def _rehearse(planner: "Planner", store: Store, scratch: Path) -> tuple[PlanResult, PlanReport]:
    """Plans for real, with shard files that go away and a transaction that is taken back."""
    target = store
    if not store.exists():
        target = store.beside(scratch)
        target.create()
    with target.rehearsal() as tx:
        return planner.run(tx, scratch)


class Planner:
    """One run of `plan`."""

    def __init__(self, config: Config, job: Job, version: JobVersion, options: PlanOptions, progress: Progress) -> None:
        self.job, self.options, self.progress = job, options, progress
        self.version = version
        self.renderer = Renderer(version)
        self.limits = shard_limits(config)
        self.ceiling = int(enqueued_limit(config) * config.limits.threshold)
        self.factor = 1 + config.limits.margin
        self.window = context_window(version.model)
        self.constant = sum(count_tokens(self.renderer.constant_text())) + overhead_tokens()
        self.result = PlanResult()

    def run(self, tx: Transaction, folder: Path) -> tuple[PlanResult, PlanReport]:
        """Everything, inside one transaction."""
        state.stage(tx)
        number = state.register_version(tx, self.version, self.constant)
        if not tx.run("run"):
            tx.run("insert_run", run_id=uuid.uuid4().hex, now=tx.now)
        self._check_version(tx, number)
        self._read_input(tx)
        self._read_done(tx)
        self._take_in(tx)
        if self.options.replan:
            self._replan(tx)
        self._cut(tx, folder, number)
        tx.event("plan", f"{self.result.lines_planned} lines in {self.result.shards_cut} shards")
        return self.result, read_plan(tx)

    def _check_version(self, tx: Transaction, number: int) -> None:
        lines, shards = tx.one("unsent_of_other_versions", version=number)
        if lines and not self.options.replan:
            raise ConfigError(
                f"the prompt, schema or model is not that of {lines:,} unsent lines in {shards} shards; "
                "`batcher plan --replan` cuts them again (what was submitted stays as it is)"
            )

    def _read_input(self, tx: Transaction) -> None:
        bad: list[tuple[int, str]] = []
        for chunk in chunks(self._artists(bad), READ_ROWS):
            state.stage_prepared(tx, list(self._prepare(chunk, bad)))
            self.result.rows_read += len(chunk)
            self.progress("rows read", self.result.rows_read)
        if not self.result.rows_read and not bad:
            raise InputError(f"{self.options.input} has no rows")
        twice = tx.run("prepared_twice")
        if twice and not self.options.skip_bad_rows:
            artist_id, first, last, _ = twice[0]
            raise InputError(f"{self.options.input}, row {last}: artist_id {artist_id!r} is already in row {first}")
        tx.run("drop_prepared_twice")
        self._refuse_or_skip(tx, bad)

    def _refuse_or_skip(self, tx: Transaction, bad: list[tuple[int, str]]) -> None:
        if not bad:
            return
        if not self.options.skip_bad_rows:
            more = f" ({len(bad) - 1:,} more bad rows)" if len(bad) > 1 else ""
            raise InputError(f"{bad[0][1]}{more}; mend the table, or leave such rows out with --skip-bad-rows")
        tx.append("skipped_rows", bad)
        self.result.skipped = bad

    def _artists(self, bad: list[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
        """Valid artists with their row numbers; the others go to `bad`."""
        checked = False
        for number, row in read_table(self.options.input):
            if not checked:
                self._check_columns(row)
                checked = True
            try:
                yield number, self.job.read_row(row, f"{self.options.input}, row {number}")
            except InputError as error:
                bad.append((number, str(error)))

    def _check_columns(self, row: dict[str, object]) -> None:
        fields = self.job.artist.model_fields
        missing = [name for name, info in fields.items() if info.is_required() and name not in row]
        if missing:
            raise InputError(
                f"{self.options.input} has no column {missing[0]}; its columns are {', '.join(row) or 'none'}"
            )

    def _prepare(self, chunk: Sequence[tuple[int, Any]], bad: list[tuple[int, str]]) -> Iterator[PreparedRow]:
        texts = [self.renderer.user_text(artist.prompt_values()) for _, artist in chunk]
        for (number, artist), text, counted in zip(chunk, texts, count_tokens(texts), strict=True):
            tokens = counted + self.constant
            problem = self._too_long(tokens)
            if problem:
                bad.append((number, f"{self.options.input}, row {number} ({artist.artist_name}): {problem}"))
                continue
            priority = int(getattr(artist, "priority", DEFAULT_PRIORITY))
            name, line_id = artist.artist_name, custom_id(artist.artist_id)
            yield PreparedRow(number, artist.artist_id, line_id, name, priority, encode_row(artist), text, tokens)

    def _too_long(self, tokens: int) -> str:
        whole = tokens + self.version.max_output_tokens
        if self.window is not None and whole > self.window:
            return f"prompt and answer are {whole:,} tokens, the context of {self.version.model} is {self.window:,}"
        if tokens * self.factor > self.ceiling:
            return f"one line of {tokens:,} tokens is over the enqueued-token limit x threshold of {self.ceiling:,}"
        return ""

    def _read_done(self, tx: Transaction) -> None:
        if self.options.done is None:
            return
        for chunk in chunks(_done_rows(self.options.done), READ_ROWS):
            tx.append("done_rows", chunk)
        twice = tx.run("done_twice")
        if twice:
            raise InputError(f"{self.options.done}, row {twice[0][2]}: artist_id {twice[0][0]!r} is there twice")
        self.result.done_unknown = int(tx.one("done_unknown")[0])

    def _take_in(self, tx: Transaction) -> None:
        self.result.changed_rows = int(tx.one("input_changed")[0])
        if self.options.limit is not None:
            tx.run("limit_prepared", limit=self.options.limit)
        before = int(tx.one("highest_seq")[0])
        tx.run("insert_new_artists", after=before)
        highest = int(tx.one("highest_seq")[0])
        self.result.artists_new = highest - before
        tx.run("insert_skipped", after=highest, file=self.options.input.name)
        self._take_over_done(tx)

    def _take_over_done(self, tx: Transaction) -> None:
        """Artists whose bio exists after all leave their planned shards, which are then cut again."""
        if self.options.done is None:
            return
        for (shard,) in tx.run("unsent_shards_of_done"):
            tx.outdate(shard, "a bio of its artists exists")
        tx.run("loosen_lines_of_stale_shards")
        tx.run("take_over_done")
        tx.run("insert_earlier_bios")

    def _replan(self, tx: Transaction) -> None:
        """Takes every line that is not submitted out of its shard, with its row as the table has it now."""
        for (shard,) in tx.run("unsent_shards"):
            tx.outdate(shard, "replanned")
            self.result.outdated_shards += 1
        tx.run("loosen_for_replan")
        tx.run("take_changed_rows")
        for chunk in chunks(iter(tx.run("replan_rows")), READ_ROWS):
            state.stage_prepared(tx, list(self._restored(chunk)))

    def _restored(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[PreparedRow]:
        texts = [self.renderer.user_text(self.job.restore(row[4]).prompt_values()) for row in rows]
        for (artist_id, line_id, name, priority, data), text, counted in zip(
            rows, texts, count_tokens(texts), strict=True
        ):
            yield PreparedRow(0, artist_id, line_id, name, priority, data, text, counted + self.constant)

    def _cut(self, tx: Transaction, folder: Path, version: int) -> None:
        first = int(tx.one("highest_shard")[0]) + 1
        cutting = ShardCutting(self.renderer, self.limits, folder, first)
        for lines in state.ordered_lines(tx):
            state.stage_planned(tx, cutting.put(lines))
            self.result.lines_planned += len(lines)
            self.progress("lines planned", self.result.lines_planned)
        shards = cutting.finish()
        self.result.shards_cut = len(shards)
        state.write_shards(tx, shards, version, "planned", retry=False)


class ShardCutting:
    """Renders lines in order and writes them into shard files, opening a new one where the limits say so."""

    def __init__(self, renderer: Renderer, limits: ShardLimits, folder: Path, first: int) -> None:
        self._renderer, self._folder, self._next = renderer, folder, first
        self._cutter = Cutter(limits)
        self._writer: ShardWriter | None = None
        self._written: list[WrittenShard] = []
        self._held: list[bytes] = []
        self._held_tokens = 0

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
        if len(self._held) >= 1_000:
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


def _done_rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """(row, artist_id, bio as JSON) of a table of bios that exist. Raises InputError naming row and column."""
    for number, row in read_table(path):
        artist_id, bio = row.get("artist_id"), row.get("bio")
        if not isinstance(artist_id, str) or not artist_id:
            raise InputError(f"{path}, row {number}: column artist_id is missing or empty")
        if not isinstance(bio, str) or not bio.strip():
            raise InputError(f"{path}, row {number}: column bio is missing or empty")
        yield number, artist_id, orjson.dumps({"bio": bio}).decode()
