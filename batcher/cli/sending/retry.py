"""`batcher retry`: bring dead and held lines back."""

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.cli.base.answer import CommandAnswer
from batcher.cli.base.session import Session
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import ArtistState
from batcher.errors import InputError
from batcher.state import wishes
from batcher.state.reports.status import has_artist, to_json
from batcher.state.wishes import RetryFilter, RetryResult
from batcher.views.sheet import build_table


def run_retry(session: Session, failure: str | None, artist: str | None, held: bool, dead: bool) -> CommandAnswer:
    """Bring lines back, of both states where neither or both are named.

    Raises InputError for a class or an artist that does not exist.
    """
    chosen = ((held, ArtistState.HELD), (dead, ArtistState.DEAD))
    states = tuple(state for is_chosen, state in chosen if is_chosen or held == dead)
    choice = RetryFilter(parse_failure_class(failure), artist, states)
    with session.store.read_transaction() as tx:
        if artist is not None and not has_artist(tx, artist):
            raise InputError(f"the plan has no artist {artist!r}; `batcher show` finds similar ones")
    with session.store.transaction("retry") as tx:
        retried = wishes.retry_lines(tx, choice)
    data = {"lines": to_json(retried.lines), "perhaps_paid": retried.perhaps_paid}
    return CommandAnswer(_draw_retry(retried), data)


def parse_failure_class(name: str | None) -> FailureClass | None:
    """Return the class of this name; None without a name. Raises InputError where there is no such class."""
    try:
        return FailureClass(name) if name else None
    except ValueError:
        classes = ", ".join(failure.value for failure in FailureClass)
        raise InputError(f"{name!r} is no class of failure; there are {classes}") from None


def _draw_retry(retried: RetryResult) -> RenderableType:
    total = sum(row.lines for row in retried.lines)
    parts: list[RenderableType] = []
    if total:
        parts.append(build_table("Brought back", ["was", "after", "lines"], retried.lines, 2))
    ready = "1 line is ready again" if total == 1 else f"{total:,} lines are ready again"
    parts.append(Text(ready + ("; `batcher poll` goes on with them." if total else ".")))
    if retried.perhaps_paid:
        n = retried.perhaps_paid
        parts.append(Text(f"{n:,} lines are perhaps paid for and stay held; --class missing buys them again."))
    return Group(*parts)
