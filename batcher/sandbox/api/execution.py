"""Executes the lines of a batch: reads them in a shuffled order, writes the results to the two files to be published.

The order is a walk through all lines by a fixed stride that shares no divisor with their number: shuffled, the same
in each run, and without a list of 50,000 places in memory. A batch that stops half-way has executed a spread-out half.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from batcher.sandbox.answers.answers import BilledTokens, build_answer, use_cache
from batcher.sandbox.answers.caching import PromptCache
from batcher.sandbox.answers.requests import find_value_error, parse_model_request
from batcher.sandbox.api.batches import Batch
from batcher.sandbox.api.dialect import rewrite_line, spoil_answer
from batcher.sandbox.api.ledger import BilledExecution, Ledger
from batcher.sandbox.base.chance import seeded_bytes, seeded_fraction
from batcher.sandbox.base.faults import ANSWERED, LINE_ERRORS, draw_line_fault
from batcher.sandbox.base.settings import SandboxSettings

_FLUSH_LINES = 2000  # written at once: about 4 MB
# The wording of `batch_expired` is the guide's; that of the other two is the official description's.
UNDONE = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "The batch was cancelled before this request executed.",
}
_TIMEOUT = {"code": "request_timeout", "message": "The underlying call to the model timed out."}


def compute_stride(total: int, seed: int, ordinal: int) -> tuple[int, int]:
    """Return (step, start) of the walk through `total` lines."""
    if total < 4:
        return max(total - 1, 1), max(total - 1, 0)
    drawn = int.from_bytes(seeded_bytes(8, seed, "order", ordinal), "big")
    step = total // 3 + drawn % (total // 3)
    while math.gcd(step, total) != 1:
        step += 1
    return step, drawn // total % total


@dataclass(frozen=True)
class _ResultLine:
    """One line of a result file; `usage` None: not billed."""

    row: dict[str, object]
    good: bool  # goes to the output file, and counts as completed
    usage: BilledTokens | None = None


class LineExecutor:
    """Executes lines; the caller holds the sandbox's lock."""

    def __init__(self, directory: Path, ledger: Ledger, seed: int, cache: PromptCache) -> None:
        self._directory = directory
        self._ledger = ledger
        self._cache = cache
        self._seed = seed
        directory.mkdir(parents=True, exist_ok=True)
        # Left by a sandbox that was killed: its batches are gone, and ours may have the same ids.
        for path in directory.glob("batch_*"):
            if path.suffix in (".output", ".error"):
                path.unlink()

    def output_part_path(self, batch: Batch) -> Path:
        """Return where the output file of a batch is written until it is published."""
        return self._directory / f"{batch.id}.output"

    def error_part_path(self, batch: Batch) -> Path:
        """Return where the error file of a batch is written until it is published."""
        return self._directory / f"{batch.id}.error"

    def execute_lines(self, batch: Batch, target: int, settings: SandboxSettings) -> None:
        """Execute the lines from `batch.done` up to `target` of the order."""
        output: list[bytes] = []
        errors: list[bytes] = []
        corrupt = settings.faults.corrupt_output
        for place, raw in self._read_lines(batch, target):
            result = self._execute_line(batch, raw, batch.execution_time(place), settings)
            self._count_result(batch, result)
            line = _encode_line(result.row, settings)
            (output if result.good else errors).append(line)
            if result.good and corrupt:
                output.extend(self._draw_malformed_line(batch, place, line, corrupt))
            if len(output) + len(errors) >= _FLUSH_LINES:
                self._write_results(batch, output, errors)
        self._write_results(batch, output, errors)

    def abandon_lines(self, batch: Batch, code: str, settings: SandboxSettings) -> None:
        """Write the lines that were not executed to the error file, with the reason's code."""
        errors: list[bytes] = []
        for _, raw in self._read_lines(batch, batch.total):
            custom_id = orjson.loads(raw)["custom_id"]
            ident = seeded_bytes(16, self._seed, batch.id, custom_id, code).hex()
            error = {"code": code, "message": UNDONE[code]}
            errors.append(_encode_line(_build_row(ident, custom_id, None, error), settings))
            batch.failed += 1
        self._write_results(batch, [], errors)

    def _read_lines(self, batch: Batch, target: int) -> Iterator[tuple[int, bytes]]:
        """Yield (place, raw line) from `batch.done` on, and count each line as done."""
        if batch.done >= target or batch.checked_input is None or batch.input_file is None:
            return
        step, start = compute_stride(batch.total, self._seed, batch.ordinal)
        offsets = batch.checked_input.offsets
        with batch.input_file.path.open("rb") as source:
            for place in range(batch.done, target):
                source.seek(offsets[(start + place * step) % batch.total])
                batch.done = place + 1
                yield place, source.readline()

    def _count_result(self, batch: Batch, result: _ResultLine) -> None:
        if result.good:
            batch.completed += 1
        else:
            batch.failed += 1
        if result.usage:
            batch.usage += result.usage

    def _execute_line(self, batch: Batch, raw: bytes, time: float, settings: SandboxSettings) -> _ResultLine:
        request = orjson.loads(raw)
        custom_id = request["custom_id"]
        attempt = self._ledger.count_attempt(custom_id)
        ids = seeded_bytes(48, self._seed, batch.id, custom_id, attempt).hex()
        fault = draw_line_fault(settings.faults, self._seed, custom_id, attempt, time)
        if fault and fault not in ANSWERED:
            return _line_fault_result(ids, custom_id, fault)
        body = request["body"]
        refused = find_value_error(body, batch.request.endpoint)
        if refused:
            return _http_error_result(ids, custom_id, refused.status, refused.to_json())
        model_request = parse_model_request(batch.request.endpoint, body)
        model_request = use_cache(model_request, self._cache, time, settings.cache_writes)
        found = build_answer(model_request, body, ids[64:], int(time), fault, settings)
        execution = BilledExecution(custom_id, batch.id, batch.model or "", found.outcome, time)
        self._ledger.record_execution(execution, found.usage)
        if found.outcome == "ok":
            spoil_answer(found.body, settings.faults, self._seed, custom_id)
        response = {"status_code": 200, "request_id": ids[32:64], "body": found.body}
        return _ResultLine(_build_row(ids[:32], custom_id, response, None), True, found.usage)

    def _draw_malformed_line(self, batch: Batch, place: int, line: bytes, rate: float) -> list[bytes]:
        point = seeded_fraction(self._seed, "corrupt", batch.ordinal, place)
        if point >= rate:
            return []
        stranger = _build_row(
            "0" * 32, f"nobody-{place}", {"status_code": 200, "request_id": "0" * 32, "body": {}}, None
        )
        odd_line = orjson.dumps(stranger, option=orjson.OPT_APPEND_NEWLINE)
        extras = (b"this is not JSON\n", b'{"custom_id": "\xff\xfe\n', line, odd_line, b"\n")
        return [extras[int(point / rate * len(extras))]]

    def _write_results(self, batch: Batch, output: list[bytes], errors: list[bytes]) -> None:
        for lines, path in ((output, self.output_part_path(batch)), (errors, self.error_part_path(batch))):
            if lines:
                with path.open("ab") as file:
                    file.writelines(lines)
                lines.clear()
        self._ledger.flush()


def _build_row(ident: str, custom_id: str, response: object, error: object) -> dict[str, object]:
    return {"id": f"batch_req_{ident}", "custom_id": custom_id, "response": response, "error": error}


def _encode_line(row: dict[str, object], settings: SandboxSettings) -> bytes:
    found = rewrite_line(row, settings.dialect, settings.faults.quoted_text)
    return orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE)


def _line_fault_result(ids: str, custom_id: str, fault: str) -> _ResultLine:
    if fault == "request_timeout":
        return _ResultLine(_build_row(ids[:32], custom_id, None, _TIMEOUT), False)
    if fault == "status_0":
        # Seen in the wild: status 0 in the output file, and counted as completed.
        response: dict[str, object] = {"status_code": 0, "request_id": ids[32:64], "body": None}
        return _ResultLine(_build_row(ids[:32], custom_id, response, None), True)
    status, error = LINE_ERRORS[fault]
    return _http_error_result(ids, custom_id, status, {"error": error})


def _http_error_result(ids: str, custom_id: str, status: int, body: dict[str, object]) -> _ResultLine:
    response = {"status_code": status, "request_id": ids[32:64], "body": body}
    return _ResultLine(_build_row(ids[:32], custom_id, response, None), False)
