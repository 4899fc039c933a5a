"""`batcher pilot`: a sample is sent before the rest, and its answers are shown. `run` sends one unasked."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group

from batcher.catalog.prices import resolve_prices
from batcher.catalog.tokens import TokenCounter
from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.outcome import interruption_note, is_interrupted, raise_problem
from batcher.commands.base.process import open_batch_runner
from batcher.commands.base.session import Session
from batcher.commands.planning.plan import choose_options, load_last_options, run_plan
from batcher.config.sections import PilotSection
from batcher.core.actions import Finish, Wait
from batcher.core.decide import PILOT_ANSWERED, decide_pilot_actions
from batcher.core.failures import FailureClass
from batcher.core.pilots import FEWEST_LINES, PilotStage, describe_failed_pilot, is_enough_judged
from batcher.errors import DecisionError, ExitCode, InputError
from batcher.lanes.batch.runner import BatchRunner
from batcher.nouns import current_nouns
from batcher.plan.checks import build_todays_version
from batcher.plan.options import PlanWish
from batcher.plan.pilot_draw import PilotWish
from batcher.plan.pilot_plan import recut_with_pilot
from batcher.review.kept_answers import REFUSED, KeptAnswer, find_answers
from batcher.state import pilots
from batcher.state.pilots import PilotProgress, PilotRow
from batcher.state.reports.pilot import read_pilot_costs
from batcher.state.review.answers import AnswerChoice
from batcher.state.versions import find_version_number, load_prompt_numbers
from batcher.views.pilot import PilotReport, draw_pilot, draw_short_pilot, pilot_to_json
from batcher.views.sheet import format_count

if TYPE_CHECKING:
    from batcher.contracts.sending import PilotAnswer

SEED = 1
"""The seed of a sample where none is named."""


class TodaysPilot(NamedTuple):
    """The newest pilot of today's prompt (None: there is none), and what there is of today's job beside it."""

    progress: PilotProgress | None
    unsent: int
    """Lines in shards that were never sent."""
    untried: int
    """Lines in no shard that were never sent with today's version: of `redo` and `retry`."""
    judged: int
    """Answers that were judged."""
    released: int
    """Shards that are released and not sent, of any prompt."""


Choice = PilotProgress | PilotWish | None
"""The pilot that a command is about, or the one that it draws first; None: none."""


class FollowedPilot(NamedTuple):
    """The pilot that a command has followed, or has found at its end."""

    progress: PilotProgress
    unsent: int
    """Lines of today's job that were never sent, before it was followed."""
    is_news: bool
    """Whether it was to be drawn, or was under way, when the command began."""
    end: Finish | Wait = Finish(PILOT_ANSWERED)


def run_pilot(session: Session, lines: int | None, seed: int | None) -> "CommandAnswer[PilotAnswer]":
    """Send a pilot and report on it; go on with the last one where it is not over, and report on it where it failed.

    Where nothing was planned yet, all is planned, with the pilot. Raises InputError where nothing is left to send, or
    where shards are released and so would not wait for a pilot.
    """
    size = lines or session.config.pilot.lines or PilotSection().lines
    wish = PilotWish(size, SEED if seed is None else seed)
    if load_last_options(session) is None:
        planned = run_plan(session, replace(choose_options(session, PlanWish(), add=False), pilot=wish))
        if not session.json:
            session.display.console.print(planned.draw())
    last = _load_todays_pilot(session).progress
    over = last.pilot.pilot if last is not None and last.stage is PilotStage.PASSED else None
    followed = _follow_pilot(session, partial(_choose_wanted_pilot, wish=wish, over=over), to_the_end=True)
    if followed is None:
        rows = current_nouns().rows
        raise InputError(f"nothing is left to send, and so to draw a pilot from; `batcher plan` takes in more {rows}")
    progress, end = followed.progress, followed.end
    if progress.stage is not PilotStage.FAILED and end != Finish(PILOT_ANSWERED):
        raise_problem(end)
    report = _build_report(session, progress)
    is_open = progress.stage in {PilotStage.FAILED, PilotStage.ASKED} or is_interrupted(end)
    code = ExitCode.WORK_REMAINS if is_open else ExitCode.DONE

    def describe() -> "PilotAnswer":
        from batcher.contracts.sending import PilotAnswer

        return PilotAnswer.model_validate(pilot_to_json(report))

    return CommandAnswer(lambda: Group(draw_pilot(report), *interruption_note(end)), describe, code)


