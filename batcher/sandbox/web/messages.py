"""A request, a reply and a response as plain values."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from batcher.sandbox.base.errors import ApiError

# How a response ends: sent whole; never, until the client's patience ends; never, the connection closes.
WHOLE, TIMEOUT, CLOSED = "whole", "timeout", "closed"

_PIECE = 1 << 20  # bytes of a body that are read and sent at once


@dataclass(frozen=True)
class Request:
    """A request; header names in lower case, the body in memory or, for uploads, on disk."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Path = b""

    def query_parameter(self, name: str) -> str | None:
        """Return the first value of a query parameter, or None where it isn't given."""
        return next((value for key, value in self.query if key == name), None)

    def parse_json(self) -> Mapping[str, object]:
        """Return the body as a JSON object, or raise the 400."""
        raw = self.body.read_bytes() if isinstance(self.body, Path) else self.body
        try:
            value = orjson.loads(raw or b"{}")
        except orjson.JSONDecodeError as error:
            raise ApiError(400, "We could not parse the JSON body of your request.") from error
        if not isinstance(value, dict):
            raise ApiError(400, "The JSON body of your request must be an object.")
        return value


def build_request(
    method: str, path: str, query: Iterable[tuple[str, str]], headers: Mapping[str, str], body: bytes | Path
) -> Request:
    """Return a request made of what a web framework holds of it; header names may be in any case."""
    return Request(method, path, tuple(query), {name.lower(): value for name, value in headers.items()}, body)


@dataclass(frozen=True)
class Response:
    """A response; a body on disk is streamed. `delay_s` is real seconds.

    `truncated` breaks the body off at half; `length` ends it there as if it were whole.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | Path = b""
    ending: str = WHOLE
    truncated: bool = False
    delay_s: float = 0.0
    length: int | None = None

    @property
    def body_length(self) -> int:
        """Bytes of the body, as its content-length says."""
        if self.length is not None:
            return self.length
        return self.body.stat().st_size if isinstance(self.body, Path) else len(self.body)

    @property
    def sent_length(self) -> int:
        """Bytes of the body that are sent: half of a truncated one."""
        return self.body_length // 2 if self.truncated else self.body_length

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes that are sent, at most a megabyte at a time."""
        left = self.sent_length
        with self.body.open("rb") if isinstance(self.body, Path) else io.BytesIO(self.body) as source:
            while left > 0 and (piece := source.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece


@dataclass(frozen=True)
class Reply:
    """What a route answers: JSON, or a file under a name."""

    json: object = None
    file: Path | None = None
    filename: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    truncated: bool = False
    length: int | None = None  # bytes of the file that are sent as if they were all
