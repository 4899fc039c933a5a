"""Taking in the results of an ended batch: both files, one transaction, one verdict a line.

A crash anywhere repeats the whole and changes nothing twice. Usable answers are taken at every reading, even while
something is still missing; failures are decided once, when all that the service counts was read, or given up on, and
no other batch of the same shard is unsettled.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from batcher import crashpoints
from batcher.catalog.prices import PriceOf, Rates, resolve
from batcher.core.cutting import chunks
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import VERDICT_EVENTS, BatchStatus, ShardState, artist_event
from batcher.core.model import Endpoint, Lane
from batcher.core.retry import Jitter, Rules, delay_s, latest_wait
from batcher.core.verdicts import Decider, class_of_absent, setup_problem
from batcher.disk.result_archive import archive, results_path
from batcher.job.job import Job, aside
from batcher.lanes.batch.result_files import Line, Reader, Reading, absent_row
from batcher.service.service import CallError, CallRefused, Service
from batcher.state import intents, wishes
from batcher.state.db.store import Store
from batcher.state.db.transaction import Transaction
from batcher.state.intents import ShardRow
from batcher.state.quota_pauses import QuotaRule, quota_failed
from batcher.state.versions import load_version, widened

READ_LINES = 2_000
PATIENCE_S = 24 * 3600.0
"""How long incomplete results are asked for again before the rest is held as perhaps paid."""
LOOK_AGAIN_S = 3600.0
"""Between two looks for a batch that was given up."""
FEWEST_READINGS = 10
"""And how often at least: a machine that slept through the day has not asked for a day."""

ACCEPT_EVENTS = ("accept", "accept_late")


@dataclass(frozen=True, slots=True)
class EndedBatch:
    """A batch whose results are to be taken in."""

    batch_id: str
    submission: int
    shard: int
    stray: bool
    status: str
    total: int
    completed: int
    failed: int
    input_file_id: str
    output_file_id: str | None
    error_file_id: str | None
    errors: str | None
    read_first_at: float | None
    ended_at: float | None
    settled_at: float | None
    recorded_at: float
    """When we came to know of it, in our clock."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What an ingestion did, for the display."""

    batch_id: str
    shard: int
    status: str
    bios: int
    failures: Mapping[str, int]
    problem: str = ""
    odd: str = ""
    """What was odd about the files, in words."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of the failed lines. `lines`: those of the shard, where this batch decides them; else 0."""

    lines: int
    failures: Mapping[str, int] = field(default_factory=dict)
    again: int = 0
    problem: str = ""
    """What stops the whole job."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An ended batch, and what its lines were asked."""

    batch: EndedBatch
    endpoint: Endpoint
    rates: Rates | None


class Ingestion:
    """Takes in batches. `delete`: files at OpenAI are deleted afterwards; `keep_raw`: the files are kept here."""

    def __init__(self, store: Store, service: Service, job: Job, rules: Rules, jitter: Jitter) -> None:
        self._store, self._service, self._job = store, service, job
        self._rules, self._jitter = rules, jitter
        self.delete = True
        self.keep_raw = True
        self.prices: PriceOf = resolve

    more_room = 0
    """max_output_tokens for the next tries of answers that were cut off; 0: as before."""
    pause_s = 24 * 3600.0
    """How long sending pauses when the quota failures do not end."""

    @property
    def quota(self) -> QuotaRule:
        """What follows a quota failure."""
        return QuotaRule(self._rules, self._jitter, self.pause_s)

    def load(self, batch_id: str) -> Loaded:
        """A batch that the state knows."""
        with self._store.reading() as tx:
            batch = EndedBatch(*tx.one("batch", batch_id=batch_id))
            version, _ = load_version(tx, intents.load_shard(tx, batch.shard).version)
        prices = self.prices(version.model)
        return Loaded(batch, version.endpoint, prices.of(Lane.BATCH) if prices is not None else None)

    def take_in(self, loaded: Loaded) -> Taken | None:
        """Reads and records one batch; None when it is settled already, or not complete yet."""
        batch = loaded.batch
        if batch.settled_at is not None:
            return None
        if batch.read_first_at is not None or not (batch.output_file_id or batch.error_file_id):
            loaded = replace(loaded, batch=self._asked_again(batch))
        reading = self._download(loaded.batch)
        if self.keep_raw:
            for path, _ in reading.files:
                archive(path)
        with aside(), self._store.transaction("ingest", patience_s=None) as tx:
            taken = self._record(tx, loaded, reading)
        for path, _ in reading.files:
            path.unlink(missing_ok=True)
        return taken

    def _asked_again(self, batch: EndedBatch) -> EndedBatch:
        """The batch as the service tells it now: its files and counts may come later than its end."""
        found = self._service.retrieve(batch.batch_id)
        if found is None:
            return batch
        with self._store.transaction("ask_again", patience_s=None) as tx:
            intents.update_batch(tx, intents.known_batch(tx, batch.batch_id), found)
            return EndedBatch(*tx.one("batch", batch_id=batch.batch_id))

    def _download(self, batch: EndedBatch) -> Reading:
        """The result files on disk, as far as they can be had. A refusal of our key is raised."""
        reading = Reading()
        for kind, file_id in (("output", batch.output_file_id), ("error", batch.error_file_id)):
            if not file_id:
                continue
            path = results_path(self._store.folder, batch.batch_id, kind)
            crashpoints.reached("download.before")
            try:
                self._service.download(file_id, path)
            except CallError as error:
                if isinstance(error, CallRefused) and error.trouble.status in {401, 403}:
                    raise
                reading.missing = f"{kind} file {file_id}: {error}"
                reading.wait_s = max(reading.wait_s, error.wait_s or 0.0)
                continue
            crashpoints.reached("download.after")
            reading.files.append((path, kind == "output"))
            reading.ids.append(file_id)
        return reading

    # --- recording --------------------------------------------------------------------------------------------------

    def _record(self, tx: Transaction, loaded: Loaded, reading: Reading) -> Taken | None:
        batch, shard = loaded.batch, intents.load_shard(tx, loaded.batch.shard)
        absent = self._stage(tx, loaded, reading, shard)
        bios = self._accept(tx, batch, reading)
        read = len(reading.outputs)
        unread = len(absent) - reading.odd["malformed lines"]  # they stand there, and say nothing
        missing = reading.missing or _shortage(batch, read + reading.malformed_outputs, unread)
        if missing and self._patient(tx, batch):
            self._postpone(tx, batch, missing, reading.wait_s)
            return None
        if missing or batch.status == BatchStatus.OVERDUE:
            tx.run("mark_unread", batch_id=batch.batch_id, next=tx.now + LOOK_AGAIN_S)
        reading.sums = _sums(batch, read)
        if reading.words():
            tx.event("odd_results", reading.words(), batch_id=batch.batch_id, shard=batch.shard)
        failure, code = class_of_absent(batch.status, batch.completed, read, counted=batch.total > 0)
        if absent:
            tx.append("results", [absent_row(line, failure, code) for line in absent])
        decided = self._verdicts(tx, batch, shard, bool(absent) or not all(reading.found.values()))
        self._settle(tx, batch, reading, decided)
        told = f"{bios} bios, {sum(decided.failures.values())} failures"
        tx.event("settled", told, batch_id=batch.batch_id, shard=batch.shard)
        return Taken(
            batch.batch_id, batch.shard, batch.status, bios, decided.failures, decided.problem, reading.words()
        )

    def _stage(self, tx: Transaction, loaded: Loaded, reading: Reading, shard: ShardRow) -> list[Line]:
        """Reads the files into `results`; the lines that this batch has to decide and that neither file holds."""
        states = [s.value for event in ACCEPT_EVENTS for s in artist_event(event)[0]]
        found = tx.run("lines_of_shard", shard=shard.shard, claim=shard.submission, open=states)
        if len(found) < shard.lines:
            found += tx.run("lines_gone", shard=shard.shard, open=states)
        lines = {row[0]: Line._make(row[1:]) for row in found}
        taken = {row[0] for row in tx.run("lines_taken", shard=shard.shard, batch_id=loaded.batch.batch_id)}
        tx.run("create_results")
        reader = Reader(self._job, loaded.endpoint, loaded.rates, lines, taken)
        for chunk in chunks(reader.rows(reading), READ_LINES):
            tx.append("results", chunk)
        if reading.superseded:
            tx.run("drop_superseded")
        return reader.absent(reading)

    def _accept(self, tx: Transaction, batch: EndedBatch, reading: Reading) -> int:
        """Takes every usable answer for a line that has no bio yet, whichever batch it comes from; how many."""
        where = _where(tx, batch)
        tx.run("record_successes", **where)
        tx.run("insert_bios", **{key: where[key] for key in ("shard", "batch_id", "now")})
        moved = 0
        for event in ACCEPT_EVENTS:
            if moved < reading.bios:
                moved += tx.move_lines("accept_lines", event, shard=batch.shard)
        return moved

    def _patient(self, tx: Transaction, batch: EndedBatch) -> bool:
        """Whether incomplete results are asked for again."""
        since = batch.read_first_at
        if since is None or tx.now < since + PATIENCE_S:
            return True
        return int(tx.one("readings_failed", batch_id=batch.batch_id)[0]) < FEWEST_READINGS

    def _postpone(self, tx: Transaction, batch: EndedBatch, why: str, asked_s: float) -> None:
        policy = self._rules.policies[FailureClass.OUTAGE]
        waited = max(0.0, tx.now - (batch.read_first_at or tx.now))
        n = int(waited // max(policy.base_s, 1.0))
        wait = max(asked_s, delay_s(policy, n, self._jitter(), self._rules.jitter_share))
        tx.run("delay_batch", batch_id=batch.batch_id, until=tx.now + wait, now=tx.now)
        tx.run("measure_batch", batch_id=batch.batch_id, failures=False, again=0, decided=0)
        tx.event("results_incomplete", why, batch_id=batch.batch_id, shard=batch.shard)

    # --- verdicts ---------------------------------------------------------------------------------------------------

    def _verdicts(self, tx: Transaction, batch: EndedBatch, shard: ShardRow, failed: bool) -> Decided:
        """The verdicts on failed lines, unless another batch of the shard has the last word on them.

        failed: some lines of this batch failed.
        """
        unsettled, others = tx.one("siblings", shard=batch.shard, batch_id=batch.batch_id)
        if not unsettled and shard.state is ShardState.ENDED:
            return self._decide(tx, batch, shard, failed or others > 0)
        if failed:
            tx.run("record_failures_undecided", **_where(tx, batch))
        return Decided(lines=0)

    def _decide(self, tx: Transaction, batch: EndedBatch, shard: ShardRow, failed: bool) -> Decided:
        """Decides every failed line. failed: there may be some."""
        counts = _count_failures(tx, batch, shard) if failed else []
        bios, bios_of_job = tx.one("bios_so_far", shard=batch.shard)
        problem = setup_problem(self._rules, counts, bios, bios_of_job)
        if any(failure is FailureClass.QUOTA for failure, _, _ in counts):
            quota_failed(tx, self.quota, f"batch {batch.batch_id}", batch.recorded_at)
        elif bios:
            tx.run("end_probed_pauses", recorded_at=batch.recorded_at, latest=self._latest(tx), now=tx.now)
        if problem:
            tx.set_fact("stopped", text=problem)
        again = 0
        if failed:
            decider = Decider(self._rules, self._jitter, tx.now, counts, bios)
            decider.stopped, decider.cancelled = bool(problem), wishes.is_cancelled(tx, batch.shard)
            again = self._write_verdicts(tx, batch, shard, decider)
        totals: Counter[str] = Counter()
        for failure, _, n in counts:
            totals[failure.value] += n
        return Decided(shard.lines, dict(totals), again, problem)

    def _write_verdicts(self, tx: Transaction, batch: EndedBatch, shard: ShardRow, decider: Decider) -> int:
        """Writes what becomes of the failed lines; how many go again at a try's cost."""
        decided: Counter[str] = Counter()
        tx.run("create_decisions")
        for chunk in chunks(iter(tx.run("failed_lines")), READ_LINES):
            decisions = [_decision(decider, *line) for line in chunk]
            tx.append("decisions", decisions)
            decided.update(state for _, state, _, _ in decisions)
        tx.run("record_failures", **_where(tx, batch))
        tx.run("count_failures_of_siblings")
        for event in VERDICT_EVENTS:
            if artist_event(event)[1].value in decided:
                tx.move_lines("move_failed_lines", event)
        if self.more_room and tx.one("count_cut_off")[0]:
            self._widen(tx, shard.version)
        return int(tx.one("count_again")[0])

    def _widen(self, tx: Transaction, version: int) -> None:
        """Gives the lines whose answers were cut off more room from now on."""
        wider = widened(tx, version, self.more_room)
        if wider is not None:
            tx.run("widen_lines", version=wider)

    def _latest(self, tx: Transaction) -> float:
        return latest_wait(self._rules, self.pause_s, tx.now)

    def _settle(self, tx: Transaction, batch: EndedBatch, reading: Reading, decided: Decided) -> None:
        tx.run("settle_batch", batch_id=batch.batch_id, now=tx.now)
        tx.run("measure_batch", batch_id=batch.batch_id, failures=True, again=decided.again, decided=decided.lines)
        if self.delete:
            for file_id in reading.ids:  # what was not read is not deleted: it was paid for
                tx.run("queue_file", file_id=file_id, purpose="batch_output", shard=batch.shard, now=tx.now)
        if not decided.lines:
            return
        tx.run("end_submission", submission=batch.submission, outcome=batch.status, now=tx.now)
        tx.move_shard(batch.shard, "settle")
        wishes.fulfil(tx, batch.shard, batch.status)
        if self.delete:
            tx.run("queue_shard_file", shard=batch.shard, now=tx.now)


def _where(tx: Transaction, batch: EndedBatch) -> dict[str, object]:
    return {"shard": batch.shard, "submission": batch.submission, "batch_id": batch.batch_id, "now": tx.now}


def _count_failures(tx: Transaction, batch: EndedBatch, shard: ShardRow) -> list[tuple[FailureClass, str, int]]:
    """The failed lines that are to be decided now, by class and code."""
    tx.run("create_failures", batch_id=batch.batch_id)
    tx.run("add_failures_of_siblings", claim=shard.submission, shard=batch.shard, batch_id=batch.batch_id)
    tx.run("create_verdicts")
    return [(FailureClass(failure), code, n) for failure, code, n in tx.run("failure_counts")]


def _decision(decider: Decider, artist_id: str, failure: str, attempts: int, tries: int, free: int) -> tuple[Any, ...]:
    """The decision on one line, as the table `decisions` takes it."""
    verdict = decider.decide(FailureClass(failure), attempts, tries, free)
    return artist_id, verdict.state.value, verdict.wait_until, verdict.counted


def _shortage(batch: EndedBatch, read: int, absent: int) -> str:
    """What the files still lack; "" for nothing. absent: lines that neither file holds."""
    if batch.status == BatchStatus.OVERDUE:
        return ""
    if batch.completed > read:
        return f"{batch.completed:,} lines are done, {read:,} were read"
    if absent > 0 and batch.status == BatchStatus.COMPLETED and not batch.total:
        return f"{absent:,} lines are in neither file, and the service tells no counts"
    if absent > 0 and batch.read_first_at is None:
        # A batch may show its end before its counts and its files: one more look costs a minute.
        return f"{absent:,} lines are in neither file so far"
    return ""


def _sums(batch: EndedBatch, read: int) -> str:
    counted = batch.completed + batch.failed
    if batch.completed == read and counted == batch.total:
        return ""
    told = f"the service counts {batch.completed:,} done and {batch.failed:,} failed of {batch.total:,}"
    return f"{told}, {read:,} answers were read"
