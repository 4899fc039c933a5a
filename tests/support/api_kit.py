"""Our service over the real client, answered by a sandbox or by a script."""

import json
import string
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx2
import openai

from batcher.core.failures import FailureClass
from batcher.core.remote import RemoteBatch
from batcher.core.retry import RetryPolicy, RetryRules
from batcher.sandbox import Sandbox, SandboxSettings
from batcher.sandbox.web.server import running_sandbox
from batcher.sandbox.web.transport import SandboxTransport
from batcher.service.http_client import BoundedClient
from batcher.service.openai_service import OpenAIService
from batcher.service.service import Service
from tests.support.sandbox_kit import CHAT, START, encoded, lines


def call_rules(policy: RetryPolicy) -> RetryRules:
    """Return rules whose calls are retried as the policy says."""
    return RetryRules({FailureClass.CALL: policy})


QUICK = call_rules(RetryPolicy(0.5, 4, 3))
PAUSES = [0.5, 1.0, 2.0]
KEY = "sk-" + string.ascii_lowercase + string.digits  # has the shape of a key, so that tests show that it is redacted
MEGABYTE = 1 << 20
FIXED = SandboxSettings(validating_s=(10, 10), service_s=(1000, 1000), finalizing_s=(10, 10), cancelling_s=(10, 10))
ENDED = 1020.0


class Rig:
    """A sandbox whose clock is moved by hand, and our service in front of it; `calls` counts what the client sends."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.folder = folder
        self.sandbox = Sandbox(FIXED, folder / "sandbox", lambda: self.now)
        self.slept: list[float] = []
        self.calls: Counter[str] = Counter()

    def attach(self, http: httpx2.Client, url: str, key: str = KEY) -> None:
        # The client's own retries stay at their default: the service must turn them off.
        self.client = openai.OpenAI(api_key=key, base_url=url, http_client=http)
        self.service = OpenAIService(self.client, QUICK, self.slept.append, lambda: 0.0)

    def count(self, request: httpx2.Request) -> None:
        parts = [part for part in request.url.path.split("/") if not part.startswith(("v1", "file-", "batch_"))]
        self.calls[f"{request.method} {'/'.join(parts).strip('/')}"] += 1

    def fault(self, **changes: object) -> None:
        self.sandbox.update_faults(changes)

    def path(self, count: int = 3) -> Path:
        path = self.folder / "shard.jsonl"
        path.write_bytes(encoded(lines(count)))
        return path

    def batch(self, count: int = 3) -> RemoteBatch:
        return self.service.create_batch(self.service.upload_file(self.path(count), "in.jsonl").file_id, CHAT, {})

    def batches(self) -> int:
        return len(self.sandbox.lifecycle.batches)

    def files(self) -> int:
        return len(self.sandbox.files.list_files("batch", self.now, newest_first=False))


@contextmanager
def attached(kind: str, folder: Path, key: str = KEY) -> Iterator[Rig]:
    rig = Rig(folder)
    hooks: Any = {"request": [rig.count]}
    if kind == "memory":
        with BoundedClient(transport=SandboxTransport(rig.sandbox), event_hooks=hooks) as http:
            rig.attach(http, "http://sandbox/v1", key)
            yield rig
        return
    with running_sandbox(rig.sandbox) as url, BoundedClient(event_hooks=hooks, trust_env=False) as http:
        rig.attach(http, url, key)
        yield rig


@dataclass(frozen=True)
class Answer:
    """A scripted answer; its body is streamed, as from a socket."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def made(self) -> httpx2.Response:
        return httpx2.Response(self.status, headers=self.headers, stream=httpx2.ByteStream(self.content))


def answer(status: int, body: object, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, bytes):
        return Answer(status, named, body)
    return Answer(status, {"content-type": "application/json", **named}, json.dumps(body).encode())


Scripted = tuple[OpenAIService, list[float]]
Act = Callable[[Service], object]


def scripted(answers: Sequence[Answer], key: str = KEY, jitter: float = 0.0, urls: list[str] | None = None) -> Scripted:
    """Return our service, answered by a script, and its delays; a request beyond the script's end fails the test."""
    left = iter(answers)

    def respond(request: httpx2.Request) -> httpx2.Response:
        if urls is not None:
            urls.append(str(request.url))
        return next(left).made()

    transport = httpx2.MockTransport(respond)
    client = openai.OpenAI(
        api_key=key, base_url="http://sandbox/v1", http_client=BoundedClient(transport=transport), max_retries=2
    )
    slept: list[float] = []
    return OpenAIService(client, QUICK, slept.append, lambda: jitter), slept


def requested(answers: Sequence[Answer]) -> tuple[OpenAIService, list[str]]:
    """Return our service, answered by a script, and the list to which the address of each request is added."""
    urls: list[str] = []
    service, _ = scripted(answers, urls=urls)
    return service, urls


def refusal(message: str = "no", code: object = None, kind: object = None) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def told(**fields: object) -> dict[str, object]:
    """Return the shortest description of a batch that can be read, with these fields added."""
    return {"id": "batch_1", "object": "batch", "created_at": 1_795_000_000, "status": "in_progress", **fields}


def page(ids: Sequence[int], **more: object) -> Answer:
    """Return a page of batches whose numbers are their ages in seconds."""
    data = [told(id=f"batch_{number}", created_at=1_795_000_000 - number) for number in ids]
    return answer(200, {"object": "list", "data": data, **more}, date=SERVER_DATE)


SERVER_DATE = formatdate(START, usegmt=True)
LATER = formatdate(START + 7, usegmt=True)
BUSY = refusal("slow down", "rate_limit_exceeded", "requests")
