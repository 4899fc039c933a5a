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
from batcher.catalog.prices import PriceOf, TokenRates, resolve_prices
from batcher.core.cutting import split_chunks
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import VERDICT_EVENTS, BatchStatus, ShardState, artist_transition
from batcher.core.model import Endpoint, Lane
from batcher.core.retry import Jitter, RetryRules, latest_wait_time, retry_delay_seconds
from batcher.core.verdicts import VerdictDecider, classify_missing_line, find_setup_problem
from batcher.disk.result_archive import archive_result_file, result_file_path
from batcher.job.job import Job, job_output_to_stderr
from batcher.lanes.batch.result_files import KnownLine, ResultReader, ResultReading, absent_row
from batcher.service.service import CallError, CallRefused, Service
from batcher.state import batches, facts, remote_files, shards, submissions, wishes
from batcher.state.batches import EndedBatch
from batcher.state.db.store import Store
from batcher.state.db.transaction import Transaction
from batcher.state.quota_pauses import QuotaRule, record_quota_failure
from batcher.state.shards import ShardRow
from batcher.state.versions import load_version, register_wider_version

READ_LINES = 2_000
PATIENCE_S = 24 * 3600.0
"""How long incomplete results are asked for again before the rest is held as perhaps paid."""
LOOK_AGAIN_S = 3600.0
"""Between two looks for a batch that was given up."""
FEWEST_READINGS = 10
"""And how often at least: a machine that slept through the day has not asked for a day."""

ACCEPT_EVENTS = ("accept", "accept_late")


@dataclass(frozen=True, slots=True)
class IngestSummary:
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
class DecisionSummary:
    """What became of the failed lines. `lines`: those of the shard, where this batch decides them; else 0."""

    lines: int
    failures: Mapping[str, int] = field(default_factory=dict)
    again: int = 0
    problem: str = ""
    """What stops the whole job."""


@dataclass(frozen=True, slots=True)
class LoadedBatch:
    """An ended batch, and what its lines were asked."""

    batch: EndedBatch
    endpoint: Endpoint
    rates: TokenRates | None


