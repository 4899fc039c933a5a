"""The requests and answers of /v1/embeddings: one text, and the vector that a model makes of it."""

import math
from array import array
from base64 import b64decode
from collections.abc import Sequence
from sys import byteorder

import orjson

from batcher.core.endpoints.values import Json, as_object, get_name, parse_token_usage
from batcher.core.failures import FailureClass
from batcher.core.model import EMBEDDING_FIELD, Failure, JobVersion, LineResult

USUAL_FORMAT = "base64"
"""The form in which vectors are asked for: a third of the bytes of JSON numbers. OpenAI's own client does the same."""
FLOAT_BYTES = 4


def build_body(version: JobVersion, text: str) -> dict[str, object]:
    """Return the body of a request for the vector of one text."""
    return {"model": version.model, "input": text, "encoding_format": USUAL_FORMAT, **version.parameters}


def parse_body(line_id: str, reply: Json) -> LineResult:
    """Return the result in the body of an answer; its text is the vector as a JSON list."""
    usage, model = parse_token_usage(reply, "prompt_tokens", "completion_tokens"), get_name(reply, "model")
    fault, text = _read_vector(reply)
    failure = Failure(FailureClass.UNUSABLE, "no_vector", fault) if fault else None
    return LineResult(line_id, None if fault else text, failure, 200, model, "", usage)


def read_text(reply: Json) -> str:
    """Return the vector of an answer as a JSON list; "" where it has none."""
    return _read_vector(reply)[1]


def _read_vector(reply: Json) -> tuple[str, str]:
    """Return what is wrong with the vector of an answer, or "", and the vector as a JSON list."""
    data = reply.get("data")
    if not isinstance(data, list) or len(data) != 1:
        found = f"{len(data)} vectors" if isinstance(data, list) and data else "no vector"
        return f"the answer has {found}, where one was asked for", ""
    value = as_object(data[0]).get(EMBEDDING_FIELD)
    if isinstance(value, str):
        return _read_encoded_vector(value)
    if not isinstance(value, list) or not value:
        return "the answer has no vector", ""
    if not all(type(number) in {int, float} for number in value):
        return "the vector holds something that is no number", ""
    if not all(map(math.isfinite, value)):
        return "the vector holds a number that is not finite", ""
    return "", orjson.dumps(value).decode()


def _read_encoded_vector(text: str) -> tuple[str, str]:
    """Return as `_read_vector` does, of 32-bit numbers in base64, the lowest byte first."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        return "the vector is no base64", ""
    if not data or len(data) % FLOAT_BYTES:
        return f"the vector is {len(data)} bytes, which are no 32-bit numbers", ""
    numbers = array("f", data)
    if byteorder == "big":
        numbers.byteswap()
    if not all(map(math.isfinite, numbers)):
        return "the vector holds a number that is not finite", ""
    return "", format_vector(numbers)


def format_vector(numbers: Sequence[float]) -> str:
    """Return 32-bit numbers as a JSON list. Nine digits tell each of them from all others."""
    return f"[{','.join(['%.9g'] * len(numbers))}]" % tuple(numbers)


class VectorLength:
    """How many numbers each vector of a version has: known from its settings or its model, else by the first vector."""

    def __init__(self, length: int | None = None) -> None:
        self._length = length

    def find_fault(self, length: int) -> str:
        """Return what is wrong with a vector of this length; "" where nothing is."""
        if self._length is None:
            self._length = length
        if length == self._length:
            return ""
        return f"the vector has {length:,} numbers, where {self._length:,} are expected"
