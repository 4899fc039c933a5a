"""The class and the failure of a call of the direct lane that did not succeed."""

import pytest

from batcher.core.direct.decide import Delivery, build_call_failure
from batcher.core.failures import ErrorDetails, FailureClass, classify_direct_call
from batcher.core.model import Failure


@pytest.mark.parametrize(
    ("status", "code", "may_be_done", "failure"),
    [
        (400, "", False, FailureClass.INVALID),
        (400, "context_length_exceeded", False, FailureClass.INVALID),
        (401, "", False, FailureClass.SETUP),
        (402, "", False, FailureClass.SETUP),
        (403, "", False, FailureClass.SETUP),
        (404, "model_not_found", False, FailureClass.SETUP),
        (405, "", False, FailureClass.SETUP),
        (407, "", False, FailureClass.SETUP),
        (408, "", False, FailureClass.SERVER),
        (409, "", False, FailureClass.SERVER),
        (413, "", False, FailureClass.INVALID),
        (425, "", False, FailureClass.SERVER),
        (429, "rate_limit_exceeded", False, FailureClass.RATE_LIMIT),
        (429, "insufficient_quota", False, FailureClass.QUOTA),
        (500, "", True, FailureClass.SERVER),
        (503, "insufficient_quota", True, FailureClass.SERVER),
        (None, "", True, FailureClass.SERVER),
    ],
)
def test_the_class_of_a_failed_call(status: int | None, code: str, may_be_done: bool, failure: FailureClass) -> None:
    assert classify_direct_call(ErrorDetails(status, code), may_be_done) is failure


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ErrorDetails(429, "resource_unavailable"), FailureClass.RESOURCE_UNAVAILABLE),
        (ErrorDetails(429, "", "resource_unavailable"), FailureClass.RESOURCE_UNAVAILABLE),
        (ErrorDetails(429, "", "", "Resource Unavailable"), FailureClass.RESOURCE_UNAVAILABLE),
        (ErrorDetails(429, "rate_limit_exceeded", "", "Rate limit reached"), FailureClass.RATE_LIMIT),
        (ErrorDetails(503, "resource_unavailable"), FailureClass.SERVER),
        (ErrorDetails(400, "", "", "Invalid service_tier argument"), FailureClass.SETUP),
        (ErrorDetails(400, "", "", "Invalid temperature"), FailureClass.INVALID),
    ],
)
def test_refusals_of_flex_processing(error: ErrorDetails, failure: FailureClass) -> None:
    assert classify_direct_call(error, may_be_done=(error.status or 0) >= 500) is failure


@pytest.mark.parametrize(
    ("error", "delivery", "failure"),
    [
        (
            ErrorDetails(message="timed out"),
            Delivery.LOST,
            Failure(FailureClass.MISSING, "perhaps_paid", "timed out"),
        ),
        (
            ErrorDetails(),
            Delivery.LOST,
            Failure(FailureClass.MISSING, "perhaps_paid", "no answer came that could be read"),
        ),
        (
            ErrorDetails(400, "bad", "kind", "no"),
            Delivery.ANSWERED,
            Failure(FailureClass.INVALID, "bad", "no"),
        ),
        (ErrorDetails(400, "", "kind", "no"), Delivery.ANSWERED, Failure(FailureClass.INVALID, "kind", "no")),
        (ErrorDetails(409), Delivery.ANSWERED, Failure(FailureClass.SERVER, "http_409", "")),
        (ErrorDetails(message="refused"), Delivery.UNSENT, Failure(FailureClass.SERVER, "no_connection", "refused")),
    ],
)
def test_the_failure_of_a_call(error: ErrorDetails, delivery: Delivery, failure: Failure) -> None:
    assert build_call_failure(error, delivery, may_be_done=False) == failure


def test_a_refusal_of_a_call_that_is_perhaps_done_is_no_fault_of_the_line() -> None:
    failure = build_call_failure(ErrorDetails(400, "bad", "", "no"), Delivery.ANSWERED, may_be_done=True)
    assert failure == Failure(FailureClass.SERVER, "bad", "no")
