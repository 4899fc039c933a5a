"""Every kind of answer against the official description (OpenAPI 3.1, whose schemas are JSON Schema 2020-12)."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from batcher.catalog.request_keys import OWN_KEYS, REQUEST_KEYS
from batcher.core.model import Endpoint
from tests.support.sandbox_kit import CHAT, RESPONSES, Bench, bench, chat_body, line, lines, response_body

SHARED = Path(__file__).resolve().parents[3] / "shared" / "openapi"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.is_dir(), reason="the official description isn't beside the repository"),
]


@cache
def validator(file: str, schema: str) -> Draft202012Validator:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document = yaml.load((SHARED / file).read_text(encoding="utf-8"), Loader=loader)
    resource = DRAFT202012.create_resource(document)
    registry: Registry[Any] = Registry().with_resource("urn:description", resource)
    return Draft202012Validator({"$ref": f"urn:description#/components/schemas/{schema}"}, registry=registry)


def conforms(schema: str, value: Any, file: str = "openai-subset.yaml") -> None:
    errors = [f"{error.json_path}: {error.message}" for error in validator(file, schema).iter_errors(value)]
    assert not errors, errors[:5]


def present(value: dict[str, Any]) -> dict[str, Any]:
    """Leave out top-level nulls: the service sends them for fields that the description calls absent (recorded)."""
    return {name: item for name, item in value.items() if item is not None}


def test_the_description_refuses_what_is_wrong() -> None:
    with pytest.raises(AssertionError):
        conforms("Batch", {"id": "x", "status": "odd"})


@pytest.mark.parametrize(
    ("endpoint", "schema"),
    [(Endpoint.CHAT, "CreateChatCompletionRequest"), (Endpoint.RESPONSES, "CreateResponse")],
)
def test_the_keys_of_a_request_are_those_of_the_description(endpoint: Endpoint, schema: str) -> None:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    schemas = yaml.load((SHARED / "openai-subset.yaml").read_text(encoding="utf-8"), Loader=loader)["components"][
        "schemas"
    ]

    def keys_of(part: dict[str, Any]) -> set[str]:
        if "$ref" in part:
            return keys_of(schemas[part["$ref"].rpartition("/")[2]])
        return {*part.get("properties", {})}.union(*map(keys_of, part.get("allOf", [])))

    assert REQUEST_KEYS[endpoint] == keys_of(schemas[schema])
    assert {key for keys in REQUEST_KEYS.values() for key in keys} >= OWN_KEYS.keys()


def test_files(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        stored = it.upload(lines(1))
        conforms("OpenAIFile", present(it.raw("GET", f"/v1/files/{stored.id}").json()))
        listed = it.raw("GET", "/v1/files").json()
        conforms("ListFilesResponse", {**listed, "data": [present(each) for each in listed["data"]]})
        conforms("DeleteFileResponse", it.raw("DELETE", f"/v1/files/{stored.id}").json())


def batches_in_every_status(it: Bench) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}

    def note(batch_id: str) -> None:
        batch = it.raw("GET", f"/v1/batches/{batch_id}").json()
        found[batch["status"]] = batch

    it.fault(expire_batches=[2])
    first, second, third = (it.create(lines(4), {"run": "r"}).id for _ in range(3))
    bad = it.create([line("a"), b"{"]).id
    note(first)
    it.now += 500
    note(first)
    it.client.batches.cancel(third)
    note(third)
    it.now += 515
    for batch_id in (first, third, bad):
        note(batch_id)
    it.now += 90_000
    note(first)
    note(second)
    return found


def test_batches_in_every_status(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        found = batches_in_every_status(it)
        statuses = validator("openai-subset.yaml", "Batch")
        assert statuses.is_valid(present(found["completed"]))
        assert set(found) == {
            "validating",
            "failed",
            "in_progress",
            "finalizing",
            "completed",
            "expired",
            "cancelling",
            "cancelled",
        }
        for batch in found.values():
            conforms("Batch", present(batch))
        listed = it.raw("GET", "/v1/batches").json()
        conforms("ListBatchesResponse", {**listed, "data": [present(each) for each in listed["data"]]})


@pytest.mark.parametrize("fault", ["", "refusal", "length", "empty"])
def test_direct_answers(tmp_path: Path, fault: str) -> None:
    with bench(tmp_path, {"line_failures": {fault: 1.0}} if fault else {}) as it:
        chat = it.raw("POST", CHAT, json=chat_body(store=True, metadata={"a": "b"}))
        conforms("CreateChatCompletionResponse", chat.json())
        conforms("CreateResponse", response_body())
        conforms("Response", it.raw("POST", RESPONSES, json=response_body(metadata={"a": "b"})).json())
        conforms("ChatCompletionList", it.raw("GET", CHAT).json())


def test_models_and_errors(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        conforms("ListModelsResponse", it.raw("GET", "/v1/models").json())
        conforms("Model", it.raw("GET", "/v1/models/gpt-4o").json())
        for method, path in (("GET", "/v1/x"), ("GET", "/v1/batches/x"), ("POST", "/v1/batches"), ("PUT", "/v1/files")):
            conforms("ErrorResponse", it.raw(method, path).json())
        conforms("ErrorResponse", it.http.get("http://sandbox/v1/files").json())


@pytest.mark.parametrize("kind", ["server", "request_timeout", "refusal", "status_0"])
@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
def test_lines_of_result_files(tmp_path: Path, kind: str, endpoint: str) -> None:
    body = chat_body() if endpoint == CHAT else response_body()
    schema = "CreateChatCompletionResponse" if endpoint == CHAT else "Response"
    with bench(tmp_path, {"line_failures": {kind: 0.5}, "expire_batches": [1]}) as it:
        batch = it.run([line(f"a{number}", body, endpoint) for number in range(40)], endpoint)
        rows: list[dict[str, Any]] = it.results(batch.output_file_id) + it.results(batch.error_file_id)
        assert len(rows) == 40
        for row in rows:
            assert set(row) == {"id", "custom_id", "response", "error"}
            if row["response"] and row["response"]["body"]:
                found = row["response"]
                conforms(schema if found["status_code"] == 200 else "ErrorResponse", found["body"])
            if kind != "status_0":
                conforms("BatchRequestOutput", row, "batch-lines-2025-10.yaml")
