"""A request and a response as plain values, and the lists that both kinds of routes answer with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import orjson

from batcher.sandbox.base.errors import ApiError

# How a response ends: sent whole; never, until the client's patience ends; never, the connection closes.
WHOLE, TIMEOUT, CLOSED = "whole", "timeout", "closed"

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Request:
    """A request; header names in lower case, the body in memory or, for uploads, on disk."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Path = b""

    def query_parameter(self, name: str) -> str | None:
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


@dataclass(frozen=True)
class Response:
    """A response; a body on disk is streamed. `delay_s` is real seconds, `truncated` cuts the body at half."""

    status: int
    headers: Mapping[str, str]
    body: bytes | Path = b""
    ending: str = WHOLE
    truncated: bool = False
    delay_s: float = 0.0

    @property
    def body_length(self) -> int:
        return self.body.stat().st_size if isinstance(self.body, Path) else len(self.body)


@dataclass(frozen=True)
class Reply:
    """What a route answers: JSON, or a file under a name."""

    json: object = None
    file: Path | None = None
    filename: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    truncated: bool = False


def items_after(items: Sequence[_Item], ids: Sequence[str], after: str | None, missing: ApiError) -> Sequence[_Item]:
    """Return the items that follow the one named; raise `missing` where it isn't among them."""
    if after is None:
        return items
    if after not in ids:
        raise missing
    return items[ids.index(after) + 1 :]


def list_to_json(items: Sequence[dict[str, object]], has_more: bool) -> dict[str, object]:
    """Return OpenAI's list object."""
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }
