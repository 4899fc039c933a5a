"""Hosts of the Batch API other than OpenAI, played over real HTTP: the sandbox behind what each does differently.

What a host does is written from its documents, or from runs against it (docs/how-to/other-services.md); no text of any
is copied. A host refuses what it does not know, so that a request that would fail there fails here.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from batcher.sandbox import Sandbox
from batcher.sandbox.web.handle import handle_request
from batcher.sandbox.web.messages import Response, build_request

Json = dict[str, Any]
Problem = tuple[int, str, str]
"""The status, message and code of a refusal."""
KEY = "key-of-a-host-that-is-long-enough"


def openai_error(message: str, code: str = "") -> object:
    """Return an error as OpenAI writes it."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code or None}}


def fastapi_error(message: str, _code: str = "") -> object:
    """Return an error as servers write it that are made with FastAPI."""
    return {"detail": message}


def plain_error(message: str, _code: str = "") -> object:
    """Return an error whose `error` is a text."""
    return {"error": message}


def azure_error(message: str, code: str = "") -> object:
    """Return an error as Azure writes it: a code and a message, nothing else."""
    return {"error": {"code": code or "BadRequest", "message": message}}


@dataclass
class Host:
    """One host. Everything is as at OpenAI unless said."""

    name: str
    settings: str = ""
    """The lines of `[service]` that it needs."""
    dialect: Mapping[str, object] = field(default_factory=dict)
    """Of the sandbox."""
    window: str = "24h"
    purpose: str = "batch"
    unknown: frozenset[str] = frozenset()
    """Keys of requests that it refuses."""
    absent: frozenset[tuple[str, str]] = frozenset()
    """Method and kind of path ("batches", "files", "files/ID", "models") that it does not serve."""
    forgets_metadata: bool = False
    creates_with_500: bool = False
    """Whether every create is answered with 500 although the batch is made."""
    key_header: str = "authorization"
    base: str = "/v1"
    """What its addresses begin with."""
    line_path: str = "/v1"
    api_version: str = ""
    error: Callable[[str, str], object] = openai_error
    batch: Callable[[Json], Json] = lambda found: found
    """Changes a batch as OpenAI describes it."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the environment; {url} is the host's own address, without a path."""


