"""`answers`: what came for an artist, or what was refused, as the model wrote it."""

from typing import TYPE_CHECKING

from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.choices import build_unknown_artist_error, parse_failure_class
from batcher.commands.base.session import Session
from batcher.errors import InputError
from batcher.nouns import current_nouns
from batcher.review.kept_answers import REFUSED, find_answers
from batcher.state.following.settling import find_leader
from batcher.state.reports.status import has_artist
from batcher.state.review.answers import AnswerChoice
from batcher.views.review import draw_answers

if TYPE_CHECKING:
    from batcher.contracts.results import AnswersAnswer


def run_answers(
    session: Session, artist_id: str | None, refused: bool, failure: str | None, limit: int
) -> "CommandAnswer[AnswersAnswer]":
    """Return answers with their texts, the newest first; of an artist that follows another's line, also those of that.

    Raises InputError where neither an artist nor `--refused` is given, and for an artist or class that does not exist.
    """
    if artist_id is None and not refused:
        argument = current_nouns().id_argument
        raise InputError(f"say of whom: `batcher answers {argument}`, or --refused for what was refused of all")
    named = parse_failure_class(failure)
    failures = (named,) if named is not None else REFUSED if refused else None
    artists = None
    if artist_id is not None:
        with session.store.read_transaction() as tx:
            if not has_artist(tx, artist_id):
                raise build_unknown_artist_error(tx, artist_id)
            artists = list(filter(None, (artist_id, find_leader(tx, artist_id))))
    found = find_answers(session.store, AnswerChoice(artists, failures, limit))

    def describe() -> "AnswersAnswer":
        from batcher.contracts.results import AnswersAnswer

        answers = [{**each.record._asdict(), "text": each.text, "lack": each.lack} for each in found.answers]
        return AnswersAnswer.model_validate({"answers": answers, "total": found.total})

    return CommandAnswer(
        lambda: draw_answers(found),
        describe,
    )
