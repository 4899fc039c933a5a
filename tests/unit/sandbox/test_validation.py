"""What fails a batch before it runs: each code with its text, and the numbers of the lines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from openai.types import BatchError

from tests.support.sandbox_kit import MODEL, RESPONSES, Bench, bench, chat_body, encoded, line, lines, response_body


def errors_of(it: Bench, rows: Sequence[object], endpoint: str = "/v1/chat/completions") -> list[BatchError]:
    batch = it.later(it.create(rows, endpoint=endpoint), 11)
    assert batch.status == "failed" and batch.errors and batch.errors.data
    assert batch.request_counts and batch.request_counts.total == 0
    return batch.errors.data


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in line("bad").items() if key != name}


UNPARSEABLE = "This line is not parseable as valid JSON."
BAD_URL = "The URL provided for this request does not match the batch endpoint."
STREAMING = "Chat Completions: Streaming is not supported in the Batch API."
CASES: list[tuple[Any, str, str, str | None]] = [
    (b"{not json", "invalid_json_line", UNPARSEABLE, None),
    (b"[1, 2]", "invalid_json_line", UNPARSEABLE, None),
    (b'{"custom_id": "\xff"}', "invalid_json_line", UNPARSEABLE, None),
    *(
        (without(name), "missing_required_parameter", f"Missing required parameter: '{name}'.", name)
        for name in ("custom_id", "method", "url", "body")
    ),
    (line("bad", url="/v1/responses"), "invalid_url", BAD_URL, "url"),
    (
        line("bad", chat_body(model="gpt-9")),
        "model_not_found",
        "The provided model 'gpt-9' is not supported by the Batch API.",
        "body.model",
    ),
    (line("bad", chat_body(stream=True)), "streaming_unsupported", STREAMING, "body.stream"),
    (line("bad", chat_body(model=None)), "invalid_request", "Model parameter is required.", "body.model"),
    (line("bad", chat_body(messages=[])), "invalid_request", "Messages parameter is required.", "body.messages"),
    (
        line("bad", chat_body(model="gpt-4o-mini")),
        "mismatched_model",
        "The model 'gpt-4o-mini' for this request does not match the rest of the batch. "
        "Each batch must contain requests for a single model.",
        "body.model",
    ),
    (
        line("a0"),
        "duplicate_custom_id",
        "The custom_id 'a0' for this request is a duplicate of another request. "
        "The custom_id parameter must be unique for each request in a batch.",
        "custom_id",
    ),
    ({**line("bad"), "method": "GET"}, "invalid_request", "Only the method 'POST' is supported.", "method"),
    (
        {**line("bad"), "custom_id": 7},
        "invalid_request",
        "The custom_id must be a string and the body an object.",
        "custom_id",
    ),
]


@pytest.mark.parametrize(("bad", "code", "message", "param"), CASES)
def test_one_bad_line_fails_the_batch(tmp_path: Path, bad: object, code: str, message: str, param: str | None) -> None:
    with bench(tmp_path) as it:
        (error,) = errors_of(it, [line("a0"), bad, line("a1")])
        assert (error.code, error.message, error.param, error.line) == (code, message, param, 2)
        assert not it.sandbox.ledger.attempt_counts()


def test_many_bad_lines_are_named_at_once_up_to_a_hundred(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        found = errors_of(it, [line("a0"), without("url"), b"{", without("body"), line("a0")])
        assert [error.line for error in found] == [2, 3, 4, 5]
        assert len(errors_of(it, [line("a0"), *([b"{"] * 300)])) == 100


def test_the_file_as_a_whole(tmp_path: Path) -> None:
    with bench(tmp_path, max_lines=5) as it:
        assert [error.code for error in errors_of(it, [b" ", b""])] == ["empty_file"]
        assert [error.code for error in errors_of(it, lines(6))] == ["too_many_tasks"]
        size = len(encoded(lines(3)))
        it.sandbox.update_settings({"max_batch_bytes": size - 1})
        (error,) = errors_of(it, lines(3))
        assert error.message == f"The batch input file is larger than the {size - 1} maximum for the {MODEL} model"
        it.sandbox.update_settings({"max_batch_bytes": size})
        assert it.run(lines(3)).status == "completed"
        it.sandbox.update_settings({"max_batch_bytes": 209_715_200})
        assert it.run([*lines(5), b"  "]).status == "completed"  # blank lines do not count


def test_the_last_line_needs_no_newline(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        stored = it.client.files.create(file=("in.jsonl", encoded(lines(3))[:-1]), purpose="batch")
        done = it.later(it.create_from(stored.id), 2000)
        assert done.request_counts and done.request_counts.completed == 3


def test_responses_need_their_input(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        rows = [line("a", response_body(), RESPONSES), line("b", response_body(input=""), RESPONSES)]
        (error,) = errors_of(it, rows, RESPONSES)
        assert (error.message, error.line) == ("Input parameter is required.", 2)


def test_a_file_of_another_purpose_is_no_input(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        stored = it.client.files.create(file=("in.jsonl", encoded(lines(1))), purpose="user_data")
        body = {"input_file_id": stored.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        assert it.raw("POST", "/v1/batches", json=body).status_code == 400
