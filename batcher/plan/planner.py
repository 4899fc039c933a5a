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

from batcher.catalog.prices import resolve
from batcher.catalog.tokens import TokenCounter
from batcher.config import Config, shard_limits
from batcher.core.cutting import chunks
from batcher.disk.shard_files import Spool, sweep
from batcher.errors import ConfigError, InputError
from batcher.job.job import Job, aside
from batcher.job.schema import output_columns
from batcher.plan.rows import READ_ROWS, BadRows, Place, Preparer
from batcher.plan.shard_cutting import ShardCutting
from batcher.plan.tables import read_bios, table_name
from batcher.state import plan as state
from batcher.state.db.store import Store
from batcher.state.db.transaction import Transaction
from batcher.state.outlook import Outlook, outlook_now
from batcher.state.snapshot import keep_prices
from batcher.state.versions import register_version, version_number

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

    def changed(self, input: Path | None, done: Path | None, limit: int | None, skip_bad_rows: bool) -> "PlanOptions":
        """With what was given on the command line."""
        return replace(
            self, input=input or self.input, done=done or self.done, limit=limit, skip_bad_rows=skip_bad_rows
        )

    def kept(self) -> str:
        """What `run` repeats, as the state keeps it."""
        named = {"input": str(self.input.resolve()), "done": str(self.done.resolve()) if self.done else ""}
        return orjson.dumps({**named, "limit": self.limit, "skip_bad_rows": self.skip_bad_rows}).decode()


PLANNED_WITH = "planned_with"
"""The fact that holds the options of the last plan."""


def planned_with(tx: Transaction) -> PlanOptions | None:
    """The options of the last plan; None where it kept none."""
    text = tx.text_fact(PLANNED_WITH)
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


class ShardRow(NamedTuple):
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
    outlook: Outlook


