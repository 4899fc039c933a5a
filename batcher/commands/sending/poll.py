"""`batcher poll`: follow everything released to its end."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.outcome import (
    describe_job,
    draw_closing_line,
    draw_job_state,
    interruption_note,
    is_interrupted,
    raise_problem,
    read_job_status,
)
from batcher.commands.base.process import open_batch_runner
from batcher.commands.base.session import Session
from batcher.commands.sending.submit import end_open_submit
from batcher.core.decide import decide_actions, decide_cancel_actions
from batcher.errors import ExitCode, compute_exit_code
from batcher.plan.checks import build_todays_version, find_outdated_lines

if TYPE_CHECKING:
    from batcher.contracts.sending import PollAnswer


def run_poll(session: Session, once: bool) -> "CommandAnswer[PollAnswer]":
    """Follow everything released to its end; once: one round of it, without waiting.

    Where unsent lines ask something else than today's job, one round takes in what came and sends nothing; without
    `once` ConfigError is raised.
    """
    outdated = _find_outdated_lines(session) if once else ""
    if outdated:
        session.display.print_line(f"nothing new is sent: {outdated}")
    how = decide_cancel_actions if outdated else decide_actions
    with open_batch_runner(session, sends=not outdated, follows=not once) as runner:
        end = runner.run_until_idle(once, how)
    raise_problem(end)
    if not is_interrupted(end):
        end_open_submit(session)
    status = read_job_status(session)
    code = compute_exit_code(status.states) if once else ExitCode.DONE
    if is_interrupted(end):
        code = ExitCode.WORK_REMAINS
    closing = draw_closing_line(session, status)

    def draw() -> RenderableType:
        return Group(*draw_job_state(session, status), *interruption_note(end), closing)

    def describe() -> "PollAnswer":
        from batcher.contracts.sending import PollAnswer

        return PollAnswer.model_validate({**describe_job(status), "interrupted": is_interrupted(end)})

    return CommandAnswer(draw, describe, code)


def _find_outdated_lines(session: Session) -> str:
    """Return how unsent lines differ from today's job, as a sentence; "" where they do not."""
    today = build_todays_version(session.config, session.load_job())
    with session.store.read_transaction() as tx:
        return find_outdated_lines(tx, today)
