"""The answers that were recorded, with the reason that each was refused for: where to find what came, for `answers`."""

from collections.abc import Sequence
from typing import NamedTuple

from batcher.core.failures import FailureClass
from batcher.state.db.transaction import Transaction


class AnswerChoice(NamedTuple):
    """Which answers to report; None: any."""

    artist_ids: Sequence[str] | None = None
    failures: Sequence[FailureClass] | None = None
    """The classes of failures that they were refused for; None: accepted ones, too."""
    most: int | None = None
    """The newest are returned."""


class RecordedAnswer(NamedTuple):
    """One execution that was asked for a line, as the state has recorded it."""

    artist_id: str
    artist_name: str
    custom_id: str
    happened_at: float
    """When it was recorded, in epoch seconds."""
    lane: str
    version: int | None
    """None: an earlier version of Batcher did not record it."""
    prompt: int | None
    outcome: str
    """bio, repeated, or a class of failure."""
    code: str | None
    message: str | None
    shard: int | None
    batch_id: str | None
    call: int | None


def load_recorded_answers(tx: Transaction, choice: AnswerChoice) -> list[RecordedAnswer]:
    """Return the answers of a choice, the newest first."""
    rows = tx.fetch_all("recorded_answers", most=choice.most, **_choice_parameters(choice))
    return [RecordedAnswer(*row) for row in rows]


def count_recorded_answers(tx: Transaction, choice: AnswerChoice) -> int:
    """Return how many answers a choice has, whatever its `most`."""
    return int(tx.fetch_one("count_recorded_answers", **_choice_parameters(choice))[0])


def _choice_parameters(choice: AnswerChoice) -> dict[str, object]:
    return {
        "artists": None if choice.artist_ids is None else list(choice.artist_ids),
        "outcomes": None if choice.failures is None else [failure.value for failure in choice.failures],
    }
