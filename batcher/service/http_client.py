"""The HTTP client under the openai client: every exchange ends, and nothing that we send goes to another origin.

It is imported when a connection is made, because httpx2 and openai take two thirds of a second to import.
"""

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore2
import httpx2
import openai

from batcher.service.bounds import LONGEST_ANSWER_BYTES, SLICE_S, current_exchange

MOST_REDIRECTS = 5
"""Redirects of one GET that are followed."""
_HARMLESS_HEADERS = ("accept", "accept-encoding", "connection", "host", "user-agent", "x-stainless-raw-response")
"""Headers of ours that another origin may see: no key, under any name that a service gives it. By the last one the
openai client knows how it is to hand over the answer."""


class BoundedClient(openai.DefaultHttpxClient):
    """A client whose answers are bounded (see `bounds`), and that follows redirects of GET alone.

    A redirect of POST would hand the prompts to whoever is named in it. On its way to another origin a GET loses every
    header that may hold a key.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _bound_connections(self)

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send a request. A body that is not streamed is read here, up to the bound."""
        options["follow_redirects"] = False
        origin = _origin_of(request.url)
        response = super().send(request, stream=True, **options)
        for _ in range(MOST_REDIRECTS):
            target = response.next_request
            if target is None or request.method != "GET":
                break
            response.close()
            if _origin_of(target.url) != origin:
                for name in set(target.headers).difference(_HARMLESS_HEADERS):
                    del target.headers[name]
            response = super().send(target, stream=True, **options)
        return response if stream and response.is_success else _read_bounded(response)


def send_key_in(client: httpx2.Client, header: str) -> None:
    """Have the client send its key in a header of this name, as it is, instead of as "Bearer ...".

    A request that was redirected to another origin has lost its key before, and gets none here.
    """

    def move_key(request: httpx2.Request) -> None:
        sent = request.headers.pop("authorization", None)
        if sent is not None:
            request.headers[header] = sent.removeprefix("Bearer ")

    client.event_hooks["request"] = [*client.event_hooks["request"], move_key]


def _origin_of(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _read_bounded(response: httpx2.Response) -> httpx2.Response:
    """Return the answer with its body read. Raises httpx2.ReadError for one that is too long.

    The body is counted as it is decoded: a kilobyte of gzip may be a megabyte.
    """
    parts, length = [], 0
    try:
        for part in response.iter_bytes():
            parts.append(part)
            length += len(part)
            if length > LONGEST_ANSWER_BYTES:
                raise httpx2.ReadError(f"the answer is longer than {LONGEST_ANSWER_BYTES:,} bytes")
    finally:
        response.close()
    headers = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name.lower() not in {"content-encoding", "content-length", "transfer-encoding"}
    ]
    return httpx2.Response(
        response.status_code,
        headers=headers,
        content=b"".join(parts),
        request=response.request,
        extensions=response.extensions,
    )


def _bound_connections(client: httpx2.Client) -> None:
    """Have every connection of the client opened as a bounded one, those through a proxy included.

    httpx2 (2.16) has no setting for this; where its names change, connections are opened as ever, and the test of a
    service that sends a byte a second fails.
    """
    mounted = getattr(client, "_mounts", {}).values()
    for transport in (getattr(client, "_transport", None), *mounted):
        pool = getattr(transport, "_pool", None)
        if pool is not None:
            pool._network_backend = _BoundedBackend(pool._network_backend)


class _BoundedBackend(httpcore2.NetworkBackend):
    """Opens connections that end with their exchange."""

    def __init__(self, inner: httpcore2.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        return _BoundedStream(self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.NetworkStream:
        return _BoundedStream(self._inner.connect_unix_socket(path, timeout, socket_options))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _BoundedStream(httpcore2.NetworkStream):
    """A connection, used by one exchange after the other: bytes count for that of the thread."""

    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read in slices of time, so that the end of the exchange, or of the process, is seen in between."""
        exchange = current_exchange()
        if exchange is None:
            return self._inner.read(max_bytes, timeout)
        waited = 0.0
        while timeout is None or waited < timeout:
            left = exchange.check_end(httpcore2.ReadTimeout)
            step = min(left, SLICE_S, SLICE_S if timeout is None else timeout - waited)
            try:
                data = self._inner.read(max_bytes, step)
            except httpcore2.ReadTimeout:
                waited += step
                continue
            exchange.count_bytes(len(data))
            return data
        raise httpcore2.ReadTimeout(f"no byte for {waited:,.1f} s")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write piece by piece: the exchange ends even where the service takes little at a time."""
        exchange, socket = current_exchange(), self._inner.get_extra_info("socket")
        is_plain = self._inner.get_extra_info("ssl_object") is None
        if exchange is None or socket is None or not (is_plain or isinstance(socket, ssl.SSLSocket)):
            self._inner.write(buffer, timeout)  # TLS within TLS has no socket that could be written to
            return
        view = memoryview(buffer)
        while view:
            left = exchange.check_end(httpcore2.WriteTimeout)
            try:
                socket.settimeout(left if timeout is None else min(left, timeout))
                sent = socket.send(view)
            except TimeoutError as error:
                raise httpcore2.WriteTimeout(str(error)) from error
            except OSError as error:
                raise httpcore2.WriteError(str(error)) from error
            exchange.count_bytes(sent)
            view = view[sent:]

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _BoundedStream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