class Ingestion:
    """Takes in batches. `delete`: files at OpenAI are deleted afterwards; `keep_raw`: the files are kept here."""

    def __init__(self, store: Store, service: Service, job: Job, rules: RetryRules, jitter: Jitter) -> None:
        self._store, self._service, self._job = store, service, job
        self._rules, self._jitter = rules, jitter
        self.delete = True
        self.keep_raw = True
        self.prices: PriceOf = resolve_prices

    more_room = 0
    """max_output_tokens for the next tries of answers that were cut off; 0: as before."""
    pause_s = 24 * 3600.0
    """How long sending pauses when the quota failures do not end."""

    @property
    def quota_rule(self) -> QuotaRule:
        """What follows a quota failure."""
        return QuotaRule(self._rules, self._jitter, self.pause_s)

    def load_batch(self, batch_id: str) -> LoadedBatch:
        """A batch that the state knows."""
        with self._store.read_transaction() as tx:
            batch = batches.load_batch(tx, batch_id)
            version, _ = load_version(tx, shards.load_shard(tx, batch.shard).version)
        prices = self.prices(version.model)
        return LoadedBatch(batch, version.endpoint, prices.rates_for(Lane.BATCH) if prices is not None else None)

    def ingest_batch(self, loaded: LoadedBatch) -> IngestSummary | None:
        """Reads and records one batch; None when it is settled already, or not complete yet."""
        batch = loaded.batch
        if batch.settled_at is not None:
            return None
        if batch.read_first_at is not None or not (batch.output_file_id or batch.error_file_id):
            loaded = replace(loaded, batch=self._refresh_batch(batch))
        reading = self._download_result_files(loaded.batch)
        if self.keep_raw:
            for path, _ in reading.files:
                archive_result_file(path)
        with job_output_to_stderr(), self._store.transaction("ingest", patience_s=None) as tx:
            taken = self._record_batch_results(tx, loaded, reading)
        for path, _ in reading.files:
            path.unlink(missing_ok=True)
        return taken

    def _refresh_batch(self, batch: EndedBatch) -> EndedBatch:
        """The batch as the service tells it now: its files and counts may come later than its end."""
        found = self._service.retrieve_batch(batch.batch_id)
        if found is None:
            return batch
        with self._store.transaction("ask_again", patience_s=None) as tx:
            batches.update_batch(tx, batches.load_known_batch(tx, batch.batch_id), found)
            return batches.load_batch(tx, batch.batch_id)

    def _download_result_files(self, batch: EndedBatch) -> ResultReading:
        """The result files on disk, as far as they can be had. A refusal of our key is raised."""
        reading = ResultReading()
        for kind, file_id in (("output", batch.output_file_id), ("error", batch.error_file_id)):
            if not file_id:
                continue
            path = result_file_path(self._store.folder, batch.batch_id, kind)
            crashpoints.mark_reached("download.before")
            try:
                self._service.download_file(file_id, path)
            except CallError as error:
                if isinstance(error, CallRefused) and error.refuses_key:
                    raise
                reading.missing = f"{kind} file {file_id}: {error}"
                reading.wait_s = max(reading.wait_s, error.wait_s or 0.0)
                continue
            crashpoints.mark_reached("download.after")
            reading.files.append((path, kind == "output"))
            reading.ids.append(file_id)
        return reading

    # --- recording --------------------------------------------------------------------------------------------------

    def _record_batch_results(
        self, tx: Transaction, loaded: LoadedBatch, reading: ResultReading
    ) -> IngestSummary | None:
        batch, shard = loaded.batch, shards.load_shard(tx, loaded.batch.shard)
        absent = self._stage_results(tx, loaded, reading, shard)
        bios = self._accept_bios(tx, batch, reading)
        read = len(reading.outputs)
        unread = len(absent) - reading.odd["malformed lines"]  # they stand there, and say nothing
        missing = reading.missing or _describe_shortage(batch, read + reading.malformed_outputs, unread)
        if missing and self._should_read_again(tx, batch):
            self._postpone_reading(tx, batch, missing, reading.wait_s)
            return None
        if missing or batch.status == BatchStatus.OVERDUE:
            tx.fetch_all("mark_unread", batch_id=batch.batch_id, next=tx.now + LOOK_AGAIN_S)
        reading.sums = _describe_count_mismatch(batch, read)
        if reading.describe_oddities():
            tx.record_event("odd_results", reading.describe_oddities(), batch_id=batch.batch_id, shard=batch.shard)
        failure, code = classify_missing_line(batch.status, batch.completed, read, counted=batch.total > 0)
        if absent:
            tx.insert_rows("results", [absent_row(line, failure, code) for line in absent])
        decided = self._decide_or_defer(tx, batch, shard, bool(absent) or not all(reading.found.values()))
        self._settle_batch(tx, batch, reading, decided)
        told = f"{bios} bios, {sum(decided.failures.values())} failures"
        tx.record_event("settled", told, batch_id=batch.batch_id, shard=batch.shard)
        return IngestSummary(
            batch.batch_id,
            batch.shard,
            batch.status,
            bios,
            decided.failures,
            decided.problem,
            reading.describe_oddities(),
        )

    def _stage_results(
        self, tx: Transaction, loaded: LoadedBatch, reading: ResultReading, shard: ShardRow
    ) -> list[KnownLine]:
        """Reads the files into `results`; the lines that this batch has to decide and that neither file holds."""
        states = [s.value for event in ACCEPT_EVENTS for s in artist_transition(event)[0]]
        found = tx.fetch_all("lines_of_shard", shard=shard.shard, claim=shard.submission, open=states)
        if len(found) < shard.lines:
            found += tx.fetch_all("lines_gone", shard=shard.shard, open=states)
        lines = {row[0]: KnownLine._make(row[1:]) for row in found}
        taken = {row[0] for row in tx.fetch_all("lines_taken", shard=shard.shard, batch_id=loaded.batch.batch_id)}
        tx.fetch_all("create_results")
        reader = ResultReader(self._job, loaded.endpoint, loaded.rates, lines, taken)
        for chunk in split_chunks(reader.read_verdict_rows(reading), READ_LINES):
            tx.insert_rows("results", chunk)
        if reading.superseded:
            tx.fetch_all("drop_superseded")
        return reader.absent_lines(reading)

    def _accept_bios(self, tx: Transaction, batch: EndedBatch, reading: ResultReading) -> int:
        """Takes every usable answer for a line that has no bio yet, whichever batch it comes from; how many."""
        where = _batch_sql_parameters(tx, batch)
        tx.fetch_all("record_successes", **where)
        tx.fetch_all("insert_bios", **{key: where[key] for key in ("shard", "batch_id", "now")})
        moved = 0
        for event in ACCEPT_EVENTS:
            if moved < reading.bios:
                moved += tx.move_lines("accept_lines", event, shard=batch.shard)
        return moved

    def _should_read_again(self, tx: Transaction, batch: EndedBatch) -> bool:
        """Whether incomplete results are asked for again."""
        since = batch.read_first_at
        if since is None or tx.now < since + PATIENCE_S:
            return True
        return int(tx.fetch_one("readings_failed", batch_id=batch.batch_id)[0]) < FEWEST_READINGS

    def _postpone_reading(self, tx: Transaction, batch: EndedBatch, why: str, asked_s: float) -> None:
        policy = self._rules.policies[FailureClass.OUTAGE]
        waited = max(0.0, tx.now - (batch.read_first_at or tx.now))
        n = int(waited // max(policy.base_s, 1.0))
        wait = max(asked_s, retry_delay_seconds(policy, n, self._jitter(), self._rules.jitter_share))
        tx.fetch_all("delay_batch", batch_id=batch.batch_id, until=tx.now + wait, now=tx.now)
        tx.fetch_all("measure_batch", batch_id=batch.batch_id, failures=False, again=0, decided=0)
        tx.record_event("results_incomplete", why, batch_id=batch.batch_id, shard=batch.shard)

    # --- verdicts ---------------------------------------------------------------------------------------------------

    def _decide_or_defer(self, tx: Transaction, batch: EndedBatch, shard: ShardRow, failed: bool) -> DecisionSummary:
        """The verdicts on failed lines, unless another batch of the shard has the last word on them.

        failed: some lines of this batch failed.
        """
        unsettled, others = tx.fetch_one("siblings", shard=batch.shard, batch_id=batch.batch_id)
        if not unsettled and shard.state is ShardState.ENDED:
            return self._decide_failed_lines(tx, batch, shard, failed or others > 0)
        if failed:
            tx.fetch_all("record_failures_undecided", **_batch_sql_parameters(tx, batch))
        return DecisionSummary(lines=0)

    def _decide_failed_lines(
        self, tx: Transaction, batch: EndedBatch, shard: ShardRow, failed: bool
    ) -> DecisionSummary:
        """Decides every failed line. failed: there may be some."""
        counts = _count_failed_lines(tx, batch, shard) if failed else []
        bios, bios_of_job = tx.fetch_one("bios_so_far", shard=batch.shard)
        problem = find_setup_problem(self._rules, counts, bios, bios_of_job)
        if any(failure is FailureClass.QUOTA for failure, _, _ in counts):
            record_quota_failure(tx, self.quota_rule, f"batch {batch.batch_id}", batch.recorded_at)
        elif bios:
            tx.fetch_all("end_probed_pauses", recorded_at=batch.recorded_at, latest=self._latest_wait(tx), now=tx.now)
        if problem:
            facts.stop_sending(tx, problem)
        again = 0
        if failed:
            decider = VerdictDecider(self._rules, self._jitter, tx.now, counts, bios)
            decider.stopped, decider.cancelled = bool(problem), wishes.is_cancel_requested(tx, batch.shard)
            again = self._write_verdicts(tx, batch, shard, decider)
        totals: Counter[str] = Counter()
        for failure, _, n in counts:
            totals[failure.value] += n
        return DecisionSummary(shard.lines, dict(totals), again, problem)

    def _write_verdicts(self, tx: Transaction, batch: EndedBatch, shard: ShardRow, decider: VerdictDecider) -> int:
        """Writes what becomes of the failed lines; how many go again at a try's cost."""
        decided: Counter[str] = Counter()
        tx.fetch_all("create_decisions")
        for chunk in split_chunks(iter(tx.fetch_all("failed_lines")), READ_LINES):
            decisions = [_decision_row(decider, *line) for line in chunk]
            tx.insert_rows("decisions", decisions)
            decided.update(state for _, state, _, _ in decisions)
        tx.fetch_all("record_failures", **_batch_sql_parameters(tx, batch))
        tx.fetch_all("count_failures_of_siblings")
        for event in VERDICT_EVENTS:
            if artist_transition(event)[1].value in decided:
                tx.move_lines("move_failed_lines", event)
        if self.more_room and tx.fetch_one("count_cut_off")[0]:
            self._widen_output_limit(tx, shard.version)
        return int(tx.fetch_one("count_again")[0])

    def _widen_output_limit(self, tx: Transaction, version: int) -> None:
        """Gives the lines whose answers were cut off more room from now on."""
        wider = register_wider_version(tx, version, self.more_room)
        if wider is not None:
            tx.fetch_all("widen_lines", version=wider)

    def _latest_wait(self, tx: Transaction) -> float:
        return latest_wait_time(self._rules, self.pause_s, tx.now)

    def _settle_batch(
        self, tx: Transaction, batch: EndedBatch, reading: ResultReading, decided: DecisionSummary
    ) -> None:
        batches.settle_batch(tx, batch.batch_id)
        tx.fetch_all(
            "measure_batch", batch_id=batch.batch_id, failures=True, again=decided.again, decided=decided.lines
        )
        if self.delete:
            for file_id in reading.ids:  # what was not read is not deleted: it was paid for
                remote_files.queue_file(tx, file_id, "batch_output", batch.shard)
        if not decided.lines:
            return
        submissions.end_submission(tx, batch.submission, batch.status)
        tx.move_shard(batch.shard, "settle")
        wishes.fulfil_wish(tx, batch.shard, batch.status)
        if self.delete:
            shards.queue_shard_file(tx, batch.shard)


def _batch_sql_parameters(tx: Transaction, batch: EndedBatch) -> dict[str, object]:
    return {"shard": batch.shard, "submission": batch.submission, "batch_id": batch.batch_id, "now": tx.now}


def _count_failed_lines(tx: Transaction, batch: EndedBatch, shard: ShardRow) -> list[tuple[FailureClass, str, int]]:
    """The failed lines that are to be decided now, by class and code."""
    tx.fetch_all("create_failures", batch_id=batch.batch_id)
    tx.fetch_all("add_failures_of_siblings", claim=shard.submission, shard=batch.shard, batch_id=batch.batch_id)
    tx.fetch_all("create_verdicts")
    return [(FailureClass(failure), code, n) for failure, code, n in tx.fetch_all("failure_counts")]


def _decision_row(
    decider: VerdictDecider, artist_id: str, failure: str, attempts: int, tries: int, free: int
) -> tuple[Any, ...]:
    """The decision on one line, as the table `decisions` takes it."""
    verdict = decider.decide_verdict(FailureClass(failure), attempts, tries, free)
    return artist_id, verdict.state.value, verdict.wait_until, verdict.counted


def _describe_shortage(batch: EndedBatch, read: int, absent: int) -> str:
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


def _describe_count_mismatch(batch: EndedBatch, read: int) -> str:
    counted = batch.completed + batch.failed
    if batch.completed == read and counted == batch.total:
        return ""
    told = f"the service counts {batch.completed:,} done and {batch.failed:,} failed of {batch.total:,}"
    return f"{told}, {read:,} answers were read"
