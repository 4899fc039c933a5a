"""What the sandbox's tests share: a sandbox whose clock is moved by hand, and the real client in front of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import openai
import orjson
from openai.types import Batch, FileObject

from batcher.sandbox import Faults, Sandbox, SandboxSettings, apply_changes
from batcher.sandbox.web.transport import SandboxTransport

START = 1_795_000_000.0  # November 2026
CHAT: Final = "/v1/chat/completions"
RESPONSES: Final = "/v1/responses"
MODEL = "gpt-6-luna"
DAY = 86_400.0
PICASSO = "Artist: Pablo Picasso\nnationality: Spanish\nborn: 1881\ndied: 1973"
SCHEMA = {
    "type": "object",
    "properties": {
        "bio": {"type": "string", "minLength": 20, "maxLength": 400},
        "confidence": {"type": "string", "enum": ["low", "medium", "high"]},
    },
    "required": ["bio", "confidence"],
    "additionalProperties": False,
}


def chat_body(text: str = PICASSO, **more: object) -> dict[str, Any]:
    wanted = {"type": "json_schema", "json_schema": {"name": "bio", "strict": True, "schema": SCHEMA}}
    messages = [{"role": "system", "content": "Write a short bio."}, {"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, "response_format": wanted, **more}


def response_body(text: str = PICASSO, **more: object) -> dict[str, Any]:
    wanted = {"format": {"type": "json_schema", "name": "bio", "strict": True, "schema": SCHEMA}}
    return {"model": MODEL, "instructions": "Write a short bio.", "input": text, "text": wanted, **more}


def line(custom_id: str, body: object = None, url: str = CHAT) -> dict[str, Any]:
    if body is None:
        body = chat_body(f"Artist: Artist {custom_id}\nnationality: Spanish\nborn: 1881")
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def lines(count: int) -> list[object]:
    return [line(f"a{number}") for number in range(count)]


def encoded(rows: Sequence[object]) -> bytes:
    return b"".join((row if isinstance(row, bytes) else orjson.dumps(row)) + b"\n" for row in rows)


class Bench:
    """One sandbox and one client; `now` is its clock."""

    def __init__(self, directory: Path, settings: SandboxSettings) -> None:
        self.now = START
        self.sandbox = Sandbox(settings, directory, lambda: self.now)
        self.http = httpx2.Client(transport=SandboxTransport(self.sandbox))
        self.client = openai.OpenAI(
            api_key="sk-test", base_url="http://sandbox/v1", http_client=self.http, max_retries=0
        )

    def fault(self, **changes: object) -> None:
        self.sandbox.update_faults(changes)

    def upload(self, rows: Sequence[object]) -> FileObject:
        return self.client.files.create(file=("in.jsonl", encoded(rows)), purpose="batch")

    def create(self, rows: Sequence[object], metadata: dict[str, str] | None = None, endpoint: str = CHAT) -> Batch:
        stored = self.upload(rows)
        return self.create_from(stored.id, metadata, endpoint)

    def create_from(self, file_id: str, metadata: dict[str, str] | None = None, endpoint: str = CHAT) -> Batch:
        return self.client.batches.create(
            input_file_id=file_id,
            endpoint=endpoint,  # type: ignore[arg-type]
            completion_window="24h",
            metadata=metadata,
        )

    def later(self, batch: Batch, seconds: float) -> Batch:
        self.now += seconds
        return self.client.batches.retrieve(batch.id)

    def run(self, rows: Sequence[object], endpoint: str = CHAT) -> Batch:
        """Create a batch and return it as it is a day later."""
        return self.later(self.create(rows, endpoint=endpoint), DAY + 1)

    def content(self, file_id: str | None) -> bytes:
        return self.client.files.content(file_id).content if file_id else b""

    def results(self, file_id: str | None) -> list[dict[str, object]]:
        return [orjson.loads(row) for row in self.content(file_id).splitlines()]

    def raw(self, method: str, path: str, **more: object) -> httpx2.Response:
        """Send a request that the client library would not."""
        headers = {"authorization": "Bearer sk-test"}
        return self.http.request(method, f"http://sandbox{path}", headers=headers, **more)  # type: ignore[arg-type]


@contextmanager
def bench(directory: Path, faults: dict[str, object] | None = None, **settings: Any) -> Iterator[Bench]:
    """Yield a bench whose batches have phases of fixed lengths: 10 s, 1,000 s, 10 s, and 10 s to cancel."""
    fixed = SandboxSettings(validating_s=(10, 10), service_s=(1000, 1000), finalizing_s=(10, 10), cancelling_s=(10, 10))
    found = Bench(directory, apply_changes(fixed, {"faults": apply_changes(Faults(), faults or {}), **settings}))
    with found.http:
        yield found
