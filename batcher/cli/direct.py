"""`direct`: the synchronous lane, for what cannot wait."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.catalog.prices import resolve_prices
from batcher.cli.process import open_lane_context
from batcher.cli.retry import parse_failure_class
from batcher.cli.session import Session
from batcher.core.actions import INTERRUPTED, Finish
from batcher.core.pacing import build_workers, parse_workers
from batcher.errors import ExitCode, InputError, SetupError, compute_exit_code
from batcher.lanes.direct.lane import DirectLane
from batcher.state import direct_calls, wishes
from batcher.state.direct_calls import Selection
from batcher.state.status import read_status
from batcher.state.wishes import RetryFilter
from batcher.views.status import draw_status


def run_direct(
    session: Session, workers: str | None, priority: int | None, failure: str | None, limit: int | None
) -> tuple[RenderableType, dict[str, Any], ExitCode]:
    """Asks for lines at once, at the standard price. Raises InputError for workers or a class that do not exist."""
    try:
        wanted = parse_workers(workers if workers is not None else session.config.direct.workers)
    except ValueError as error:
        raise InputError(str(error)) from None
    named = parse_failure_class(failure)
    with session.store.read_transaction() as tx:
        first = direct_calls.next_call_number(tx)
    if named is not None:
        with session.store.transaction("retry") as tx:
            wishes.retry_lines(tx, RetryFilter(named))
    run_direct_lane(session, Selection(priority, named.value if named else None, limit), wanted)
    with session.store.read_transaction() as tx:
        status = read_status(tx, session.config, resolve_prices)
        outcomes = {row.outcome: row.calls for row in direct_calls.count_outcomes(tx, first)}
    told = ", ".join(f"{n:,} {outcome}" for outcome, n in outcomes.items()) or "none"
    parts: list[RenderableType] = [draw_status(status), Text(f"Direct calls: {told}.")]
    return Group(*parts), {"calls": outcomes, "states": status.states}, compute_exit_code(status.states)


def run_direct_lane(
    session: Session, selection: Selection, workers: str | int, patient: bool = True
) -> tuple[Finish, int]:
    """One process of the direct lane; how it ended, and how many calls it made. patient: as `act` has it.

    Raises SetupError for what only the user can mend.
    """
    with open_lane_context(session, "direct") as context:
        lane = DirectLane(context, selection, build_workers(workers))
        lane.prepare_run()
        with session.display.show_progress("bios"):
            ended = lane.run_until_idle(patient)
    if ended.problem and ended.problem != INTERRUPTED:
        raise SetupError(ended.problem)
    return ended, lane.calls.made
