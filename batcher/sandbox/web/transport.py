"""Lets the real client run against a sandbox without a socket.

`openai.OpenAI(http_client=httpx2.Client(transport=SandboxTransport(sandbox)))`
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import httpx2

from batcher.sandbox.api.sandbox import Sandbox
from batcher.sandbox.web.handle import Request, Response, handle_request
from batcher.sandbox.web.messages import TIMEOUT, WHOLE

_CHUNK = 1 << 20


class _BodyStream(httpx2.SyncByteStream):
    """A body in chunks; a truncated one breaks off at half, as a closed connection does."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        whole = self._response.body_length
        wanted = whole // 2 if self._response.truncated else whole
        yield from _read_chunks(self._response.body, wanted)
        if self._response.truncated:
            raise httpx2.RemoteProtocolError(
                "peer closed connection without sending complete message body "
                f"(received {wanted} bytes, expected {whole})"
            )


def _read_chunks(body: bytes | Path, wanted: int) -> Iterator[bytes]:
    if isinstance(body, bytes):
        yield body[:wanted]
        return
    with body.open("rb") as file:
        while wanted > 0 and (chunk := file.read(min(_CHUNK, wanted))):
            wanted -= len(chunk)
            yield chunk


class SandboxTransport(httpx2.BaseTransport):
    """Calls the sandbox in the caller's thread.

    `sleep` is called with the real seconds that a slow answer takes; by default no time passes. An answer that takes
    longer than the client waits becomes a ReadTimeout, after its effect.
    """

    def __init__(self, sandbox: Sandbox, sleep: Callable[[float], object] = lambda _seconds: None) -> None:
        self._sandbox = sandbox
        self._sleep = sleep

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = self._send_to_sandbox(request)
        if response.ending != WHOLE:
            self._break_connection(request, response)
        self._simulate_delay(request, response.delay_s)
        headers = {**response.headers, "content-length": str(response.body_length)}
        return httpx2.Response(response.status, headers=headers, stream=_BodyStream(response), request=request)

    def _send_to_sandbox(self, request: httpx2.Request) -> Response:
        multipart = request.headers.get("content-type", "").startswith("multipart/")
        if not multipart:
            return handle_request(self._sandbox, _convert_request(request, b"".join(request.stream)))  # type: ignore[arg-type]
        with tempfile.NamedTemporaryFile(dir=self._sandbox.incoming) as spool:
            for chunk in request.stream:  # type: ignore[union-attr]
                spool.write(chunk)
            spool.flush()
            return handle_request(self._sandbox, _convert_request(request, Path(spool.name)))

    def _simulate_delay(self, request: httpx2.Request, delay: float) -> None:
        patience = request.extensions.get("timeout", {}).get("read")
        if patience is not None and delay > patience:
            raise httpx2.ReadTimeout("The read operation timed out", request=request)
        if delay:
            self._sleep(delay)

    def _break_connection(self, request: httpx2.Request, response: Response) -> NoReturn:
        if response.ending == TIMEOUT:
            raise httpx2.ReadTimeout("The read operation timed out", request=request)
        raise httpx2.RemoteProtocolError("Server disconnected without sending a response.", request=request)


def _convert_request(request: httpx2.Request, body: bytes | Path) -> Request:
    headers = {name.lower(): value for name, value in request.headers.items()}
    query = tuple(request.url.params.multi_items())
    return Request(request.method, request.url.path, query, headers, body)
