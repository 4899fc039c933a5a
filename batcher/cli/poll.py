"""`batcher poll`: follow everything released to its end."""

from typing import Any

from rich.console import Group, RenderableType

from batcher.cli.answer import _interrupted, _is_interrupted, _raise_problem, _status
from batcher.cli.process import acting
from batcher.cli.session import Session
from batcher.errors import ExitCode, exit_code
from batcher.views.status import draw_status


def run_poll(session: Session, once: bool) -> tuple[RenderableType, dict[str, Any], ExitCode]:
    """Follows everything released to its end, or one round of it."""
    with acting(session) as runner, session.display.moving("lines done"):
        ended = runner.act(once)
    _raise_problem(ended)
    status = _status(session)
    code = exit_code(status.states) if once else ExitCode.DONE
    if _is_interrupted(ended):
        code = ExitCode.WORK_REMAINS
    return Group(draw_status(status), *_interrupted(ended)), {"states": status.states}, code
