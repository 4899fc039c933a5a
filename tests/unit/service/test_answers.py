"""Whatever JSON comes, in whatever dialect: an id is kept, and everything that is kept can be stored."""

import json
import tracemalloc
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batcher.core.failures import ErrorDetails
from batcher.core.remote import RemoteBatch
from batcher.service.answers import DEEPEST, LARGEST_NUMBER, read_answer
from batcher.service.masking import find_secrets, keep_maskable
from batcher.service.service import CallError, CallUnknown, Service
from tests.support.api_kit import KEY, Answer, answer, refusal, scripted, told
from tests.support.sandbox_kit import CHAT, START

SURROGATES = st.characters(categories=["Cs"])
TEXTS = st.text(st.characters() | SURROGATES | st.just("\0"), max_size=8) | st.sampled_from(
    ["", "\ud83d", "\udc00a\0", f"the key is {KEY}", "2026-11-18T11:06:40Z", "9" * 20, "completed", "batch_1"]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**30, -(10**30), 10**400, True, 1_795_000_000, 1.5e308])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["id", "status", "created_at", "expires_at", "completed_at", "input_file_id", "output_file_id", "error_file_id",
     "request_counts", "usage", "errors", "metadata", "filename", "data", "message", "code", "line", "total",
     "input_tokens", "input_tokens_details", "cached_tokens", "has_more", "paging", "next_cursor"]
)  # fmt: skip
OBJECTS = st.recursive(
    VALUES | st.dictionaries(NAMES, VALUES, max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=12,
)
DEEP = b'{"id": "batch_1", "metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b', "status": "completed"}'
DIGITS = b'{"id": "batch_1", "created_at": ' + b"9" * 5_000 + b', "errors": {"data": [{"line": ' + b"9" * 30 + b"}]}}"


def as_body(value: object) -> bytes:
    # Written by hand where Python refuses to write more than 4,300 digits: these have fewer.
    return json.dumps(value).encode()


def texts_of(value: object) -> Iterable[str]:
    match value:
        case str():
            yield value
        case dict():
            for name, each in value.items():
                yield from [name, *texts_of(each)]
        case tuple() | list():
            for each in value:
                yield from texts_of(each)


def numbers_of(value: object) -> Iterable[float]:
    match value:
        case bool():
            return
        case int() | float():
            yield value
        case dict():
            for each in value.values():
                yield from numbers_of(each)
        case tuple() | list():
            for each in value:
                yield from numbers_of(each)


def assert_storable(value: object) -> None:
    """Hold that the state can keep a value: its texts are UTF-8 without NUL and key, its numbers fit."""
    for text in texts_of(value):
        assert "\0" not in text and KEY not in text
        text.encode()
    assert all(-LARGEST_NUMBER <= number <= LARGEST_NUMBER for number in numbers_of(value))


def called(service: Service, act: Any) -> object:
    """Return what a call returns, or the texts of its error: nothing else may come out of it."""
    try:
        return act(service)
    except CallError as error:
        return [str(error), *error.details]


