"""`batcher submit`: release the most urgent planned shards and send what fits."""

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.cli.answer import Answer, _interrupted, _raise_problem
from batcher.cli.process import acting
from batcher.cli.session import Session
from batcher.core.actions import Finish, Wait
from batcher.views.sheet import table

ALL_SHARDS = 1_000_000_000


def run_submit(session: Session, most: int | None) -> Answer:
    """Releases shards and starts what fits; prints each with its headroom, and why the rest waits."""
    with session.store.reading() as tx:
        before = int(tx.one("highest_submission")[0])
    with acting(session) as runner, session.display.moving("sending"):
        released = _release(session, most)
        ended = runner.act(once=True)
    _raise_problem(ended)
    with session.store.reading() as tx:
        sent = tx.dicts("submissions_since", after=before)
        waiting = tx.run("shards_not_sent")
        planned = int(tx.one("count_planned")[0])
    columns = ["shard", "priority", "batch", "lines", "tokens", "reserved", "headroom after"]
    keys = ["shard", "priority", "batch_id", "lines", "tokens", "reserved", "headroom_after"]
    rows = [[str(s[k]) if k in {"shard", "priority"} else s[k] or "" for k in keys] for s in sent]
    parts: list[RenderableType] = [table("Submitted", columns, rows, 3, ["reserved", "tokens"])] if sent else []
    parts.append(
        Text(f"Shards: {released} released, {len(sent)} submitted; {_waits(len(waiting), ended)}{_planned(planned)}")
    )
    reason = ended.reason if isinstance(ended, Wait) and waiting else ""
    data = {
        "released": released, "submitted": sent, "waiting": [row[0] for row in waiting], "why": reason,
        "planned": planned,
    }  # fmt: skip
    return Group(*parts, *_interrupted(ended)), data


def _release(session: Session, most: int | None) -> int:
    with session.store.transaction("release") as tx:
        return len(tx.run("release_shards", most=most or ALL_SHARDS))


def _waits(waiting: int, ended: Finish | Wait) -> str:
    if not waiting:
        return "none waits."
    reason = f" ({ended.reason})" if isinstance(ended, Wait) else ""
    verb = "waits" if waiting == 1 else "wait"
    return f"{waiting} {verb}{reason}: `batcher poll` sends the rest as soon as it may."


def _planned(planned: int) -> str:
    return f" Not released: {planned}." if planned else ""
