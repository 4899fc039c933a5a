"""Taking in the results of an ended batch: both files, one transaction, one verdict a line.

A crash anywhere repeats the whole and changes nothing twice: a line takes a verdict only while the batch's own
submission claims it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batcher import crashpoints
from batcher.api import CallError, CallRefused, Service
from batcher.job import Job
from batcher.lifecycle import ArtistState, BatchStatus
from batcher.model import Endpoint, Failure, Lane, LineResult
from batcher.planning import chunks
from batcher.prices import Prices
from batcher.results import read_line
from batcher.retry import FailureClass, Jitter, Rules, Verdict, decide_line, delay_s, storm_verdict
from batcher.store import Store, Transaction, acting
from batcher.store.planned import load_version

READ_LINES = 2_000
PATIENCE_S = 24 * 3600.0
"""How long incomplete results are asked for again before the rest is held as perhaps paid."""
FEWEST_FOR_A_REASON = 20
"""Lines that must share a reason before it counts as a fault of the setup rather than of the lines."""

VERDICT_EVENTS = ("give_back", "delay", "hold", "give_up")
"""The events that move failed lines on; each moves those whose verdict is its target."""


class ResultsIncomplete(Exception):  # noqa: N818 - a verdict, and read as one
    """The files do not hold all that the service says was done; they are read again later."""


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


@dataclass(frozen=True, slots=True)
class Taken:
    """What an ingestion did, for the display."""

    batch_id: str
    shard: int
    status: str
    bios: int
    failures: Mapping[str, int]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Material:
    """What reading a batch's lines needs."""

    endpoint: Endpoint
    rows: Mapping[str, str]
    prices: Prices | None


