"""`batcher poll`: follow everything released to its end."""

from rich.console import Group

from batcher.cli.base.answer import CommandAnswer
from batcher.cli.base.outcome import interruption_note, is_interrupted, raise_problem, read_job_status
from batcher.cli.base.process import open_batch_runner
from batcher.cli.base.session import Session
from batcher.cli.sending.submit import end_open_submit
from batcher.errors import ExitCode, compute_exit_code
from batcher.views.status import draw_status


def run_poll(session: Session, once: bool) -> CommandAnswer:
    """Follow everything released to its end; once: one round of it, without waiting."""
    with open_batch_runner(session) as runner, session.display.show_progress("lines done"):
        end = runner.run_until_idle(once)
    raise_problem(end)
    if not is_interrupted(end):
        end_open_submit(session)
    status = read_job_status(session)
    code = compute_exit_code(status.states) if once else ExitCode.DONE
    if is_interrupted(end):
        code = ExitCode.WORK_REMAINS
    return CommandAnswer(Group(draw_status(status), *interruption_note(end)), {"states": status.states}, code)
