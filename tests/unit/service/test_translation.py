"""How our service translates answers: refusals, waits, and answers that do not have the API's shape."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest

from batcher.core.failures import ErrorDetails
from batcher.core.remote import RemoteBatch
from batcher.core.retry import LONGEST_LOOK_WAIT_S
from batcher.service.service import CallError, CallRefused, CallUnknown
from tests.support.api_kit import (
    BUSY,
    LATER,
    PAUSES,
    SERVER_DATE,
    Act,
    Answer,
    answer,
    page,
    refusal,
    scripted,
    told,
)
from tests.support.sandbox_kit import CHAT, START


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "expected", "wait"),
    [
        (400, refusal("bad", "invalid_value", "invalid_request_error"), {}, CallRefused,
         ErrorDetails(400, "invalid_value", "invalid_request_error", "bad"), None),
        (400, refusal("bad", 17, ["x"]), {}, CallRefused, ErrorDetails(400, "17", "['x']", "bad"), None),
        (401, refusal("who?", "invalid_api_key"), {}, CallRefused,
         ErrorDetails(401, "invalid_api_key", "", "who?"), None),
        (403, refusal("not you"), {}, CallRefused, ErrorDetails(403, "", "", "not you"), None),
        (404, refusal("No batch found"), {}, CallRefused, ErrorDetails(404, "", "", "No batch found"), None),
        (404, b"<html>\n no such page", {}, CallUnknown,
         ErrorDetails(404, "", "", "Error code: 404: <html> no such page"), None),
        (408, refusal("late"), {}, CallUnknown, ErrorDetails(408, "", "", "late"), None),
        (409, refusal("conflict"), {}, CallRefused, ErrorDetails(409, "", "", "conflict"), None),
        (413, b"too large", {}, CallRefused, ErrorDetails(413, "", "", "Error code: 413: too large"), None),
        (422, refusal("m" * 900), {}, CallRefused, ErrorDetails(422, "", "", "m" * 500), None),
        (429, BUSY, {}, CallRefused, ErrorDetails(429, "rate_limit_exceeded", "requests", "slow down"), None),
        (429, BUSY, {"retry_after": "30"}, CallRefused,
         ErrorDetails(429, "rate_limit_exceeded", "requests", "slow down"), 30.0),
        (429, BUSY, {"retry_after": "1", "retry_after_ms": "25500"}, CallRefused,
         ErrorDetails(429, "rate_limit_exceeded", "requests", "slow down"), 25.5),
        (500, refusal("oh", "server_error", "server_error"), {}, CallUnknown,
         ErrorDetails(500, "server_error", "server_error", "oh"), None),
        (502, b"", {}, CallUnknown, ErrorDetails(502, "", "", "Error code: 502"), None),
        (503, {"error": "overloaded"}, {"retry_after": "600"}, CallUnknown,
         ErrorDetails(503, "", "", "Error code: 503: overloaded"), 600.0),
        (504, ["odd"], {"retry_after": "soon"}, CallUnknown,
         ErrorDetails(504, "", "", "Error code: 504: ['odd']"), None),
        (599, refusal("odd"), {"retry_after": "-4"}, CallUnknown, ErrorDetails(599, "", "", "odd"), None),
        (503, refusal("till then"), {"retry_after": LATER, "date": SERVER_DATE}, CallUnknown,
         ErrorDetails(503, "", "", "till then"), 7.0),
        (503, refusal("long ago"), {"retry_after": SERVER_DATE, "date": LATER}, CallUnknown,
         ErrorDetails(503, "", "", "long ago"), None),
        (503, refusal("no date"), {"retry_after": LATER}, CallUnknown, ErrorDetails(503, "", "", "no date"), None),
        (503, refusal("odd date"), {"retry_after": LATER, "date": "noon"}, CallUnknown,
         ErrorDetails(503, "", "", "odd date"), None),
        (503, refusal("at once"), {"retry_after": "0"}, CallUnknown, ErrorDetails(503, "", "", "at once"), None),
    ],
)  # fmt: skip
def test_errors_become_ours(
    status: int,
    body: object,
    headers: dict[str, str],
    kind: type[CallError],
    expected: ErrorDetails,
    wait: float | None,
) -> None:
    service, slept = scripted([answer(status, body, **headers)])
    with pytest.raises(CallError) as error:
        service.create_batch("file-1", CHAT, {})
    assert (type(error.value), error.value.details, error.value.wait_s) == (kind, expected, wait)
    assert str(error.value) == expected.message and not slept


def test_retry_after_wins_over_our_own_pauses() -> None:
    busy = [answer(429, BUSY, retry_after="20"), answer(503, BUSY, retry_after_ms="100"), answer(500, BUSY)]
    service, slept = scripted([*busy, answer(200, told())])
    assert service.retrieve_batch("batch_1") is not None
    assert slept == [20.0, 0.1, 2.0]


def test_retry_after_is_spread_over_five_seconds() -> None:
    service, slept = scripted([answer(429, BUSY, retry_after="20"), answer(200, told())], jitter=0.5)
    assert service.retrieve_batch("batch_1") is not None
    assert slept == [22.5]


@pytest.mark.parametrize(("asked", "passed_on"), [(21, 21), (121, 121), (86_400, LONGEST_LOOK_WAIT_S)])
def test_a_long_retry_after_is_the_caller_s_to_wait_for(asked: int, passed_on: float) -> None:
    """Have a look wait minutes at most: one wrong number must not keep results from being read for a day."""
    service, slept = scripted([answer(503, BUSY, retry_after=str(asked))])
    with pytest.raises(CallUnknown) as error:
        service.check_access()
    assert error.value.wait_s == passed_on and not slept


def test_a_retry_after_of_what_is_sent_is_passed_on_as_it_is() -> None:
    service, _ = scripted([answer(503, BUSY, retry_after="86400")])
    with pytest.raises(CallUnknown) as error:
        service.create_batch("file-1", CHAT, {})
    assert error.value.wait_s == 86_400


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_hard_limit_reached"])
def test_an_account_without_money_is_not_asked_again(code: str) -> None:
    service, slept = scripted([answer(429, refusal("You exceeded your current quota", code, code))])
    with pytest.raises(CallRefused) as error:
        service.check_access()
    assert error.value.details.code == code and not slept


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_a_refusal_is_not_asked_again(status: int) -> None:
    service, slept = scripted([answer(status, refusal())])
    with pytest.raises(CallRefused):
        service.delete_file("file-1") if status != 404 else service.check_access()
    assert not slept


def test_a_wrong_address_is_no_batch_that_is_gone() -> None:
    """Return None for it, and a running batch would be given up, or an existing file be forgotten."""
    wrong = refusal("Invalid URL (GET /v2/batches/batch_1)", None, "invalid_request_error")
    acts: tuple[Act, ...] = (
        lambda service: service.retrieve_batch("batch_1"),
        lambda service: service.cancel_batch("batch_1"),
        lambda service: service.delete_file("file-1"),
    )
    for act in acts:
        with pytest.raises(CallRefused):
            act(scripted([answer(404, wrong)])[0])
        service, slept = scripted([answer(404, b"<html>not found</html>")] * 4)
        with pytest.raises(CallUnknown):
            act(service)
        assert slept == PAUSES


def test_a_batch_that_ended_and_is_gone_when_it_is_cancelled() -> None:
    service, _ = scripted([answer(409, refusal("Cannot cancel")), answer(404, refusal("No batch found"))])
    assert service.cancel_batch("batch_1") is None


def read(**fields: object) -> RemoteBatch:
    found = scripted([answer(200, told(**fields))])[0].retrieve_batch("batch_1")
    assert found is not None
    return found


def test_missing_fields_count_as_nothing() -> None:
    assert read() == RemoteBatch("batch_1", "in_progress", 1_795_000_000.0, "")
    assert read(status=None).status == ""
    assert read(status="COMPLETED").status == "completed"  # as compatible services write it


def test_empty_ids_count_as_unset() -> None:
    found = read(output_file_id="", error_file_id="")
    assert found.output_file_id is None and found.error_file_id is None
    assert read(error_file_id="file-2").error_file_id == "file-2"


@pytest.mark.parametrize("status", ["completed", "paused_by_owner"])
def test_statuses_pass_through(status: str) -> None:
    assert read(status=status, something_new={"a": [1]}).status == status


@pytest.mark.parametrize("stamp", ["completed_at", "failed_at", "expired_at", "cancelled_at"])
def test_each_end_has_its_time(stamp: str) -> None:
    assert read(**{stamp: 1_795_000_500}).finished_at == 1_795_000_500.0
    assert read(cancelling_at=1_795_000_500, finalizing_at=1_795_000_400).finished_at is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ({"input_tokens": 5, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 3}, (5, 2, 3)),
        ({"input_tokens": 5, "output_tokens": 3, "prompt_tokens": 0}, (5, 0, 3)),
        ({"input_tokens": 5, "input_tokens_details": None}, (5, 0, 0)),
        ({"input_tokens": "5"}, (0, 0, 0)),
    ],
)
def test_usage_may_lack_parts(usage: object, expected: object) -> None:
    assert read(usage=usage).usage == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [(None, (0, 0, 0)), ({}, (0, 0, 0)), ({"total": 5, "completed": 4}, (5, 4, 0)), ({"total": None}, (0, 0, 0))],
)
def test_counts_may_lack_parts(counts: object, expected: object) -> None:
    found = read(request_counts=counts)
    assert (found.total, found.completed, found.failed) == expected


def test_errors_may_lack_parts() -> None:
    assert read(errors={"object": "list", "data": None}).errors == ()
    assert read(errors={"object": "list"}).errors == ()
    found = read(errors={"data": [{}, {"code": "x", "line": 3, "message": None}, {"message": "m", "line": "third"}]})
    assert found.errors == (ErrorDetails(), ErrorDetails(code="x", line=3), ErrorDetails(message="m"))


def test_metadata_may_be_anything() -> None:
    assert read(metadata=None).metadata == {}
    assert read(metadata={"a": "b", "n": 5}).metadata == {"a": "b", "n": "5"}
    assert read(metadata=["a"]).metadata == {}


UNREADABLE = [
    answer(200, b"<html>Sign in to the network</html>", content_type="text/html"),
    answer(200, b'{"id": "batch_1", "crea', content_type="application/json"),
    answer(200, b"\xff\xfe{}", content_type="application/json"),
    answer(200, {}),
    answer(200, []),
    answer(200, None),
    answer(200, {"id": ""}),
]


@pytest.mark.parametrize("odd", UNREADABLE)
def test_an_answer_that_cannot_be_read_is_none(odd: Answer, tmp_path: Path) -> None:
    """Raise CallUnknown for a 200 of a proxy, or half of one: it says neither what was done nor what is absent."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n")
    paid: tuple[Act, ...] = (
        lambda service: service.create_batch("file-1", CHAT, {}),
        lambda service: service.upload_file(path, "in.jsonl"),
    )
    free: tuple[Act, ...] = (lambda service: service.retrieve_batch("batch_1"), lambda service: service.list_batches(0))
    for act in paid:
        service, slept = scripted([odd])
        with pytest.raises(CallUnknown, match="not what the API sends"):
            act(service)
        assert not slept
    for act in free:
        service, slept = scripted([odd] * 4)
        with pytest.raises(CallUnknown, match="not what the API sends"):
            act(service)
        assert slept == PAUSES


