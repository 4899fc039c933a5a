"""Taking in the results of an ended batch: both files, one transaction, one verdict a line.

A crash anywhere repeats the whole and changes nothing twice. Usable answers are taken at every reading, even while
something is still missing; failures are decided once, when all that the service counts was read, or given up on, and
no other batch of the same shard is unsettled.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batcher import crashpoints, wishes
from batcher.api import CallError, CallRefused, Service
from batcher.evidence import archive, results_path
from batcher.job import Job, aside
from batcher.lifecycle import VERDICT_EVENTS, BatchStatus, ShardState, artist_event
from batcher.model import Endpoint, Failure, Lane, LineResult
from batcher.pausing import QuotaRule, quota_failed
from batcher.planning import chunks
from batcher.prices import PriceOf, Prices, resolve
from batcher.results import read_line
from batcher.retry import FailureClass, Jitter, Rules, delay_s, latest_wait
from batcher.store import Store, Transaction, acting
from batcher.store.acting import ShardRow
from batcher.store.planned import load_version, widened
from batcher.verdicts import Decider, class_of_absent, setup_problem

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
class Material:
    """What reading a batch's lines needs."""

    endpoint: Endpoint
    rows: Mapping[str, str]
    prices: Prices | None


@dataclass(slots=True)
class Reading:
    """One reading of a batch's files: what could not be read, and what was odd."""

    files: list[tuple[Path, bool]] = field(default_factory=list)
    """Each with whether it is the output file."""
    ids: list[str] = field(default_factory=list)
    """The files' ids at the service."""
    missing: str = ""
    """Why a file could not be read; "" when all could."""
    wait_s: float = 0.0
    """What the service asks to wait before the next reading."""
    malformed_outputs: int = 0
    odd: Counter[str] = field(default_factory=Counter)
    sums: str = ""
    """How the service's counts differ from what was read."""

    def words(self) -> str:
        """What was odd, in words; "" for nothing."""
        return "; ".join([f"{n:,} {what}" for what, n in self.odd.items() if n] + [self.sums] * bool(self.sums))


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

    def take_in(self, batch_id: str) -> Taken | None:
        """Reads and records one batch; None when it is settled already, or not complete yet."""
        batch, material = self._load(batch_id)
        if batch.settled_at is not None:
            return None
        if batch.read_first_at is not None or not (batch.output_file_id or batch.error_file_id):
            batch = self._asked_again(batch)
        reading = self._download(batch)
        if self.keep_raw:
            for path, _ in reading.files:
                archive(path)
        with aside(), self._store.transaction("ingest", patience_s=None) as tx:
            taken = self._record(tx, batch, reading, material)
        for path, _ in reading.files:
            path.unlink(missing_ok=True)
        return taken

    def _load(self, batch_id: str) -> tuple[EndedBatch, Material]:
        with self._store.reading() as tx:
            batch = EndedBatch(*tx.one("batch", batch_id=batch_id))
            shard = acting.load_shard(tx, batch.shard)
            version, _ = load_version(tx, shard.version)
            rows = {str(line_id): str(data) for line_id, data in tx.run("lines_of_shard", shard=batch.shard)}
        return batch, Material(version.endpoint, rows, self.prices(version.model))

    def _asked_again(self, batch: EndedBatch) -> EndedBatch:
        """The batch as the service tells it now: its files and counts may come later than its end."""
        found = self._service.retrieve(batch.batch_id)
        if found is None:
            return batch
        with self._store.transaction("ask_again", patience_s=None) as tx:
            acting.update_batch(tx, acting.known_batch(tx, batch.batch_id), found)
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

    def _record(self, tx: Transaction, batch: EndedBatch, reading: Reading, material: Material) -> Taken | None:
        self._stage(tx, reading, material)
        shard = acting.load_shard(tx, batch.shard)
        claim, open_states = shard.submission, [s.value for event in ACCEPT_EVENTS for s in artist_event(event)[0]]
        tx.run("choose_results", claim=claim, open=open_states, batch_id=batch.batch_id)
        read, twice = tx.one("lines_read")
        reading.odd["lines that stand there twice"] += twice
        bios = self._accept(tx, batch, reading)
        (absent,) = tx.one("count_absent", claim=claim)
        absent -= reading.odd["malformed lines"]  # they stand there, and say nothing
        missing = reading.missing or _shortage(batch, read + reading.malformed_outputs, absent)
        if missing and self._patient(tx, batch):
            self._postpone(tx, batch, missing, reading.wait_s)
            return None
        if missing or batch.status == BatchStatus.OVERDUE:
            tx.run("mark_unread", batch_id=batch.batch_id, next=tx.now + LOOK_AGAIN_S)
        reading.sums = _sums(batch, read)
        if reading.words():
            tx.event("odd_results", reading.words(), batch_id=batch.batch_id, shard=batch.shard)
        failure, code = class_of_absent(batch.status, batch.completed, read, counted=batch.total > 0)
        tx.run("create_failures", claim=claim, batch_id=batch.batch_id, failure=failure.value, code=code)
        last = not tx.one("unsettled_siblings", shard=batch.shard, batch_id=batch.batch_id)[0]
        decides = last and shard.state is ShardState.ENDED
        if not decides:
            tx.run("record_failures_undecided", **_where(tx, batch))
        failures, problem = self._decide(tx, batch, shard) if decides else ({}, "")
        self._settle(tx, batch, reading, decides)
        told = f"{bios} bios, {sum(failures.values())} failures"
        tx.event("settled", told, batch_id=batch.batch_id, shard=batch.shard)
        return Taken(batch.batch_id, batch.shard, batch.status, bios, failures, problem, reading.words())

    def _stage(self, tx: Transaction, reading: Reading, material: Material) -> None:
        for name in ("create_results", "create_decisions"):
            tx.run(name)
        for chunk in chunks(self._lines(reading, material), READ_LINES):
            tx.append("results", chunk)

    def _accept(self, tx: Transaction, batch: EndedBatch, reading: Reading) -> int:
        """Takes every usable answer for a line that has no bio yet, whichever batch it comes from; how many."""
        where = _where(tx, batch)
        outcomes = Counter(str(row[0]) for row in tx.run("record_successes", **where))
        reading.odd["second answers for lines that have a bio"] += outcomes["repeated"]
        ((bios,),) = tx.run("insert_bios", **{key: where[key] for key in ("shard", "batch_id", "now")})
        moved = 0
        for event in ACCEPT_EVENTS:  # each goes through all lines of the job
            if moved < bios:
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
        tx.event("results_incomplete", why, batch_id=batch.batch_id, shard=batch.shard)

    # --- reading ----------------------------------------------------------------------------------------------------

    def _lines(self, reading: Reading, material: Material) -> Iterator[tuple[object, ...]]:
        ordinal = 0
        for path, output in reading.files:
            with path.open("rb") as file:
                for raw in file:
                    result = read_line(raw, material.endpoint)
                    if result is not None and self._is_ours(result, output, reading, material):
                        ordinal += 1
                        yield (*self._row(ordinal, result, material), output)

    def _is_ours(self, result: LineResult, output: bool, reading: Reading, material: Material) -> bool:
        """Whether the line names an artist of this shard; else it is counted among what was odd."""
        if result.custom_id in material.rows:
            return True
        if result.custom_id:
            reading.odd["lines of nobody in this shard"] += 1
        else:
            reading.odd["malformed lines"] += 1
            reading.malformed_outputs += output
        return False

    def _judged(self, result: LineResult, material: Material) -> tuple[str | None, Failure | None]:
        """The accepted bio, or why there is none."""
        if result.text is None:
            return None, result.failure
        return self._job.judge(self._job.restore(material.rows[result.custom_id]), result.text)

    def _row(self, ordinal: int, result: LineResult, material: Material) -> tuple[object, ...]:
        (bio, failure), usage = self._judged(result, material), result.usage
        cost = material.prices.of(Lane.BATCH).cost(usage) if material.prices is not None else None
        return (
            ordinal, result.custom_id, bio, result.model, result.finish_reason,
            usage.input, usage.cached, usage.output, cost, result.completed_at,
            failure.failure.value if failure else None, failure.code if failure else None,
            failure.message if failure else None, result.status,
        )  # fmt: skip

    # --- verdicts ---------------------------------------------------------------------------------------------------

    def _decide(self, tx: Transaction, batch: EndedBatch, shard: ShardRow) -> tuple[dict[str, int], str]:
        """Decides every failed line; the failures by class, and what stops the whole job."""
        tx.run("add_failures_of_siblings", claim=shard.submission, shard=batch.shard, batch_id=batch.batch_id)
        tx.run("create_verdicts")
        counts = [(FailureClass(f), code, n) for f, code, n in tx.run("failure_counts")]
        bios, bios_of_job = tx.one("bios_so_far", shard=batch.shard)
        problem = setup_problem(self._rules, counts, bios, bios_of_job)
        if any(failure is FailureClass.QUOTA for failure, _, _ in counts):
            quota_failed(tx, self.quota, f"batch {batch.batch_id}", batch.recorded_at)
        elif bios:
            tx.run("end_probed_pauses", batch_id=batch.batch_id, latest=self._latest(tx), now=tx.now)
        decider = Decider(self._rules, self._jitter, tx.now, counts, bios)
        decider.stopped, decider.cancelled = bool(problem), wishes.is_cancelled(tx, batch.shard)
        self._write_verdicts(tx, batch, decider)
        if problem:
            tx.set_fact("stopped", text=problem)
        totals: Counter[str] = Counter()
        for failure, _, n in counts:
            totals[failure.value] += n
        return dict(totals), problem

    def _write_verdicts(self, tx: Transaction, batch: EndedBatch, decider: Decider) -> None:
        decided: set[str] = set()
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
            self._widen(tx, batch.shard)

    def _widen(self, tx: Transaction, shard: int) -> None:
        """Gives the lines whose answers were cut off more room from now on."""
        wider = widened(tx, acting.load_shard(tx, shard).version, self.more_room)
        if wider is not None:
            tx.run("widen_lines", version=wider)

    def _latest(self, tx: Transaction) -> float:
        return latest_wait(self._rules, self.pause_s, tx.now)

    def _settle(self, tx: Transaction, batch: EndedBatch, reading: Reading, shard_too: bool) -> None:
        tx.run("settle_batch", batch_id=batch.batch_id, now=tx.now)
        decided = acting.load_shard(tx, batch.shard).lines if shard_too else 0
        tx.run("measure_batch", batch_id=batch.batch_id, decided=decided)
        if self.delete:
            for file_id in reading.ids:  # what was not read is not deleted: it was paid for
                tx.run("queue_file", file_id=file_id, purpose="batch_output", shard=batch.shard, now=tx.now)
        if not shard_too:
            return
        tx.run("end_submission", submission=batch.submission, outcome=batch.status, now=tx.now)
        tx.move_shard(batch.shard, "settle")
        wishes.fulfil(tx, batch.shard, batch.status)
        if self.delete:
            tx.run("queue_shard_file", shard=batch.shard, now=tx.now)


def _where(tx: Transaction, batch: EndedBatch) -> dict[str, object]:
    return {"shard": batch.shard, "submission": batch.submission, "batch_id": batch.batch_id, "now": tx.now}


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
