"""`batcher plan`: reads the table, renders and counts every line, cuts shards, writes them and the state.

Nothing is changed until the whole input is sound: all happens in one transaction, and shard files are moved into
place before it commits. The same input and settings on an empty state give the same files, byte for byte.
"""

import gc
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import orjson

from batcher.catalog.prices import resolve_prices
from batcher.catalog.tokens import TokenCounter
from batcher.config import Config, shard_limits
from batcher.core.cutting import split_chunks
from batcher.disk.shard_files import Spool, remove_shard_leftovers
from batcher.errors import ConfigError, InputError
from batcher.job.job import Job, job_output_to_stderr
from batcher.job.schema import output_column_types
from batcher.plan.rows import READ_ROWS, BadRows, RowLocation, RowPreparer
from batcher.plan.shard_cutting import ShardCutting
from batcher.plan.tables import read_bios, table_name
from batcher.state import facts, shards
from batcher.state import plan as state
from batcher.state.db.store import Store
from batcher.state.db.transaction import Transaction
from batcher.state.outlook import Outlook, load_outlook
from batcher.state.versions import find_version_number, register_version

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

    def with_overrides(
        self, input: Path | None, done: Path | None, limit: int | None, skip_bad_rows: bool
    ) -> "PlanOptions":
        """With what was given on the command line."""
        return replace(
            self, input=input or self.input, done=done or self.done, limit=limit, skip_bad_rows=skip_bad_rows
        )

    def to_json(self) -> str:
        """What `run` repeats, as the state keeps it."""
        named = {"input": str(self.input.resolve()), "done": str(self.done.resolve()) if self.done else ""}
        return orjson.dumps({**named, "limit": self.limit, "skip_bad_rows": self.skip_bad_rows}).decode()


def load_plan_options(tx: Transaction) -> PlanOptions | None:
    """The options of the last plan; None where it kept none."""
    text = facts.read_plan_options(tx)
    if not text:
        return None
    kept = orjson.loads(text)
    done = Path(kept["done"]) if kept["done"] else None
    return PlanOptions(Path(kept["input"]), done, kept["limit"], kept["skip_bad_rows"])


class PriorityRow(NamedTuple):
    """What a plan holds of one priority; lines, tokens and bytes of what is still to be sent."""

    priority: int
    artists: int
    done_before: int
    lines: int
    tokens: int
    bytes: int


class PlannedShard(NamedTuple):
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
    shards: list[PlannedShard]
    states: Mapping[str, int]
    outlook: Outlook


def read_plan(tx: Transaction, config: Config) -> PlanReport:
    """The plan as it stands."""
    return PlanReport(
        [PriorityRow(*row) for row in tx.fetch_all("plan_by_priority")],
        [PlannedShard(*row) for row in tx.fetch_all("plan_shards")],
        state.count_artists_by_state(tx),
        load_outlook(tx, config),
    )


@dataclass(slots=True)
class PlanResult:
    """What `plan` did; the numbers of the whole state are in the report that is read afterwards.

    not_in_table: artists that are still to be asked for, and have no good row in this table. They stay planned: another
    table may hold them, and what the user has dropped for good cannot be told from it.
    """

    lines_planned: int = 0
    shards_cut: int = 0
    artists_new: int = 0
    rows_read: int = 0
    changed_rows: int = 0
    done_unknown: int = 0
    skipped: list[tuple[int, str]] = field(default_factory=list)
    outdated_shards: int = 0
    replanned: bool = False
    not_in_table: int = 0


def plan_job(
    config: Config, job: Job, store: Store, options: PlanOptions, counter: TokenCounter, progress: Progress
) -> tuple[PlanResult, PlanReport]:
    """Plans the job. Raises InputError, JobError, ConfigError or StateError; then nothing was changed."""
    version = job.build_version(config.model.name, config.model.endpoint, config.model.max_output_tokens)
    preparer = RowPreparer(config, job, version, counter)
    planner = Planner(config, preparer, options, progress)
    if not options.dry_run:
        with job_output_to_stderr(), _pause_garbage_collection(), store.plan_transaction() as tx:
            return planner.make_plan(tx, store.folder, store.folder)
    with (
        job_output_to_stderr(),
        _pause_garbage_collection(),
        tempfile.TemporaryDirectory(prefix="batcher-dry-run-") as name,
    ):
        return _plan_dry_run(planner, store, Path(name))


