"""Runs the lines of a batch: reads them in a shuffled order, writes the results to the two files to be published.

The order is a walk through all lines by a fixed stride that shares no divisor with their number: shuffled, the same
in each run, and no list of 50,000 places is kept. Whoever stops half-way has a spread-out half.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson

from batcher.sandbox.answers.answers import Answer, Usage, answer
from batcher.sandbox.answers.requests import read_ask, value_error
from batcher.sandbox.api.batches import Batch
from batcher.sandbox.api.ledger import Execution, Ledger
from batcher.sandbox.base.chance import digest, unit
from batcher.sandbox.base.faults import ANSWERED, LINE_ERRORS, line_fault
from batcher.sandbox.base.settings import Faults

_FLUSH_LINES = 2000  # written at once: about 4 MB
# The wording of `batch_expired` is the guide's; that of the other two is the official description's.
UNDONE = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "The batch was cancelled before this request executed.",
}
_TIMEOUT = {"code": "request_timeout", "message": "The underlying call to the model timed out."}


def stride(total: int, seed: int, ordinal: int) -> tuple[int, int]:
    """Return (step, start) of the walk through `total` lines."""
    if total < 4:
        return max(total - 1, 1), max(total - 1, 0)
    drawn = int.from_bytes(digest(8, seed, "order", ordinal), "big")
    step = total // 3 + drawn % (total // 3)
    while math.gcd(step, total) != 1:
        step += 1
    return step, drawn // total % total


@dataclass(frozen=True)
class _Result:
    """One line of a result file; `usage` None: not billed."""

    line: bytes
    good: bool  # goes to the output file, and counts as completed
    usage: Usage | None = None


class Executor:
    """Executes lines; the caller holds the sandbox's lock."""

    def __init__(self, directory: Path, ledger: Ledger, seed: int) -> None:
        self._directory = directory
        self._ledger = ledger
        self._seed = seed
        directory.mkdir(parents=True, exist_ok=True)
        self._clear()

    def _clear(self) -> None:
        """Delete what a sandbox left that was killed: its batches are gone, and ours may have the same ids."""
        for path in self._directory.glob("batch_*"):
            if path.suffix in (".output", ".error"):
                path.unlink()

    def output_part(self, batch: Batch) -> Path:
        return self._directory / f"{batch.id}.output"

    def error_part(self, batch: Batch) -> Path:
        return self._directory / f"{batch.id}.error"

    def run(self, batch: Batch, target: int, faults: Faults) -> None:
        """Execute the lines from `batch.done` up to `target` of the order."""
        output: list[bytes] = []
        errors: list[bytes] = []
        for place, raw in self._lines(batch, target):
            result = self._execute(batch, raw, batch.executed_at(place), faults)
            self._count(batch, result)
            (output if result.good else errors).append(result.line)
            if result.good and faults.corrupt_output:
                output.extend(self._corruption(batch, place, result.line, faults.corrupt_output))
            if len(output) + len(errors) >= _FLUSH_LINES:
                self._write(batch, output, errors)
        self._write(batch, output, errors)

    def abandon(self, batch: Batch, code: str) -> None:
        """Write the lines that were not executed to the error file, with the reason's code."""
        errors: list[bytes] = []
        for _, raw in self._lines(batch, batch.total):
            custom_id = orjson.loads(raw)["custom_id"]
            ident = digest(16, self._seed, batch.id, custom_id, code).hex()
            error = {"code": code, "message": UNDONE[code]}
            errors.append(_line(ident, custom_id, None, error))
            batch.failed += 1
        self._write(batch, [], errors)

    def _lines(self, batch: Batch, target: int) -> Iterator[tuple[int, bytes]]:
        """Yield (place, raw line) from `batch.done` on, which follows."""
        if batch.done >= target or batch.checked is None or batch.input is None:
            return
        step, start = stride(batch.total, self._seed, batch.ordinal)
        offsets = batch.checked.offsets
        with batch.input.path.open("rb") as source:
            for place in range(batch.done, target):
                source.seek(offsets[(start + place * step) % batch.total])
                batch.done = place + 1
                yield place, source.readline()

    def _count(self, batch: Batch, result: _Result) -> None:
        if result.good:
            batch.completed += 1
        else:
            batch.failed += 1
        if result.usage:
            old, new = batch.usage, result.usage
            batch.usage = Usage(old.prompt + new.prompt, old.completion + new.completion, old.cached + new.cached)

    def _execute(self, batch: Batch, raw: bytes, time: float, faults: Faults) -> _Result:
        request = orjson.loads(raw)
        custom_id = request["custom_id"]
        attempt = self._ledger.attempt(custom_id)
        ids = digest(48, self._seed, batch.id, custom_id, attempt).hex()
        fault = line_fault(faults, self._seed, custom_id, attempt, time)
        if fault and fault not in ANSWERED:
            return _failure(ids, custom_id, fault)
        body = request["body"]
        refused = value_error(body)
        if refused:
            return _http_failure(ids, custom_id, refused.status, refused.body())
        ask = read_ask(batch.wish.endpoint, body)
        found = answer(batch.wish.endpoint, ask, body, ids[64:], int(time), fault)
        self._bill(batch, custom_id, found, time)
        response = {"status_code": 200, "request_id": ids[32:64], "body": found.body}
        return _Result(_line(ids[:32], custom_id, response, None), True, found.usage)

    def _bill(self, batch: Batch, custom_id: str, found: Answer, time: float) -> None:
        execution = Execution(custom_id, batch.id, batch.model or "", found.outcome, time)
        self._ledger.bill(execution, found.usage)

    def _corruption(self, batch: Batch, place: int, line: bytes, rate: float) -> list[bytes]:
        point = unit(self._seed, "corrupt", batch.id, place)
        if point >= rate:
            return []
        stranger = _line("0" * 32, f"nobody-{place}", {"status_code": 200, "request_id": "0" * 32, "body": {}}, None)
        extras = (b"this is not JSON\n", b'{"custom_id": "\xff\xfe\n', line, stranger, b"\n")
        return [extras[int(point / rate * len(extras))]]

    def _write(self, batch: Batch, output: list[bytes], errors: list[bytes]) -> None:
        for lines, path in ((output, self.output_part(batch)), (errors, self.error_part(batch))):
            if lines:
                _append(path, lines)
        self._ledger.flush()


def _append(path: Path, lines: list[bytes]) -> None:
    file: BinaryIO
    with path.open("ab") as file:
        file.writelines(lines)
    lines.clear()


def _line(ident: str, custom_id: str, response: object, error: object) -> bytes:
    row = {"id": f"batch_req_{ident}", "custom_id": custom_id, "response": response, "error": error}
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _failure(ids: str, custom_id: str, fault: str) -> _Result:
    if fault == "request_timeout":
        return _Result(_line(ids[:32], custom_id, None, _TIMEOUT), False)
    if fault == "status_0":
        # Seen in the wild: status 0 in the output file, and counted as completed.
        response: dict[str, object] = {"status_code": 0, "request_id": ids[32:64], "body": None}
        return _Result(_line(ids[:32], custom_id, response, None), True)
    status, error = LINE_ERRORS[fault]
    return _http_failure(ids, custom_id, status, {"error": error})


def _http_failure(ids: str, custom_id: str, status: int, body: dict[str, object]) -> _Result:
    response = {"status_code": status, "request_id": ids[32:64], "body": body}
    return _Result(_line(ids[:32], custom_id, response, None), False)
