"""Replays recorded traffic with OpenAI to the real client: vcrpy loads, matches and answers; no request is sent.

The recordings lie beside the repository (`../shared/recordings`) and are never copied into it.
"""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import openai
import vcr
from vcr.cassette import Cassette

from batcher.core.retry import RetryPolicy, RetryRules
from batcher.service.openai_service import OpenAIService
from tests.support.api_kit import call_rules

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "recordings"
API = "https://api.openai.com"
ONCE = call_rules(RetryPolicy(0.5, 4, 0))


@dataclass(frozen=True)
class Recorded:
    """One recorded call to the API, decoded without any of our code."""

    method: str
    path: str
    sent: bytes
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def what(self) -> str:
        """The kind of the call: upload, file, create, retrieve or content."""
        if self.path.endswith("/content"):
            return "content"
        of_files = self.path.startswith("/v1/files")
        return {("POST", True): "upload", ("GET", True): "file", ("POST", False): "create"}.get(
            (self.method, of_files), "retrieve"
        )

    @property
    def name(self) -> str:
        """The id in the path."""
        return self.path.split("/")[3]

    @property
    def whole(self) -> bool:
        """Whether the body is as long as its content-length says."""
        return len(self.content) == int(self.headers.get("content-length", len(self.content)))


@dataclass
class Replay:
    """Our service in front of a cassette; `sent` are its requests, `slept` its delays in seconds."""

    service: OpenAIService
    cassette: Any
    sent: list[httpx2.Request] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)


def names() -> list[str]:
    """Return the names of the cassettes, sorted; empty without the reference data."""
    return sorted(path.stem for path in RECORDINGS.glob("*.yaml"))


def recorded(name: str) -> list[Recorded]:
    """Return the calls to the API that a cassette holds, in its order (one of them recorded a price list too)."""
    cassette = Cassette.load(path=str(RECORDINGS / f"{name}.yaml"))
    calls = [_recorded(request, answer) for request, answer in cassette.data if request.uri.startswith(API)]
    assert calls
    return calls


def _recorded(request: Any, answer: Any) -> Recorded:
    headers = {key.lower(): values[0] for key, values in answer["headers"].items()}
    content = answer["body"]["string"]
    if headers.get("content-encoding") == "gzip":
        content = gzip.decompress(content)
    return Recorded(request.method, request.path, request.body or b"", headers, content)


@contextmanager
def replayed(name: str, rules: RetryRules = ONCE, repeats: bool = False) -> Iterator[Replay]:
    """Yield our service, answered by the cassette alone; with `repeats` it may replay an answer several times."""
    player = vcr.VCR(record_mode=vcr.mode.NONE, match_on=("method", "uri"))
    slept: list[float] = []
    sent: list[httpx2.Request] = []
    path = str(RECORDINGS / f"{name}.yaml")
    with (
        player.use_cassette(path, allow_playback_repeats=repeats) as cassette,
        httpx2.Client(event_hooks={"request": [sent.append]}, trust_env=False) as http,
    ):
        client = openai.OpenAI(api_key="sk-replay", base_url=f"{API}/v1", http_client=http)
        yield Replay(OpenAIService(client, rules, slept.append, lambda: 0.0), cassette, sent, slept)
