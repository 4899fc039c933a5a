"""The whole cycle of the sandbox over HTTP, by the official client set to refuse an answer that is not of its types."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from batcher.sandbox.web.server import running_sandbox
from tests.support.sandbox_kit import CHAT, RESPONSES, Bench, bench, chat_body, encoded, line, lines, response_body

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}}
TEXT = "Artist: Pablo Picasso"


@contextmanager
def strict(folder: Path, faults: dict[str, object] | None = None, **settings: Any) -> Iterator[tuple[Bench, Any]]:
    """Yield a sandbox and a strict client that calls it over HTTP. The client takes any argument: bad ones are sent."""
    with (
        bench(folder, faults, **settings) as it,
        running_sandbox(it.sandbox) as url,
        httpx2.Client(trust_env=False) as http,
    ):
        checks = {"_strict_response_validation": True, "max_retries": 0, "timeout": 20}
        yield it, openai.OpenAI(api_key="sk-test", base_url=url, http_client=http, **checks)  # type: ignore[arg-type]


def upload(client: Any, rows: list[object], **more: object) -> Any:
    return client.files.create(file=("in.jsonl", encoded(rows)), purpose="batch", **more)


def create(client: Any, rows: list[object], endpoint: str = CHAT, **more: object) -> Any:
    stored = upload(client, rows)
    return client.batches.create(input_file_id=stored.id, endpoint=endpoint, completion_window="24h", **more)


def test_an_answer_of_another_type_is_refused(tmp_path: Path) -> None:
    """See that the client is strict: the same calls fail where the sandbox speaks another server's dialect."""
    with strict(tmp_path) as (it, client):
        batch = create(client, lines(1))
        it.sandbox.update_dialect({"statuses": "upper"})
        with pytest.raises(openai.APIResponseValidationError):
            client.batches.retrieve(batch.id)


def test_the_cycle_of_files(tmp_path: Path) -> None:
    with strict(tmp_path) as (_, client):
        kept = upload(client, lines(2), expires_after={"anchor": "created_at", "seconds": 3600})
        assert kept.expires_at == kept.created_at + 3600
        others = [
            client.files.create(file=("other.bin", b"words"), purpose=purpose)
            for purpose in ("assistants", "fine-tune", "vision", "user_data")
        ]
        assert client.files.retrieve(kept.id) == kept == client.files.wait_for_processing(kept.id)
        assert [each.id for each in client.files.list(limit=2)] == [each.id for each in (*others[::-1], kept)]
        assert [each.id for each in client.files.list(purpose="batch", order="asc")] == [kept.id]
        assert client.files.content(kept.id).content == encoded(lines(2))
        with client.files.with_streaming_response.content(kept.id) as answer:
            answer.stream_to_file(tmp_path / "kept.jsonl")
        assert (tmp_path / "kept.jsonl").read_bytes() == encoded(lines(2))
        for each in (kept, *others):
            gone = client.files.delete(each.id)
            assert (gone.id, gone.deleted) == (each.id, True)
        assert list(client.files.list()) == []
        with pytest.raises(openai.NotFoundError):
            client.files.content(kept.id)


