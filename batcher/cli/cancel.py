"""`cancel`, `retry` and `doctor`: what a person does by hand when something is not as it should be."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.cli.doctor import BAD, Finding, examine
from batcher.cli.process import Followed, acting
from batcher.cli.session import Session
from batcher.core.decide import decide_cancel
from batcher.core.lifecycle import ArtistState
from batcher.core.retry import FailureClass
from batcher.errors import ExitCode, InputError
from batcher.state import wishes
from batcher.state.wishes import Asked, BroughtBack, Choice
from batcher.views.status import draw_findings, table

Answer = tuple[RenderableType, dict[str, Any]]


def run_cancel(session: Session, shards: Sequence[int]) -> Answer:
    """Writes the wishes, and sees them carried out: by the process at work, or by this one."""
    with session.store.reading():
        pass
    with session.store.transaction("cancel") as tx:
        asked, since = wishes.ask_cancel(tx, shards), tx.now
    ended = "none was in flight"
    if asked.following:
        ended = _follow(session)
    with session.store.reading() as tx:
        rows = tx.run("cancelled_shards", shards=list(asked.following), since=since)
        left = sorted(set(wishes.open_wishes(tx)) & set(asked.following))
    data = {
        "cancelled": [dict(zip(("shard", "outcome", "bios", "held"), row, strict=True)) for row in rows],
        "not_sent": list(asked.withdrawn),
        "retries_held": asked.held,
        "still_in_flight": left,
    }
    return _draw_cancel(asked, rows, left, ended), data


def _follow(session: Session) -> str:
    """Follows the wishes to their end; how they came to it."""
    try:
        with acting(session, lambda: _all_ended(session), sends=False) as runner:
            ended = runner.act(how=decide_cancel)
    except Followed:
        return "the process at work has carried it out"
    return getattr(ended, "problem", "") or "done"


def _all_ended(session: Session) -> bool:
    with session.store.reading() as tx:
        return not wishes.open_wishes(tx)


def _draw_cancel(asked: Asked, rows: Sequence[tuple[Any, ...]], left: Sequence[int], ended: str) -> RenderableType:
    parts: list[RenderableType] = []
    if rows:
        shown = [(str(shard), outcome or "in flight", bios, held) for shard, outcome, bios, held in rows]
        parts.append(table("Cancelled", ["shard", "ended", "bios", "held"], shown, 2))
    lines = []
    if asked.withdrawn:
        lines.append(f"{len(asked.withdrawn)} shards were not sent yet: planned again; `batcher submit` releases them.")
    if asked.held:
        lines.append(f"{asked.held:,} lines that waited to be tried again are held.")
    if left:
        lines.append(f"{len(left)} shards are still in flight ({ended}); `batcher poll` follows them.")
    if not (rows or lines):
        lines.append("Nothing is in flight or waits to be sent.")
    if rows or asked.held:
        lines.append("`batcher retry --held` brings held lines back.")
    return Group(*parts, *(Text(line) for line in lines))


# --- retry ----------------------------------------------------------------------------------------------------------


def run_retry(session: Session, failure: str | None, artist: str | None, held: bool, dead: bool) -> Answer:
    """Brings lines back. Raises InputError for a class or an artist that does not exist."""
    choice = Choice(class_named(failure), artist, _states(held, dead))
    with session.store.reading() as tx:
        if artist is not None and not tx.run("artist", artist_id=artist):
            raise InputError(f"the plan has no artist {artist!r}; `batcher show` finds similar ones")
    with session.store.transaction("retry") as tx:
        back = wishes.bring_back(tx, choice)
    data = {
        "lines": [dict(zip(("state", "class", "lines"), row, strict=True)) for row in back.lines],
        "perhaps_paid": back.perhaps_paid,
    }
    return _draw_retry(back), data


def class_named(name: str | None) -> FailureClass | None:
    """The class of this name. Raises InputError for a name that is none."""
    try:
        return FailureClass(name) if name else None
    except ValueError:
        classes = ", ".join(failure.value for failure in FailureClass)
        raise InputError(f"{name!r} is no class of failure; there are {classes}") from None


def _states(held: bool, dead: bool) -> tuple[ArtistState, ...]:
    named = ((held, ArtistState.HELD), (dead, ArtistState.DEAD))
    return tuple(state for wanted, state in named if wanted or held == dead)


def _draw_retry(back: BroughtBack) -> RenderableType:
    total = sum(n for _, _, n in back.lines)
    parts: list[RenderableType] = []
    if total:
        parts.append(table("Brought back", ["was", "after", "lines"], back.lines, 2))
    ready = "1 line is ready again" if total == 1 else f"{total:,} lines are ready again"
    parts.append(Text(ready + ("; `batcher poll` goes on with them." if total else ".")))
    if back.perhaps_paid:
        n = back.perhaps_paid
        parts.append(Text(f"{n:,} lines are perhaps paid for and stay held; --class missing buys them again."))
    return Group(*parts)


# --- doctor ---------------------------------------------------------------------------------------------------------


def run_doctor(session: Session) -> tuple[RenderableType, dict[str, Any], ExitCode]:
    """Looks at everything that a run needs; exit code 2 when something is wrong."""
    findings = examine(session.config, session.store)
    bad = any(finding.level == BAD for finding in findings)
    data = {"findings": [_finding(f) for f in findings], "ok": not bad}
    return draw_findings(findings), data, ExitCode.USAGE if bad else ExitCode.DONE


def _finding(finding: Finding) -> dict[str, str]:
    return {"what": finding.what, "level": finding.level, "found": finding.found, "do": finding.todo}
