"""Reading the result files of an ended batch: each line is judged, and gets one verdict for the batch.

What is read depends on the files and on what the state holds of the lines alone; nothing is written here.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from batcher.catalog.prices import TokenRates
from batcher.core.endpoints.embeddings import VectorLength
from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, Failure, LineResult
from batcher.core.result_line import parse_result_line
from batcher.job.job import Job
from batcher.nouns import current_nouns
from batcher.state.results import KnownLine, ResultRow, result_row

BUFFER_BYTES = 1 << 16
"""The read buffer of a result file. Python's default of 8 KB holds about four lines."""


class ResultFile(NamedTuple):
    """A result file of a batch, on the local disk."""

    file_id: str
    """Its id at the service."""
    path: Path
    is_output: bool
    """Whether it is the output file; else it is the error file."""


class DownloadedFiles(NamedTuple):
    """The result files of a batch, as far as they could be downloaded."""

    files: tuple[ResultFile, ...]
    error: str
    """Why a file could not be downloaded; "" when all could."""
    wait_s: float
    """The seconds that the service asks to wait before the next try."""


class Anomaly(StrEnum):
    """What may be odd about the lines of result files, in the words of the report."""

    MALFORMED = "malformed lines"
    FOREIGN = "lines of nobody in this shard"
    DUPLICATE = "lines that stand there twice"
    SECOND_ANSWER = "second answers for lines that have one"


@dataclass(slots=True)
class ResultTally:
    """What was read so far of a batch's files. Changed by its own methods alone."""

    outputs: set[str] = field(default_factory=set)
    """The custom_ids in the output file. Lines of status 0 are among them, because they count as completed there."""
    final: dict[str, bool] = field(default_factory=dict)
    """The lines that were read, by custom_id, and whether their verdict is final: a failure may yet be superseded."""
    bios: int = 0
    """Accepted bios of lines that had none."""
    superseded: bool = False
    """Whether a line was reported again with a success after a failure."""
    malformed_outputs: int = 0
    """Malformed lines of the output file."""
    anomalies: Counter[Anomaly] = field(default_factory=Counter)

    @property
    def has_failures(self) -> bool:
        """Whether a line was read that has failed."""
        return not all(self.final.values())

    def count_foreign_line(self, custom_id: str, is_output: bool) -> None:
        """Count a line that names no artist of the shard. custom_id: "" for a malformed line."""
        if custom_id:
            self.anomalies[Anomaly.FOREIGN] += 1
            return
        self.anomalies[Anomaly.MALFORMED] += 1
        if is_output:
            self.malformed_outputs += 1

    def count_known_line(self, custom_id: str, is_output: bool) -> bool | None:
        """Count a line of the shard; return whether its verdict was final before, None where it had none."""
        if is_output:
            self.outputs.add(custom_id)
        final = self.final.get(custom_id)
        if final is not None:
            self.anomalies[Anomaly.DUPLICATE] += 1
        return final

    def skip_line(self, custom_id: str) -> None:
        """Leave a line as it is: its verdict is final, or an earlier reading has recorded it."""
        self.final[custom_id] = True

    def count_failure(self, custom_id: str) -> None:
        """Count the first failure of a line."""
        self.final[custom_id] = False

    def count_bio(self, custom_id: str, is_open: bool) -> None:
        """Count an accepted bio. is_open: whether the line had none before."""
        if custom_id in self.final:
            self.superseded = True
        self.final[custom_id] = True
        if is_open:
            self.bios += 1
        else:
            self.anomalies[Anomaly.SECOND_ANSWER] += 1

    def describe_anomalies(self, count_mismatch: str) -> str:
        """Return what was odd, in words; "" where nothing was.

        count_mismatch: how the service's counts differ from what was read, in words, or "".
        """
        second = f"second answers for lines that have {current_nouns().an_answer}"
        words = {Anomaly.SECOND_ANSWER: second}
        texts = [f"{n:,} {words.get(anomaly, anomaly)}" for anomaly, n in self.anomalies.items()]
        if count_mismatch:
            texts.append(count_mismatch)
        return "; ".join(texts)


class ResultReader:
    """Reads the result files of one batch, and tallies what it reads.

    rates: the price of a token; None where it is unknown. lines: those of the shard, by custom_id.
    recorded: the artists whose result an earlier reading of this batch has recorded. length: of the vectors of its
    version, where answers are vectors.
    """

    def __init__(
        self,
        job: Job,
        endpoint: Endpoint,
        rates: TokenRates | None,
        lines: Mapping[str, KnownLine],
        recorded: Set[str],
        length: VectorLength | None = None,
    ) -> None:
        self._job, self._endpoint, self._rates, self._length = job, endpoint, rates, length
        self._lines, self._recorded = lines, recorded
        self.tally = ResultTally()

    @property
    def has_redone_lines(self) -> bool:
        """Whether a line has an earlier bio, which its next one replaces."""
        return any(line.redone for line in self._lines.values())

    def read_files(self, files: tuple[ResultFile, ...]) -> Iterator[ResultRow]:
        """Yield a row for each line, in the order of the files: its first success, or else its first failure.

        A line that first fails and then succeeds gives two rows, and the tally says that there is such a line.
        """
        for result_file in files:
            with result_file.path.open("rb", buffering=BUFFER_BYTES) as file:
                for raw in file:
                    result = parse_result_line(raw, self._endpoint)
                    if result is not None:
                        row = self._judge_line(result, result_file.is_output)
                        if row is not None:
                            yield row

    def _judge_line(self, result: LineResult, is_output: bool) -> ResultRow | None:
        """Return the row of a line; None where there is nothing to record."""
        line, tally = self._lines.get(result.custom_id), self.tally
        if line is None:
            tally.count_foreign_line(result.custom_id, is_output)
            return None
        final = tally.count_known_line(result.custom_id, is_output)
        if final or line.artist_id in self._recorded:
            tally.skip_line(result.custom_id)
            return None
        bio, failure = None, result.failure
        if result.text is not None:
            artist = self._job.restore_artist(line.data)
            bio, failure = self._job.validate_answer(artist, result.text, self._length)
        if bio is not None:
            tally.count_bio(result.custom_id, line.open)
        elif final is None:
            tally.count_failure(result.custom_id)
        else:  # another failure of a line that has failed before
            return None
        cost_usd = self._rates.usage_cost(result.usage) if self._rates is not None else None
        return result_row(line, result, bio, failure, cost_usd)

    def count_unreported_lines(self) -> tuple[int, int]:
        """Return how many lines neither file holds, nor held before, and how many of them this batch has to decide."""
        unreported = [
            line
            for custom_id, line in self._lines.items()
            if custom_id not in self.tally.final and line.artist_id not in self._recorded
        ]
        return len(unreported), sum(line.claimed for line in unreported)

    def absent_lines(self) -> list[KnownLine]:
        """Return the lines that this batch has to decide and of which its files say nothing new."""
        return [
            line
            for custom_id, line in self._lines.items()
            if line.claimed and (custom_id not in self.tally.final or line.artist_id in self._recorded)
        ]


def absent_row(line: KnownLine, failure: FailureClass, code: str) -> ResultRow:
    """Return the row of a line that this batch has to decide and that neither file holds."""
    reason = Failure(failure, code, "neither result file holds the line")
    return result_row(line, LineResult(line.custom_id), None, reason, None)