def send_pilot_first(session: Session) -> Finish | Wait | None:
    """Send a pilot before the rest, where `run` is to; return how that was interrupted, None where the rest may follow.

    Raises DecisionError where too few of its answers were accepted or judged, and the errors of the batch lane.
    """
    section = session.config.pilot
    if not section.lines:
        return None
    # What was sent before keeps its prompt: only `pilot` and a replan, by the user's wish, ask it with today's.
    wish = PilotWish(section.lines, SEED, retries=False)
    choose = partial(_choose_first_pilot, wish=wish, most_judged=session.config.brake.window)
    followed = _follow_pilot(session, choose, to_the_end=False)
    if followed is None:
        return None
    progress, end = followed.progress, followed.end
    if is_interrupted(end):
        return end
    is_refused = progress.stage is PilotStage.FAILED and followed.unsent > 0
    if followed.is_news or is_refused:
        _print_findings(session, progress)
    if is_refused:
        raise DecisionError(describe_failed_pilot(progress.tally, section.min_accepted))
    if end == Finish(PILOT_ANSWERED) and progress.stage is PilotStage.ASKED:
        raise DecisionError("lines of the pilot were cancelled before they were sent; `batcher run` sends them")
    if end != Finish(PILOT_ANSWERED):
        raise_problem(end)
    return None


def _choose_wanted_pilot(today: TodaysPilot, wish: PilotWish, over: int | None) -> Choice:
    """Return the pilot that `pilot` is about.

    over: the pilot that was passed when the command began, after which a new one is drawn; one that another process has
    sent since is reported. Raises InputError where a new one would take back what is released.
    """
    progress = today.progress
    if progress is not None and progress.pilot.pilot != over:
        return progress
    if today.released:
        raise InputError(
            f"{today.released:,} shard{'s are' if today.released != 1 else ' is'} released and not sent, and would not "
            "wait for a pilot; `batcher plan --replan` takes back what is released, `batcher poll` sends it"
        )
    return wish


def _choose_first_pilot(today: TodaysPilot, wish: PilotWish, most_judged: int) -> Choice:
    """Return the pilot that comes before the rest; None where there is none of a small job, or of a known prompt.

    most_judged: from this number of judged answers on a prompt is known.
    """
    if today.progress is not None:
        return today.progress
    return None if today.unsent + today.untried < FEWEST_LINES or today.judged >= most_judged else wish


def _print_findings(session: Session, progress: PilotProgress) -> None:
    """Print what a pilot has shown, before the rest goes on or a question is asked."""
    if progress.tally.judged and not session.json:
        session.display.console.print(draw_short_pilot(_build_report(session, progress)))


def _load_todays_pilot(session: Session) -> TodaysPilot:
    with session.store.read_transaction() as tx:
        number = find_version_number(tx, build_todays_version(session.config, session.load_job()))
        prompt = load_prompt_numbers(tx).get(number)
        pilot = pilots.load_newest_pilot(tx, prompt) if prompt is not None else None
        return TodaysPilot(
            pilots.load_pilot_progress(tx, pilot, session.config.pilot.min_accepted) if pilot is not None else None,
            pilots.count_unsent_lines(tx, number),
            pilots.count_untried_lines(tx, number),
            pilots.count_judged_answers(tx, prompt) if prompt is not None else 0,
            pilots.count_released_shards(tx),
        )


