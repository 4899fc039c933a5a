"""A transport by which the real client calls a sandbox without a socket.

`openai.OpenAI(http_client=httpx2.Client(transport=SandboxTransport(sandbox)))`
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn, cast

import httpx2

from batcher.sandbox.api.sandbox import Sandbox
from batcher.sandbox.web.handle import handle_request
from batcher.sandbox.web.messages import TIMEOUT, WHOLE, Response, build_request


class _BodyStream(httpx2.SyncByteStream):
    """A body in pieces; a truncated one ends with the error of a closed connection."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        response = self._response
        yield from response.pieces()
        if response.truncated:
            raise httpx2.RemoteProtocolError(
                "peer closed connection without sending complete message body "
                f"(received {response.sent_length} bytes, expected {response.body_length})"
            )


class SandboxTransport(httpx2.BaseTransport):
    """Calls the sandbox in the caller's thread.

    `sleep` is called with the real seconds that a slow answer takes; by default no time passes. An answer that takes
    longer than the client waits becomes a ReadTimeout, after its effect.
    """

    def __init__(self, sandbox: Sandbox, sleep: Callable[[float], object] = lambda _seconds: None) -> None:
        self._sandbox = sandbox
        self._sleep = sleep

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request of the client, or raise what the client would raise for a broken connection."""
        response = self._send_to_sandbox(request)
        if response.ending != WHOLE:
            self._break_connection(request, response)
        self._simulate_delay(request, response.delay_s)
        headers = {**response.headers, "content-length": str(response.body_length)}
        return httpx2.Response(response.status, headers=headers, stream=_BodyStream(response), request=request)

    def _send_to_sandbox(self, request: httpx2.Request) -> Response:
        chunks = cast(Iterable[bytes], request.stream)  # a synchronous client sends nothing else
        if not request.headers.get("content-type", "").startswith("multipart/"):
            return self._handle_body(request, b"".join(chunks))
        with tempfile.NamedTemporaryFile(dir=self._sandbox.incoming) as spool:
            spool.writelines(chunks)
            spool.flush()
            return self._handle_body(request, Path(spool.name))

    def _handle_body(self, request: httpx2.Request, body: bytes | Path) -> Response:
        url = request.url
        plain = build_request(request.method, url.path, url.params.multi_items(), request.headers, body)
        return handle_request(self._sandbox, plain)

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
