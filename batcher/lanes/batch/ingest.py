"""Recording the results of an ended batch: both files, one transaction, one verdict for each line.

A crash anywhere repeats the ingestion, and repeating it changes nothing twice. Usable answers are accepted at every
reading, even while others are missing. Failures are decided once: when everything that the service counts was read or
was given up, and no other batch of the shard is unsettled.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from batcher import crashpoints
from batcher.catalog.prices import TokenRates
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import BatchStatus, ShardState
from batcher.core.model import Endpoint, Lane
from batcher.core.remote import longest_result_bytes
from batcher.core.retry import retry_delay_seconds
from batcher.core.verdicts import VerdictDecider, classify_missing_line, find_setup_problem, is_rate_limit_storm
from batcher.disk.result_archive import archive_result_file, result_file_path
from batcher.job.job import job_output_to_stderr
from batcher.lanes.batch.result_files import Anomaly, DownloadedFiles, ResultFile, ResultReader, absent_row
from batcher.lanes.context import LaneContext
from batcher.service.service import CallError, CallRefused
from batcher.state import batches, facts, quota_pauses, remote_files, results, shards, submissions, wishes
from batcher.state.batches import EndedBatch
from batcher.state.db.transaction import Transaction
from batcher.state.results import Decision, FailedLine
from batcher.state.shards import ShardRow
from batcher.state.snapshot import latest_valid_wait
from batcher.state.versions import load_version, register_wider_version

PATIENCE_S = 24 * 3600.0
"""How long incomplete results are read again before the lines that are missing are held as perhaps paid."""
LOOK_AGAIN_S = 3600.0
"""The time between two looks for a batch that was given up."""
FEWEST_READINGS = 10
"""Fewest failed readings before giving up, so that a suspended machine does not run out of patience while asleep."""


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What an ingestion recorded, for the display."""

    batch_id: str
    shard: int
    status: str
    bios: int
    failures: Mapping[str, int]
    """Failed lines by class."""
    problem: str
    """What stops the job; "" where it continues."""
    anomalies: str
    """What was odd about the files, in words; "" where nothing was."""


@dataclass(frozen=True, slots=True)
class DecisionSummary:
    """What was decided about the failed lines."""

    lines: int
    """The lines of the shard where this batch decides about them, else 0."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Failed lines by class."""
    retried: int = 0
    """Lines that are retried at the cost of a try."""
    problem: str = ""
    """What stops the job; "" where it continues."""


@dataclass(frozen=True, slots=True)
class LoadedBatch:
    """An ended batch, and how its lines were requested."""

    batch: EndedBatch
    endpoint: Endpoint
    rates: TokenRates | None
    """The price of a token; None where it is unknown."""
    most_bytes: int
    """The length of the longest result file that is believed."""


