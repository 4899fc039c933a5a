"""`batcher submit`: release the most urgent planned shards and send what fits."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.cli.answer import CommandAnswer
from batcher.cli.outcome import interruption_note, raise_problem
from batcher.cli.process import open_batch_runner
from batcher.cli.session import Session
from batcher.core.actions import Finish, Wait
from batcher.state import shards, submissions
from batcher.state.status import to_json
from batcher.state.submissions import ShardSubmission
from batcher.views.sheet import TitledTable, build_table


def run_submit(session: Session, most: int | None) -> CommandAnswer:
    """Release shards (most None: all) and start what fits; report each with its headroom, and why the rest waits."""
    with session.store.read_transaction() as tx:
        before = submissions.newest_submission_number(tx)
    with open_batch_runner(session) as runner, session.display.show_progress("sending"):
        released = release_shards(session, most)
        end = runner.run_until_idle(once=True)
    raise_problem(end)
    with session.store.read_transaction() as tx:
        sent = submissions.load_submissions_after(tx, before)
        waiting = shards.load_unsent_shards(tx)
        planned = shards.count_planned_shards(tx)
        name = session.name_service(tx)
    reason = end.reason if isinstance(end, Wait) and waiting else ""
    counts = Text(
        f"Shards: {released} released, {len(sent)} submitted; {_describe_waiting_shards(len(waiting), end)}"
        f"{f' Not released: {planned}.' if planned else ''}"
    )
    drawn: list[RenderableType] = [_draw_submissions(sent)] if sent else []
    data = {
        **name.to_json(),
        "released": released, "submitted": to_json(sent), "waiting": waiting, "why": reason, "planned": planned,
    }  # fmt: skip
    return CommandAnswer(Group(Text(name.describe()), *drawn, counts, *interruption_note(end)), data)


def release_shards(session: Session, most: int | None) -> int:
    """Release the most urgent planned shards (most None: all); return how many were released."""
    with session.store.transaction("release") as tx:
        return shards.release_shards(tx, most)


def _draw_submissions(sent: Sequence[ShardSubmission]) -> TitledTable:
    columns = ["shard", "priority", "batch", "lines", "tokens", "reserved", "headroom after"]
    rows = [
        (str(s.shard), str(s.priority), s.batch_id or "", s.lines or "", s.tokens or "", s.reserved or "",
         s.headroom_after or "")
        for s in sent
    ]  # fmt: skip
    return build_table("Submitted", columns, rows, 3, ["reserved", "tokens"])


def _describe_waiting_shards(waiting: int, end: Finish | Wait) -> str:
    if not waiting:
        return "none waits."
    reason = f" ({end.reason})" if isinstance(end, Wait) else ""
    verb = "waits" if waiting == 1 else "wait"
    return f"{waiting} {verb}{reason}: `batcher poll` sends the rest as soon as it may."
