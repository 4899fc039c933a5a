"""Answers of an earlier job taken over where a row of this plan asks the same: nothing is sent for it, or paid."""

from typing import NamedTuple

from batcher.core.model import JobVersion
from batcher.core.rendering import LineRenderer
from batcher.errors import JobError
from batcher.job.job import Job
from batcher.plan.rows import RowPreparer
from batcher.state.db.transaction import Transaction
from batcher.state.following import staging
from batcher.state.following.other_state import OtherAnswer, OtherState
from batcher.state.versions import encode_version


class ReusedAnswers(NamedTuple):
    """Rows of a plan that have an answer of another job, and what their lines would have for tokens."""

    lines: int = 0
    tokens: int = 0
    longest: int = 0
    refused: int = 0
    """Rows for which today's check refuses the answer: they are asked for."""
    known: int = 0
    """Answers of the other job whose request is known."""
    answers: int = 0
    """All answers of the other job."""
    version: JobVersion | None = None
    """The version of the job that the rows are planned with; None: no other job was named."""


NO_ANSWERS = ReusedAnswers()


def reuse_answers(tx: Transaction, preparer: RowPreparer, other: OtherState) -> ReusedAnswers:
    """Stage answers of another job as bios that exist, for the staged rows of a plan that ask the same.

    Each is judged by today's job. Raises JobError where the job's code fails on a row of the plan.
    """
    renderers = {
        number: LineRenderer(version)
        for number, version in other.load_versions().items()
        if _asks_alike(version, preparer.version)
    }
    known = 0
    staging.create_reusable(tx)
    for answers in other.read_answers(list(renderers)) if renderers else ():
        rows = []
        for answer in answers:
            text = _render_request(preparer.job, renderers[answer.version], answer)
            if text is not None:
                rows.append((preparer.renderer.hash_request(text), answer.seq, answer.bio))
        staging.stage_reusable(tx, rows)
        known += len(rows)
    taken = staging.take_reusable(tx, preparer.job.accepts_kept_bio)
    return ReusedAnswers(*taken, known, other.count_answers(), preparer.version)


def _asks_alike(version: JobVersion, today: JobVersion) -> bool:
    """Return whether lines of a version differ from today's in their own text alone.

    What the room for an answer is, and what is said of the prompt cache, makes no other answer.
    """
    if bool(version.template) != bool(today.template):
        return False
    same = version._replace(
        name=today.name, template=today.template, max_output_tokens=today.max_output_tokens, cache=today.cache
    )
    return encode_version(same) == encode_version(today)


def _render_request(job: Job, renderer: LineRenderer, answer: OtherAnswer) -> str | None:
    """Return what a line of the other job asked; None where today's job does not render it as it was sent."""
    try:
        artist = job.restore_artist(answer.data)
        if renderer.has_messages:
            text = job.render_messages(artist, renderer.version.endpoint, answer.custom_id)
        else:
            text = renderer.render_user_text(job.prompt_values(artist, answer.custom_id))
    except JobError:  # its rows may have other columns
        return None
    own = renderer.encode_own_part(answer.custom_id, text)
    return text if renderer.hash_line(own) == answer.line_hash else None
