"""`batcher retry`: bring dead and held lines back."""

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.cli.cancel import CommandAnswer
from batcher.cli.session import Session
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import ArtistState
from batcher.errors import InputError
from batcher.state import wishes
from batcher.state.wishes import RetryFilter, RetryResult
from batcher.views.sheet import build_table


def run_retry(session: Session, failure: str | None, artist: str | None, held: bool, dead: bool) -> CommandAnswer:
    """Brings lines back. Raises InputError for a class or an artist that does not exist."""
    choice = RetryFilter(parse_failure_class(failure), artist, _states_to_retry(held, dead))
    with session.store.read_transaction() as tx:
        if artist is not None and not tx.fetch_all("artist", artist_id=artist):
            raise InputError(f"the plan has no artist {artist!r}; `batcher show` finds similar ones")
    with session.store.transaction("retry") as tx:
        back = wishes.retry_lines(tx, choice)
    data = {
        "lines": [dict(zip(("state", "class", "lines"), row, strict=True)) for row in back.lines],
        "perhaps_paid": back.perhaps_paid,
    }
    return _draw_retry(back), data


def parse_failure_class(name: str | None) -> FailureClass | None:
    """The class of this name. Raises InputError for a name that is none."""
    try:
        return FailureClass(name) if name else None
    except ValueError:
        classes = ", ".join(failure.value for failure in FailureClass)
        raise InputError(f"{name!r} is no class of failure; there are {classes}") from None


def _states_to_retry(held: bool, dead: bool) -> tuple[ArtistState, ...]:
    named = ((held, ArtistState.HELD), (dead, ArtistState.DEAD))
    return tuple(state for wanted, state in named if wanted or held == dead)


def _draw_retry(back: RetryResult) -> RenderableType:
    total = sum(n for _, _, n in back.lines)
    parts: list[RenderableType] = []
    if total:
        parts.append(build_table("Brought back", ["was", "after", "lines"], back.lines, 2))
    ready = "1 line is ready again" if total == 1 else f"{total:,} lines are ready again"
    parts.append(Text(ready + ("; `batcher poll` goes on with them." if total else ".")))
    if back.perhaps_paid:
        n = back.perhaps_paid
        parts.append(Text(f"{n:,} lines are perhaps paid for and stay held; --class missing buys them again."))
    return Group(*parts)
