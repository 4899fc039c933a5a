"""Checks a batch's input file as the service does: all lines, each named by its number, before anything runs.

The file is read line by line; what is kept is the position of each line (8 bytes) and the custom_ids while checking.
Codes and texts: as recorded from the service; a comment marks those that only a compatible service documents.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from batcher.sandbox.answers.requests import Body, count_inputs, find_body_error, parse_model_request
from batcher.sandbox.base.settings import SandboxSettings

MAX_ERRORS = 100  # entries in `errors.data`: the real cap is unknown
MOST_INPUTS = 50_000  # texts of a batch for /v1/embeddings, over all its lines
_REQUIRED = ("custom_id", "method", "url", "body")

BatchError = dict[str, object]
Finding = tuple[str, str, str | None]  # code, message, param


def build_batch_error(code: str, message: str, param: str | None = None, line: int | None = None) -> BatchError:
    """Return one entry of `errors.data`; lines count from 1."""
    return {"code": code, "message": message, "param": param, "line": line}


@dataclass
class CheckedInput:
    """The outcome; `tokens` are estimated input tokens, `offsets` the start of each line in bytes."""

    errors: list[BatchError] = field(default_factory=list)
    model: str = ""
    tokens: int = 0
    offsets: "array[int]" = field(default_factory=lambda: array("Q"))


@dataclass
class _InputChecker:
    endpoint: str
    is_known: Callable[[str], bool]
    settings: SandboxSettings
    result: CheckedInput = field(default_factory=CheckedInput)
    seen: set[str] = field(default_factory=set)
    inputs: int = 0  # texts for which a vector is asked

    def check_line(self, raw: bytes, number: int, offset: int) -> None:
        """Check one line, keep its place, count its tokens."""
        self.result.offsets.append(offset)
        finding = self._find_line_error(raw)
        if finding:
            code, message, param = finding
            self.result.errors.append(build_batch_error(code, message, param, number))

    def _find_line_error(self, raw: bytes) -> Finding | None:
        try:
            request = orjson.loads(raw)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict):
            return ("invalid_json_line", "This line is not parseable as valid JSON.", None)
        return self._find_envelope_error(request) or self._find_body_error(request["body"])

    def _find_envelope_error(self, request: dict[str, object]) -> Finding | None:
        for name in _REQUIRED:
            if request.get(name) is None:
                return ("missing_required_parameter", f"Missing required parameter: '{name}'.", name)
        if request["url"] != self.endpoint:
            return ("invalid_url", "The URL provided for this request does not match the batch endpoint.", "url")
        # The text for these two is a guess.
        if not isinstance(request["custom_id"], str) or not isinstance(request["body"], dict):
            return ("invalid_request", "The custom_id must be a string and the body an object.", "custom_id")
        if request["method"] != "POST":
            return ("invalid_request", "Only the method 'POST' is supported.", "method")
        return self._find_duplicate_error(request["custom_id"])

    def _find_duplicate_error(self, custom_id: str) -> Finding | None:
        if custom_id in self.seen:
            # Text of a compatible service; the code is widely coded against.
            message = (
                f"The custom_id '{custom_id}' for this request is a duplicate of another request. "
                "The custom_id parameter must be unique for each request in a batch."
            )
            return ("duplicate_custom_id", message, "custom_id")
        self.seen.add(custom_id)
        return None

    def _find_body_error(self, body: Body) -> Finding | None:
        finding = find_body_error(self.endpoint, body)
        if finding and finding[2] == "model":
            return _prefix_body_param(finding)
        wrong_model = self._find_model_error(str(body["model"]))
        if wrong_model or finding:
            return wrong_model or (finding and _prefix_body_param(finding))
        self.result.tokens += parse_model_request(self.endpoint, body).estimated_tokens
        self.inputs += count_inputs(self.endpoint, body)
        return None

    def _find_model_error(self, model: str) -> Finding | None:
        if not self.is_known(model):
            return ("model_not_found", f"The provided model '{model}' is not supported by the Batch API.", "body.model")
        self.result.model = self.result.model or model
        if model != self.result.model:
            # Text of a compatible service.
            message = (
                f"The model '{model}' for this request does not match the rest of the batch. "
                "Each batch must contain requests for a single model."
            )
            return ("mismatched_model", message, "body.model")
        return None

    def find_file_error(self, path: Path) -> BatchError | None:
        """Return the error that concerns the file and no line, if there is one."""
        lines, most = len(self.result.offsets), self.settings.max_lines
        if path.stat().st_size > self.settings.max_batch_bytes:
            message = (
                f"The batch input file is larger than the {self.settings.max_batch_bytes} maximum "
                f"for the {self.result.model} model"
            )
            return build_batch_error("invalid_request", message)  # its code is unknown
        if not lines:
            message = "The input file is empty. Please ensure that the batch contains at least one request."
            return build_batch_error("empty_file", message)  # as Azure says it
        if self.inputs > MOST_INPUTS:
            message = f"The batch input file contains more than {MOST_INPUTS} embedding inputs across all requests."
            return build_batch_error("too_many_tasks", message)  # code and text are guesses
        if lines > most:
            message = f"The batch input file contains more than {most} requests, the maximum for a batch."
            return build_batch_error("too_many_tasks", message)  # the code is Azure's, the text a guess
        return None


def check_input_file(
    path: Path, endpoint: str, is_known: Callable[[str], bool], settings: SandboxSettings
) -> CheckedInput:
    """Check an input file; stop early once it cannot pass and enough errors are known."""
    checker = _InputChecker(endpoint, is_known, settings)
    too_large = path.stat().st_size > settings.max_batch_bytes
    offset = 0
    with path.open("rb", buffering=1 << 20) as file:
        for number, raw in enumerate(file, start=1):
            if not raw.isspace():
                checker.check_line(raw, number, offset)
            offset += len(raw)
            enough = len(checker.result.offsets) > settings.max_lines or len(checker.result.errors) >= MAX_ERRORS
            if enough or too_large:  # of a file that is too large only the first line's model is wanted
                break
    found = checker.find_file_error(path)
    if found:
        checker.result.errors = [found]
    return checker.result


def _prefix_body_param(finding: Finding) -> Finding:
    code, message, param = finding
    return (code, message, f"body.{param}")
