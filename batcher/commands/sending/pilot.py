"""`batcher pilot`: a sample is sent before the rest, and its answers are shown. `run` sends one by itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from rich.console import Group

from batcher.catalog.prices import resolve_prices
from batcher.catalog.tokens import TokenCounter
from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.outcome import interruption_note, is_interrupted, raise_problem
from batcher.commands.base.process import open_batch_runner
from batcher.commands.base.session import Session
from batcher.commands.planning.plan import choose_options, load_last_options, run_plan
from batcher.config import PilotSection
from batcher.core.actions import Finish, Wait
from batcher.core.decide import PILOT_ANSWERED, decide_pilot_actions
from batcher.core.failures import FailureClass
from batcher.core.pilots import FEWEST_LINES, PilotStage, describe_failed_pilot, is_enough_judged
from batcher.errors import DecisionError, ExitCode, InputError
from batcher.plan.checks import build_todays_version
from batcher.plan.options import PlanWish
from batcher.plan.pilot_draw import PilotWish
from batcher.plan.pilot_plan import recut_with_pilot
from batcher.review.kept_answers import REFUSED, KeptAnswer, find_answers
from batcher.state import pilots
from batcher.state.db.transaction import Transaction
from batcher.state.pilots import PilotProgress, PilotRow
from batcher.state.reports.pilot import read_pilot_costs
from batcher.state.review.answers import AnswerChoice
from batcher.state.versions import find_version_number, load_prompt_numbers
from batcher.views.pilot import PilotReport, draw_pilot, draw_short_pilot, pilot_to_json

SEED = 1
"""The seed of a sample where none is named."""


class TodaysPrompt(NamedTuple):
    """The job as its folder is today: its prompt (None: nothing was planned with it), and its unsent lines."""

    prompt: int | None
    unsent: int


def run_pilot(session: Session, lines: int | None, seed: int | None) -> CommandAnswer:
    """Send a pilot and report on it; go on with the last one where it is not over, and report on it where it failed.

    Raises InputError where nothing is left to send, or is released and so would not wait for a pilot.
    """
    size = lines or session.config.pilot.lines or PilotSection().lines
    wish = PilotWish(size, SEED if seed is None else seed)
    progress = _find_open_pilot(session, wish)
    end: Finish | Wait = Finish(PILOT_ANSWERED)
    if progress is None or progress.stage is not PilotStage.FAILED:
        pilot, end = _follow_pilot(session, wish if progress is None else progress.pilot, to_the_end=True)
        progress = _load_progress(session, pilot)
    if progress.stage is not PilotStage.FAILED and end != Finish(PILOT_ANSWERED):
        raise_problem(end)
    report = _build_report(session, progress)
    is_open = progress.stage in {PilotStage.FAILED, PilotStage.ASKED} or is_interrupted(end)
    code = ExitCode.WORK_REMAINS if is_open else ExitCode.DONE
    return CommandAnswer(Group(draw_pilot(report), *interruption_note(end)), pilot_to_json(report), code)


def send_pilot_first(session: Session) -> Finish | Wait | None:
    """Send a pilot before the rest, where `run` is to; return how that was interrupted, None where the rest may follow.

    Raises DecisionError where too few of its answers were accepted or judged, and the errors of the batch lane.
    """
    section = session.config.pilot
    if not section.lines:
        return None
    with session.store.read_transaction() as tx:
        today = _load_todays_prompt(session, tx)
        pilot = pilots.load_newest_pilot(tx, today.prompt) if today.prompt is not None else None
        judged = pilots.count_judged_answers(tx, today.prompt) if today.prompt is not None else 0
    if pilot is None:
        if today.unsent < FEWEST_LINES or judged >= session.config.brake.window:
            return None
        # What was sent before keeps its prompt: only `pilot` and a replan, by the user's wish, ask it with today's.
        return _ask_pilot(session, PilotWish(section.lines, SEED, retries=False), today, section.min_accepted)
    return _ask_pilot(session, pilot, today, section.min_accepted)


def _ask_pilot(
    session: Session, pilot: PilotRow | PilotWish, today: TodaysPrompt, least_share: float
) -> Finish | Wait | None:
    """Follow a pilot until it says whether the rest may be sent, and print what it has shown.

    pilot: a wish is drawn first. Return and raise as `send_pilot_first` does.
    """
    progress = None if isinstance(pilot, PilotWish) else _load_progress(session, pilot)
    end: Finish | Wait = Finish(PILOT_ANSWERED)
    is_followed = progress is None or progress.stage is PilotStage.ASKED or _is_too_early(progress)
    if progress is None or is_followed:
        note = f"a pilot of {pilot.lines:,} lines first; the rest follows where {least_share:.0%} are accepted"
        session.display.console.print(note, highlight=False, markup=False)
        row, end = _follow_pilot(session, pilot, to_the_end=False)
        progress = _load_progress(session, row)
    if is_interrupted(end):
        return end
    is_refused = progress.stage is PilotStage.FAILED and today.unsent > 0
    if is_followed or is_refused:
        _print_findings(session, progress)
    if is_refused:
        raise DecisionError(describe_failed_pilot(progress.tally, least_share))
    if end == Finish(PILOT_ANSWERED) and progress.stage is PilotStage.ASKED:
        raise DecisionError("lines of the pilot were cancelled before they were sent; `batcher run` sends them")
    if end != Finish(PILOT_ANSWERED):
        raise_problem(end)
    return None


def _find_open_pilot(session: Session, wish: PilotWish) -> PilotProgress | None:
    """Return the last pilot of today's job where it is not over, or has failed and the user was asked; None: a new one.

    Where nothing was planned yet, all is planned, with the pilot. Raises InputError where lines are released.
    """
    if load_last_options(session) is None:
        planned = run_plan(session, replace(choose_options(session, PlanWish(), add=False), pilot=wish))
        if not session.json:
            session.display.console.print(planned.drawn)
    with session.store.read_transaction() as tx:
        today = _load_todays_prompt(session, tx)
        pilot = pilots.load_newest_pilot(tx, today.prompt) if today.prompt is not None else None
        released = pilots.count_released_shards(tx)
    progress = None if pilot is None else _load_progress(session, pilot)
    if progress is not None and progress.stage is not PilotStage.PASSED:
        return progress
    if released:
        raise InputError(
            f"{released:,} shard{'s are' if released != 1 else ' is'} released and not sent, and would not wait for a "
            "pilot; `batcher plan --replan` takes back what is released, `batcher poll` sends it"
        )
    return None


def _print_findings(session: Session, progress: PilotProgress) -> None:
    """Print what a pilot has shown, before the rest goes on or a question is asked."""
    if progress.tally.judged and not session.json:
        session.display.console.print(draw_short_pilot(_build_report(session, progress)))


def _load_todays_prompt(session: Session, tx: Transaction) -> TodaysPrompt:
    number = find_version_number(tx, build_todays_version(session.config, session.load_job()))
    return TodaysPrompt(load_prompt_numbers(tx).get(number), pilots.count_unsent_lines(tx, number))


def _make_pilot(session: Session, wish: PilotWish) -> PilotRow:
    """Cut what is unsent again with a pilot in front; return it. Raises InputError where nothing is unsent."""
    with session.store.read_transaction() as tx:
        before = pilots.load_newest_pilot(tx)
    with TokenCounter() as counter, session.display.show_progress("drawing"):
        job, report = session.load_job(), session.display.report_progress
        recut_with_pilot(session.config, job, session.store, wish, counter, report)
    with session.store.read_transaction() as tx:
        pilot = pilots.load_newest_pilot(tx)
    if pilot is None or (before is not None and pilot.pilot <= before.pilot):
        raise InputError("nothing is left to send, and so to draw a pilot from; `batcher plan` takes in more artists")
    return pilot


def _follow_pilot(session: Session, pilot: PilotRow | PilotWish, to_the_end: bool) -> tuple[PilotRow, Finish | Wait]:
    """Release a pilot and follow it to its first answers, and to its end where these are enough and it is wanted.

    pilot: a wish is drawn first, once no other process acts, which would send what is cut again. Return the pilot, and
    how the process ended.
    """
    with open_batch_runner(session) as runner:
        row = _make_pilot(session, pilot) if isinstance(pilot, PilotWish) else pilot
        with session.display.show_progress("lines done"):
            with session.store.transaction("release_pilot") as tx:
                pilots.release_pilot(tx, row.pilot)
            end = runner.run_until_idle(how=decide_pilot_actions)
            progress = _load_progress(session, row)
            is_open = end == Finish(PILOT_ANSWERED) and progress.stage is PilotStage.REPEATED
            if is_open and (to_the_end or _is_too_early(progress)):
                end = runner.run_until_idle()
    return row, end


def _is_too_early(progress: PilotProgress) -> bool:
    """Return whether lines of a pilot are asked for again without which too few have a judged answer."""
    is_resumed = progress.pilot.resumed_at is not None
    return progress.stage is PilotStage.REPEATED and not is_resumed and not is_enough_judged(progress.tally)


def _load_progress(session: Session, pilot: PilotRow) -> PilotProgress:
    with session.store.read_transaction() as tx:
        return pilots.load_pilot_progress(tx, pilot, session.config.pilot.min_accepted)


def _build_report(session: Session, progress: PilotProgress) -> PilotReport:
    with session.store.read_transaction() as tx:
        costs = read_pilot_costs(tx, progress, session.config, resolve_prices)
    return PilotReport(progress, costs, _find_first_refused(session, progress), session.config.pilot.min_accepted)


def _find_first_refused(session: Session, progress: PilotProgress) -> Sequence[KeptAnswer]:
    """Return the first answers of a pilot's lines that were refused, by strata."""
    refused = [line for line in progress.lines if line.first_outcome == FailureClass.UNUSABLE]
    if not refused:
        return []
    found = find_answers(session.store, AnswerChoice([line.artist_id for line in refused], REFUSED))
    answers = {(each.record.artist_id, each.record.batch_id, each.record.call): each for each in found.answers}
    first = (answers.get((line.artist_id, line.first_batch, line.first_call)) for line in refused)
    return [answer for answer in first if answer is not None]
