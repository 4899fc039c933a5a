"""`submit`, `poll`, `run` and `collect`: the commands that act, and what they answer."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType

from batcher.cli.answer import interruption_note, is_interrupted, raise_problem, read_job_status
from batcher.cli.collect import collected_to_json, format_collection_report, protected_tables
from batcher.cli.direct import run_direct_lane
from batcher.cli.plan import configured_options, run_plan
from batcher.cli.process import check_service_reachable, open_batch_runner
from batcher.cli.session import Session
from batcher.cli.submit import release_shards
from batcher.collect.collect import check_targets, collect_bios
from batcher.core.actions import Finish, Wait
from batcher.core.decide import HAND_OVER, decide_actions, decide_tail_actions
from batcher.errors import ExitCode, StateError, compute_exit_code
from batcher.lanes.batch.runner import Decide
from batcher.plan.planner import PlanOptions, load_plan_options
from batcher.state import submissions
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
    check_service_reachable(session)
    _plan_for_run(session, options)
    ended = _run_batch_lane(session, _build_tail_decider(session) if tail else decide_actions)
    while ended == Finish(HAND_OVER):
        ended, calls = run_direct_lane(session, Selection(), session.config.direct.workers, patient=False)
        if not is_interrupted(ended):  # where the lane can do nothing now, the batches go on
            ended = _run_batch_lane(session, _build_tail_decider(session) if calls else decide_actions)
    raise_problem(ended)
    status = read_job_status(session)
    parts: list[RenderableType] = [draw_status(status), *interruption_note(ended)]
    data: dict[str, Any] = {"states": status.states}
    if out is not None:
        with session.display.show_progress("writing"):
            collected = collect_bios(session.store, session.load_job(), out, failed, only_new=False)
        parts.append(format_collection_report(collected, out, failed))
        data["collected"] = collected_to_json(collected)
    return Group(*parts), data, compute_exit_code(status.states)


def _run_batch_lane(session: Session, how: Decide) -> Finish | Wait:
    with open_batch_runner(session) as runner, session.display.show_progress("lines done"):
        release_shards(session, None)
        return runner.run_until_idle(how=how)


def _build_tail_decider(session: Session) -> Decide:
    """The decisions of a run whose last lines the direct lane takes."""
    with session.store.read_transaction() as tx:
        deadline = submissions.load_run(tx).planned_at + session.config.deadline.hours * 3600
    return partial(decide_tail_actions, fewer_than=session.config.direct.tail_lines, deadline=deadline)


def _plan_for_run(session: Session, options: PlanOptions | None) -> None:
    """Plans what the user asked for. A plan of a part of the table is not widened by a command that only goes on."""
    earlier = _load_earlier_options(session)
    if options is None and earlier is not None and earlier.limit is not None:
        told = f"going on with the plan of {earlier.limit:,} artists; `batcher plan` takes in more"
        session.display.console.print(told, highlight=False, markup=False)
        return
    planned = run_plan(session, options or earlier or configured_options(session))
    if not session.json:
        session.display.console.print(draw_plan(*planned))


def _load_earlier_options(session: Session) -> PlanOptions | None:
    with (
        suppress(StateError),
        session.store.read_transaction() as tx,
    ):  # there may be none, or a file that a killed plan left
        return load_plan_options(tx)
    return None