def _make_pilot(session: Session, wish: PilotWish) -> PilotProgress | None:
    """Cut what is unsent again with a pilot in front; return it. None: nothing is unsent."""
    with session.store.read_transaction() as tx:
        before = pilots.load_newest_pilot(tx)
    with TokenCounter() as counter, session.display.show_progress("drawing"):
        job, report = session.load_job(), session.display.report_progress
        recut_with_pilot(session.config, job, session.store, wish, counter, report)
    with session.store.read_transaction() as tx:
        pilot = pilots.load_newest_pilot(tx)
    if pilot is None or (before is not None and pilot.pilot <= before.pilot):
        return None
    return _load_progress(session, pilot)


def _follow_pilot(session: Session, choose: Callable[[TodaysPilot], Choice], to_the_end: bool) -> FollowedPilot | None:
    """Release a pilot and follow it to its first answers, and to its end where these are enough and it is wanted.

    choose: returns which pilot this is. It is asked again once no other process acts: what one has sent or released
    meanwhile counts. None: it is none, or there is nothing to draw it from.
    """
    today = _load_todays_pilot(session)
    choice = choose(today)
    if choice is None:
        return None
    if isinstance(choice, PilotProgress) and not _is_open(choice, to_the_end):
        return FollowedPilot(choice, today.unsent, is_news=False)
    if not to_the_end:
        _announce_pilot(session, choice)
    with open_batch_runner(session, follows=True) as runner:
        today = _load_todays_pilot(session)
        choice = choose(today)
        unsent = today.unsent + (today.untried if isinstance(choice, PilotWish) else 0)
        progress = _make_pilot(session, choice) if isinstance(choice, PilotWish) else choice
        if progress is None:
            return None
        end = _follow_open_pilot(session, runner, progress, to_the_end)
    found = _load_progress(session, progress.pilot)
    lines = format_count(found.tally.lines, "line")
    result = f"{found.tally.accepted:,} of {found.tally.judged:,} judged answers accepted, {lines}"
    session.write_log(logging.INFO, f"pilot {found.pilot.pilot}: {result}, {found.stage.name.lower()}")
    return FollowedPilot(found, unsent, is_news=True, end=end)


def _follow_open_pilot(
    session: Session, runner: BatchRunner, progress: PilotProgress, to_the_end: bool
) -> Finish | Wait:
    """Release a pilot and follow it as `_follow_pilot` does, where another process has not; return how that ended."""
    end: Finish | Wait = Finish(PILOT_ANSWERED)
    if _is_open(progress, to_the_end):
        with session.store.transaction("release_pilot") as tx:
            pilots.release_pilot(tx, progress.pilot.pilot)
        end = runner.run_until_idle(how=decide_pilot_actions)
        if end == Finish(PILOT_ANSWERED) and _is_repeated(_load_progress(session, progress.pilot), to_the_end):
            end = runner.run_until_idle()
    return end


def _announce_pilot(session: Session, pilot: PilotProgress | PilotWish) -> None:
    lines = pilot.lines if isinstance(pilot, PilotWish) else pilot.pilot.lines
    share = session.config.pilot.min_accepted
    note = f"a pilot of {format_count(lines, 'line')} first; the rest follows where {share:.0%} are accepted"
    session.display.print_line(note)


def _is_open(progress: PilotProgress, to_the_end: bool) -> bool:
    """Return whether a pilot is to be followed, to its first answers or to its end."""
    return progress.stage is PilotStage.ASKED or _is_repeated(progress, to_the_end)


def _is_repeated(progress: PilotProgress, to_the_end: bool) -> bool:
    """Return whether lines of a pilot are asked for again that are to be followed: all of them to the end, else those
    without which too few have a judged answer."""
    is_too_early = progress.pilot.resumed_at is None and not is_enough_judged(progress.tally)
    return progress.stage is PilotStage.REPEATED and (to_the_end or is_too_early)


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
