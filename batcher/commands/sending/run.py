"""`batcher run`: plan, release, follow and collect, the unattended mode."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.collect.collect import check_replacing, check_targets
from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.outcome import (
    describe_job,
    draw_closing_line,
    draw_job_state,
    interruption_note,
    is_interrupted,
    raise_problem,
    read_job_status,
)
from batcher.commands.base.process import check_service_reachable, open_batch_runner
from batcher.commands.base.session import Session
from batcher.commands.planning.plan import load_last_options, run_plan
from batcher.commands.results.collect import collect_to_files, protected_tables
from batcher.commands.results.report import RunReport
from batcher.commands.sending.direct import run_direct_lane
from batcher.commands.sending.pilot import SEED, send_pilot_first
from batcher.commands.sending.submit import release_shards
from batcher.core.actions import Finish, Wait
from batcher.core.decide import HAND_OVER, decide_actions, decide_tail_actions
from batcher.core.pilots import FEWEST_LINES
from batcher.errors import BatcherError, ExitCode, InputError, compute_exit_code
from batcher.lanes.batch.runner import Decide
from batcher.nouns import current_nouns
from batcher.plan.options import PlanOptions
from batcher.plan.pilot_draw import PilotWish
from batcher.state import submissions
from batcher.state.direct_calls import Selection

if TYPE_CHECKING:
    from batcher.contracts.results import CollectAnswer
    from batcher.contracts.sending import RunAnswer


class Collection(NamedTuple):
    """What was collected at the end of a run: an answer, or else why not; neither where nothing was to be."""

    answer: "CommandAnswer[CollectAnswer] | None" = None
    problem: str = ""

    def draw(self) -> Sequence[RenderableType]:
        """Return what is shown of it."""
        if self.problem:
            return [
                Text(f"Nothing was collected: {self.problem}. `batcher collect` writes the {current_nouns().answers}.")
            ]
        return [self.answer.draw()] if self.answer is not None else []

    def describe(self) -> Mapping[str, object]:
        """Return its fields of a contract `RunAnswer`."""
        collected = self.answer.describe() if self.answer is not None else None
        return {"collected": collected, "problem": self.problem or None}


class RunFiles(NamedTuple):
    """What a run writes. out: bios at the end; failed: what has none; report: the page, also while it lasts."""

    out: Path | None = None
    failed: Path | None = None
    report: Path | None = None
    overwrite: bool = False
    """Replace files that are not ours."""


def run_all(session: Session, options: PlanOptions | None, files: RunFiles, tail: bool) -> "CommandAnswer[RunAnswer]":
    """Plan, send a pilot of a large job, release all shards, follow them to their end, and collect.

    options: what to plan; None: nothing, as a plan is there. tail: the direct lane does the last lines.
    """
    began = time.monotonic()
    out, failed, _, overwrite = files
    check_targets(out, failed, protected_tables(session))
    if not overwrite:
        check_replacing(session.store, out, failed)
    report = RunReport(session, files.report, overwrite)
    report.check_target()
    check_service_reachable(session)
    _plan_for_run(session, options)
    report.write_first()
    try:
        end = _run_to_end(session, report, tail)
    except BatcherError:  # it stops with a question, or for a reason that only the user can remove
        report.write_last()
        raise
    report.write_last()
    status = read_job_status(session)
    collection = _collect_at_end(session, out, failed, overwrite) if out is not None else Collection()
    code = ExitCode.USAGE if collection.problem else compute_exit_code(status.states)
    elapsed_s = time.monotonic() - began
    written = [str(path) for path in (out, failed) if path is not None] if collection.answer is not None else []
    written += [str(files.report)] if files.report is not None else []
    closing = draw_closing_line(session, status, written)

    def draw() -> RenderableType:
        return Group(*draw_job_state(session, status), *interruption_note(end), *collection.draw(), closing)

    def describe() -> "RunAnswer":
        from batcher.contracts.sending import RunAnswer

        fields = {**describe_job(status), "interrupted": is_interrupted(end), "elapsed_s": round(elapsed_s, 3)}
        page = None if files.report is None else str(files.report)
        return RunAnswer.model_validate({**fields, **collection.describe(), "report": page})

    return CommandAnswer(draw, describe, code)


def _run_to_end(session: Session, report: RunReport, tail: bool) -> Finish | Wait:
    """Send the pilot and the rest, and follow all to its end; return how it ended. Raises as `raise_problem` does."""
    end = send_pilot_first(session) or _run_batch_lane(
        session, report.follow(_build_tail_decider(session) if tail else decide_actions)
    )
    while end == Finish(HAND_OVER):
        end, calls = run_direct_lane(session, Selection(unreleased=False), session.config.direct.workers, patient=False)
        if not is_interrupted(end):  # where the direct lane can do nothing now, the batches are followed
            how = _build_tail_decider(session) if calls else decide_actions
            end = _run_batch_lane(session, report.follow(how))
    raise_problem(end)
    return end


def _collect_at_end(session: Session, out: Path, failed: Path | None, overwrite: bool) -> Collection:
    """Collect; where a file was made there while the job ran, say so after the report on the job."""
    try:
        return Collection(collect_to_files(session, out, failed, only_new=False, overwrite=overwrite))
    except InputError as error:
        return Collection(problem=str(error))


def _run_batch_lane(session: Session, how: Decide) -> Finish | Wait:
    with open_batch_runner(session, follows=True) as runner:
        release_shards(session, None)
        return runner.run_until_idle(how=how)


def _build_tail_decider(session: Session) -> Decide:
    """Return how a run decides whose last lines the direct lane does."""
    with session.store.read_transaction() as tx:
        deadline = submissions.load_run(tx).planned_at + session.config.deadline.hours * 3600
    return partial(decide_tail_actions, fewer_than=session.config.direct.tail_lines, deadline=deadline)


def _plan_for_run(session: Session, options: PlanOptions | None) -> None:
    """Plan, unless the run only goes on with the plan of a part of the table, which it does not widen."""
    if options is None:
        note = "going on with what was planned; `batcher plan --limit N` takes in N more of the table, `--all` the rest"
        session.display.print_line(note)
        return
    if session.config.pilot.lines and load_last_options(session) is None:
        # It is drawn with the plan; one that exists already is cut again for it.
        options = replace(options, pilot=PilotWish(session.config.pilot.lines, SEED, FEWEST_LINES))
    planned = run_plan(session, options)
    if not session.json:
        session.display.console.print(planned.draw())
