"""Today's version of the job for lines that are asked for again: rendered and counted from the rows that are kept."""

from batcher.catalog.tokens import TokenCounter
from batcher.config.sections import Config
from batcher.errors import InputError
from batcher.job.job import Job, job_output_to_stderr
from batcher.nouns import current_nouns
from batcher.plan.checks import build_todays_version
from batcher.plan.rows import READ_ROWS, RowPreparer
from batcher.state import asked_again
from batcher.state.asked_again import RenewedLine
from batcher.state.db.transaction import Transaction
from batcher.state.following.settling import regroup_asked_again
from batcher.state.versions import find_wider_versions, register_version

REMEDY = "nothing was changed; shorten the prompt, or leave such lines out"


def give_todays_version(tx: Transaction, config: Config, job: Job, counter: TokenCounter) -> None:
    """Give the lines that are asked for again today's version of the job, with their tokens, bytes and hashes.

    A line that was given more room for its answer, and asks what today's job asks, keeps the room. Raises InputError
    where a line became too long for the model or for the account's limit, and JobError where today's job.py refuses its
    row; then the transaction must be rolled back.
    """
    version = build_todays_version(config, job, counter)
    preparer = RowPreparer(config, job, version, counter)
    problems: list[str] = []
    asked_again.create_renewed(tx)
    with job_output_to_stderr():
        for rows in asked_again.load_rows(tx, READ_ROWS):
            renewed = []
            for prepared in preparer.prepare_stored_rows(rows, _keep_nothing):
                line = RenewedLine(prepared[1], *prepared[7:])
                problem = preparer.find_problem(line.artist_id, prepared[4], line.tokens)
                if problem:
                    problems.append(f"{current_nouns().row} {line.artist_id}: {problem}")
                renewed.append(line)
            asked_again.stage_renewed(tx, renewed)
    if problems:
        more = f" ({len(problems) - 1:,} more such lines)" if len(problems) > 1 else ""
        raise InputError(f"{problems[0]}{more}; {REMEDY}")
    if asked_again.count_lines(tx):
        number = register_version(tx, version, preparer.constant_tokens)
        asked_again.give_version(tx, number, find_wider_versions(tx, number))
        if config.job.dedupe:
            regroup_asked_again(tx)


def _keep_nothing(_own: bytes) -> int:
    """Take a line's own part and store it nowhere: it is rendered again when its shard is cut."""
    return 0
