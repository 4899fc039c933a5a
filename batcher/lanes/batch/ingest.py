"""Recording the results of an ended batch: both files, one transaction, one verdict for each line.

A crash anywhere repeats the ingestion, and repeating it changes nothing twice. Usable answers are accepted at every
reading, even while others are missing. Failures are decided once: when nothing more is to be read, or was given up, and
no other batch of the shard is unsettled.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from batcher import crashpoints
from batcher.catalog.prices import TokenRates
from batcher.core.endpoints.embeddings import VectorLength
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import BatchStatus, ShardState
from batcher.core.model import Endpoint, Lane
from batcher.core.remote import longest_result_bytes
from batcher.core.retry import retry_delay_seconds
from batcher.core.verdicts import (
    LOOK_AGAIN_S,
    QUICK_LOOKS_S,
    BatchReading,
    SetupProblem,
    Shortage,
    VerdictDecider,
    classify_absent_line,
    find_answer_problem,
    find_main_reason,
    find_setup_problem,
    find_shortage,
    have_readings_agreed,
    is_patience_left,
    is_rate_limit_storm,
    is_reason_new,
)
from batcher.disk.result_archive import archive_result_file, result_file_path
from batcher.job.job import job_output_to_stderr
from batcher.lanes.batch.result_files import DownloadedFiles, ResultFile, ResultReader, absent_row
from batcher.lanes.context import LaneContext
from batcher.nouns import current_nouns
from batcher.service.service import CallError, CallRefused
from batcher.state import batches, facts, quota_pauses, remote_files, results, shards, submissions, wishes
from batcher.state.batches import EndedBatch
from batcher.state.bios import load_vector_length
from batcher.state.db.transaction import Transaction
from batcher.state.following.settling import settle_followers
from batcher.state.results import Decision, FailedLine
from batcher.state.shards import ShardRow
from batcher.state.snapshot import latest_valid_wait, load_braked
from batcher.state.versions import load_version, register_wider_version


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
    length: VectorLength | None = None
    """Of the vectors of its version; None where answers are none."""


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
            length = load_vector_length(tx, shard.version, version)
        prices = self._context.prices(version.model)
        rates = prices.rates_for(Lane.BATCH) if prices is not None else None
        most_bytes = longest_result_bytes(max(shard.lines, batch.total), version.max_output_tokens)
        return LoadedBatch(batch, version.endpoint, rates, most_bytes, length)

    def ingest_batch(self, loaded: LoadedBatch) -> IngestSummary | None:
        """Read and record one batch; return None when it is settled already, or not complete yet.

        Raises CallRefused where the service refuses our key.
        """
        batch = loaded.batch
        if batch.settled_at is not None:
            return None
        problem = ""
        if batch.read_first_at is not None or not (batch.output_file_id or batch.error_file_id):
            try:
                loaded = replace(loaded, batch=self._refresh_batch(batch))
            except CallError as error:
                if not error.may_concern_one_object:
                    raise
                # What the state knows of it is read; what that lacks is missed. Of an overdue batch no answer is news.
                problem = "" if batch.status == BatchStatus.OVERDUE else f"batch {batch.batch_id}: {error}"
        downloaded = self._download_result_files(loaded.batch, loaded.most_bytes, problem)
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

    def _download_result_files(self, batch: EndedBatch, most_bytes: int, problem: str) -> DownloadedFiles:
        """Download the result files, as far as possible. Raises CallRefused where the service refuses our key.

        problem: why it is not known which files there are, "" where it is.
        """
        files: list[ResultFile] = []
        wait_s = 0.0
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
        bios = results.accept_bios(tx, batch, tally.bios, reader.has_redone_lines)
        reading = _build_reading(batch, reader, downloaded)
        shortage = find_shortage(reading)
        # A file that cannot be downloaded is not missed where the other one holds every line.
        is_missed = bool(downloaded.error) and (reading.unreported > 0 or reading.is_damaged)
        lack = downloaded.error if is_missed else _describe_shortage(reading, shortage)
        history = batches.load_reading_history(tx, batch, lack)
        if lack and is_patience_left(Shortage.PAID if is_missed else shortage, history, tx.now):
            settle_followers(tx, self._context.job.accepts_kept_bio)
            self._postpone_reading(tx, batch, lack, downloaded)
            return None
        failure, code = classify_absent_line(batch.status, shortage, have_readings_agreed(history, tx.now))
        is_unread = is_missed or shortage is Shortage.PAID or failure is FailureClass.MISSING
        if is_unread:
            batches.mark_unread(tx, batch.batch_id, tx.now + LOOK_AGAIN_S)
        anomalies = tally.describe_anomalies(_describe_count_mismatch(batch, reading.outputs))
        if anomalies:
            tx.record_event("odd_results", anomalies, batch_id=batch.batch_id, shard=batch.shard)
        results.add_results(tx, (absent_row(line, failure, code) for line in absent))
        decision = self._decide_or_defer(tx, batch, shard, bool(absent) or tally.has_failures)
        if shard.retry:
            results.mark_answers_again(tx, batch)
        self._settle_batch(tx, batch, () if is_unread else downloaded.files, decision)
        settle_followers(tx, self._context.job.accepts_kept_bio)
        details = f"{current_nouns().answers}: {bios:,}, failures: {sum(decision.failures.values()):,}"
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
        reader = ResultReader(self._context.job, loaded.endpoint, loaded.rates, lines, recorded, loaded.length)
        results.create_results(tx)
        results.add_results(tx, reader.read_files(downloaded.files))
        if reader.tally.superseded:
            results.drop_superseded_failures(tx)
        return reader

    def _postpone_reading(self, tx: Transaction, batch: EndedBatch, lack: str, downloaded: DownloadedFiles) -> None:
        """Read a batch again later. The batch keeps what was recorded of it so far.

        A file that was not downloaded is fetched again after the delays of an outage; files that were, and lack
        something, soon for some minutes, and then hourly: they may be large.
        """
        rules = self._context.rules
        policy = rules.policies[FailureClass.OUTAGE]
        waited = max(0.0, tx.now - (batch.read_first_at or tx.now))
        n = int(waited // max(policy.base_s, 1.0))
        wait = max(downloaded.wait_s, retry_delay_seconds(policy, n, self._context.jitter(), rules.jitter_share))
        if not downloaded.error and waited >= QUICK_LOOKS_S:
            wait = max(wait, LOOK_AGAIN_S)
        batches.postpone_reading(tx, batch.batch_id, tx.now + wait)
        results.record_batch_usage(tx, batch.batch_id, failures=False)
        tx.record_event("results_incomplete", lack, batch_id=batch.batch_id, shard=batch.shard)

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
        if failed and not problem:
            problem = self._find_new_problem(tx, bios.of_shard + sum(count.lines for count in counts))
        if any(count.failure is FailureClass.QUOTA for count in counts):
            quota_pauses.record_quota_failure(
                tx,
                self._context.quota_rule,
                f"batch {batch.batch_id}",
                results.find_quota_sentence(tx),
                batch.recorded_at,
            )
        elif bios.of_shard:
            quota_pauses.end_probed_pauses(tx, batch.recorded_at, latest_valid_wait(tx, self._context.config))
        retried = 0
        if failed:
            storm = is_rate_limit_storm(rules, counts, bios.of_shard)
            cancelled = wishes.is_cancel_requested(tx, batch.shard)
            decider = VerdictDecider(rules, self._context.jitter, tx.now, storm, bool(problem), cancelled)
            retried = self._record_decisions(tx, batch, shard, decider)
        # The brake ends the run in better order: results of what is in flight are read, and the user is asked.
        is_braked = problem.concerns_answers and shard.version in load_braked(tx, self._context.config)
        if problem and not is_braked:
            facts.stop_sending(tx, problem.sentence)
        totals: Counter[str] = Counter()
        for count in counts:
            totals[count.failure.value] += count.lines
        return DecisionSummary(shard.lines, dict(totals), retried, problem.sentence)

    def _find_new_problem(self, tx: Transaction, lines: int) -> SetupProblem:
        """Return why the job must stop where most of a batch's lines suddenly have answers of no use.

        While the job stands still for such a reason, batches that were under way are judged as if it was never seen.
        """
        reason = find_main_reason(self._context.rules, results.load_first_failures(tx), lines)
        if reason is None:
            return SetupProblem()
        history = results.load_reason_history(tx, reason.code, tx.now)
        is_new = bool(facts.read_stop_reason(tx)) or is_reason_new(reason, lines, history)
        return find_answer_problem(reason, lines) if is_new else SetupProblem()

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
        self, tx: Transaction, batch: EndedBatch, read: Sequence[ResultFile], decision: DecisionSummary
    ) -> None:
        """Record that the batch is settled, and its shard with it where this batch decided about the lines.

        read: the files of which nothing more is wanted. Any other stays at the service: it was paid for.
        """
        delete = self._context.config.api.delete_remote_files
        batches.settle_batch(tx, batch.batch_id)
        results.record_batch_usage(tx, batch.batch_id, failures=True, retried=decision.retried, decided=decision.lines)
        if delete:
            for file in read:
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


def _build_reading(batch: EndedBatch, reader: ResultReader, downloaded: DownloadedFiles) -> BatchReading:
    tally = reader.tally
    unreported, absent = reader.count_unreported_lines()
    was_output_read = any(file.is_output for file in downloaded.files)
    return BatchReading(
        batch.status, batch.total, batch.completed, batch.failed,
        outputs=len(tally.outputs), errors=len(tally.final.keys() - tally.outputs),
        unreported=unreported, absent=absent,
        is_damaged=tally.malformed_outputs > 0 or (bool(batch.output_file_id) and not was_output_read),
        is_cancel_wanted=batch.is_cancel_wanted,
    )  # fmt: skip


def _describe_shortage(reading: BatchReading, shortage: Shortage) -> str:
    """Return what the files lack, in words; "" where they lack nothing. Equal findings have equal words."""
    if reading.status == BatchStatus.OVERDUE or (shortage is Shortage.NONE and not reading.absent):
        return ""
    if reading.completed > reading.outputs:
        return f"{reading.completed:,} lines are done, {reading.outputs:,} were read"
    where = f"{reading.absent:,} lines are in neither file"
    if reading.is_damaged:
        return f"{where}, and the output file has lines that cannot be read"
    if shortage is Shortage.PAID:
        counts = "are not those of the files" if reading.total else "are missing"
        return f"{where}, and the service's counts {counts}"
    return f"{where} so far, {reading.outputs:,} answers were read"


def _describe_count_mismatch(batch: EndedBatch, read: int) -> str:
    """Return how the service's counts differ from the answers that were read, in words; "" where they agree."""
    counted = batch.completed + batch.failed
    if batch.completed == read and counted == batch.total:
        return ""
    counts = f"the service counts {batch.completed:,} done and {batch.failed:,} failed of {batch.total:,}"
    return f"{counts}, {read:,} answers were read"
