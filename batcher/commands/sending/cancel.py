"""`batcher cancel`: cancel what is in flight, and take back what was not sent."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.confirm import confirm_on_terminal
from batcher.commands.base.outcome import read_job_status
from batcher.commands.base.process import WorkDoneElsewhere, open_batch_runner
from batcher.commands.base.session import Session
from batcher.core.decide import decide_cancel_actions
from batcher.errors import ExitCode
from batcher.nouns import current_nouns
from batcher.state import facts, wishes
from batcher.state.shards import load_open_wishes
from batcher.state.wishes import CancelledShard, CancelResult
from batcher.views.sheet import build_table, format_count, format_usd

if TYPE_CHECKING:
    from batcher.contracts.sending import CancelAnswer


def run_cancel(session: Session, shards: Sequence[int], yes: bool = False) -> "CommandAnswer[CancelAnswer]":
    """Record the wish to cancel shards (none named: all), and follow it until the acting process has fulfilled it.

    This process acts where no other does. yes: the user has agreed to it; else a person is asked, where something is in
    flight. Raises InputError for the number of a shard that cannot be cancelled, SetupError where its batch is at
    another service, and DecisionError where the user declines.
    """
    with session.store.read_transaction() as tx:
        session.check_origin(tx)
    if not yes:
        confirm_on_terminal(session, lambda: _describe_in_flight(session, shards))
    with session.store.transaction("cancel") as tx:
        requested, since = wishes.request_cancel(tx, shards), tx.now
        facts.end_open_submit(tx)
    end = "none was in flight"
    if requested.following:
        end = _follow_cancellation(session)
    with session.store.read_transaction() as tx:
        cancelled = wishes.load_cancelled_shards(tx, requested.following, since)
        left = sorted(set(load_open_wishes(tx)) & set(requested.following))

    def describe() -> "CancelAnswer":
        from batcher.contracts.sending import CancelAnswer

        return CancelAnswer.model_validate(
            {
                "cancelled": cancelled,
                "not_sent": requested.withdrawn,
                "retries_held": requested.held,
                "still_in_flight": left,
            }
        )

    code = ExitCode.WORK_REMAINS if left else ExitCode.DONE
    return CommandAnswer(lambda: _draw_cancellation(requested, cancelled, left, end), describe, code)


def _describe_in_flight(session: Session, shards: Sequence[int]) -> str:
    """Return what would be cancelled, and what it may cost; "" where nothing of it is in flight.

    Shards that cannot be cancelled are left to the wish itself, which refuses them.
    """
    status = read_job_status(session)
    batches = [batch for batch in status.batches if not shards or batch.shard in shards]
    named = {batch.shard for batch in batches}
    reserved = [cost.reserved for cost in status.shard_costs if cost.shard in named]
    if not batches:
        return ""
    most = (
        "a price that is not known"
        if None in reserved
        else f"at most {format_usd(sum(map(float, filter(None, reserved))))}"
    )
    lines, done = sum(batch.lines for batch in batches), sum(batch.completed for batch in batches)
    return (
        f"{format_count(lines, 'line')} in {format_count(len(batches), 'batch', 'batches')} would be cancelled, for "
        f"which {most} is reserved; {done:,} of them are answered, which is paid for and taken in"
    )


def _follow_cancellation(session: Session) -> str:
    """Follow the wishes until they are fulfilled; return how that came about, in words for the user."""

    def is_done() -> bool:
        with session.store.read_transaction() as tx:
            return not load_open_wishes(tx)

    try:
        with open_batch_runner(session, is_done, sends=False) as runner:
            end = runner.run_until_idle(how=decide_cancel_actions)
    except WorkDoneElsewhere:
        return "the process at work has carried it out"
    return getattr(end, "problem", "") or "done"


def _draw_cancellation(
    requested: CancelResult, cancelled: Sequence[CancelledShard], left: Sequence[int], end: str
) -> RenderableType:
    parts: list[RenderableType] = []
    if cancelled:
        rows = [(str(row.shard), row.outcome or "in flight", row.bios, row.held) for row in cancelled]
        parts.append(build_table("Cancelled", ["shard", "ended", current_nouns().answers, "held"], rows, 2))
    lines = []
    if requested.withdrawn:
        count = len(requested.withdrawn)
        shards = f"{format_count(count, 'shard')} {'was' if count == 1 else 'were'}"
        lines.append(
            f"{shards} not sent yet: planned again; `batcher submit` releases {'it' if count == 1 else 'them'}."
        )
    if requested.held:
        lines.append(f"Lines that waited to be retried and are held now: {requested.held:,}.")
    if left:
        shards = f"{format_count(len(left), 'shard')} {'is' if len(left) == 1 else 'are'}"
        lines.append(f"{shards} still in flight ({end}); `batcher poll` follows {'it' if len(left) == 1 else 'them'}.")
    if not (cancelled or lines):
        lines.append("Nothing is in flight or waits to be sent.")
    if cancelled or requested.held:
        lines.append("`batcher retry --held` brings held lines back.")
    return Group(*parts, *(Text(line) for line in lines))
