"""`batcher direct`: the synchronous lane, for what cannot wait."""

from typing import NamedTuple

from rich.console import Group
from rich.text import Text

from batcher.cli.answer import CommandAnswer
from batcher.cli.outcome import raise_problem, read_job_status
from batcher.cli.process import open_lane_context
from batcher.cli.retry import parse_failure_class
from batcher.cli.session import Session
from batcher.core.actions import Finish
from batcher.core.workers import build_workers, parse_workers
from batcher.errors import InputError, compute_exit_code
from batcher.lanes.direct.lane import DirectLane
from batcher.state import direct_calls, wishes
from batcher.state.direct_calls import Selection
from batcher.state.wishes import RetryFilter
from batcher.views.status import draw_status


class LaneRun(NamedTuple):
    """How a process of the direct lane has ended, and how many calls it made."""

    end: Finish
    calls: int


def run_direct(
    session: Session, workers: str | None, priority: int | None, failure: str | None, limit: int | None
) -> CommandAnswer:
    """Request answers at once, at the standard price.

    Raises InputError for workers or a class that do not exist.
    """
    try:
        worker_setting = parse_workers(workers if workers is not None else session.config.direct.workers)
    except ValueError as error:
        raise InputError(str(error)) from None
    failure_class = parse_failure_class(failure)
    with session.store.read_transaction() as tx:
        first_call = direct_calls.next_call_number(tx)
    if failure_class is not None:
        with session.store.transaction("retry") as tx:
            wishes.retry_lines(tx, RetryFilter(failure_class))
    run_direct_lane(session, Selection(priority, failure_class.value if failure_class else None, limit), worker_setting)
    status = read_job_status(session)
    with session.store.read_transaction() as tx:
        outcomes = {row.outcome: row.calls for row in direct_calls.count_outcomes(tx, first_call)}
    counts = ", ".join(f"{n:,} {outcome}" for outcome, n in outcomes.items()) or "none"
    return CommandAnswer(
        Group(draw_status(status), Text(f"Direct calls: {counts}.")),
        {"calls": outcomes, "states": status.states},
        compute_exit_code(status.states),
    )


def run_direct_lane(session: Session, selection: Selection, workers: str | int, patient: bool = True) -> LaneRun:
    """Run one process of the direct lane. patient: as for `DirectLane.run_until_idle`.

    Raises SetupError where it ended for a reason that only the user can remove.
    """
    with open_lane_context(session, "direct") as context:
        lane = DirectLane(context, selection, build_workers(workers))
        lane.prepare_run()
        with session.display.show_progress("bios"):
            end = lane.run_until_idle(patient)
    raise_problem(end)
    return LaneRun(end, lane.calls.made)