ACTS = (
    lambda service: service.create_batch("file-1", CHAT, {}),
    lambda service: service.retrieve_batch("batch_1"),
    lambda service: service.list_batches(0.0),
    lambda service: service.find_files("in.jsonl"),
    lambda service: service.cancel_batch("batch_1"),
    lambda service: service.fetch_shutdown_date("gpt-6-luna"),
    lambda service: service.find_stored_completion("gpt-6-luna", {}) and None,
    lambda service: service.upload_file(Path(__file__), "in.jsonl"),
    lambda service: service.check_access(),
    lambda service: service.check_key(),
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(OBJECTS, st.sampled_from([200, 200, 200, 400, 500]), st.sampled_from(ACTS))
@example({"data": [{"id": "batch_1"}, 5], "has_more": True}, 200, ACTS[2])
@example({"error": {"message": [[[KEY]]], "code": {"a": "\ud83d"}}}, 400, ACTS[0])
def test_nothing_but_storable_values_comes_of_any_answer(value: object, status: int, act: Any) -> None:
    service, _ = scripted([answer(status, as_body(value), content_type="application/json")] * 8)
    assert_storable(called(service, act))


@given(st.binary(max_size=40) | OBJECTS.map(as_body))
@example(DEEP)
@example(DIGITS)
@example(b"[" * 100_000)
@example(b'{"a": NaN, "b": -Infinity, "c": 1e400, "\\ud83d": "\xff"}')
def test_any_body_is_storable_or_unreadable(body: bytes) -> None:
    with suppress(CallUnknown):
        assert_storable(read_answer(body, "answer", (KEY,)))


@settings(max_examples=50)
@given(st.dictionaries(NAMES, VALUES, max_size=10))
def test_an_id_is_enough(fields: dict[str, object]) -> None:
    """Keep the id of a create, whatever else is odd: the batch runs, and is paid for."""
    created = scripted([answer(200, as_body({**fields, "id": "batch_7"}))])[0].create_batch("file-1", CHAT, {})
    assert created.batch_id == "batch_7" and created.created_at > 0


@pytest.mark.parametrize("body", [DEEP, DIGITS], ids=["deep", "digits"])
def test_an_id_is_read_beside_what_no_parser_takes(body: bytes) -> None:
    created = scripted([answer(200, body)])[0].create_batch("file-1", CHAT, {})
    assert created.batch_id == "batch_1"
    listing = scripted([answer(200, b'{"has_more": false, "data": [' + body + b"]}")])[0].list_batches(0.0)
    assert [batch.batch_id for batch in listing.batches] == ["batch_1"] and listing.proves_absence


def test_a_long_text_beside_what_is_deep_takes_no_more_memory_than_its_length() -> None:
    body = b'{"a": ' + b"[" * 2_000 + b"]" * 2_000 + b', "b": "' + b"x" * 1_000_000 + b'"}'
    tracemalloc.start()
    try:
        read_answer(body, "answer")
        assert tracemalloc.get_traced_memory()[1] < 20 * len(body)
    finally:
        tracemalloc.stop()


def test_what_lies_within_the_depth_is_kept() -> None:
    value: object = "x"
    for _ in range(DEEPEST - 1):
        value = [value]
    assert read_answer(json.dumps(value).encode(), "answer") == value
    assert read_answer(b'{"a": "[[", "b": ' + b"[" * 2_000 + b"]" * 2_000 + b', "c": 1}', "answer") != {}


def test_the_state_takes_what_is_storable() -> None:
    """Hold the rule against the database itself."""
    odd = read_answer(b'{"a\\u0000": "x\\ud83dy\\u0000", "n": 99999999999999999999999999}', "answer")
    assert isinstance(odd, dict)
    with duckdb.connect() as con:
        con.execute("CREATE TABLE t (name VARCHAR, text VARCHAR, n BIGINT)")
        con.execute("INSERT INTO t VALUES (?, ?, ?)", ["a\ufffd", odd["a\ufffd"], odd["n"]])
        assert con.execute("SELECT * FROM t").fetchone() == ("a\ufffd", "x\ufffdy\ufffd", LARGEST_NUMBER)


def read(date: str = "", **fields: object) -> RemoteBatch:
    headers = {"date": date} if date else {}
    found = scripted([answer(200, told(**fields), **headers)])[0].retrieve_batch("batch_1")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-11-18T11:06:40Z", 1_795_000_000.0),
        ("2026-11-18T12:06:40.500+01:00", 1_795_000_000.5),
        ("2026-11-18 11:06:40", 1_795_000_000.0),
        ("1795000000", 1_795_000_000.0),
        (1_795_000_000.25, 1_795_000_000.25),
    ],
)
def test_times_are_read_as_they_are_written(written: object, expected: float) -> None:
    found = read(created_at=written, expires_at=written, completed_at=written)
    assert (found.created_at, found.expires_at, found.finished_at) == (expected, expected, expected)


@pytest.mark.parametrize("odd", [None, "", "noon", True, -5, 0, 10**400, 1e300, [], {}, "9999-99-99", "0001-01-01"])
def test_a_batch_without_its_time_has_that_of_the_answer(odd: object) -> None:
    assert read("Wed, 18 Nov 2026 11:06:40 GMT", created_at=odd).created_at == START == 1_795_000_000.0
    assert read(created_at=odd).created_at > START - 1e8  # our own, where the answer has none: never 1970
    assert read(created_at=odd, expires_at=odd, completed_at=odd)[6:8] == (None, None)


