"""`submit`, `poll`, `run` and `collect`: the commands that act, and what they answer."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType

from batcher.cli.answer import _interrupted, _is_interrupted, _raise_problem, _status
from batcher.cli.collect import _collected_json, _collected_text, protected_tables
from batcher.cli.direct import run_lane
from batcher.cli.plan import configured, run_plan
from batcher.cli.process import acting, check_reachable
from batcher.cli.session import Session
from batcher.cli.submit import _release
from batcher.collect.collect import check_targets, collect
from batcher.core.actions import Finish, Wait
from batcher.core.decide import HAND_OVER, decide, decide_tail
from batcher.errors import ExitCode, StateError, exit_code
from batcher.lanes.batch.runner import Decide
from batcher.plan.planner import PlanOptions, planned_with
from batcher.state.direct_calls import Selection
from batcher.views.plan import draw_plan
from batcher.views.status import draw_status


def run_all(
    session: Session, options: PlanOptions | None, out: Path | None, failed: Path | None, tail: bool
) -> tuple[RenderableType, dict[str, Any], ExitCode]:
    """The unattended mode. options: what to plan; None: what the state was planned with last, else the settings'.

    tail: the direct lane takes the last lines.
    """
    check_targets(out, failed, protected_tables(session))
    check_reachable(session)
    _plan_for_run(session, options)
    ended = _run_released(session, _handing_over(session) if tail else decide)
    while ended == Finish(HAND_OVER):
        ended, calls = run_lane(session, Selection(), session.config.direct.workers, patient=False)
        if not _is_interrupted(ended):  # where the lane can do nothing now, the batches go on
            ended = _run_released(session, _handing_over(session) if calls else decide)
    _raise_problem(ended)
    status = _status(session)
    parts: list[RenderableType] = [draw_status(status), *_interrupted(ended)]
    data: dict[str, Any] = {"states": status.states}
    if out is not None:
        with session.display.moving("writing"):
            collected = collect(session.store, session.job(), out, failed, only_new=False)
        parts.append(_collected_text(collected, out, failed))
        data["collected"] = _collected_json(collected)
    return Group(*parts), data, exit_code(status.states)


def _run_released(session: Session, how: Decide) -> Finish | Wait:
    with acting(session) as runner, session.display.moving("lines done"):
        _release(session, None)
        return runner.act(how=how)


def _handing_over(session: Session) -> Decide:
    """The decisions of a run whose last lines the direct lane takes."""
    with session.store.reading() as tx:
        deadline = float(tx.one("run")[1]) + session.config.deadline.hours * 3600
    return partial(decide_tail, fewer_than=session.config.direct.tail_lines, deadline=deadline)


def _plan_for_run(session: Session, options: PlanOptions | None) -> None:
    """Plans what the user asked for. A plan of a part of the table is not widened by a command that only goes on."""
    earlier = _planned_before(session)
    if options is None and earlier is not None and earlier.limit is not None:
        told = f"going on with the plan of {earlier.limit:,} artists; `batcher plan` takes in more"
        session.display.console.print(told, highlight=False, markup=False)
        return
    planned = run_plan(session, options or earlier or configured(session))
    if not session.json:
        session.display.console.print(draw_plan(*planned))


def _planned_before(session: Session) -> PlanOptions | None:
    with suppress(StateError), session.store.reading() as tx:  # there may be none, or a file that a killed plan left
        return planned_with(tx)
    return None
