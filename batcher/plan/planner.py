"""`batcher plan`: reads the table, renders and counts every line, cuts shards, and writes their files and the state.

Nothing is changed until the whole input is sound: all happens in one transaction, and shard files are moved into
place before it commits. The same input and settings on an empty state give the same files, byte for byte.
"""

import gc
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from batcher.catalog.prices import resolve_prices
from batcher.catalog.tokens import TokenCounter
from batcher.config.derived import shard_limits
from batcher.config.sections import Config
from batcher.core.cutting import split_chunks
from batcher.core.lifecycle import ShardState
from batcher.disk.id_list import write_id_list
from batcher.disk.shard_files import Spool, remove_shard_leftovers
from batcher.errors import InputError, StateError
from batcher.job.job import Job, job_output_to_stderr
from batcher.job.schema import output_column_types
from batcher.nouns import current_nouns
from batcher.plan.checks import build_todays_version, check_unsent_lines
from batcher.plan.options import PlanOptions
from batcher.plan.pilot_draw import draw_pilot
from batcher.plan.reusing import NO_ANSWERS, ReusedAnswers, reuse_answers
from batcher.plan.rows import READ_ROWS, BadRows, RowLocation, RowPreparer, describe_bad_rows
from batcher.plan.shard_cutting import ShardCutting
from batcher.plan.tables import read_bios, table_name
from batcher.state import facts, shards
from batcher.state import plan as plan_state
from batcher.state.db.store import Store
from batcher.state.db.transaction import Transaction
from batcher.state.following import staging
from batcher.state.following.other_state import OtherState, open_other_state
from batcher.state.following.staging import NO_SHARED_ROWS, SharedRequests, SharedRows
from batcher.state.pilots import release_replanned_lines
from batcher.state.plan import OpenShard, PriorityTotals, SkippedRow
from batcher.state.reports.outlook import Outlook, load_outlook
from batcher.state.versions import find_version_number, register_version

Progress = Callable[[str, int], None]
"""Is called with what the plan is doing, and how many rows that is done for."""


@dataclass(frozen=True, slots=True)
class PlanReport:
    """The whole plan as it stands: everything that the state holds, of this plan and of earlier ones."""

    priorities: list[PriorityTotals]
    shards: list[OpenShard]
    states: Mapping[str, int]
    outlook: Outlook
    shared: Sequence[SharedRequests] = ()
    """Rows that take, or have taken, the answer to another row's request."""


def read_plan(tx: Transaction, config: Config) -> PlanReport:
    """Return the plan as it stands."""
    return PlanReport(
        plan_state.load_priority_totals(tx),
        plan_state.load_open_shards(tx),
        plan_state.count_artists_by_state(tx),
        load_outlook(tx, config),
        staging.load_shared_requests(tx),
    )


@dataclass(frozen=True, slots=True)
class PlanResult:
    """What this plan did. The numbers of the whole state are in the report.

    not_in_table: artists that are still to be sent and have no good row in this table. They stay planned: another table
    may hold them, and a row that the user has removed for good looks the same.
    """

    lines_planned: int
    shards_cut: int
    artists_new: int
    rows_read: int
    changed_rows: int
    done_unknown: int
    skipped: list[SkippedRow]
    outdated_shards: int
    replanned: bool
    not_in_table: int
    left_out: int
    """New artists of the table that the limit left out."""
    shared: SharedRows = NO_SHARED_ROWS
    """Rows that ask the same as another one."""
    reused: ReusedAnswers = NO_ANSWERS
    """Rows that took an answer of another job."""
    dry_run: bool = field(default=False, compare=False)
    """Whether nothing of it was done."""


class CutTotals(NamedTuple):
    """What one plan has cut."""

    lines: int
    shards: int


