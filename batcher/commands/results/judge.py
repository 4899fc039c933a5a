"""`judge`: the answers that are kept, judged again with today's job."""

from functools import partial
from typing import TYPE_CHECKING

from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.session import Session
from batcher.errors import JobError
from batcher.plan.retry_shards import recut_parked_lines
from batcher.review.judging import Judgement, judge_again
from batcher.views.review import draw_judgement

if TYPE_CHECKING:
    from batcher.contracts.results import JudgeAnswer


def run_judge(session: Session, dry_run: bool, revoke: bool) -> "CommandAnswer[JudgeAnswer]":
    """Judge the kept answers again. Raises JobError where the job's code fails; then nothing was changed."""
    job = session.load_job()
    with session.display.show_progress("judging"):
        report = partial(session.display.report_progress, "answers judged")
        judgement = judge_again(session.store, job, revoke, dry_run, report)
    notes = []
    if judgement.accepted:
        try:
            recut_parked_lines(session.store, job, session.config)
        except JobError as error:  # they stay as they are, as before a lane that finds them
            notes.append(f"Planned lines that were beside them wait to be cut again: {error}")

    def describe() -> "JudgeAnswer":
        from batcher.contracts.results import JudgeAnswer

        return JudgeAnswer.model_validate(_to_json(judgement, dry_run, notes))

    return CommandAnswer(lambda: draw_judgement(judgement, dry_run, notes), describe)


def _to_json(judgement: Judgement, dry_run: bool, notes: list[str]) -> dict[str, object]:
    counts = judgement.counts
    return {
        "dry_run": dry_run,
        "judged": judgement.judged,
        "accepted": {row.state: row.lines for row in counts.accepted},
        "refused": {"bios": counts.refused, "reasons": counts.reasons, "first": counts.first},
        "revoked": judgement.revoked,
        "put_back": judgement.put_back,
        "changed_meanwhile": counts.changed_meanwhile,
        "not_kept": judgement.not_kept,
        "damaged": judgement.damaged,
        "notes": notes,
    }