class Ingestion:
    """Takes in batches. `prices_of` gives a model's prices, `delete` whether files at OpenAI are deleted."""

    def __init__(self, store: Store, service: Service, job: Job, rules: Rules, jitter: Jitter) -> None:
        self._store, self._service, self._job = store, service, job
        self._rules, self._jitter = rules, jitter
        self.delete = True
        self.prices: dict[str, Prices | None] = {}

    def take_in(self, batch_id: str) -> Taken | None:
        """Reads and records one batch; None when its results are not complete yet."""
        batch, material = self._load(batch_id)
        try:
            files = self._download(batch)
            with self._store.transaction("ingest", patience_s=None) as tx:
                return self._record(tx, batch, files, material)
        except ResultsIncomplete as error:
            self._postpone(batch, str(error))
            return None

    def _load(self, batch_id: str) -> tuple[EndedBatch, Material]:
        with self._store.reading() as tx:
            batch = EndedBatch(*tx.one("batch", batch_id=batch_id))
            shard = acting.load_shard(tx, batch.shard)
            version, _ = load_version(tx, shard.version)
            rows = {str(line_id): str(data) for line_id, data in tx.run("lines_of_shard", shard=batch.shard)}
        return batch, Material(version.endpoint, rows, self.prices.get(version.model))

    def _download(self, batch: EndedBatch) -> list[Path]:
        """Both result files on disk. Raises ResultsIncomplete while one cannot be read, up to PATIENCE_S."""
        files = []
        for kind, file_id in (("output", batch.output_file_id), ("error", batch.error_file_id)):
            if not file_id:
                continue
            path = self._store.folder / "results" / f"{batch.batch_id}_{kind}.jsonl"
            try:
                self._service.download(file_id, path)
            except CallError as error:
                if isinstance(error, CallRefused) and error.trouble.status in {401, 403}:
                    raise
                if not self._out_of_patience(batch):
                    raise ResultsIncomplete(f"{kind} file {file_id}: {error}") from error
                continue
            crashpoints.reached("download.after")
            files.append(path)
        return files

    def _out_of_patience(self, batch: EndedBatch) -> bool:
        with self._store.reading() as tx:
            return batch.read_first_at is not None and tx.now >= batch.read_first_at + PATIENCE_S

    def _postpone(self, batch: EndedBatch, why: str) -> None:
        with self._store.transaction("postpone", patience_s=None) as tx:
            policy = self._rules.policies[FailureClass.OUTAGE]
            waited = tx.now - (batch.read_first_at or tx.now)
            wait = delay_s(policy, int(waited // max(policy.base_s, 0.001)), self._jitter())
            tx.run("delay_batch", batch_id=batch.batch_id, until=tx.now + wait, now=tx.now)
            tx.event("results_incomplete", why, batch_id=batch.batch_id, shard=batch.shard)

    def _record(self, tx: Transaction, batch: EndedBatch, files: list[Path], material: Material) -> Taken:
        for name in ("create_results", "create_decisions"):
            tx.run(name)
        for chunk in chunks(self._lines(files, material), READ_LINES):
            tx.append("results", chunk)
        tx.run("choose_results", submission=batch.submission)
        self._check_complete(tx, batch)
        last = not tx.one("unsettled_siblings", shard=batch.shard, batch_id=batch.batch_id)[0]
        where = {"shard": batch.shard, "submission": batch.submission, "batch_id": batch.batch_id, "now": tx.now}
        tx.run("record_wasted", **where)
        tx.run("record_successes", **where)
        tx.run("insert_bios", **{k: v for k, v in where.items() if k != "submission"})
        bios = tx.move_lines("accept_lines", "accept")
        failures, problem = self._failures(tx, batch, where, bios) if last else ({}, "")
        self._settle(tx, batch, last)
        tx.event(
            "settled", f"{bios} bios, {sum(failures.values())} failures", batch_id=batch.batch_id, shard=batch.shard
        )
        return Taken(batch.batch_id, batch.shard, batch.status, bios, failures, problem)

    # --- reading ----------------------------------------------------------------------------------------------------

    def _lines(self, files: Iterable[Path], material: Material) -> Iterator[tuple[object, ...]]:
        ordinal = 0
        for path in files:
            output = path.name.endswith("_output.jsonl")
            with path.open("rb") as file:
                for raw in file:
                    result = read_line(raw, material.endpoint)
                    if result is not None:
                        ordinal += 1
                        yield (*self._row(ordinal, self._judged(result, material), material.prices), output)

    def _judged(self, result: LineResult, material: Material) -> LineResult:
        """The result with its text replaced by the accepted bio, or by why it is none."""
        data = material.rows.get(result.custom_id)
        if result.text is None or data is None:
            return result if result.text is None else replace(result, text=None, failure=_unknown_line())
        bio, failure = self._job.judge(self._job.restore(data), result.text)
        return replace(result, text=bio, failure=failure)

    def _row(self, ordinal: int, result: LineResult, prices: Prices | None) -> tuple[object, ...]:
        failure, usage = result.failure, result.usage
        cost = prices.of(Lane.BATCH).cost(usage) if prices is not None else None
        return (
            ordinal, result.custom_id, result.text, result.model, result.finish_reason,
            usage.input, usage.cached, usage.output, cost, result.completed_at,
            failure.failure.value if failure else None, failure.code if failure else None,
            failure.message if failure else None, result.status,
        )  # fmt: skip

    def _check_complete(self, tx: Transaction, batch: EndedBatch) -> None:
        read = int(tx.one("outputs_read")[0])
        if batch.completed > read and not self._out_of_patience_in(tx, batch):
            raise ResultsIncomplete(f"{batch.completed} lines are completed, {read} were read")

    def _out_of_patience_in(self, tx: Transaction, batch: EndedBatch) -> bool:
        return batch.read_first_at is not None and tx.now >= batch.read_first_at + PATIENCE_S

    # --- verdicts ---------------------------------------------------------------------------------------------------

    def _failures(
        self, tx: Transaction, batch: EndedBatch, where: Mapping[str, object], bios: int
    ) -> tuple[dict[str, int], str]:
        """Decides every failed line; the failures by class, and what stops the whole job."""
        self._add_absent(tx, batch)
        counts = [(FailureClass(f), code, n) for f, code, n in tx.run("failure_counts")]
        problem = _setup_problem(counts, bios)
        if any(failure is FailureClass.QUOTA for failure, _, _ in counts):
            self.quota_failed(tx, f"batch {batch.batch_id}")
        elif bios:
            tx.run("end_pauses", reasons=["quota"], now=tx.now)
        decide = Decider(self._rules, self._jitter, tx.now, counts, bios, stopped=bool(problem))
        for chunk in chunks(iter(tx.run("failed_lines")), READ_LINES):
            tx.append("decisions", [decide.row(*line) for line in chunk])
        tx.run("record_failures", **where)
        for event in VERDICT_EVENTS:
            tx.move_lines("move_failed_lines", event)
        if problem:
            tx.set_fact("stopped", text=problem)
        totals: Counter[str] = Counter()
        for failure, _, n in counts:
            totals[failure.value] += n
        return dict(totals), problem

    def _add_absent(self, tx: Transaction, batch: EndedBatch) -> None:
        failure, code = _class_of_absent(batch, int(tx.one("outputs_read")[0]))
        tx.run(
            "add_absent",
            submission=batch.submission, failure=failure.value, code=code, message="neither result file holds the line",
        )  # fmt: skip

    def quota_failed(self, tx: Transaction, detail: str) -> None:
        """One quota event: sending pauses, longer each time, and for a day after the last try."""
        policy = self._rules.policies[FailureClass.QUOTA]
        open_tries = [p.tries for p in acting.pauses(tx) if p.reason == "quota"]
        tries = max(open_tries, default=-1) + 1
        over = policy.tries is not None and tries >= policy.tries
        wait = self.pause_s if over else delay_s(policy, tries, self._jitter(), self._rules.jitter_share)
        acting.pause_for_quota(tx, tx.now + wait, 0 if over else tries, f"insufficient quota ({detail})")

    pause_s = 24 * 3600.0
    """How long sending pauses when the quota failures do not end."""

    def _settle(self, tx: Transaction, batch: EndedBatch, last: bool) -> None:
        tx.run("settle_batch", batch_id=batch.batch_id, now=tx.now)
        if self.delete:
            for file_id, purpose in ((batch.output_file_id, "batch_output"), (batch.error_file_id, "batch_output")):
                if file_id:
                    tx.run("queue_file", file_id=file_id, purpose=purpose, shard=batch.shard, now=tx.now)
        if not last:
            return
        tx.run("end_submission", submission=batch.submission, outcome=batch.status, now=tx.now)
        tx.move_shard(batch.shard, "settle")
        if self.delete:
            tx.run("queue_shard_file", shard=batch.shard, now=tx.now)


def _unknown_line() -> Failure:
    return Failure(FailureClass.UNUSABLE, "unknown_line", "no line of this shard has this custom_id")


def _class_of_absent(batch: EndedBatch, read: int) -> tuple[FailureClass, str]:
    """What a line is that no file holds, by how its batch ended."""
    if batch.completed > read or batch.status == BatchStatus.OVERDUE:
        return FailureClass.MISSING, "perhaps_paid"
    if batch.status == BatchStatus.EXPIRED:
        return FailureClass.EXPIRED, "batch_expired"
    if batch.status == BatchStatus.CANCELLED:
        return FailureClass.CANCELLED, "batch_cancelled"
    return FailureClass.SERVER, "no_result"


def _setup_problem(counts: list[tuple[FailureClass, str, int]], bios: int) -> str:
    """Why the job must stop: a refusal of the setup, or one reason for over 5% of the lines. "" when it goes on."""
    lines = bios + sum(n for _, _, n in counts)
    for failure, code, n in counts:
        if failure not in {FailureClass.SETUP, FailureClass.INVALID}:
            continue
        many = n >= FEWEST_FOR_A_REASON and n > 0.05 * lines
        if many or (failure is FailureClass.SETUP and not bios):
            return f"{n} of {lines} lines were refused with {code}; mend the setup or the prompt and run again"
    return ""


class Decider:
    """Decides failed lines of one batch, with the batch as a whole in view."""

    def __init__(
        self,
        rules: Rules,
        jitter: Jitter,
        now: float,
        counts: list[tuple[FailureClass, str, int]],
        bios: int,
        stopped: bool,
    ) -> None:
        self._rules, self._jitter, self._now, self._stopped = rules, jitter, now, stopped
        lines = bios + sum(n for _, _, n in counts)
        limited = sum(n for failure, _, n in counts if failure is FailureClass.RATE_LIMIT)
        self._storm = limited > rules.storm_share * lines

    def row(self, artist_id: str, failure: str, code: str, message: str, attempts: int, tries: int) -> tuple[Any, ...]:
        """The decision on one line, as the table `decisions` takes it."""
        verdict = self._verdict(FailureClass(failure), tries, attempts)
        return artist_id, verdict.state.value, verdict.wait_until, verdict.counted, failure, code, message

    def _verdict(self, failure: FailureClass, tries: int, attempts: int) -> Verdict:
        if self._stopped and failure in {FailureClass.SETUP, FailureClass.INVALID}:
            return Verdict(ArtistState.READY, counted=False)
        if failure is FailureClass.RATE_LIMIT and self._storm:
            return storm_verdict(self._rules, self._now, self._jitter())
        if failure is FailureClass.SETUP:
            # A few lines refused as if by the setup, beside lines that were answered: tried again like server errors.
            failure = FailureClass.SERVER
        return decide_line(self._rules, failure, tries, attempts, self._now, self._jitter())