@pytest.mark.parametrize(
    "odd", [*UNREADABLE[:3], answer(200, []), answer(200, {"data": "batch_1"}), answer(200, {"data": {"a": 1}})]
)
def test_no_listing_is_read_from_an_answer_of_another_shape(odd: Answer) -> None:
    listings: tuple[Act, ...] = (
        lambda service: service.list_batches(0),
        lambda service: service.find_files("in.jsonl"),
        lambda service: service.find_stored_completion("gpt-6-luna", {"batcher_call": "1"}),
    )
    for act in listings:
        service, slept = scripted([odd] * 4)
        with pytest.raises(CallUnknown, match="not what the API sends"):
            act(service)
        assert slept == PAUSES


def listed(answers: Sequence[Answer], back_to: float = 0.0) -> list[str]:
    return [batch.batch_id for batch in scripted(answers)[0].list_batches(back_to).batches]


def test_a_listing_whose_order_is_unknown_is_read_to_its_end() -> None:
    oldest_first = [page([9, 8], has_more=True), page([7, 1], has_more=False)]
    assert listed(oldest_first, START - 2) == ["batch_1"]


def test_a_listing_without_a_date_has_no_time() -> None:
    for headers in ({}, {"date": "yesterday"}):
        service, _ = scripted([answer(200, {"object": "list", "data": [], "has_more": False}, **headers)])
        assert service.list_batches(0).server_time == 0.0


@pytest.mark.parametrize("coded", [False, True])
def test_the_length_of_a_download_is_that_on_the_wire(coded: bool, tmp_path: Path) -> None:
    text = b'{"custom_id": "a"}\n' * 100
    body = gzip.compress(text) if coded else text
    coding = {"content_encoding": "gzip"} if coded else {}
    target = tmp_path / "out.jsonl"
    scripted([answer(200, body, content_length=str(len(body)), **coding)])[0].download_file("file-1", target)
    assert target.read_bytes() == text
    target.unlink()
    for length in (len(body) + 1, len(body) - 1):
        cut = answer(200, body, content_length=str(length), **coding)
        service, slept = scripted([cut] * 4)
        with pytest.raises(CallUnknown, match=f"{len(body):,} of {length:,} bytes came"):
            service.download_file("file-1", target)
        assert slept == PAUSES and not list(tmp_path.iterdir())
    scripted([answer(200, body, content_length="many", **coding)])[0].download_file("file-1", target)
    assert target.read_bytes() == text