def plan_job(
    config: Config, job: Job, store: Store, options: PlanOptions, counter: TokenCounter, progress: Progress
) -> tuple[PlanResult, PlanReport]:
    """Plan the job. Raises InputError, JobError, ConfigError or StateError; then nothing was changed."""
    compares = config.job.dedupe or options.reuse is not None
    preparer = RowPreparer(config, job, build_todays_version(config, job, counter), counter, compares)
    with ExitStack() as stack:
        stack.enter_context(job_output_to_stderr())
        other = None
        if options.reuse is not None:
            other = stack.enter_context(open_other_state(options.reuse, store.folder, store.wait))
        stack.enter_context(_pause_garbage_collection())
        planner = Planner(config, preparer, options, progress, other)
        if not options.dry_run:
            with store.plan_transaction() as tx:
                made = planner.make_plan(tx, store.folder, store.folder)
            with store.read_transaction() as tx:
                write_id_list(store.folder, plan_state.stream_artist_ids(tx))
            return made
        # A dry run does the same; its shard files are removed, and its transaction is rolled back.
        with tempfile.TemporaryDirectory(prefix="batcher-dry-run-") as name:
            scratch = Path(name)
            target = store if store.exists() else store.with_folder(scratch)
            with target.dry_run_transaction() as tx:
                return planner.make_plan(tx, scratch, store.folder)


