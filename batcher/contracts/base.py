"""What all answers in JSON have in common: a version, and how times, dollars and absent values are written.

The models are built from the named tuples that the commands have gathered, field by field. They are imported only where
`--json` or a Python program asks for them.
"""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

VERSION: Final = 1
"""The version of all contracts: new fields may join within one; none is renamed, removed or changed in meaning."""
LAST_SECOND = 253_402_300_799
"""The last second that a datetime can hold (31 December 9999), in epoch seconds."""


def read_time(value: object) -> object:
    """Return an aware datetime for epoch seconds; other values as they are. A time out of range becomes the nearest."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(min(max(value, 0.0), LAST_SECOND), UTC)
    return value


def read_nothing(value: object) -> object:
    """Return None for what means nothing in the state: 0, "" or None."""
    return value or None


def read_json(value: object) -> object:
    """Return what a text in JSON holds; other values as they are."""
    return json.loads(value) if isinstance(value, str) else value


def round_usd(value: float) -> float:
    """Return dollars rounded to a millionth."""
    return round(value, 6)


Time = Annotated[datetime, BeforeValidator(read_time)]
"""A moment: ISO 8601 with its zone, UTC."""
MaybeTime = Annotated[datetime | None, BeforeValidator(read_time), BeforeValidator(read_nothing)]
"""A moment, or null where there is none."""
Usd = Annotated[float, AfterValidator(round_usd)]
"""Dollars, rounded to a millionth."""
MaybeText = Annotated[str | None, BeforeValidator(read_nothing)]
"""A text, or null where there is none."""
JsonObject = Annotated[dict[str, Any], BeforeValidator(read_json)]
"""An object of the user's: a row of the table, or a bio."""


class Part(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(
        frozen=True,
        from_attributes=True,
        use_attribute_docstrings=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        json_schema_serialization_defaults_required=True,
    )


class Answer(Part):
    """The answer of a command."""

    version: Literal[1] = VERSION
    """Of the contract."""

    def to_json(self) -> str:
        """Return the answer as JSON, on one line."""
        return self.model_dump_json()


class ServedAnswer(Answer):
    """An answer that names whom the job speaks to."""

    model: str
    """The model that is asked."""
    service: str
    """The address of the service that has the job's work; before any contact the one that is set."""


class ErrorAnswer(Answer):
    """What went wrong, instead of an answer. The exit code is 2 where the user can fix it, 3 where they are asked."""

    error: str
    """One sentence: what is wrong, where, and what to do."""
