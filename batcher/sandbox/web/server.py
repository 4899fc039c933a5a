"""A server of a sandbox over HTTP, on the loopback interface alone.

Bodies go through the disk: an upload is written while it arrives, a download is read while it is sent.
"""

import asyncio
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread

import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from batcher.sandbox.api.sandbox import Sandbox
from batcher.sandbox.web.handle import handle_request, is_loopback_host, refuse_unread
from batcher.sandbox.web.messages import WHOLE, Request, Response, build_request

_ABORT = "sandbox.abort"
_STARTUP_S = 30.0
_MAX_JSON = 64 << 20  # bytes of a body that isn't an upload

OnReady = Callable[[str], object]


class _Protocol(HttpToolsProtocol):
    """Puts a function that closes the connection into the scope: faults need one, and ASGI has none."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[_ABORT] = self.transport.close  # type: ignore[literal-required]


class _Endpoint:
    """The ASGI side of `handle_request`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        incoming = StarletteRequest(scope, receive)
        try:
            response = await self._handle_incoming(incoming)
        except ClientDisconnect:
            return
        if response.delay_s:
            await asyncio.sleep(response.delay_s)
        if response.ending == WHOLE:
            await _send_response(response, send)
        else:
            await _break_connection(scope, receive)

    async def _handle_incoming(self, incoming: StarletteRequest) -> Response:
        refusal = refuse_unread(self._sandbox, self._build_request(incoming, b""))
        if refusal is not None:
            return refusal
        if not incoming.headers.get("content-type", "").startswith("multipart/"):
            return await self._handle_body(incoming, await _read_small_body(incoming))
        with tempfile.NamedTemporaryFile(dir=self._sandbox.incoming) as spool:
            async for chunk in incoming.stream():
                spool.write(chunk)
            spool.flush()
            return await self._handle_body(incoming, Path(spool.name))

    async def _handle_body(self, incoming: StarletteRequest, body: bytes | Path) -> Response:
        return await run_in_threadpool(handle_request, self._sandbox, self._build_request(incoming, body))

    def _build_request(self, incoming: StarletteRequest, body: bytes | Path) -> Request:
        query = incoming.query_params.multi_items()
        return build_request(incoming.method, incoming.scope["path"], query, incoming.headers, body)


async def _read_small_body(incoming: StarletteRequest) -> bytes:
    """Return the body; one that is too long comes back empty, and is refused as JSON that lacks everything."""
    body = bytearray()
    async for chunk in incoming.stream():
        body += chunk if len(body) <= _MAX_JSON else b""
    return bytes(body) if len(body) <= _MAX_JSON else b""


async def _send_response(response: Response, send: Send) -> None:
    headers = {**response.headers, "content-length": str(response.body_length)}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": raw})
    read = partial(next, response.pieces(), b"")
    while piece := await run_in_threadpool(read) if isinstance(response.body, Path) else read():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    if not response.truncated:  # else the server closes the connection, as the body isn't complete
        await send({"type": "http.response.body", "body": b""})


async def _break_connection(scope: Scope, receive: Receive) -> None:
    scope[_ABORT]()
    while (await receive())["type"] != "http.disconnect":
        pass


def build_app(sandbox: Sandbox) -> ASGIApp:
    """Return the ASGI application. Faults that break connections need `serve_sandbox` or `running_sandbox`."""
    return _Endpoint(sandbox)  # starlette's router would answer a path with a line break by itself, in plain text


class _Server(uvicorn.Server):
    """A server that calls `on_ready` once it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def require_loopback_host(host: str) -> str:
    """Return the host if it is a loopback address; raise ValueError for any other."""
    if not is_loopback_host(host):
        raise ValueError(f"the sandbox listens on the loopback interface alone (127.0.0.1 or ::1), not on {host!r}")
    return "127.0.0.1" if host == "localhost" else host


def _bind_listener(host: str, port: int) -> socket.socket:
    """Return a bound socket; port 0 takes a free one."""
    name = require_loopback_host(host)
    listener = socket.socket(socket.AF_INET6 if ":" in name else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((name, port))
    except OSError:
        listener.close()
        raise
    return listener


def _build_server(sandbox: Sandbox, on_ready: Callable[[], object]) -> _Server:
    config = uvicorn.Config(
        build_app(sandbox),
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # what faults do on purpose would be logged as errors
        access_log=False,
        server_header=False,
        date_header=False,  # ours is the sandbox's date
        timeout_keep_alive=75,  # longer than a client's: else a reused connection could close under a request
        timeout_graceful_shutdown=2,
    )
    return _Server(config, on_ready)


def _base_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def serve_sandbox(sandbox: Sandbox, host: str = "127.0.0.1", port: int = 0, on_ready: OnReady | None = None) -> None:
    """Serve until a signal ends the process; `on_ready` gets the base URL once calls are answered."""
    listener = _bind_listener(host, port)
    url = _base_url(listener)
    server = _build_server(sandbox, lambda: on_ready(url) if on_ready else None)
    server.run(sockets=[listener])


@contextmanager
def running_sandbox(sandbox: Sandbox, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve in a thread for the length of the block, which gets the base URL `http://127.0.0.1:PORT/v1`."""
    listener = _bind_listener(host, port)
    ready = Event()
    server = _build_server(sandbox, ready.set)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="sandbox", daemon=True)
    thread.start()
    try:
        if not ready.wait(_STARTUP_S):
            raise RuntimeError("the sandbox did not start")
        yield _base_url(listener)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