class Ingestion:
    """Records the results of ended batches."""

    def __init__(self, context: LaneContext) -> None:
        self._context = context

    def load_batch(self, batch_id: str) -> LoadedBatch:
        """Return a batch that the state knows."""
        with self._context.store.read_transaction() as tx:
            batch = batches.load_batch(tx, batch_id)
            shard = shards.load_shard(tx, batch.shard)
            version, _ = load_version(tx, shard.version)
        prices = self._context.prices(version.model)
        rates = prices.rates_for(Lane.BATCH) if prices is not None else None
        most_bytes = longest_result_bytes(max(shard.lines, batch.total), version.max_output_tokens)
        return LoadedBatch(batch, version.endpoint, rates, most_bytes)

    def ingest_batch(self, loaded: LoadedBatch) -> IngestSummary | None:
        """Read and record one batch; return None when it is settled already, or not complete yet.

        Raises CallRefused where the service refuses our key.
        """
        batch = loaded.batch
        if batch.settled_at is not None:
            return None
        if batch.read_first_at is not None or not (batch.output_file_id or batch.error_file_id):
            loaded = replace(loaded, batch=self._refresh_batch(batch))
        downloaded = self._download_result_files(loaded.batch, loaded.most_bytes)
        if self._context.config.results.keep_raw:
            for file in downloaded.files:
                archive_result_file(file.path)
        with job_output_to_stderr(), self._context.store.transaction("ingest", patience_s=None) as tx:
            summary = self._record_batch_results(tx, loaded, downloaded)
        for file in downloaded.files:
            file.path.unlink(missing_ok=True)
        return summary

    def _refresh_batch(self, batch: EndedBatch) -> EndedBatch:
        """Return the batch as the service reports it now: its files and counts may come later than its end."""
        found = self._context.service.retrieve_batch(batch.batch_id)
        if found is None:
            return batch
        with self._context.store.transaction("ask_again", patience_s=None) as tx:
            batches.update_batch(tx, batches.load_known_batch(tx, batch.batch_id), found)
            return batches.load_batch(tx, batch.batch_id)

    def _download_result_files(self, batch: EndedBatch, most_bytes: int) -> DownloadedFiles:
        """Download the result files, as far as possible. Raises CallRefused where the service refuses our key."""
        files: list[ResultFile] = []
        problem, wait_s = "", 0.0
        for kind, file_id in (("output", batch.output_file_id), ("error", batch.error_file_id)):
            if not file_id:
                continue
            path = result_file_path(self._context.store.folder, batch.batch_id, kind)
            crashpoints.mark_reached("download.before")
            try:
                self._context.service.download_file(file_id, path, most_bytes)
            except CallError as error:
                if isinstance(error, CallRefused) and error.refuses_key:
                    raise
                problem = f"{kind} file {file_id}: {error}"
                wait_s = max(wait_s, error.wait_s or 0.0)
                continue
            crashpoints.mark_reached("download.after")
            files.append(ResultFile(file_id, path, kind == "output"))
        return DownloadedFiles(tuple(files), problem, wait_s)

    def _record_batch_results(
        self, tx: Transaction, loaded: LoadedBatch, downloaded: DownloadedFiles
    ) -> IngestSummary | None:
        """Record what the files hold; return None where something is missing and the files are to be read again."""
        batch, shard = loaded.batch, shards.load_shard(tx, loaded.batch.shard)
        reader = self._stage_results(tx, loaded, downloaded, shard)
        tally, absent = reader.tally, reader.absent_lines()
        bios = results.accept_bios(tx, batch, tally.bios)
        read = len(tally.outputs)
        # A malformed line is one of the absent lines: it is in the file, and reading it again brings nothing.
        unread = len(absent) - tally.anomalies[Anomaly.MALFORMED]
        missing = downloaded.error or _describe_shortage(batch, read + tally.malformed_outputs, unread)
        if missing and self._should_read_again(tx, batch):
            self._postpone_reading(tx, batch, missing, downloaded.wait_s)
            return None
        if missing or batch.status == BatchStatus.OVERDUE:
            batches.mark_unread(tx, batch.batch_id, tx.now + LOOK_AGAIN_S)
        anomalies = tally.describe_anomalies(_describe_count_mismatch(batch, read))
        if anomalies:
            tx.record_event("odd_results", anomalies, batch_id=batch.batch_id, shard=batch.shard)
        failure, code = classify_missing_line(batch.status, batch.completed, read, counted=batch.total > 0)
        results.add_results(tx, (absent_row(line, failure, code) for line in absent))
        decision = self._decide_or_defer(tx, batch, shard, bool(absent) or tally.has_failures)
        self._settle_batch(tx, batch, downloaded, decision)
        details = f"{bios} bios, {sum(decision.failures.values())} failures"
        tx.record_event("settled", details, batch_id=batch.batch_id, shard=batch.shard)
        return IngestSummary(
            batch.batch_id, batch.shard, batch.status, bios, decision.failures, decision.problem, anomalies
        )

    def _stage_results(
        self, tx: Transaction, loaded: LoadedBatch, downloaded: DownloadedFiles, shard: ShardRow
    ) -> ResultReader:
        """Read the files into the table `results`; return the reader with its tally."""
        lines = results.load_known_lines(tx, shard)
        recorded = results.load_recorded_artists(tx, loaded.batch)
        reader = ResultReader(self._context.job, loaded.endpoint, loaded.rates, lines, recorded)
        results.create_results(tx)
        results.add_results(tx, reader.read_files(downloaded.files))
        if reader.tally.superseded:
            results.drop_superseded_failures(tx)
        return reader

    def _should_read_again(self, tx: Transaction, batch: EndedBatch) -> bool:
        """Return whether incomplete results are to be read again."""
        since = batch.read_first_at
        if since is None or tx.now < since + PATIENCE_S:
            return True
        return batches.count_failed_readings(tx, batch.batch_id) < FEWEST_READINGS

    def _postpone_reading(self, tx: Transaction, batch: EndedBatch, reason: str, wait_s: float) -> None:
        """Read a batch again after the delay of an outage that has lasted as long, or after `wait_s` if that is later.

        The batch keeps what was recorded of it so far.
        """
        rules = self._context.rules
        policy = rules.policies[FailureClass.OUTAGE]
        waited = max(0.0, tx.now - (batch.read_first_at or tx.now))
        n = int(waited // max(policy.base_s, 1.0))
        wait = max(wait_s, retry_delay_seconds(policy, n, self._context.jitter(), rules.jitter_share))
        batches.postpone_reading(tx, batch.batch_id, tx.now + wait)
        results.record_batch_usage(tx, batch.batch_id, failures=False)
        tx.record_event("results_incomplete", reason, batch_id=batch.batch_id, shard=batch.shard)

    def _decide_or_defer(self, tx: Transaction, batch: EndedBatch, shard: ShardRow, failed: bool) -> DecisionSummary:
        """Decide about the failed lines, unless another batch of the shard will. failed: this batch has some."""
        siblings = batches.count_siblings(tx, batch)
        if not siblings.unsettled and shard.state is ShardState.ENDED:
            return self._decide_failed_lines(tx, batch, shard, failed or siblings.all > 0)
        if failed:
            results.record_undecided_failures(tx, batch)
        return DecisionSummary(lines=0)

    def _decide_failed_lines(
        self, tx: Transaction, batch: EndedBatch, shard: ShardRow, failed: bool
    ) -> DecisionSummary:
        """Decide about every failed line of the shard. failed: whether there may be any."""
        rules = self._context.rules
        counts = results.stage_failures(tx, batch, shard) if failed else []
        bios = results.count_bios(tx, batch.shard)
        problem = find_setup_problem(rules, counts, bios.of_shard, bios.of_job)
        if any(count.failure is FailureClass.QUOTA for count in counts):
            quota_pauses.record_quota_failure(
                tx, self._context.quota_rule, f"batch {batch.batch_id}", batch.recorded_at
            )
        elif bios.of_shard:
            quota_pauses.end_probed_pauses(tx, batch.recorded_at, latest_valid_wait(tx, self._context.config))
        if problem:
            facts.stop_sending(tx, problem)
        retried = 0
        if failed:
            storm = is_rate_limit_storm(rules, counts, bios.of_shard)
            cancelled = wishes.is_cancel_requested(tx, batch.shard)
            decider = VerdictDecider(rules, self._context.jitter, tx.now, storm, bool(problem), cancelled)
            retried = self._record_decisions(tx, batch, shard, decider)
        totals: Counter[str] = Counter()
        for count in counts:
            totals[count.failure.value] += count.lines
        return DecisionSummary(shard.lines, dict(totals), retried, problem)

    def _record_decisions(self, tx: Transaction, batch: EndedBatch, shard: ShardRow, decider: VerdictDecider) -> int:
        """Decide and move the failed lines; return how many are retried at the cost of a try."""
        decisions = (_decide_line(decider, line) for line in results.load_failed_lines(tx))
        results.record_decisions(tx, batch, decisions)
        more_room = self._context.config.retry.more_room
        if more_room and results.has_cut_off_lines(tx):
            wider = register_wider_version(tx, shard.version, more_room)
            if wider is not None:
                results.widen_cut_off_lines(tx, wider)
        return results.count_retried_lines(tx)

    def _settle_batch(
        self, tx: Transaction, batch: EndedBatch, downloaded: DownloadedFiles, decision: DecisionSummary
    ) -> None:
        """Record that the batch is settled, and its shard with it where this batch decided about the lines."""
        delete = self._context.config.api.delete_remote_files
        batches.settle_batch(tx, batch.batch_id)
        results.record_batch_usage(tx, batch.batch_id, failures=True, retried=decision.retried, decided=decision.lines)
        if delete:
            for file in downloaded.files:  # a file that was not read stays at the service: it was paid for
                remote_files.queue_file(tx, file.file_id, "batch_output", batch.shard)
        if not decision.lines:
            return
        submissions.end_submission(tx, batch.submission, batch.status)
        shards.settle_shard(tx, batch.shard)
        wishes.fulfil_wish(tx, batch.shard, batch.status)
        if delete:
            shards.queue_shard_file(tx, batch.shard)


def _decide_line(decider: VerdictDecider, line: FailedLine) -> Decision:
    verdict = decider.decide_verdict(FailureClass(line.failure), line.attempts, line.tries, line.free)
    return Decision(line.artist_id, verdict.state.value, verdict.wait_until, verdict.counted)


def _describe_shortage(batch: EndedBatch, read: int, absent: int) -> str:
    """Return what the files still lack, in words; "" where they are complete.

    read: lines of the output file; absent: lines that neither file holds.
    """
    if batch.status == BatchStatus.OVERDUE:
        return ""
    if batch.completed > read:
        return f"{batch.completed:,} lines are done, {read:,} were read"
    if absent > 0 and batch.status == BatchStatus.COMPLETED and not batch.total:
        return f"{absent:,} lines are in neither file, and the service tells no counts"
    if absent > 0 and batch.read_first_at is None:
        # A batch may show its end before its counts and its files: a second reading costs a minute.
        return f"{absent:,} lines are in neither file so far"
    return ""


def _describe_count_mismatch(batch: EndedBatch, read: int) -> str:
    """Return how the service's counts differ from the answers that were read, in words; "" where they agree."""
    counted = batch.completed + batch.failed
    if batch.completed == read and counted == batch.total:
        return ""
    counts = f"the service counts {batch.completed:,} done and {batch.failed:,} failed of {batch.total:,}"
    return f"{counts}, {read:,} answers were read"