def test_the_cycle_of_batches(tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    with strict(tmp_path, {"expire_batches": [2]}) as (it, client):

        def note(batch: Any) -> None:
            found[batch.status] = batch

        first, second, third = (
            create(
                client,
                lines(4),
                metadata={"run": "r"},
                output_expires_after={"anchor": "created_at", "seconds": 86_400},
            )
            for _ in range(3)
        )
        bad = create(client, [line("a"), b"{"])
        note(first)
        it.now += 500
        note(client.batches.retrieve(first.id))
        note(client.batches.cancel(third.id))
        it.now += 515
        for batch in (first, third, bad):
            note(client.batches.retrieve(batch.id))
        it.now += 90_000
        for batch in (first, second):
            note(client.batches.retrieve(batch.id))
        listed = [each.id for each in client.batches.list(limit=3)]
        assert listed == [each.id for each in (bad, third, second, first)]
        assert list(client.batches.list(after=first.id)) == []
    statuses = "validating failed in_progress finalizing completed expired cancelling cancelled"
    assert set(found) == {*statuses.split()}
    assert [each.line for each in found["failed"].errors.data] == [2]
    assert found["completed"].metadata == {"run": "r"} and found["completed"].usage.output_tokens > 0


def test_answers_in_numbers(tmp_path: Path) -> None:
    with strict(tmp_path) as (it, client):
        vectors = client.embeddings.create(
            model="text-embedding-3-small", input=["one", "two"], encoding_format="float"
        )
        assert [len(each.embedding) for each in vectors.data] == [1_536, 1_536]
        (judged,) = client.moderations.create(model="omni-moderation-latest", input="hate").results
        assert judged.flagged and judged.categories.hate
        body = {"model": "text-embedding-3-small", "input": "one"}
        batch = create(client, [line("a", body, "/v1/embeddings")], "/v1/embeddings")
        it.now += 2000
        row = orjson.loads(client.files.content(client.batches.retrieve(batch.id).output_file_id).content)
        assert openai.types.CreateEmbeddingResponse.model_validate(row["response"]["body"]).usage.prompt_tokens == 1


@pytest.mark.parametrize("fault", ["", "refusal", "length", "empty", "server", "rate_limit", "content_policy"])
@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
def test_the_lines_of_a_batch(tmp_path: Path, endpoint: str, fault: str) -> None:
    body = chat_body() if endpoint == CHAT else response_body()
    with strict(tmp_path, {"line_failures": {fault: 0.5}} if fault else {}) as (it, client):
        batch = create(client, [line(f"a{number}", body, endpoint) for number in range(20)], endpoint)
        it.now += 2000
        batch = client.batches.retrieve(batch.id)
        files = [each for each in (batch.output_file_id, batch.error_file_id) if each]
        rows = [orjson.loads(row) for each in files for row in client.files.content(each).iter_lines()]
    assert len(rows) == batch.request_counts.total == 20
    for row in rows:
        told = row["response"]
        if told["status_code"] == 200:
            (ChatCompletion if endpoint == CHAT else Response).model_validate(told["body"])
        else:
            assert set(told["body"]["error"]) == {"message", "type", "param", "code"}


CHAT_REQUESTS: Mapping[str, Mapping[str, object]] = {
    "plain": {},
    "schema": {"response_format": chat_body()["response_format"]},
    "any JSON": {"response_format": {"type": "json_object"}},
    "tools": {"tools": [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]},
    "one tool": {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "cut": {"max_completion_tokens": 3},
    "no thoughts": {"reasoning_effort": "none"},
    "sampling": {"temperature": 0.2, "top_p": 0.9, "seed": 1, "stop": ["."], "logprobs": True, "top_logprobs": 2},
    "nulls": {"temperature": None, "metadata": None, "stop": None, "tools": None, "tool_choice": None, "store": None},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": TEXT}]}]},
}


@pytest.mark.parametrize("name", CHAT_REQUESTS)
def test_a_chat_completion(tmp_path: Path, name: str) -> None:
    asked = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": TEXT}], **CHAT_REQUESTS[name]}
    with strict(tmp_path, reasoning_tokens=40) as (_, client):
        found = client.chat.completions.create(**asked)
        assert found.choices[0].finish_reason == ("length" if name == "cut" else "stop")
        assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens


NULLED = [
    "instructions", "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls", "previous_response_id",
    "reasoning", "service_tier", "store", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p",
    "truncation",
]  # fmt: skip
RESPONSE_REQUESTS: Mapping[str, Mapping[str, object]] = {
    "plain": {},
    "schema": {"text": response_body()["text"]},
    "any JSON": {"text": {"format": {"type": "json_object"}}},
    "a short text": {"text": {"verbosity": "low"}},
    "tools": {"tools": [{"type": "function", "name": "weather", "parameters": WEATHER}]},
    "a search": {"tools": [{"type": "web_search"}]},
    "one tool": {"tool_choice": {"type": "function", "name": "weather"}},
    "flex": {"service_tier": "flex"},
    "cut": {"max_output_tokens": 16},
    "thoughts": {"reasoning": {"effort": "low", "summary": "auto"}},
    "no thoughts": {"reasoning": {"effort": "none"}},
    "nulls": dict.fromkeys(NULLED),
    "messages": {"input": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": TEXT}]},
    "parts": {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": TEXT}]}],
        "instructions": "Be brief.",
    },
    "metadata": {"metadata": {"a": "b"}, "store": False, "top_logprobs": 2, "max_tool_calls": 3},
}


@pytest.mark.parametrize("name", RESPONSE_REQUESTS)
def test_a_response(tmp_path: Path, name: str) -> None:
    asked = {"model": "gpt-6-luna", "input": TEXT, **RESPONSE_REQUESTS[name]}
    with strict(tmp_path, reasoning_tokens=10) as (_, client):
        found = client.responses.create(**asked)
        assert found.status == ("incomplete" if name == "cut" else "completed")
        assert found.usage.total_tokens == found.usage.input_tokens + found.usage.output_tokens


def test_the_cycle_of_stored_completions(tmp_path: Path) -> None:
    with strict(tmp_path) as (_, client):
        kept = [client.chat.completions.create(**chat_body(store=True, metadata={"n": str(n)})) for n in range(3)]
        client.chat.completions.create(**chat_body())
        assert [each.id for each in client.chat.completions.list(limit=2)] == [each.id for each in kept]
        assert [each.id for each in client.chat.completions.list(metadata={"n": "1"}, order="desc")] == [kept[1].id]
        assert list(client.chat.completions.list(model="gpt-4o")) == []
        assert client.chat.completions.retrieve(kept[2].id).metadata == {"n": "2"}


def test_the_models(tmp_path: Path) -> None:
    with strict(tmp_path) as (_, client):
        names = [each.id for each in client.models.list()]
        assert [client.models.retrieve(name).id for name in names] == names


ERRORS: Mapping[str, tuple[type[openai.APIStatusError], str | None, str | None]] = {
    "no such file": (openai.NotFoundError, None, "id"),
    "no such batch": (openai.NotFoundError, None, None),
    "no such model": (openai.NotFoundError, "model_not_found", "model"),
    "no such completion": (openai.NotFoundError, "not_found", None),
    "an odd purpose": (openai.BadRequestError, "invalid_value", "purpose"),
    "no JSONL": (openai.BadRequestError, None, None),
    "too short a life": (openai.BadRequestError, "integer_below_min_value", "expires_after.seconds"),
    "too long a page": (openai.BadRequestError, "integer_above_max_value", "limit"),
    "no endpoint": (openai.BadRequestError, "missing_required_parameter", "endpoint"),
    "another window": (openai.BadRequestError, "invalid_value", "completion_window"),
    "a list as metadata": (openai.BadRequestError, "invalid_type", "metadata.tags"),
    "no messages": (openai.BadRequestError, "missing_required_parameter", "messages"),
    "no tokens": (openai.BadRequestError, "integer_below_min_value", "max_output_tokens"),
    "no such call": (openai.NotFoundError, None, None),
    "a batch that has ended": (openai.ConflictError, None, None),
    "another key": (openai.AuthenticationError, "invalid_api_key", None),
}


def provoke(it: Bench, client: Any, name: str) -> object:
    """Make the call that meets the error."""
    good = {"input_file_id": "file-x", "endpoint": CHAT, "completion_window": "24h"}
    calls = {
        "no such file": lambda: client.files.retrieve("file-x"),
        "no such batch": lambda: client.batches.cancel("batch_x"),
        "no such model": lambda: client.chat.completions.create(**{**chat_body(), "model": "x"}),
        "no such completion": lambda: client.chat.completions.retrieve("x"),
        "an odd purpose": lambda: client.files.create(file=b"x", purpose="odd"),
        "no JSONL": lambda: client.files.create(file=b"x", purpose="batch"),
        "too short a life": lambda: upload(client, lines(1), expires_after={"anchor": "created_at", "seconds": 1}),
        "too long a page": lambda: client.batches.list(limit=101),
        "no endpoint": lambda: client.batches.create(**{**good, "endpoint": None}),
        "another window": lambda: client.batches.create(**{**good, "completion_window": "48h"}),
        "a list as metadata": lambda: client.batches.create(**good, metadata={"tags": ["a"]}),
        "no messages": lambda: client.chat.completions.create(model="gpt-6-luna", messages=[]),
        "no tokens": lambda: client.responses.create(**response_body(max_output_tokens=0)),
        "no such call": lambda: client.images.generate(model="gpt-image-1", prompt="a"),
        "a batch that has ended": lambda: client.batches.cancel(ended(it, client)),
        "another key": client.with_options(api_key="sk-of-somebody-else").models.list,
    }
    return calls[name]()


def ended(it: Bench, client: Any) -> str:
    batch_id: str = create(client, lines(1)).id
    it.now += 2000
    return batch_id


@pytest.mark.parametrize("name", ERRORS)
def test_an_error(tmp_path: Path, name: str) -> None:
    kind, code, param = ERRORS[name]
    with strict(tmp_path, api_key="sk-test") as (it, client), pytest.raises(kind) as caught:
        provoke(it, client, name)
    error = caught.value
    assert (error.code, error.param) == (code, param)
    assert error.message and error.type and error.request_id