def test_a_file_without_its_time_has_that_of_the_answer(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"{}\n")
    for created_at, expected in ((None, START), ("2026-11-18T11:06:41Z", START + 1)):
        told_file = answer(200, {"id": "file-1", "created_at": created_at}, date="Wed, 18 Nov 2026 11:06:40 GMT")
        assert scripted([told_file])[0].upload_file(tmp_path / "in.jsonl", "in.jsonl").created_at == expected


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([{"code": "x", "message": "full"}], [ErrorDetails(code="x", message="full")]),
        ("it is full", [ErrorDetails(message="it is full")]),
        (["a", {"message": "b", "line": 3}, 4, None], [ErrorDetails(message="a"), ErrorDetails(message="b", line=3)]),
        ({"code": "x", "message": "alone"}, [ErrorDetails(code="x", message="alone")]),
        ({"data": "words"}, [ErrorDetails(message="words")]),
        ({"data": [{"line": 10**30, "message": ["a"]}]}, [ErrorDetails(message="['a']", line=2**31 - 1)]),
        ({"data": [{"line": -1}]}, [ErrorDetails()]),
        (17, []), ("", []), (None, []), ({}, []),
    ],
)  # fmt: skip
def test_errors_are_read_in_every_shape(errors: object, expected: list[ErrorDetails]) -> None:
    assert read(errors=errors).errors == tuple(expected)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("canceled", "cancelled"), ("CANCELLED", "cancelled"), ("canceling", "cancelling"),
        ("cancellation_requested", "cancelling"), ("succeeded", "completed"), ("SUCCESS", "completed"),
        ("TIMEOUT_EXCEEDED", "expired"), ("timed_out", "expired"), ("error", "error"), ("RUNNING", "running"),
    ],
)  # fmt: skip
def test_statuses_have_synonyms(written: str, expected: str) -> None:
    assert read(status=written).status == expected


@pytest.mark.parametrize("odd", ["..", "a\nb", "\ud83d", "x" * 600, 5, ""])
def test_a_file_that_no_address_can_name_is_not_there_yet(odd: object) -> None:
    found = read(output_file_id=odd, error_file_id=odd, input_file_id=odd)
    assert (found.output_file_id, found.error_file_id, found.input_file_id) == (None, None, "")


def test_the_key_stands_in_nothing_that_is_read() -> None:
    said = f"key {KEY} is wrong"
    found = read(
        status=said, output_file_id=KEY, errors=[{"code": KEY, "message": said}, said], metadata={KEY: KEY, "a": said}
    )
    assert KEY not in repr(found) and found.errors[0].message == "key ... is wrong"
    listing = scripted([answer(200, {"data": [told(errors=said)], "has_more": False})])[0].list_batches(0.0)
    assert KEY not in repr(listing)


@pytest.mark.parametrize("chunk", [1, 7, 40, 5_000])
def test_the_key_is_taken_out_of_results(tmp_path: Path, chunk: int) -> None:
    """Take it out wherever the chunks are cut, before a byte is on the disk."""
    body = f'{{"a": "{KEY}"}}\n{{"b": "{KEY[:-1]}"}}\n{{"c": "{KEY}{KEY}"}}\n'.encode()

    class Cut(Answer):
        def made(self) -> Any:
            parts = (self.content[at : at + chunk] for at in range(0, len(self.content), chunk))
            return httpx2.Response(200, headers={"content-length": str(len(body))}, content=parts)

    scripted([Cut(200, {}, body)])[0].download_file("file-1", tmp_path / "out.jsonl")
    written = (tmp_path / "out.jsonl").read_bytes()
    assert written == body.replace(KEY.encode(), b"...") and KEY[:-1].encode() in written
    completed = scripted([answer(200, body)])[0].request_completion(CHAT, {})
    assert completed.body == written


@pytest.mark.parametrize("key", ["none", "x", "EMPTY"])
def test_a_key_that_is_a_word_is_left_in_answers(key: str) -> None:
    """Leave the letters of an answer alone where a server of one's own takes any key."""
    said = {"id": "batch_x", "metadata": {"none": "EMPTY x"}}
    found = scripted([answer(200, said)], key)[0].retrieve_batch("batch_x")
    assert found is not None and (found.batch_id, found.metadata) == ("batch_x", {"none": "EMPTY x"})


def test_an_error_body_may_be_anything() -> None:
    for body in (DEEP, DIGITS, b"\xff\xfe", b"[" * 50_000, json.dumps(refusal("\ud83d\0")).encode()):
        service, _ = scripted([answer(400, body)])
        with pytest.raises(CallError) as error:
            service.create_batch("file-1", CHAT, {})
        assert_storable([str(error.value), *error.value.details])


def test_what_else_is_secret_is_found_in_the_environment() -> None:
    headers = "api-key: 0123456789abcdef\nAuthorization: Bearer fedcba9876543210\nX-Title: American Artists\nX-Token:"
    environment = {"OPENAI_CUSTOM_HEADERS": headers, "OPENAI_BASE_URL": "https://me:my-long-password@proxy/v1"}
    found = find_secrets(environment)
    assert found == ("my-long-password", "0123456789abcdef", "fedcba9876543210")
    assert keep_maskable(("none", "x", *found)) == found
    assert find_secrets({"OPENAI_BASE_URL": "http://[::1]:8000/v1"}) == ()
