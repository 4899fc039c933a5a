"""What `doctor` finds in the job itself: its table, what waits for a person, who acts, files left at OpenAI."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from batcher.config.sections import Config
from batcher.disk.locks import find_lock_owner
from batcher.errors import BatcherError, ConfigError
from batcher.job.job import Job
from batcher.plan.rows import find_missing_column, find_unused_columns
from batcher.state import remote_files
from batcher.state.db.store import Store
from batcher.state.reports.status import Status, read_status
from batcher.state.snapshot import load_saved_prices
from batcher.views.next_steps import CALM_STEPS, describe_next_steps
from batcher.views.sheet import format_count

OK, NOTE, BAD = "ok", "note", "wrong"
"""The levels of a finding."""
BLOCKING = ("stopped", "quota", "refused", "brake", "pilot")
"""The kinds of next steps that are wrong: nothing more is sent, or nothing of a prompt."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    what: str
    level: str
    found: str
    todo: str = ""


def check_table(config: Config, job: Job) -> Iterator[Finding]:
    """Yield whether the table is there and has the columns that the job needs, and those that it does not read."""
    table = config.job.input
    if not table.is_file():
        yield Finding("table", NOTE, f"{table} does not exist", "set [job] input")
        return
    try:
        missing, unused = find_missing_column(table, job), find_unused_columns(table, job)
    except BatcherError as error:
        yield Finding("table", BAD, str(error), "correct the table, or name another one in [job] input")
        return
    if missing:
        yield Finding("table", BAD, missing, "then `batcher preview` shows the first line")
        return
    yield Finding("table", OK, f"{table.name} has the columns that the job needs")
    if unused:
        left_out = f"the job does not read {', '.join(unused)} of {table.name}"
        yield Finding(
            "columns",
            NOTE,
            left_out,
            f"`batcher preview` shows what is sent; a field of {job.artist.__name__} reads a column",
        )


def check_job_state(config: Config, store: Store) -> Iterator[Finding]:
    """Yield what waits for a person, which process acts, and files that are left at OpenAI. Raises StateError."""
    with store.read_transaction() as tx:
        left = remote_files.load_files_left(tx)
        try:
            status = read_status(tx, config, partial(load_saved_prices, tx))
        except ConfigError:  # the limit is not known, which is a finding of its own
            status = None
    if status is not None:
        for step in describe_next_steps(status):
            if step.kind not in CALM_STEPS:
                level = BAD if step.kind in BLOCKING else NOTE
                yield Finding(
                    step.kind.replace("_", " "), level, step.sentence, f"`{step.command}`" if step.command else ""
                )
        yield from _check_locks(store, status)
    refused = [file for file in left if file.tries]
    if refused:
        first = f"the first {refused[0].file_id} ({refused[0].purpose}, {refused[0].tries} tries: {refused[0].error})"
        found = f"{len(refused)} could not be deleted at OpenAI, {first}"
        yield Finding("files", NOTE, found, "`batcher poll` tries again; they expire by themselves after 30 days")
    elif left:
        yield Finding("files", OK, f"{len(left)} are to be deleted at OpenAI, by the next `batcher poll`")


def _check_locks(store: Store, status: Status) -> Iterator[Finding]:
    """Yield which processes act, or that none follows what is in flight."""
    owners = {lane: find_lock_owner(store.folder, lane) for lane in ("batch", "direct")}
    for lane, owner in owners.items():
        if owner is not None:
            yield Finding("lock", OK, f"{owner.describe()} acts in the {lane} lane")
    if status.batches and owners["batch"] is None:
        count = len(status.batches)
        found = f"nobody follows what is in flight ({format_count(count, 'batch', 'batches')})"
        yield Finding("lock", NOTE, found, "`batcher poll` follows it to its end")
