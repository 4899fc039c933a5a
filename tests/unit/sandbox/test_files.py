"""Files, calls that are refused, and headers."""

from email.utils import parsedate_to_datetime
from pathlib import Path

import openai
import pytest

from batcher.sandbox.web.messages import Request
from tests.support.sandbox_kit import CHAT, DAY, START, Bench, bench, encoded, lines


def test_a_file_is_kept_listed_and_deleted(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        stored = it.upload(lines(2))
        assert (stored.filename, stored.purpose, stored.status) == ("in.jsonl", "batch", "processed")
        assert stored.bytes == len(encoded(lines(2))) and stored.expires_at == int(START) + 2_592_000
        assert it.client.files.retrieve(stored.id) == stored
        assert it.content(stored.id) == encoded(lines(2))
        other = it.client.files.create(file=("a.txt", b"hello"), purpose="user_data")
        assert [each.id for each in it.client.files.list()] == [other.id, stored.id]
        assert [each.id for each in it.client.files.list(order="asc", limit=1)] == [stored.id, other.id]
        assert [each.id for each in it.client.files.list(purpose="batch")] == [stored.id]
        assert it.client.files.delete(stored.id).deleted
        for call in (it.client.files.retrieve, it.client.files.delete, it.client.files.content):
            with pytest.raises(openai.NotFoundError, match=f"No such File object: {stored.id}"):
                call(stored.id)
        assert [path.name for path in (tmp_path / "files").iterdir()] == [other.id]


def test_files_expire(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        stored = it.client.files.create(
            file=("in.jsonl", encoded(lines(1))),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert stored.expires_at == int(START) + 3600
        it.now += 3599
        it.client.files.retrieve(stored.id)
        it.now += 1
        with pytest.raises(openai.NotFoundError):
            it.client.files.retrieve(stored.id)
        assert not list((tmp_path / "files").iterdir())


def test_output_files_expire_as_asked(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        batch = it.client.batches.create(
            input_file_id=it.upload(lines(1)).id,
            endpoint=CHAT,
            completion_window="24h",
            output_expires_after={"anchor": "created_at", "seconds": 7200},
        )
        done = it.later(batch, 1020)
        assert done.output_file_id
        stored = it.client.files.retrieve(done.output_file_id)
        assert stored.expires_at == stored.created_at + 7200
        assert (stored.purpose, stored.filename) == ("batch_output", f"{batch.id}_output.jsonl")


@pytest.mark.parametrize("content", [b"", b"hello\n", b"[1]\n", b'{"a": 1\n'])
def test_what_is_no_jsonl_is_refused_at_the_upload(tmp_path: Path, content: bytes) -> None:
    with bench(tmp_path) as it:
        with pytest.raises(openai.BadRequestError, match=r"Must be \.jsonl"):
            it.client.files.create(file=("in.jsonl", content), purpose="batch")
        answer = it.raw("POST", "/v1/files", files={"file": ("x", content)}, data={"purpose": "batch"})
        message = "Invalid file format for Batch API. Must be .jsonl"
        assert answer.json()["detail"] == {"message": message, "code": None}
        assert not list((tmp_path / "files").iterdir()) and not list((tmp_path / "incoming").iterdir())


def test_uploads_are_checked(tmp_path: Path) -> None:
    with bench(tmp_path, max_upload_bytes=100, uploads_per_minute=1) as it:
        good = {"file": ("x.jsonl", b'{"a": 1}\n')}
        codes = [
            it.raw("POST", "/v1/files", files=good).json()["error"]["code"],
            it.raw("POST", "/v1/files", files=good, data={"purpose": "fun"}).json()["error"]["code"],
            it.raw("POST", "/v1/files", data={"purpose": "batch"}).json()["error"]["code"],
            it.raw("POST", "/v1/files", json={"purpose": "batch"}).json()["error"]["code"],
        ]
        assert codes == ["missing_required_parameter", "invalid_value", None, None]
        life = {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "10"}
        answer = it.raw("POST", "/v1/files", files=good, data=life)
        assert answer.json()["error"]["code"] == "integer_below_min_value"
        for text, code in (
            ('{"anchor": "created_at", "seconds": 10}', "integer_below_min_value"),
            ("x", "invalid_type"),
        ):
            answer = it.raw("POST", "/v1/files", files=good, data={"purpose": "batch", "expires_after": text})
            assert answer.json()["error"]["code"] == code
        large = it.raw("POST", "/v1/files", files={"file": ("x.jsonl", b" " * 200)}, data={"purpose": "batch"})
        assert large.json()["error"]["message"] == "File is too large."
        assert it.raw("POST", "/v1/files", files=good, data={"purpose": "batch"}).status_code == 200
        assert it.raw("POST", "/v1/files", files=good, data={"purpose": "batch"}).status_code == 429


def created(it: Bench, **changes: object) -> dict[str, object]:
    """Return the error of a creation with these fields; None takes a field out."""
    fields = {"input_file_id": it.upload(lines(1)).id, "endpoint": CHAT, "completion_window": "24h", **changes}
    answer = it.raw("POST", "/v1/batches", json={name: value for name, value in fields.items() if value is not None})
    assert answer.status_code == 400
    return dict(answer.json()["error"])


@pytest.mark.parametrize(
    ("changes", "message", "param", "code"),
    [
        (
            {"input_file_id": None},
            "Missing required parameter: 'input_file_id'.",
            "input_file_id",
            "missing_required_parameter",
        ),
        ({"endpoint": None}, "Missing required parameter: 'endpoint'.", "endpoint", "missing_required_parameter"),
        ({"endpoint": "/v1/x"}, "Invalid value: '/v1/x'. Supported values are: ", "endpoint", "invalid_value"),
        ({"completion_window": "1h"}, "Invalid value: '1h'", "completion_window", "invalid_value"),
        (
            {"metadata": {"tags": ["a"]}},
            "Invalid type for 'metadata.tags': expected a string, but got an array instead.",
            "metadata.tags",
            "invalid_type",
        ),
        ({"metadata": [1]}, "Invalid type for 'metadata'", "metadata", "invalid_type"),
        (
            {"metadata": {str(n): "" for n in range(17)}},
            "Invalid 'metadata'",
            "metadata",
            "object_above_max_properties",
        ),
        ({"metadata": {"k": "v" * 513}}, "Invalid 'metadata.k'", "metadata.k", "string_above_max_length"),
        ({"metadata": {"k" * 65: "v"}}, "Invalid 'metadata.k", None, "string_above_max_length"),
        ({"output_expires_after": {"anchor": "now", "seconds": 3600}}, "Invalid value: 'now'", None, "invalid_value"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "Invalid", None, "integer_below_min_value"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": "1"}}, "Invalid", None, "invalid_type"),
        ({"input_file_id": "file-x"}, "Cannot find file file-x, or project proj_sandbox does not", "file_id", None),
    ],
)
def test_creation_is_checked(
    tmp_path: Path, changes: dict[str, object], message: str, param: str | None, code: str | None
) -> None:
    with bench(tmp_path) as it:
        error = created(it, **changes)
        assert str(error["message"]).startswith(message) and error["type"] == "invalid_request_error"
        assert error["code"] == code and param in (None, error["param"])


def test_unknown_things_answer_404_in_the_service_s_form(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        with pytest.raises(openai.NotFoundError, match="No batch found with id 'batch_x'"):
            it.client.batches.retrieve("batch_x")
        with pytest.raises(openai.NotFoundError, match="does not exist or you do not have access"):
            it.client.models.retrieve("gpt-9")
        assert it.raw("GET", "/v1/fun").json()["error"]["message"] == "Invalid URL (GET /v1/fun)"
        wrong = it.raw("PUT", "/v1/files")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, POST")
        for path in ("/v1/files?order=", CHAT + "?order=newest"):
            assert it.raw("GET", path).json()["error"]["code"] == "invalid_value"
        assert it.raw("POST", "/v1/batches", content=b"{").status_code == 400
        assert it.raw("POST", "/v1/batches", content=b"[]").status_code == 400


def test_a_key_is_asked_for(tmp_path: Path) -> None:
    with bench(tmp_path, api_key="sk-the-right-secret-key") as it:
        answer = it.http.get("http://sandbox/v1/models")
        assert answer.status_code == 401 and "You didn't provide an API key" in answer.json()["error"]["message"]
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key provided") as caught:
            it.client.models.list()
        assert caught.value.code == "invalid_api_key"
        assert it.raw("GET", "/_sandbox/settings").json()["api_key"] == "***"


def test_models_carry_their_end_and_are_gone_after_it(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        ends = {each.id: each.to_dict()["shutdown_date"] for each in it.client.models.list()}
        assert ends["gpt-6-luna"] is None and ends["gpt-5-mini"] == "2026-12-11"
        assert ends["gpt-4o-mini-2024-07-18"] == "2027-01-14" and "gpt-4.1-nano" not in ends
        it.now += 30 * DAY
        assert "gpt-5-mini" not in {each.id for each in it.client.models.list()}


def test_headers_are_the_service_s_and_the_date_is_the_sandbox_s(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        it.now += 3600
        answer = it.client.batches.with_raw_response.list()
        headers = answer.headers
        assert parsedate_to_datetime(headers["date"]).timestamp() == it.now
        assert headers["x-request-id"].startswith("req_") and len(headers["x-request-id"]) == 36
        assert headers["openai-version"] == "2020-10-01" and headers["openai-processing-ms"].isdigit()
        assert headers["openai-organization"] == "org-sandbox"
        assert not [name for name in headers if name.startswith("x-ratelimit")]


def test_a_request_body_on_disk_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b'{"a": 1}')
    assert Request("POST", "/", body=tmp_path / "body").parse_json() == {"a": 1}