@dataclass
class Played:
    """A host that runs. The next calls of an operation ("create", "upload") can be spoiled."""

    host: Host
    sandbox: Sandbox
    url: str = ""
    lose_creates: int = 0
    """Creates that act, and whose connection then closes."""
    refuse: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """What the next call of an operation is answered with: status, message, code."""
    calls: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """What it did not take."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a user reaches it."""
        given = self.host.variables or {"OPENAI_BASE_URL": f"{{url}}{self.host.base}", "OPENAI_API_KEY": KEY}
        return {name: value.format(url=self.url) for name, value in given.items()}

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Response | None:
        """Return the answer to a request; None where the connection closes without one."""
        parts = urlsplit(target)
        query = parse_qsl(parts.query)
        path = re.sub(f"^{re.escape(self.host.base)}/", "/v1/", parts.path)
        kind = re.sub(r"/(file-|batch_|gpt-)[^/]+", "/ID", path.removeprefix("/v1/"))
        self.calls.append(f"{method} {kind}")
        problem = self._find_problem(method, kind, parts.path, dict(query), headers, body)
        if problem is not None:
            self.refused.append(f"{method} {kind}: {problem[1]}")
            return self._refuse(*problem)
        operation = {"POST batches": "create", "POST files": "upload"}.get(f"{method} {kind}", "")
        if operation in self.refuse:
            return self._refuse(*self.refuse.pop(operation))
        response = self._pass_on(method, path, query, headers, body)
        if operation == "create" and response.status == 200:
            if self.lose_creates:
                self.lose_creates -= 1
                return None
            if self.host.creates_with_500:
                return self._refuse(500, "the answer of the engine could not be validated", "")
        return self._rewrite(kind, response)

    def _refuse(self, status: int, message: str, code: str) -> Response:
        return Response(
            status, {"content-type": "application/json"}, json.dumps(self.host.error(message, code)).encode()
        )

    def _find_problem(
        self, method: str, kind: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Problem | None:
        """Return why the host does not take a request; None where it does."""
        call, text = f"{method} {kind}", body[:100_000].decode("utf-8", "replace")
        found = self._check_key(headers) or self._check_address(method, kind, path, query)
        found = found or self._check_keys(text)
        if call == "POST batches":
            return found or self._check_create(json.loads(body))
        return found or (self._check_upload(text) if call == "POST files" else None)

    def _check_key(self, headers: Mapping[str, str]) -> Problem | None:
        is_bearer = self.host.key_header == "authorization"
        if headers.get(self.host.key_header, "") != (f"Bearer {KEY}" if is_bearer else KEY):
            return 401, "Access denied due to invalid subscription key.", "401"
        return (401, "two ways to authenticate", "401") if not is_bearer and "authorization" in headers else None

    def _check_address(self, method: str, kind: str, path: str, query: Mapping[str, str]) -> Problem | None:
        host = self.host
        if not path.startswith(f"{host.base}/") or (method, kind) in host.absent:
            return 404 if method == "GET" else 405, "Method Not Allowed", ""
        is_versioned = not host.api_version or query.get("api-version") == host.api_version
        return None if is_versioned else (404, "Resource not found", "404")

    def _check_keys(self, text: str) -> Problem | None:
        unknown = next((key for key in sorted(self.host.unknown) if re.search(rf'"{key}["\[]', text)), None)
        return (400, f"property '{unknown}' is unsupported", "invalid_request") if unknown else None

    def _check_create(self, asked: Json) -> Problem | None:
        host, endpoint = self.host, asked["endpoint"]
        if asked["completion_window"] != host.window:
            return 422, f"completion_window must be {host.window}", ""
        is_path = endpoint.removeprefix(host.line_path) in {"/chat/completions", "/responses"}
        return None if is_path else (400, f"endpoint {endpoint} is not served", "url_mismatch")

    def _check_upload(self, text: str) -> Problem | None:
        if f"\r\n\r\n{self.host.purpose}\r\n" not in text:
            return 422, f"purpose must be {self.host.purpose}", ""
        is_path = re.search(rf'"url":"{self.host.line_path}/(chat|responses)', text)
        return None if is_path else (400, "the URL of the lines is not that of the service", "url_mismatch")

    def _pass_on(
        self, method: str, path: str, query: list[tuple[str, str]], headers: Mapping[str, str], body: bytes
    ) -> Response:
        """Have the sandbox answer, which is asked as OpenAI would be."""
        host = self.host
        passed = {**headers, "authorization": f"Bearer {KEY}"}
        asked = [(name, "batch" if name == "purpose" else value) for name, value in query if name != "api-version"]
        if (method, path) == ("POST", "/v1/batches"):
            changed = json.loads(body) | {"completion_window": "24h"}
            changed["endpoint"] = "/v1" + changed["endpoint"].removeprefix("/v1")
            body = json.dumps(changed).encode()
        if not headers.get("content-type", "").startswith("multipart/"):
            return handle_request(self.sandbox, build_request(method, path, asked, passed, body))
        body = body.replace(f"\r\n\r\n{host.purpose}\r\n".encode(), b"\r\n\r\nbatch\r\n", 1)
        if host.line_path != "/v1":
            body = body.replace(f'"url":"{host.line_path}/'.encode(), b'"url":"/v1/')
        with tempfile.NamedTemporaryFile(dir=self.sandbox.incoming) as spool:
            spool.write(body)
            spool.flush()
            return handle_request(self.sandbox, build_request(method, path, asked, passed, Path(spool.name)))

    def _rewrite(self, kind: str, response: Response) -> Response:
        if isinstance(response.body, Path):
            return response
        found = json.loads(response.body or b"{}")
        if response.status >= 400:
            error = found.get("error", {})
            found = self.host.error(error.get("message", ""), error.get("code") or "")
        elif kind.startswith("batches"):
            found = self._rewrite_batches(found)
        return Response(response.status, response.headers, json.dumps(found).encode())

    def _rewrite_batches(self, found: Json) -> Json:
        if found.get("object") == "list":
            return {**found, "data": [self._rewrite_batches(each) for each in found["data"]]}
        return self.host.batch({**found, "metadata": None} if self.host.forgets_metadata else found)


@contextmanager
def played_host(host: Host, sandbox: Sandbox) -> Iterator[Played]:
    """Serve a host on the loopback interface, with the sandbox behind it."""
    sandbox.update_dialect(dict(host.dialect))
    played = Played(host, sandbox)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            response = played.answer(self.command, self.path, headers, body)
            if response is None or response.ending != "whole":
                self.close_connection = True
                return
            self.send_response_only(response.status)
            for name, value in response.headers.items():
                if not name.startswith("openai-"):  # by which an answer of OpenAI is known
                    self.send_header(name, value)
            self.send_header("content-length", str(response.body_length))
            self.end_headers()
            self.wfile.writelines(response.pieces())

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        played.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield played
        finally:
            server.shutdown()
            thread.join()


COMPATIBLE = 'profile = "compatible"'
EXPIRY = frozenset({"expires_after", "output_expires_after"})
AZURE = {"AZURE_OPENAI_ENDPOINT": "{url}", "AZURE_OPENAI_API_KEY": KEY}


def _with_empty_ids(batch: Json) -> Json:
    """Return a batch whose ids that are not set are empty texts."""
    return {name: "" if value is None and name.endswith("_file_id") else value for name, value in batch.items()}


def _as_azure(batch: Json) -> Json:
    """Return a batch as Azure shows it: no endpoint, empty ids, its status as a word of .NET, `canceled` with one l."""
    status = "canceled" if batch["status"] == "cancelled" else str(batch["status"])
    return _with_empty_ids({**batch, "endpoint": None, "status": status.capitalize()})


HOSTS = (
    Host(
        "aibrix",  # ran: 0.8.0
        dialect={"statuses": "synonyms", "status_in_words": True, "largest_limit": {"files": 100, "batches": 100}},
        error=fastapi_error,
    ),
    Host("ogx", dialect={"body_as_text": True, "status_in_words": True}, batch=_with_empty_ids, error=fastapi_error),
    Host("litellm", creates_with_500=True, error=openai_error),  # ran: 1.108.7 before AIBrix
    Host(
        "groq", COMPATIBLE, {"paging": "cursor", "errors": "array"}, unknown=EXPIRY,
    ),
    Host("deepinfra", COMPATIBLE),
    Host("doubleword", COMPATIBLE, error=plain_error),
    Host("parasail", COMPATIBLE, {"paging": "unsaid"}),
    Host("dashscope", COMPATIBLE, {"times": "iso"}, unknown=EXPIRY, forgets_metadata=True),
    Host(
        "novita", f'{COMPATIBLE}\nwindow = "48h"', {"times": "iso", "statuses": "upper", "errors": "text"},
        window="48h", unknown=EXPIRY,
    ),
    Host(
        "strict", f'{COMPATIBLE}\nlacks = ["metadata"]\npurpose = "batch-api"', purpose="batch-api",
        unknown=EXPIRY | {"metadata"}, forgets_metadata=True, error=plain_error,
    ),
    Host(
        "azure", 'profile = "azure"', {"times": "iso"}, key_header="api-key", base="/openai/v1", batch=_as_azure,
        error=azure_error, variables=AZURE,
    ),
    Host(
        "azure-classic", 'profile = "azure"', key_header="api-key", base="/openai", line_path="",
        api_version="2024-10-21", batch=_as_azure, error=azure_error,
        variables={**AZURE, "OPENAI_API_VERSION": "2024-10-21"},
    ),
)  # fmt: skip
"""The hosts that list batches, each with the settings that it needs."""
UNLISTED = (
    Host("no-list", f'{COMPATIBLE}\nlacks = ["list_batches"]', absent=frozenset({("GET", "batches")}), unknown=EXPIRY),
    Host(
        "no-list-no-metadata", f'{COMPATIBLE}\nlacks = ["list_batches", "list_files", "metadata", "delete_files"]',
        absent=frozenset({("GET", "batches"), ("GET", "files"), ("DELETE", "files/ID"), ("GET", "models")}),
        unknown=EXPIRY | {"metadata"}, error=fastapi_error,
    ),
    Host("no-delete", f'{COMPATIBLE}\nlacks = ["delete_files"]', absent=frozenset({("DELETE", "files/ID")})),
)  # fmt: skip
"""Hosts at which absence cannot be proven."""
