"""Answers in numbers: vectors and judgements that depend on the text alone.

A vector is a hash of its text, so that equal texts have equal vectors; that similar texts have similar ones is not
played. A judgement flags a text for a category that it names, so that a test can say what is flagged.
"""

import math
from array import array
from base64 import b64encode
from collections.abc import Mapping
from hashlib import shake_256

from batcher.sandbox.answers.models import VECTOR_LENGTHS, answering_name, family_name
from batcher.sandbox.answers.requests import EMBEDDINGS, ModelRequest
from batcher.sandbox.base.chance import seeded_fraction

UNKNOWN_LENGTH = 1_536  # numbers in a vector of a model that is not in the table
_SPOILED = ("refusal", "length", "invalid_json")
_CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip


def build_numbers_body(request: ModelRequest, body: Mapping[str, object], ident: str, fault: str) -> dict[str, object]:
    """Return the answer to a request of /v1/embeddings or /v1/moderations. ident, fault: as for `build_answer`."""
    if request.endpoint == EMBEDDINGS:
        return _build_embeddings(request, body, fault)
    results = [_build_judgement(text) for text in request.inputs]
    if fault:
        results = [] if fault == "empty" else [{"flagged": None} for _ in results]
    return {"id": f"modr-{ident}", "model": answering_name(request.model), "results": results}


def _build_embeddings(request: ModelRequest, body: Mapping[str, object], fault: str) -> dict[str, object]:
    given = body.get("dimensions")
    length = given if isinstance(given, int) else VECTOR_LENGTHS.get(family_name(request.model), UNKNOWN_LENGTH)
    if fault in _SPOILED:
        length = max(1, length // 2)
    vectors = [make_vector(text, length) for text in request.inputs] if fault != "empty" else []
    is_encoded = body.get("encoding_format") == "base64"
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": place, "embedding": _encode(vector) if is_encoded else vector.tolist()}
            for place, vector in enumerate(vectors)
        ],
        "model": answering_name(request.model),
        "usage": {"prompt_tokens": request.prompt_tokens, "total_tokens": request.prompt_tokens},
    }


def make_vector(text: str, length: int) -> "array[float]":
    """Return the vector of a text: 32-bit numbers, of length 1 together."""
    drawn = array("h", shake_256(text.encode("utf-8", "surrogatepass")).digest(2 * length))
    norm = math.sqrt(sum(number * number for number in drawn)) or 1.0
    return array("f", [number / norm for number in drawn])


def _encode(vector: "array[float]") -> str:
    return b64encode(vector.tobytes()).decode()


def _build_judgement(text: str) -> dict[str, object]:
    words = text.lower()
    flags = {each: each in words for each in _CATEGORIES}
    scores = {
        each: round((0.8 if flags[each] else 0.0) + 0.2 * seeded_fraction(0, "score", each, text), 6)
        for each in _CATEGORIES
    }
    applied = {each: ["text"] for each in _CATEGORIES}
    return {
        "flagged": any(flags.values()),
        "categories": flags,
        "category_scores": scores,
        "category_applied_input_types": applied,
    }
