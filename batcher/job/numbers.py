"""Jobs whose answers are numbers: what their folder may hold, and what becomes of an answer."""

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from batcher.core.endpoints.embeddings import VectorLength
from batcher.core.endpoints.moderations import FLAGGED_FIELD, name_fields
from batcher.core.endpoints.table import AnswerKind
from batcher.core.model import EMBEDDING_FIELD, Endpoint

SHOWN_TEXT = 60
"""The most characters of an answer that is not what it should be that are shown."""


class Numbers(NamedTuple):
    """An answer in numbers, as accept is given it and as the state keeps it; or what is wrong with it."""

    value: object = None
    """A list of numbers; or a dict of the fields of a judgement."""
    data: str = ""
    """A JSON object of the fields that `collect` makes columns of."""
    fault: str = ""
    """Empty where nothing is wrong."""


def read_numbers(kind: AnswerKind, text: str, length: VectorLength | None) -> Numbers:
    """Return an answer, from the text that `parse_response_body` gives. length: of the vectors of its version."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if kind is AnswerKind.FLAGS:
        if isinstance(value, dict) and FLAGGED_FIELD in value:
            return Numbers(value, text)
        return Numbers(fault=f"the answer is no judgement: {text[:SHOWN_TEXT]}")
    if not isinstance(value, list):
        return Numbers(fault=f"the answer is no vector: {text[:SHOWN_TEXT]}")
    if length is not None and (fault := length.find_fault(len(value))):
        return Numbers(fault=fault)
    return Numbers(value, f'{{"{EMBEDDING_FIELD}":{text}}}')


def number_columns(kind: AnswerKind) -> Mapping[str, str]:
    """Return the columns of such answers with their types in DuckDB."""
    return {EMBEDDING_FIELD: "FLOAT[]"} if kind is AnswerKind.VECTOR else name_fields()


def find_folder_fault(endpoint: Endpoint, has_system: bool, has_messages: bool, output: str | None) -> str:
    """Return what a job folder holds that has no use at an endpoint whose answers are numbers; "" where nothing is.

    output: the name of the output model; None: there is none.
    """
    if has_system:
        return f"system.md has no use at {endpoint}, which takes one text: that of user.md; remove it"
    if has_messages:
        return f"messages(row) of job.py has no use at {endpoint}, which takes one text: write it into user.md"
    if output is not None:
        return f"{output} of job.py has no use at {endpoint}, whose answers are numbers; remove it"
    return ""


def accept_any_numbers(_artist: object, _numbers: object) -> str | None:
    """Return None: the check of a job whose answers are numbers, without its own."""
    return None
