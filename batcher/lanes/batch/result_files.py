"""Reading the files of an ended batch: each line judged, and one verdict a line and batch.

A function of the files and of what the state holds of the lines; nothing is written here.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from batcher.catalog.prices import TokenRates
from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, Failure, LineResult
from batcher.core.result_line import parse_result_line
from batcher.job.job import Job

ResultRow = tuple[object, ...]
"""A verdict, as the table `results` takes it."""
KEPT = 6
"""Fields of a line that the table begins with."""
NO_FAILURE = (None, None, None)
READ_BYTES = 1 << 16
"""Read at once: the usual 8 KB are four lines."""


class KnownLine(NamedTuple):
    """What the state holds of a line whose results are read."""

    artist_id: str
    seq: int
    attempts: int
    tokens: int
    open: bool
    """It has no bio yet, and takes one."""
    claimed: bool
    """Its failure is this batch's to decide."""
    data: str
    """The artist's row."""


@dataclass(slots=True)
class ResultReading:
    """One reading of a batch's files: what could not be read, what was odd, and what came of the lines."""

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
    outputs: set[str] = field(default_factory=set)
    """The ids of the lines in the output file, by whatever status: some come with 0, and count as completed there."""
    found: dict[str, bool] = field(default_factory=dict)
    """The lines that were read, by id; whether there is nothing to be added to their verdict."""
    bios: int = 0
    superseded: bool = False
    """Whether a line has a success behind a failure."""

    def describe_oddities(self) -> str:
        """What was odd, in words; "" for nothing."""
        return "; ".join([f"{n:,} {what}" for what, n in self.odd.items() if n] + [self.sums] * bool(self.sums))


@dataclass(frozen=True, slots=True)
class ResultReader:
    """Reads the lines of a shard. `rates`: what a token costs; None where nobody knows.

    lines: by their ids. taken: artists whose verdict an earlier reading of this batch has recorded.
    """

    job: Job
    endpoint: Endpoint
    rates: TokenRates | None
    lines: Mapping[str, KnownLine]
    taken: Set[str]

    def read_verdict_rows(self, reading: ResultReading) -> Iterator[ResultRow]:
        """The verdicts, in the order of the files: the first success of a line, else its first failure.

        Of a line that first fails and then succeeds both come, and `superseded` is set.
        """
        for path, output in reading.files:
            with path.open("rb", buffering=READ_BYTES) as file:
                for raw in file:
                    result = parse_result_line(raw, self.endpoint)
                    if result is not None:
                        row = self._verdict_row(result, output, reading)
                        if row is not None:
                            yield row

    def _verdict_row(self, result: LineResult, output: bool, reading: ResultReading) -> ResultRow | None:
        """The row of a line; None where there is nothing to record."""
        line = self.lines.get(result.custom_id)
        if line is None:
            _count_foreign_line(result.custom_id, output, reading)
            return None
        if output:
            reading.outputs.add(result.custom_id)
        known = reading.found.get(result.custom_id)
        if known is not None:
            reading.odd["lines that stand there twice"] += 1
        if known or line.artist_id in self.taken:
            reading.found[result.custom_id] = True
            return None
        return self._judge_line(line, result, reading, first=known is None)

    def absent_lines(self, reading: ResultReading) -> list[KnownLine]:
        """The lines that this batch has to decide and of which the files say nothing new."""
        return [
            line
            for line_id, line in self.lines.items()
            if line.claimed and (line_id not in reading.found or line.artist_id in self.taken)
        ]

    def _judge_line(self, line: KnownLine, result: LineResult, reading: ResultReading, first: bool) -> ResultRow | None:
        bio, failure = None, result.failure
        if result.text is not None:
            bio, failure = self.job.validate_answer(self.job.restore_artist(line.data), result.text)
        if bio is None and not first:
            return None
        reading.found[result.custom_id] = bio is not None
        reading.superseded |= not first
        if bio is not None and line.open:
            reading.bios += 1
        elif bio is not None:
            reading.odd["second answers for lines that have a bio"] += 1
        return _result_row(line, result, bio, failure, self.rates)


def _count_foreign_line(line_id: str, output: bool, reading: ResultReading) -> None:
    """Counts a line that names no artist of this shard."""
    if line_id:
        reading.odd["lines of nobody in this shard"] += 1
    else:
        reading.odd["malformed lines"] += 1
        reading.malformed_outputs += output


def _result_row(
    line: KnownLine, result: LineResult, bio: str | None, failure: Failure | None, rates: TokenRates | None
) -> ResultRow:
    usage = result.usage
    return (
        *line[:KEPT], bio, result.model, result.finish_reason, usage.input, usage.cached, usage.output,
        rates.usage_cost(usage) if rates is not None else None, result.completed_at, result.status,
        *((failure.failure.value, failure.code, failure.message) if failure is not None else NO_FAILURE),
    )  # fmt: skip


def absent_row(line: KnownLine, failure: FailureClass, code: str) -> ResultRow:
    """The verdict on a line that this batch has to decide and that neither file holds."""
    why = Failure(failure, code, "neither result file holds the line")
    return _result_row(line, LineResult(""), None, why, None)