@contextmanager
def _pause_garbage_collection() -> Iterator[None]:
    """While this lasts nobody looks for cycles among the objects: rows make none, and looking takes a twentieth."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _plan_dry_run(planner: "Planner", store: Store, scratch: Path) -> tuple[PlanResult, PlanReport]:
    """Plans for real, with shard files that go away and a transaction that is taken back."""
    target = store if store.exists() else store.with_folder(scratch)
    with target.dry_run_transaction() as tx:
        return planner.make_plan(tx, scratch, store.folder)


class Planner:
    """One run of `plan`."""

    def __init__(self, config: Config, preparer: RowPreparer, options: PlanOptions, progress: Progress) -> None:
        self.config, self.preparer, self.options, self.progress = config, preparer, options, progress
        self.limits = shard_limits(config)
        self.result = PlanResult()

    def make_plan(self, tx: Transaction, folder: Path, home: Path) -> tuple[PlanResult, PlanReport]:
        """Everything, inside one transaction. folder: where shard files go; home: the folder of the state."""
        with closing(Spool(folder)) as spool:
            self._run_steps(tx, folder, home, spool)
        return self.result, read_plan(tx, self.config)

    def _run_steps(self, tx: Transaction, folder: Path, home: Path, spool: Spool) -> None:
        state.create_staging_tables(tx)
        if not tx.fetch_all("run"):
            tx.fetch_all("insert_run", run_id=uuid.uuid4().hex, now=tx.now)
        self._check_version(tx)
        self._read_input(tx, spool)
        self._read_earlier_bios(tx)
        known = self._number_new_rows(tx)
        self._apply_earlier_bios(tx)
        self.result.not_in_table = int(tx.fetch_one("not_in_table")[0])
        if self.options.replan:
            self._loosen_unsent_lines(tx)
        if known:
            self._restage_lines(tx, spool)
        number = register_version(tx, self.preparer.version, self.preparer.constant_tokens)
        self._cut_shards(tx, folder, spool, number)
        if known:
            state.assign_lines(tx, number)
        model = self.preparer.version.model
        with ThreadPoolExecutor(1) as beside:  # the table of prices is loaded while DuckDB writes the artists
            prices = beside.submit(resolve_prices, model)
            self._record_artists(tx, home, number)
        facts.save_prices(tx, model, prices.result())
        facts.save_plan_options(tx, self.options.to_json())
        tx.record_event("plan", f"{self.result.lines_planned} lines in {self.result.shards_cut} shards")

    def _check_version(self, tx: Transaction) -> None:
        number = find_version_number(tx, self.preparer.version)
        lines, shards = tx.fetch_one("unsent_of_other_versions", version=number)
        if lines and not self.options.replan:
            raise ConfigError(
                f"the prompt, schema or model is not that of {lines:,} unsent lines in {shards} shards; "
                "`batcher plan --replan` cuts them again (what was submitted stays as it is)"
            )

    def _read_input(self, tx: Transaction, spool: Spool) -> None:
        bad: BadRows = []
        for rows in self.preparer.prepare_rows(self.options.input, spool.append_piece, bad):
            state.stage_prepared_rows(tx, rows)
            self.progress("rows read", self.preparer.rows_read)
        self.result.rows_read = self.preparer.rows_read
        if not self.result.rows_read:
            raise InputError(f"{self.options.input} has no rows; there is nothing to plan")
        tx.set_memory_limit(int(tx.fetch_one("highest_seq")[0]) + self.result.rows_read)
        again = tx.fetch_all("prepared_again")
        for row, first, artist_id in again:
            bad.append(
                (row, f"{RowLocation(self.options.input, row)}: artist_id {artist_id!r} is already in row {first}")
            )
        if again:
            tx.fetch_all("drop_prepared_again")
        self._handle_bad_rows(tx, sorted(bad))

    def _handle_bad_rows(self, tx: Transaction, bad: BadRows) -> None:
        if bad and not self.options.skip_bad_rows:
            more = f" ({len(bad) - 1:,} more bad rows)" if len(bad) > 1 else ""
            raise InputError(f"{bad[0][1]}{more}; mend the table, or leave such rows out with --skip-bad-rows")
        if bad:
            tx.insert_rows("skipped_rows", bad)
        self.result.skipped = bad

    def _read_earlier_bios(self, tx: Transaction) -> None:
        done = self.options.done
        if done is None:
            return
        for chunk in split_chunks(read_bios(done, output_column_types(self.preparer.job)), READ_ROWS):
            tx.insert_rows("done_rows", chunk)
        twice = tx.fetch_all("done_twice")
        if twice:
            artist_id, first, last = twice[0]
            raise InputError(f"{done}, row {last}: artist_id {artist_id!r} is already in row {first}; keep one of them")
        self.result.done_unknown = int(tx.fetch_one("done_unknown")[0])

    def _number_new_rows(self, tx: Transaction) -> bool:
        """Numbers the rows of new artists, with --limit the most urgent; whether the state holds others."""
        self.result.changed_rows = int(tx.fetch_one("input_changed")[0])
        if self.options.limit is not None:
            tx.fetch_all("limit_prepared", limit=self.options.limit)
        highest = int(tx.fetch_one("highest_seq")[0])
        tx.fetch_all("number_from", highest=highest)
        return highest > 0

    def _apply_earlier_bios(self, tx: Transaction) -> None:
        """Artists whose bio exists after all leave their unsent shards. What is left of a planned shard is cut again,
        of a released one it goes with the lines that are gathered."""
        if self.options.done is None:
            return
        for shard, was in tx.fetch_all("unsent_shards_of_done"):
            shards.mark_shard_stale(tx, shard, "a bio of its artists exists")
            tx.fetch_all("uncut_shard" if was == "planned" else "loosen_shard", shard=shard)
            self.result.outdated_shards += 1
        tx.fetch_all("take_over_done")

    def _loosen_unsent_lines(self, tx: Transaction) -> None:
        """Takes every line that is not submitted out of its shard."""
        self.result.replanned = True
        for (shard,) in tx.fetch_all("unsent_shards"):
            shards.mark_shard_stale(tx, shard, "replanned")
            self.result.outdated_shards += 1
        tx.fetch_all("loosen_for_replan")

    def _restage_lines(self, tx: Transaction, spool: Spool) -> None:
        """What is cut again goes with its row as the table has it now; where the table has none, as it was kept."""
        tx.fetch_all("take_changed_rows")
        for chunk in split_chunks(iter(tx.fetch_all("kept_rows")), READ_ROWS):
            state.stage_prepared_rows(tx, list(self.preparer.prepare_stored_rows(chunk, spool.append_piece)))

    def _cut_shards(self, tx: Transaction, folder: Path, spool: Spool, version: int) -> None:
        highest = int(tx.fetch_one("highest_shard")[0])
        remove_shard_leftovers(folder, highest)
        tx.undo.callback(remove_shard_leftovers, folder, highest)
        with ShardCutting(self.preparer.renderer, spool, self.limits, folder, highest + 1) as cutting:
            for lines in state.stream_ordered_lines(tx):
                cutting.cut_lines(lines)
                self.result.lines_planned += len(lines)
                self.progress("lines planned", self.result.lines_planned)
            shards = cutting.finish_shards()
        state.stage_cuts(tx, cutting.cuts)
        self.result.shards_cut = len(shards)
        state.record_shards(tx, shards, version, "planned", retry=False)

    def _record_artists(self, tx: Transaction, home: Path, version: int) -> None:
        """Writes what is new: the artists, the bad rows, the bios that exist, and the tables that were read."""
        self.result.artists_new = int(tx.fetch_one("insert_new_artists", version=version)[0])
        table = table_name(self.options.input, home)
        tx.fetch_all("forget_mended_rows", table=table)
        tx.fetch_all("insert_skipped", table=table)
        tx.fetch_all("insert_earlier_bios")
        for path in filter(None, (self.options.input, self.options.done)):
            tx.fetch_all("note_table", table=table_name(path, home))
