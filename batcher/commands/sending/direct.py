"""`batcher direct`: the synchronous lane, for what cannot wait."""

from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group
from rich.text import Text

from batcher.catalog.prices import resolve_prices
from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.choices import parse_failure_class
from batcher.commands.base.confirm import confirm_on_terminal
from batcher.commands.base.outcome import describe_job, draw_job_state, raise_problem, read_job_status
from batcher.commands.base.process import open_lane_context
from batcher.commands.base.session import Session
from batcher.commands.sending.retry import bring_back_lines, bring_back_within, describe_prompts
from batcher.config.sections import DirectSection
from batcher.core.actions import Finish
from batcher.core.direct.flex import FLEX
from batcher.core.direct.workers import build_workers, parse_workers
from batcher.core.failures import FailureClass
from batcher.errors import InputError, compute_exit_code
from batcher.job.job import Job
from batcher.lanes.direct.lane import DirectLane
from batcher.lanes.direct.ready_lines import SelectionWeight, weigh_beside_rest
from batcher.nouns import current_nouns
from batcher.plan.checks import check_sending
from batcher.state import direct_calls
from batcher.state.direct_calls import Selection
from batcher.state.wishes import RetryFilter
from batcher.views.sheet import format_count, format_usd

if TYPE_CHECKING:
    from batcher.contracts.sending import DirectAnswer


class LaneRun(NamedTuple):
    """How a process of the direct lane has ended, and how many calls it made."""

    end: Finish
    calls: int


class DirectOptions(NamedTuple):
    """Which lines to ask for, as the user named them."""

    priority: int | None = None
    failure: str | None = None
    limit: int | None = None
    unreleased: bool = False
    same_prompt: bool = False
    """Whether failed lines come back with the prompt that they had."""

    def build_selection(self, failure: FailureClass | None) -> Selection:
        """Return the lines; without a filter only those that were released: each costs twice what it was planned at."""
        is_filtered = self.priority is not None or failure is not None or self.limit is not None
        unreleased = self.unreleased or is_filtered
        return Selection(self.priority, failure.value if failure else None, self.limit, unreleased)


def run_direct(
    session: Session, workers: str | None, options: DirectOptions, yes: bool = False
) -> "CommandAnswer[DirectAnswer]":
    """Request answers at once, at the price of `[direct] service_tier`. yes: the user has agreed; else one is asked.

    Raises InputError for workers or a class that do not exist, and DecisionError where the user declines.
    """
    try:
        worker_setting = parse_workers(workers if workers is not None else session.config.direct.workers)
    except ValueError as error:
        raise InputError(str(error)) from None
    failure_class = parse_failure_class(options.failure)
    job = session.load_job()
    with session.store.read_transaction() as tx:
        session.check_origin(tx)  # both before failed lines are brought back
        check_sending(tx, session.config, job, resolve_prices)
        first_call = direct_calls.next_call_number(tx)
    selection = options.build_selection(failure_class)
    failed = RetryFilter(failure_class) if failure_class is not None else None
    if not yes:
        todays_job = None if options.same_prompt else job
        confirm_on_terminal(session, lambda: _describe_purchase(session, selection, todays_job, failed))
    if failed is not None:
        brought = bring_back_lines(session, failed, options.same_prompt)
        if brought.lines:
            count = sum(row.lines for row in brought.lines)
            session.display.print_line(f"lines that came back: {count:,}, {describe_prompts(brought.prompts)}")
    raise_problem(run_direct_lane(session, selection, worker_setting).end)
    status = read_job_status(session)
    with session.store.read_transaction() as tx:
        outcomes = {row.outcome: row.calls for row in direct_calls.count_outcomes(tx, first_call)}
    counts = ", ".join(f"{n:,} {current_nouns().name_outcome(outcome)}" for outcome, n in outcomes.items()) or "none"

    def describe() -> "DirectAnswer":
        from batcher.contracts.sending import DirectAnswer

        return DirectAnswer.model_validate({**describe_job(status), "calls": outcomes})

    return CommandAnswer(
        lambda: Group(*draw_job_state(session, status), Text(f"Direct calls: {counts}.")),
        describe,
        compute_exit_code(status.states),
    )


def _describe_purchase(session: Session, selection: Selection, job: Job | None, failed: RetryFilter | None) -> str:
    """Return what would be bought, and its price; "" where nothing would be.

    failed: lines that would come back before, with the prompt of this job (None: with their own); None: none.
    """
    with session.store.dry_run_transaction() as tx:
        if failed is not None:
            bring_back_within(tx, session.config, job, failed)
        chosen, left_out = weigh_beside_rest(tx, selection, session.config, resolve_prices)
    return _describe_selection(chosen, left_out, session.config.direct) if chosen.lines else ""


def run_direct_lane(session: Session, selection: Selection, workers: str | int, patient: bool = True) -> LaneRun:
    """Run one process of the direct lane; an end that asks the user is left to the caller. patient: as for
    `DirectLane.run_until_idle`.

    Raises SetupError where it ended for a reason that only the user can remove.
    """
    with open_lane_context(session, "direct", follows=True) as context:
        lane = DirectLane(context, selection, build_workers(workers))
        lane.prepare_run()
        session.display.print_line(_describe_selection(*lane.weigh_selection(), session.config.direct))
        end = lane.run_until_idle(patient)
    if not end.asks:
        raise_problem(end)
    return LaneRun(end, lane.calls.made)


def _describe_selection(weight: SelectionWeight, left_out: int, direct: DirectSection) -> str:
    """Return what is about to be bought, and what is left out because it was not released."""
    tier = "standard" if direct.service_tier != FLEX else "flex"
    fallback = " (standard where flex refuses lines for too long)" if tier == FLEX and direct.flex_fallback else ""
    price = f"at most {format_usd(weight.most_usd)}" if weight.most_usd is not None else "of a price that is not known"
    text = f"{format_count(weight.lines, 'line')} at the {tier} price{fallback}, {price}"
    if left_out:
        text += f"; lines that were planned and not released: {left_out:,} (--unreleased takes them too)"
    return text