def read_plan(tx: Transaction, config: Config) -> PlanReport:
    """The plan as it stands."""
    return PlanReport(
        [PriorityRow(*row) for row in tx.run("plan_by_priority")],
        [ShardRow(*row) for row in tx.run("plan_shards")],
        state.count_by_state(tx),
        outlook_now(tx, config),
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


def plan(
    config: Config, job: Job, store: Store, options: PlanOptions, counter: TokenCounter, progress: Progress
) -> tuple[PlanResult, PlanReport]:
    """Plans the job. Raises InputError, JobError, ConfigError or StateError; then nothing was changed."""
    version = job.version(config.model.name, config.model.endpoint, config.model.max_output_tokens)
    preparer = Preparer(config, job, version, counter)
    planner = Planner(config, preparer, options, progress)
    if not options.dry_run:
        with aside(), _uncollected(), store.planning() as tx:
            return planner.run(tx, store.folder, store.folder)
    with aside(), _uncollected(), tempfile.TemporaryDirectory(prefix="batcher-dry-run-") as name:
        return _rehearse(planner, store, Path(name))


@contextmanager
def _uncollected() -> Iterator[None]:
    """While this lasts nobody looks for cycles among the objects: rows make none, and looking takes a twentieth."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _rehearse(planner: "Planner", store: Store, scratch: Path) -> tuple[PlanResult, PlanReport]:
    """Plans for real, with shard files that go away and a transaction that is taken back."""
    target = store if store.exists() else store.beside(scratch)
    with target.rehearsal() as tx:
        return planner.run(tx, scratch, store.folder)


class Planner:
    """One run of `plan`."""

    def __init__(self, config: Config, preparer: Preparer, options: PlanOptions, progress: Progress) -> None:
        self.config, self.preparer, self.options, self.progress = config, preparer, options, progress
        self.limits = shard_limits(config)
        self.result = PlanResult()

    def run(self, tx: Transaction, folder: Path, home: Path) -> tuple[PlanResult, PlanReport]:
        """Everything, inside one transaction. folder: where shard files go; home: the folder of the state."""
        with closing(Spool(folder)) as spool:
            self._run(tx, folder, home, spool)
        return self.result, read_plan(tx, self.config)

    def _run(self, tx: Transaction, folder: Path, home: Path, spool: Spool) -> None:
        state.stage(tx)
        if not tx.run("run"):
            tx.run("insert_run", run_id=uuid.uuid4().hex, now=tx.now)
        self._check_version(tx)
        self._read_input(tx, spool)
        self._read_done(tx)
        known = self._number_new(tx)
        self._take_over_done(tx)
        self.result.not_in_table = int(tx.one("not_in_table")[0])
        if self.options.replan:
            self._replan(tx)
        if known:
            self._stage_again(tx, spool)
        number = register_version(tx, self.preparer.version, self.preparer.constant)
        self._cut(tx, folder, spool, number)
        if known:
            state.place_lines(tx, number)
        model = self.preparer.version.model
        with ThreadPoolExecutor(1) as beside:  # the table of prices is loaded while DuckDB writes the artists
            prices = beside.submit(resolve, model)
            self._record(tx, home, number)
        keep_prices(tx, model, prices.result())
        tx.set_fact(PLANNED_WITH, text=self.options.kept())
        tx.event("plan", f"{self.result.lines_planned} lines in {self.result.shards_cut} shards")

    def _check_version(self, tx: Transaction) -> None:
        number = version_number(tx, self.preparer.version)
        lines, shards = tx.one("unsent_of_other_versions", version=number)
        if lines and not self.options.replan:
            raise ConfigError(
                f"the prompt, schema or model is not that of {lines:,} unsent lines in {shards} shards; "
                "`batcher plan --replan` cuts them again (what was submitted stays as it is)"
            )

    def _read_input(self, tx: Transaction, spool: Spool) -> None:
        bad: BadRows = []
        for rows in self.preparer.rows(self.options.input, spool.put, bad):
            state.stage_prepared(tx, rows)
            self.progress("rows read", self.preparer.rows_read)
        self.result.rows_read = self.preparer.rows_read
        if not self.result.rows_read:
            raise InputError(f"{self.options.input} has no rows; there is nothing to plan")
        tx.make_room(int(tx.one("highest_seq")[0]) + self.result.rows_read)
        again = tx.run("prepared_again")
        for row, first, artist_id in again:
            bad.append((row, f"{Place(self.options.input, row)}: artist_id {artist_id!r} is already in row {first}"))
        if again:
            tx.run("drop_prepared_again")
        self._refuse_or_skip(tx, sorted(bad))

    def _refuse_or_skip(self, tx: Transaction, bad: BadRows) -> None:
        if bad and not self.options.skip_bad_rows:
            more = f" ({len(bad) - 1:,} more bad rows)" if len(bad) > 1 else ""
            raise InputError(f"{bad[0][1]}{more}; mend the table, or leave such rows out with --skip-bad-rows")
        if bad:
            tx.append("skipped_rows", bad)
        self.result.skipped = bad

    def _read_done(self, tx: Transaction) -> None:
        done = self.options.done
        if done is None:
            return
        for chunk in chunks(read_bios(done, output_columns(self.preparer.job)), READ_ROWS):
            tx.append("done_rows", chunk)
        twice = tx.run("done_twice")
        if twice:
            artist_id, first, last = twice[0]
            raise InputError(f"{done}, row {last}: artist_id {artist_id!r} is already in row {first}; keep one of them")
        self.result.done_unknown = int(tx.one("done_unknown")[0])

    def _number_new(self, tx: Transaction) -> bool:
        """Numbers the rows of new artists, with --limit the most urgent; whether the state holds others."""
        self.result.changed_rows = int(tx.one("input_changed")[0])
        if self.options.limit is not None:
            tx.run("limit_prepared", limit=self.options.limit)
        highest = int(tx.one("highest_seq")[0])
        tx.run("number_from", highest=highest)
        return highest > 0

    def _take_over_done(self, tx: Transaction) -> None:
        """Artists whose bio exists after all leave their unsent shards. What is left of a planned shard is cut again,
        of a released one it goes with the lines that are gathered."""
        if self.options.done is None:
            return
        for shard, was in tx.run("unsent_shards_of_done"):
            tx.outdate(shard, "a bio of its artists exists")
            tx.run("uncut_shard" if was == "planned" else "loosen_shard", shard=shard)
            self.result.outdated_shards += 1
        tx.run("take_over_done")

    def _replan(self, tx: Transaction) -> None:
        """Takes every line that is not submitted out of its shard."""
        self.result.replanned = True
        for (shard,) in tx.run("unsent_shards"):
            tx.outdate(shard, "replanned")
            self.result.outdated_shards += 1
        tx.run("loosen_for_replan")

    def _stage_again(self, tx: Transaction, spool: Spool) -> None:
        """What is cut again goes with its row as the table has it now; where the table has none, as it was kept."""
        tx.run("take_changed_rows")
        for chunk in chunks(iter(tx.run("kept_rows")), READ_ROWS):
            state.stage_prepared(tx, list(self.preparer.restored(chunk, spool.put)))

    def _cut(self, tx: Transaction, folder: Path, spool: Spool, version: int) -> None:
        highest = int(tx.one("highest_shard")[0])
        sweep(folder, highest)
        tx.undo.callback(sweep, folder, highest)
        with ShardCutting(self.preparer.renderer, spool, self.limits, folder, highest + 1) as cutting:
            for lines in state.ordered_lines(tx):
                cutting.put(lines)
                self.result.lines_planned += len(lines)
                self.progress("lines planned", self.result.lines_planned)
            shards = cutting.finish()
        state.stage_cuts(tx, cutting.cuts)
        self.result.shards_cut = len(shards)
        state.write_shards(tx, shards, version, "planned", retry=False)

    def _record(self, tx: Transaction, home: Path, version: int) -> None:
        """Writes what is new: the artists, the bad rows, the bios that exist, and the tables that were read."""
        self.result.artists_new = int(tx.one("insert_new_artists", version=version)[0])
        table = table_name(self.options.input, home)
        tx.run("forget_mended_rows", table=table)
        tx.run("insert_skipped", table=table)
        tx.run("insert_earlier_bios")
        for path in filter(None, (self.options.input, self.options.done)):
            tx.run("note_table", table=table_name(path, home))
