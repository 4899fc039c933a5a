"""`cancel`, `retry` and `doctor`: what a person does by hand when something is not as it should be."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.cli.process import Followed, acting
from batcher.cli.session import Session
from batcher.core.decide import decide_cancel
from batcher.state import wishes
from batcher.state.wishes import Asked
from batcher.views.sheet import table

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
