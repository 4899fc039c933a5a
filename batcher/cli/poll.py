"""`batcher poll`: follow everything released to its end."""

from typing import Any

from rich.console import Group, RenderableType

from batcher.cli.answer import interruption_note, is_interrupted, raise_problem, read_job_status
from batcher.cli.process import open_batch_runner
from batcher.cli.session import Session
from batcher.errors import ExitCode, compute_exit_code
from batcher.views.status import draw_status


def run_poll(session: Session, once: bool) -> tuple[RenderableType, dict[str, Any], ExitCode]:
    """Follows everything released to its end, or one round of it."""
    with open_batch_runner(session) as runner, session.display.show_progress("lines done"):
        ended = runner.run_until_idle(once)
    raise_problem(ended)
    status = read_job_status(session)
    code = compute_exit_code(status.states) if once else ExitCode.DONE
    if is_interrupted(ended):
        code = ExitCode.WORK_REMAINS
    return Group(draw_status(status), *interruption_note(ended)), {"states": status.states}, code
