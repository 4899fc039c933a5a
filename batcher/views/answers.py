"""Answers in a few words: a text as it is, a vector by its first numbers."""

import orjson

from batcher.core.model import EMBEDDING_FIELD, TEXT_FIELD
from batcher.nouns import current_nouns, to_name

SHOWN_NUMBERS = 3
"""Numbers of a vector that are shown; a file that `collect` writes has all."""


def describe_answer(data: str) -> str:
    """Return the text of an answer: its field of that name, as `bio`, else its plain text, else all of it as JSON.

    data: its fields as JSON. A vector is shortened.
    """
    fields = orjson.loads(data)
    if fields.keys() == {EMBEDDING_FIELD} and isinstance(fields[EMBEDDING_FIELD], list):
        return shorten_vector(fields[EMBEDDING_FIELD])
    return str(
        fields.get(to_name(current_nouns().answer))
        or (fields.get(TEXT_FIELD) if fields.keys() == {TEXT_FIELD} else "")
        or data
    )


def shorten_vector(numbers: list[float]) -> str:
    """Return the first numbers of a vector and how many it has."""
    first = ", ".join(f"{number:.4g}" for number in numbers[:SHOWN_NUMBERS])
    more = ", ..." if len(numbers) > SHOWN_NUMBERS else ""
    return f"[{first}{more}] ({len(numbers):,} number{'' if len(numbers) == 1 else 's'})"
