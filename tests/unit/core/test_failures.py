"""The class of a failure: every code and text of the service's that we know of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.failures import (
    ErrorDetails,
    FailureClass,
    classify_batch_error,
    classify_call_error,
    classify_line_error,
    is_missing_file,
    parse_enqueued_limit,
)
from tests.support.examples import examples

F = FailureClass


# --- the texts, as they were seen (API_FACTS, by section) ----------------------------------------------------------

QUEUE_FULL = (
    "Enqueued token limit reached for gpt-4o-mini in organization org-XXX. Limit: 2,000,000 enqueued tokens. "
    "Please try again once some in_progress batches have been completed."
)
REQUESTS_FULL = (
    "Enqueued request limit reached for text-embedding-3-small in organization org-XXX. Limit: 1,000,000 enqueued "
    "requests. Please try again once some in_progress batches have been completed."
)
AZURE_FULL = (
    "The number of enqueued tokens has surpassed the configured limit of 30K for the deployment 'gpt-4.1-batch'. "
    "Please either increase the limit or try again once the current jobs have finished."
)
NO_QUOTA = "You exceeded your current quota, please check your plan and billing details. ..."
TPM = (
    "Rate limit reached for gpt-4o-mini in organization org-X on tokens per min (TPM): Limit 200000, Used 195869, "
    "Requested 4412. Please try again in 84ms. Visit https://platform.openai.com/account/rate-limits to learn more."
)
PROJECT_TPM = TPM.replace("org-X on", "org-X in project proj_X on")
RPM = "You've exceeded the 1000 request/min rate limit, please slow down and try again."
TOO_LARGE = (
    "Request too large for gpt-4o in organization org-X on tokens per min (TPM): Limit 30000, Requested 41000. "
    "The input or output tokens must be reduced in order to run successfully."
)
NO_FILE_PROJECT = "Cannot find file file-X, or project proj_Y does not have access to it."
NO_FILE = "Cannot find file file-X, or organization org-Y does not have access to it."
FILE_SIZE = "The batch input file is larger than the 209715200 maximum for the gpt-4.1-nano model"
HARD_LIMIT = "Billing hard limit has been reached"
PLEASE_RETRY = "An error occurred while processing your request. You can retry your request, request ID req_1."
NO_WINDOW = "This request could not be executed before the completion window expired."
BAD_REQUEST = "invalid_request_error"

CALLS = [
    # 3a
    (400, "", BAD_REQUEST, "Invalid file format for Batch API. Must be .jsonl", F.SHARD_REFUSED),
    (400, "", BAD_REQUEST, "File is too large.", F.SHARD_REFUSED),
    (
        400,
        "missing_required_parameter",
        BAD_REQUEST,
        "Missing required parameter: 'input_file_id'.",
        F.SHARD_REFUSED,
    ),
    (400, "invalid_value", BAD_REQUEST, "Invalid value: '/v1/invalid/endpoint'. Supported values are: ...", None),
    (400, "", BAD_REQUEST, "Invalid value for completion_window", F.SHARD_REFUSED),
    (400, "invalid_type", BAD_REQUEST, "Invalid type for 'metadata.tags': expected a string, but got an array.", None),
    (400, "", BAD_REQUEST, NO_FILE_PROJECT, F.SHARD_REFUSED),
    (429, "", "", "Too many batches were created", F.CALL),
    (429, "", "", QUEUE_FULL, F.ENQUEUED_LIMIT),
    (400, "token_limit_exceeded", "", "", F.ENQUEUED_LIMIT),
    (404, "", BAD_REQUEST, "No batch found with id 'batch_1'.", F.SHARD_REFUSED),
    (409, "", BAD_REQUEST, "Cannot cancel a batch with status 'completed'.", F.CALL),
    # 3b, as an HTTP error
    (400, "billing_hard_limit_reached", BAD_REQUEST, HARD_LIMIT, F.QUOTA),
    (400, "", BAD_REQUEST, HARD_LIMIT, F.QUOTA),
    # 5
    (429, "rate_limit_exceeded", "tokens", TPM, F.RATE_LIMIT),
    (429, "rate_limit_exceeded", "requests", PROJECT_TPM, F.RATE_LIMIT),
    (429, "request_limit_exceeded", "", "", F.RATE_LIMIT),
    (429, "rate_limit_exceeded", "tokens", TOO_LARGE, F.SHARD_REFUSED),
    (429, "insufficient_quota", "insufficient_quota", NO_QUOTA, F.QUOTA),
    (429, "", "insufficient_quota", NO_QUOTA, F.QUOTA),
    (429, "", "", NO_QUOTA, F.QUOTA),
    (500, "server_error", "server_error", "The server had an error", F.SERVER),
    (500, "", "", "", F.CALL),
    (502, "", "", "<html>bad gateway</html>", F.CALL),
    (503, "", "", "Slow Down", F.CALL),
    (503, "overloaded", "", "The engine is currently overloaded", F.SERVER),
    (504, "", "", "", F.CALL),
    (408, "", "", "", F.CALL),
    (408, "timeout", "", "", F.SERVER),
    (409, "server_error", "", "", F.SERVER),
    (429, "overloaded", "", "", F.SERVER),
    (429, "rate_limit_exceeded", "", "", F.RATE_LIMIT),
    (422, "", "", "", F.SHARD_REFUSED),
    (None, "", "", "Connection error.", F.CALL),
    (None, "", "", "Request timed out.", F.CALL),
    (401, "invalid_api_key", BAD_REQUEST, "Incorrect API key provided: sk-...", F.SETUP),
    (401, "", "", "", F.SETUP),
    (403, "", "", "", F.SETUP),
    (300, "", "", "", F.SETUP),
    (399, "", "", "", F.SETUP),
    (403, "unsupported_country_region_territory", "request_forbidden", "Country not supported", F.SETUP),
    (404, "model_not_found", BAD_REQUEST, "The model 'X' does not exist", F.SETUP),
    # 7: Azure refuses at create
    (400, "token_limit_exceeded", "", AZURE_FULL, F.ENQUEUED_LIMIT),
    (400, "", "", AZURE_FULL, F.ENQUEUED_LIMIT),
]

BATCHES = [
    # 3b
    ("token_limit_exceeded", QUEUE_FULL, None, F.ENQUEUED_LIMIT),
    ("", QUEUE_FULL, None, F.ENQUEUED_LIMIT),
    ("", REQUESTS_FULL, None, F.ENQUEUED_LIMIT),
    ("request_limit_exceeded", REQUESTS_FULL, None, F.ENQUEUED_LIMIT),
    ("invalid_json_line", "This line is not parseable as valid JSON.", 3, F.INVALID),
    ("missing_required_parameter", "Missing required parameter: 'custom_id'.", 1, F.INVALID),
    ("missing_required_parameter", "Missing required parameter: 'method'.", 1, F.INVALID),
    ("missing_required_parameter", "Missing required parameter: 'url'.", 1, F.INVALID),
    ("missing_required_parameter", "Missing required parameter: 'body'.", 1, F.INVALID),
    ("invalid_url", "The URL provided for this request does not match the batch endpoint.", 2, F.INVALID),
    ("model_not_found", "The provided model 'X' is not supported by the Batch API.", 1, F.SETUP),
    ("streaming_unsupported", "Chat Completions: Streaming is not supported in the Batch API.", 9, F.INVALID),
    ("invalid_request", "Model parameter is required.", 1, F.INVALID),
    ("invalid_request", "Messages parameter is required.", 1, F.INVALID),
    ("invalid_request", NO_FILE, None, F.SHARD_REFUSED),
    ("mismatched_model", "The model 'xxx' for this request does not match the rest of the batch. ...", 2, F.INVALID),
    ("duplicate_custom_id", "The custom_id 'xxx' for this request is a duplicate of another ...", 2, F.INVALID),
    ("", FILE_SIZE, None, F.SHARD_REFUSED),
    ("billing_hard_limit_reached", HARD_LIMIT, None, F.QUOTA),
    ("", HARD_LIMIT, None, F.QUOTA),
    ("insufficient_quota", NO_QUOTA, None, F.QUOTA),
    # 7: Azure
    ("token_limit_exceeded", AZURE_FULL, None, F.ENQUEUED_LIMIT),
    ("", AZURE_FULL, None, F.ENQUEUED_LIMIT),
    ("too_many_tasks", "", None, F.SHARD_REFUSED),
    ("url_mismatch", "", 1, F.INVALID),
    ("url_mismatch", "", None, F.SHARD_REFUSED),
    ("model_mismatch", "", 1, F.INVALID),
    ("url_not_found", "", 1, F.INVALID),
    ("empty_batch", "", None, F.SHARD_REFUSED),
    (
        "empty_file",
        "The input file is empty. Please ensure that the batch contains at least one   request.",
        None,
        F.SHARD_REFUSED,
    ),
    ("invalid_request", "", None, F.SHARD_REFUSED),
    ("input_modified", "", None, F.SHARD_REFUSED),
    ("input_no_permissions", "", None, F.SHARD_REFUSED),
    # unknown
    ("", "", None, F.SHARD_REFUSED),
    ("never_heard_of", "?", None, F.SHARD_REFUSED),
    ("server_error", "internal", None, F.SHARD_REFUSED),
    ("rate_limit_exceeded", "slow down", None, F.ENQUEUED_LIMIT),
    ("never_heard_of", "?", 7, F.INVALID),
    ("server_error", "internal", 3, F.SHARD_REFUSED),
    ("request_timeout", "", 3, F.SHARD_REFUSED),
    ("internal_error", "", 1, F.SHARD_REFUSED),
]

LINES = [
    # 3c, no HTTP answer
    (None, "batch_expired", "", NO_WINDOW, F.EXPIRED),
    (None, "batch_cancelled", "", "The batch was cancelled before this request executed", F.CANCELLED),
    (None, "request_timeout", "", "The underlying call to the model timed out", F.SERVER),
    # 3c, an HTTP answer
    (400, "context_length_exceeded", BAD_REQUEST, "This model's maximum context length is 128000 tokens.", F.INVALID),
    (400, "integer_below_min_value", BAD_REQUEST, "Invalid 'max_completion_tokens'", F.INVALID),
    (400, "content_policy_violation", BAD_REQUEST, "Your request was rejected", F.INVALID),
    (400, "content_filter", "", "", F.INVALID),
    # what a response that failed says
    (None, "invalid_prompt", "", "Invalid prompt: it was flagged", F.INVALID),
    (None, "bio_policy", "", "", F.INVALID),
    (None, "image_content_policy_violation", "", "", F.INVALID),
    (None, "invalid_image", "", "", F.INVALID),
    (None, "invalid_image_format", "", "", F.INVALID),
    (None, "vector_store_timeout", "", "", F.SERVER),
    (429, "", "", NO_QUOTA, F.QUOTA),
    (429, "insufficient_quota", "insufficient_quota", NO_QUOTA, F.QUOTA),
    (429, "", "", RPM, F.RATE_LIMIT),
    (429, "rate_limit_exceeded", "requests", RPM, F.RATE_LIMIT),
    (429, "rate_limit_exceeded", "tokens", TOO_LARGE, F.INVALID),
    (None, "rate_limit_exceeded", "", "", F.RATE_LIMIT),
    (404, "", "", "", F.SETUP),
    (404, "model_not_found", BAD_REQUEST, "", F.SETUP),
    (401, "invalid_api_key", "", "", F.SETUP),
    (401, "", "", "", F.SETUP),
    (403, "", "", "", F.SETUP),
    (None, "", "", PLEASE_RETRY, F.SERVER),
    (500, "", "server_error", PLEASE_RETRY, F.SERVER),
    (503, "", "", "Slow Down", F.SERVER),
    (408, "", "", "", F.SERVER),
    (0, "", "", "", F.SERVER),
    (302, "", "", "", F.SERVER),
    (422, "", "", "", F.INVALID),
    (400, "billing_hard_limit_reached", BAD_REQUEST, HARD_LIMIT, F.QUOTA),
    (None, "", "", "", F.SERVER),
    (None, "never_heard_of", "", "", F.SERVER),
]


@pytest.mark.parametrize(("status", "code", "kind", "message", "expected"), CALLS)
def test_class_of_a_call(status: int | None, code: str, kind: str, message: str, expected: F | None) -> None:
    assert classify_call_error(ErrorDetails(status, code, kind, message)) == (expected or F.SHARD_REFUSED)


@pytest.mark.parametrize(("code", "message", "line", "expected"), BATCHES)
def test_class_of_a_batch_error(code: str, message: str, line: int | None, expected: F) -> None:
    assert classify_batch_error(ErrorDetails(code=code, message=message, line=line)) == expected


@pytest.mark.parametrize(("status", "code", "kind", "message", "expected"), LINES)
def test_class_of_a_line(status: int | None, code: str, kind: str, message: str, expected: F) -> None:
    assert classify_line_error(ErrorDetails(status, code, kind, message)) == expected


TROUBLES = st.builds(
    ErrorDetails,
    st.none() | st.integers(-1, 700),
    st.sampled_from(sorted({row[1] for row in CALLS + LINES})) | st.text(max_size=8),
    st.sampled_from(["", "insufficient_quota", "tokens"]) | st.text(max_size=8),
    st.sampled_from([QUEUE_FULL, AZURE_FULL, HARD_LIMIT, TOO_LARGE, ""]) | st.text(max_size=40),
    st.none() | st.integers(0, 60_000),
)


@given(TROUBLES)
@examples(500)
def test_every_trouble_has_a_class_that_fits_its_place(trouble: ErrorDetails) -> None:
    assert classify_call_error(trouble) not in {F.EXPIRED, F.CANCELLED, F.UNUSABLE, F.MISSING, F.OUTAGE}
    assert classify_batch_error(trouble) in {F.ENQUEUED_LIMIT, F.QUOTA, F.SETUP, F.SHARD_REFUSED, F.INVALID}
    assert classify_line_error(trouble) not in {F.CALL, F.OUTAGE, F.SHARD_REFUSED, F.UNUSABLE, F.MISSING}


@given(TROUBLES.filter(lambda t: t.line is None))
@examples(200)
def test_no_line_is_at_fault_where_none_is_named(trouble: ErrorDetails) -> None:
    assert classify_batch_error(trouble) is not F.INVALID


@pytest.mark.parametrize("message", [NO_FILE, NO_FILE_PROJECT, NO_FILE.upper(), "No such File object: file-X"])
def test_a_missing_file_is_told(message: str) -> None:
    assert is_missing_file(ErrorDetails(message=message))


@pytest.mark.parametrize("message", [FILE_SIZE, QUEUE_FULL, "", "Missing required parameter: 'input_file_id'."])
def test_other_refusals_are_no_missing_file(message: str) -> None:
    assert not is_missing_file(ErrorDetails(message=message))


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        (QUEUE_FULL, 2_000_000),
        ("Limit: 900,000 enqueued tokens", 900_000),
        ("Limit: 90 enqueued tokens", 90),
        ("limit: 15,000,000,000 Enqueued Tokens.", 15_000_000_000),
        (AZURE_FULL, 30_000),
        ("configured limit of 1.5M for", 1_500_000),
        ("configured limit of 5B for", 5_000_000_000),
        ("configured limit of 30k for", 30_000),
        ("configured limit of 90,000 for", 90_000),
        ("configured limit of 90,000.", 90_000),
        ("configured limit of 1.1M.", 1_100_000),
        ("configured limit of 12.5 M for", 12_500_000),
        ("configured limit of 300 for", 300),
        ("configured limit of .", None),
        ("configured limit of 1.2.3", None),
        ("Limit: , enqueued tokens", None),
        ("Limit: 0 enqueued tokens", None),
        ("Limit: 1 enqueued tokens", 1),
        (f"Limit: {10**15:,} enqueued tokens", 10**15),
        (f"Limit: {10**15 + 1:,} enqueued tokens", None),
        ("Limit: " + "9" * 400 + " enqueued tokens", None),
        (REQUESTS_FULL, None),
        (TPM, None),
        (NO_QUOTA, None),
        (FILE_SIZE, None),
        ("", None),
    ],
)
def test_the_limit_that_a_refusal_names(message: str, limit: int | None) -> None:
    assert parse_enqueued_limit(message) == limit


@given(st.text() | st.from_regex(r"(Limit: |configured limit of )[0-9.,]{1,12}[KMB]?( enqueued tokens)?"))
@examples(500)
def test_a_limit_is_a_number_or_none_whatever_is_said(message: str) -> None:
    limit = parse_enqueued_limit(message)
    assert limit is None or 1 <= limit <= 10**15


def test_a_line_has_no_queue_of_its_own() -> None:
    """A full queue in a line's answer is a rate limit, which has a delay and an end."""
    assert (
        classify_line_error(ErrorDetails(429, "token_limit_exceeded", "", "Enqueued token limit reached"))
        is F.RATE_LIMIT
    )


def test_a_call_that_is_refused_for_its_content_is_the_shards_and_comes_to_an_end() -> None:
    assert classify_call_error(ErrorDetails(400, "context_length_exceeded", "", "too long")) is F.SHARD_REFUSED
    assert classify_call_error(ErrorDetails(400, "server_error", "", "?")) is F.SHARD_REFUSED
    assert classify_call_error(ErrorDetails(500, "server_error", "", "?")) is F.SERVER