@contextmanager
def _pause_garbage_collection() -> Iterator[None]:
    """Switch the cyclic garbage collector off: rows make no cycles, and it costs 5% of a plan."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Planner:
    """The steps of one plan, all within one transaction."""

    def __init__(
        self,
        config: Config,
        preparer: RowPreparer,
        options: PlanOptions,
        progress: Progress,
        other: OtherState | None = None,
    ) -> None:
        """other: the state of another job, whose answers are taken over."""
        self.config, self.preparer, self.options, self.progress = config, preparer, options, progress
        self._other = other
        self.limits = shard_limits(config)

    def make_plan(self, tx: Transaction, folder: Path, home: Path) -> tuple[PlanResult, PlanReport]:
        """Plan. folder: where the shard files go; home: the folder of the state. Raises as `plan_job` does."""
        with closing(Spool(folder)) as spool:
            result = self._run_steps(tx, folder, home, spool)
        return result, read_plan(tx, self.config)

    def _run_steps(self, tx: Transaction, folder: Path, home: Path, spool: Spool) -> PlanResult:
        plan_state.create_staging_tables(tx)
        plan_state.start_run(tx, uuid.uuid4().hex)
        if not self.options.replan:
            check_unsent_lines(tx, self.preparer.version)
        skipped = self._read_input(tx, spool)
        done_unknown = self._read_earlier_bios(tx)
        reused = self._reuse_answers(tx)
        changed_rows = plan_state.count_changed_rows(tx)
        most = self.options.limit
        left_out = plan_state.keep_most_urgent_rows(tx, most) if most is not None else 0
        has_earlier_artists = plan_state.number_new_rows(tx) > 0
        outdated_shards = self._apply_earlier_bios(tx)
        not_in_table = plan_state.count_artists_not_in_table(tx)
        if self.options.replan:
            outdated_shards += self._unplan_unsent_shards(tx)
        if has_earlier_artists:
            # A line that is cut again is made of its artist's row in this table, else of the row that the state keeps.
            staging.free_followers(tx)
            plan_state.update_changed_rows(tx)
            self._stage_kept_rows(tx, spool)
            release_replanned_lines(tx)
        version = register_version(tx, self.preparer.version, self.preparer.constant_tokens)
        shared = self._share_requests(tx, has_earlier_artists)
        pilot = draw_pilot(tx, self.options.pilot, version)
        cut = self._cut_shards(tx, folder, spool, version, pilot)
        if has_earlier_artists:
            plan_state.assign_lines(tx, version)
        model = self.preparer.version.model
        with ThreadPoolExecutor(1) as thread:  # the table of prices is loaded while DuckDB writes the artists
            prices = thread.submit(resolve_prices, model)
            artists_new = self._record_artists(tx, home, version)
        staging.record_followers(tx, shared, has_earlier_artists)
        facts.save_prices(tx, model, prices.result())
        facts.save_plan_options(tx, self.options.to_json(home))
        tx.record_event("plan", f"lines: {cut.lines:,}, shards: {cut.shards:,}")
        return PlanResult(
            lines_planned=cut.lines,
            shards_cut=cut.shards,
            artists_new=artists_new,
            rows_read=self.preparer.rows_read,
            changed_rows=changed_rows,
            done_unknown=done_unknown,
            skipped=skipped,
            outdated_shards=outdated_shards,
            replanned=self.options.replan,
            not_in_table=not_in_table,
            left_out=left_out,
            shared=shared,
            reused=reused,
            dry_run=self.options.dry_run,
        )

    def recut_unsent(self, tx: Transaction, folder: Path, retries: bool) -> None:
        """Cut the lines that are not sent again, from the rows that the state keeps and as the job is today.

        No table is read, so that no artist comes or goes. retries: lines that were sent before as well, which else stay
        as they were planned. Raises as `plan_job` does.
        """
        with closing(Spool(folder)) as spool:
            plan_state.create_staging_tables(tx)
            plan_state.set_plan_memory(tx, 0)
            plan_state.number_new_rows(tx)
            self._unplan_unsent_shards(tx, retries)
            staging.free_followers(tx)
            self._stage_kept_rows(tx, spool)
            release_replanned_lines(tx)
            version = register_version(tx, self.preparer.version, self.preparer.constant_tokens)
            shared = self._share_requests(tx, has_earlier_artists=True)
            cut = self._cut_shards(tx, folder, spool, version, draw_pilot(tx, self.options.pilot, version))
            plan_state.assign_lines(tx, version)
            staging.record_followers(tx, shared, has_earlier_artists=True)
        facts.save_prices(tx, self.preparer.version.model, resolve_prices(self.preparer.version.model))
        tx.record_event("plan", f"cut again: lines: {cut.lines:,}, shards: {cut.shards:,}")

    def _share_requests(self, tx: Transaction, has_earlier_artists: bool) -> SharedRows:
        """Have rows that ask the same as another line follow it, where the settings say so."""
        if not self.config.job.dedupe:
            return NO_SHARED_ROWS
        return staging.stage_followers(tx, self.preparer.job.accepts_kept_bio, has_earlier_artists)

    def _stage_kept_rows(self, tx: Transaction, spool: Spool) -> None:
        for chunk in split_chunks(plan_state.load_kept_rows(tx), READ_ROWS):
            plan_state.stage_prepared_rows(tx, list(self.preparer.prepare_stored_rows(chunk, spool.append_piece)))
            self.progress("rows rendered", len(chunk))

    def _read_input(self, tx: Transaction, spool: Spool) -> BadRows:
        """Stage the rows of the input table; return the bad ones, which --skip-bad-rows allows."""
        bad: BadRows = []
        for rows in self.preparer.prepare_rows(self.options.input, spool.append_piece, bad):
            plan_state.stage_prepared_rows(tx, rows)
            self.progress("rows read", self.preparer.rows_read)
        if not self.preparer.rows_read:
            raise InputError(f"{self.options.input} has no rows; there is nothing to plan")
        plan_state.set_plan_memory(tx, self.preparer.rows_read)
        for row, first_row, artist_id in plan_state.remove_repeated_rows(tx):
            location, column = RowLocation(self.options.input, row), self.preparer.job.row_columns.id
            bad.append((row, f"{location}: {column} {artist_id!r} is already in row {first_row}"))
        bad.sort()
        if bad and not self.options.skip_bad_rows:
            told = describe_bad_rows(self.options.input, bad)
            raise InputError(f"{told}; fix the table, or leave such rows out with --skip-bad-rows")
        if bad:
            plan_state.stage_skipped_rows(tx, bad)
        return bad

    def _read_earlier_bios(self, tx: Transaction) -> int:
        """Stage the bios that exist; return how many of them belong to no artist."""
        done = self.options.done
        if done is None:
            return 0
        job = self.preparer.job
        for chunk in split_chunks(read_bios(done, output_column_types(job), job.row_columns.id), READ_ROWS):
            plan_state.stage_earlier_bios(tx, chunk)
        repeated = plan_state.find_repeated_bio(tx)
        if repeated is not None:
            artist_id, first, last = repeated
            key = f"{job.row_columns.id} {artist_id!r}"
            raise InputError(f"{done}, row {last}: {key} is already in row {first}; keep one of them")
        return plan_state.count_unknown_bios(tx)

    def _reuse_answers(self, tx: Transaction) -> ReusedAnswers:
        """Stage answers of another job as bios that exist."""
        if self._other is None:
            return NO_ANSWERS
        reused = reuse_answers(tx, self.preparer, self._other)
        tx.record_event("reuse", f"{current_nouns().answers} of {self.options.reuse}: {reused.lines:,}")
        return reused

    def _apply_earlier_bios(self, tx: Transaction) -> int:
        """Take artists whose bio exists out of their unsent shards; return how many shards became stale by that.

        The other lines of a planned shard are cut again by this plan, those of a released one go into a retry shard.
        """
        if self.options.done is None and self._other is None:
            return 0
        outdated, nouns = plan_state.load_unsent_shards_with_bios(tx), current_nouns()
        for shard, state in outdated:
            shards.mark_shard_stale(tx, shard, f"{nouns.an_answer} of its {nouns.rows} exists")
            if state is ShardState.PLANNED:
                plan_state.unplan_shard_lines(tx, shard)
            else:
                shards.loosen_shard_lines(tx, shard)
        plan_state.mark_done_before(tx)
        return len(outdated)

    def _unplan_unsent_shards(self, tx: Transaction, retries: bool = True) -> int:
        """Have every line that is not submitted cut again; return how many shards became stale by that.

        retries: as for `recut_unsent`.
        """
        unsent = plan_state.load_unsent_shards(tx, retries)
        for shard in unsent:
            shards.mark_shard_stale(tx, shard, "replanned")
            if not retries:
                plan_state.unplan_shard_lines(tx, shard)
        if retries:
            plan_state.unplan_ready_lines(tx)
        else:
            plan_state.unplan_untried_lines(tx, find_version_number(tx, self.preparer.version))
        return len(unsent)

    def _cut_shards(self, tx: Transaction, folder: Path, spool: Spool, version: int, pilot: int | None) -> CutTotals:
        """Write the shard files, those of the pilot first. Raises StateError where the disk refuses them."""
        first = shards.next_shard_number(tx)
        remove_shard_leftovers(folder, first - 1)
        tx.undo.callback(remove_shard_leftovers, folder, first - 1)
        done = CutTotals(0, 0)
        try:
            if pilot is not None:
                done = self._cut_part(tx, folder, spool, version, pilot, done)
            return self._cut_part(tx, folder, spool, version, None, done)
        except OSError as error:
            raise StateError(
                f"{error.filename or folder} cannot be written: {error.strerror}; make room or fix the rights "
                "of the state folder, and plan again"
            ) from error

    def _cut_part(
        self, tx: Transaction, folder: Path, spool: Spool, version: int, pilot: int | None, done: CutTotals
    ) -> CutTotals:
        """Cut the lines of the pilot, or all others; return the totals with what was `done` before."""
        lines_planned, first = done.lines, shards.next_shard_number(tx)
        with ShardCutting(self.preparer.renderer, self.limits, folder, first) as cutting:
            for lines in plan_state.stream_ordered_lines(tx, sampled=pilot is not None):
                cutting.cut_spooled_lines(spool, lines)
                lines_planned += len(lines)
                self.progress("lines planned", lines_planned)
            written = cutting.finish_shards()
        plan_state.stage_cuts(tx, cutting.cuts, sampled=pilot is not None)
        plan_state.record_shards(tx, written, version, "planned", retry=False, pilot=pilot)
        return CutTotals(lines_planned, done.shards + len(written))

    def _record_artists(self, tx: Transaction, home: Path, version: int) -> int:
        """Write the new artists, the bad rows, the bios that exist and the names of the tables that were read; return
        how many artists are new."""
        artists_new = plan_state.insert_new_artists(tx, version)
        plan_state.record_skipped_rows(tx, table_name(self.options.input, home))
        plan_state.insert_earlier_bios(tx)
        for path in filter(None, (self.options.input, self.options.done)):
            plan_state.record_table_read(tx, table_name(path, home))
        return artists_new
