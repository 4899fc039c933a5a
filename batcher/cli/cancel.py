"""`cancel`, `retry` and `doctor`: what a person does by hand when something is not as it should be."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.cli.process import WorkDoneElsewhere, open_batch_runner
from batcher.cli.session import Session
from batcher.core.decide import decide_cancel_actions
from batcher.state import wishes
from batcher.state.wishes import CancelResult
from batcher.views.sheet import build_table

CommandAnswer = tuple[RenderableType, dict[str, Any]]


def run_cancel(session: Session, shards: Sequence[int]) -> CommandAnswer:
    """Writes the wishes, and sees them carried out: by the process at work, or by this one."""
    with session.store.read_transaction():
        pass
    with session.store.transaction("cancel") as tx:
        asked, since = wishes.request_cancel(tx, shards), tx.now
    ended = "none was in flight"
    if asked.following:
        ended = _follow_cancellation(session)
    with session.store.read_transaction() as tx:
        rows = tx.fetch_all("cancelled_shards", shards=list(asked.following), since=since)
        left = sorted(set(wishes.load_open_wishes(tx)) & set(asked.following))
    data = {
        "cancelled": [dict(zip(("shard", "outcome", "bios", "held"), row, strict=True)) for row in rows],
        "not_sent": list(asked.withdrawn),
        "retries_held": asked.held,
        "still_in_flight": left,
    }
    return _draw_cancellation(asked, rows, left, ended), data


def _follow_cancellation(session: Session) -> str:
    """Follows the wishes to their end; how they came to it."""
    try:
        with open_batch_runner(session, lambda: _is_cancellation_done(session), sends=False) as runner:
            ended = runner.run_until_idle(how=decide_cancel_actions)
    except WorkDoneElsewhere:
        return "the process at work has carried it out"
    return getattr(ended, "problem", "") or "done"


def _is_cancellation_done(session: Session) -> bool:
    with session.store.read_transaction() as tx:
        return not wishes.load_open_wishes(tx)


def _draw_cancellation(
    asked: CancelResult, rows: Sequence[tuple[Any, ...]], left: Sequence[int], ended: str
) -> RenderableType:
    parts: list[RenderableType] = []
    if rows:
        shown = [(str(shard), outcome or "in flight", bios, held) for shard, outcome, bios, held in rows]
        parts.append(build_table("Cancelled", ["shard", "ended", "bios", "held"], shown, 2))
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
