"""`batcher submit`: release the most urgent planned shards and send what fits."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.outcome import interruption_note, is_interrupted, raise_problem
from batcher.commands.base.process import open_batch_runner
from batcher.commands.base.session import Session
from batcher.core.actions import Finish, Wait
from batcher.errors import ExitCode
from batcher.state import facts, shards, submissions
from batcher.state.costs import Spending, load_spending
from batcher.state.submissions import ShardSubmission
from batcher.views.sheet import TitledTable, build_table, format_usd

if TYPE_CHECKING:
    from batcher.contracts.sending import SubmitAnswer


class Release(NamedTuple):
    """How many shards a command has released, or the same command before it that was interrupted."""

    shards: int
    is_earlier: bool = False


def run_submit(session: Session, most: int | None) -> "CommandAnswer[SubmitAnswer]":
    """Release shards (most None: all) and start what fits; report each with its headroom, and why the rest waits.

    Where the same command was interrupted, it goes on with what that one has released.
    """
    with session.store.read_transaction() as tx:
        before = submissions.newest_submission_number(tx)
    with open_batch_runner(session) as runner, session.display.show_progress("sending"):
        release = release_shards(session, most)
        end = runner.run_until_idle(once=True)
    raise_problem(end)
    if most is not None and not is_interrupted(end):
        end_open_submit(session)
    with session.store.read_transaction() as tx:
        sent = submissions.load_submissions_after(tx, before)
        waiting = shards.load_unsent_shards(tx)
        planned = shards.count_planned_shards(tx)
        name = session.name_service(tx)
        money = load_spending(tx)
    reason = end.reason if isinstance(end, Wait) and waiting else ""
    counts = Text(
        f"Shards: {release.shards:,} released{' before' if release.is_earlier else ''}, {len(sent):,} submitted; "
        f"{_describe_waiting_shards(len(waiting), end)}"
        f"{f' Not released: {planned:,}.' if planned else ''}"
    )
    costs = [Text(_describe_money(money))] if money.in_flight_usd else []  # 0: nothing is, or the price is not known
    code = ExitCode.WORK_REMAINS if is_interrupted(end) else ExitCode.DONE

    def draw() -> RenderableType:
        table = [_draw_submissions(sent)] if sent else []
        return Group(Text(name.describe()), *table, counts, *costs, *interruption_note(end))

    def describe() -> "SubmitAnswer":
        from batcher.contracts.sending import SubmitAnswer

        return SubmitAnswer.model_validate(
            {
                **name.to_json(),
                "released": 0 if release.is_earlier else release.shards,
                "released_before": release.shards if release.is_earlier else 0,
                "submitted": sent,
                "waiting": waiting,
                "why": reason,
                "planned": planned,
            }
        )

    return CommandAnswer(draw, describe, code)


def release_shards(session: Session, most: int | None) -> Release:
    """Release the most urgent planned shards (most None: all), unless the same command has done so and did not end."""
    with session.store.transaction("release") as tx:
        earlier = facts.read_open_submit(tx)
        if earlier is not None and earlier.most == most:
            return Release(earlier.released, is_earlier=True)
        released = shards.release_shards(tx, most)
        if most is None:
            facts.end_open_submit(tx)
        else:
            facts.record_open_submit(tx, facts.OpenSubmit(most, released))
        return Release(released)


def end_open_submit(session: Session) -> None:
    """Record that what a `submit` has released was sent, or waits for room: the next one releases others."""
    with session.store.transaction("end_submit") as tx:
        facts.end_open_submit(tx)


def _draw_submissions(sent: Sequence[ShardSubmission]) -> TitledTable:
    columns = ["shard", "priority", "batch", "lines", "tokens", "reserved", "headroom after"]
    rows = [
        (str(s.shard), str(s.priority), s.batch_id or "", s.lines or "", s.tokens or "", s.reserved or "",
         s.headroom_after or "")
        for s in sent
    ]  # fmt: skip
    return build_table("Submitted", columns, rows, 3, ["reserved", "tokens"])


def _describe_money(money: Spending) -> str:
    spent = f"; {format_usd(money.spent_usd)} is spent" if money.spent_usd else ""
    return f"In flight costs at most {format_usd(money.in_flight_usd)}{spent}."


def _describe_waiting_shards(waiting: int, end: Finish | Wait) -> str:
    if not waiting:
        return "none waits."
    reason = f" ({end.reason})" if isinstance(end, Wait) else ""
    verb = "waits" if waiting == 1 else "wait"
    return f"{waiting:,} {verb}{reason}: `batcher poll` sends the rest as soon as it may."
