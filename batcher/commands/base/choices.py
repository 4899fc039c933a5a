"""What a user names on the command line and Batcher must know: a class of failures, an artist of the plan."""

from collections.abc import Sequence

from batcher.core.failures import FailureClass
from batcher.errors import InputError
from batcher.nouns import current_nouns
from batcher.state.db.transaction import Transaction
from batcher.state.reports.status import SimilarArtist, find_similar_artists
from batcher.views.sheet import name_with_id


def parse_failure_class(name: str | None) -> FailureClass | None:
    """Return the class of this name; None without a name. Raises InputError where there is no such class."""
    try:
        return FailureClass(name) if name else None
    except ValueError:
        classes = ", ".join(failure.value for failure in FailureClass)
        raise InputError(f"{name!r} is no class of failure; there are {classes}") from None


def build_unknown_artist_error(tx: Transaction, artist_id: str) -> InputError:
    """Return the error for an artist that the plan does not have, with those like it."""
    similar = describe_similar_artists(find_similar_artists(tx, artist_id))
    return InputError(f"the plan has no {current_nouns().row} {artist_id!r}{similar}")


def describe_similar_artists(similar: Sequence[SimilarArtist]) -> str:
    """Return the end of a sentence that names artists like an unknown one; "" where there are none."""
    names = ", ".join(name_with_id(row.artist_id, row.artist_name, id_first=True) for row in similar)
    return f"; similar: {names}" if names else ""
