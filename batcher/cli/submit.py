"""`batcher submit`: release the most urgent planned shards and send what fits."""

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.cli.answer import CommandAnswer, interruption_note, raise_problem
from batcher.cli.process import open_batch_runner
from batcher.cli.session import Session
from batcher.core.actions import Finish, Wait
from batcher.views.sheet import build_table

ALL_SHARDS = 1_000_000_000


def run_submit(session: Session, most: int | None) -> CommandAnswer:
    """Releases shards and starts what fits; prints each with its headroom, and why the rest waits."""
    with session.store.read_transaction() as tx:
        before = int(tx.fetch_one("highest_submission")[0])
    with open_batch_runner(session) as runner, session.display.show_progress("sending"):
        released = release_shards(session, most)
        ended = runner.run_until_idle(once=True)
    raise_problem(ended)
    with session.store.read_transaction() as tx:
        sent = tx.fetch_dicts("submissions_since", after=before)
        waiting = tx.fetch_all("shards_not_sent")
        planned = int(tx.fetch_one("count_planned")[0])
    columns = ["shard", "priority", "batch", "lines", "tokens", "reserved", "headroom after"]
    keys = ["shard", "priority", "batch_id", "lines", "tokens", "reserved", "headroom_after"]
    rows = [[str(s[k]) if k in {"shard", "priority"} else s[k] or "" for k in keys] for s in sent]
    parts: list[RenderableType] = [build_table("Submitted", columns, rows, 3, ["reserved", "tokens"])] if sent else []
    parts.append(
        Text(
            f"Shards: {released} released, {len(sent)} submitted; "
            f"{_describe_waiting_shards(len(waiting), ended)}{_describe_unreleased_shards(planned)}"
        )
    )
    reason = ended.reason if isinstance(ended, Wait) and waiting else ""
    data = {
        "released": released, "submitted": sent, "waiting": [row[0] for row in waiting], "why": reason,
        "planned": planned,
    }  # fmt: skip
    return Group(*parts, *interruption_note(ended)), data


def release_shards(session: Session, most: int | None) -> int:
    with session.store.transaction("release") as tx:
        return len(tx.fetch_all("release_shards", most=most or ALL_SHARDS))


def _describe_waiting_shards(waiting: int, ended: Finish | Wait) -> str:
    if not waiting:
        return "none waits."
    reason = f" ({ended.reason})" if isinstance(ended, Wait) else ""
    verb = "waits" if waiting == 1 else "wait"
    return f"{waiting} {verb}{reason}: `batcher poll` sends the rest as soon as it may."


def _describe_unreleased_shards(planned: int) -> str:
    return f" Not released: {planned}." if planned else ""
