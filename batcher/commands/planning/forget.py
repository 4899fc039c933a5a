"""`batcher forget`: take artists that were never sent out of the plan."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.choices import build_unknown_artist_error
from batcher.commands.base.confirm import confirm_or_refuse
from batcher.commands.base.session import Session
from batcher.commands.planning.plan import configured_tables
from batcher.core.lifecycle import ArtistState
from batcher.errors import InputError, JobError
from batcher.job.job import Job, job_output_to_stderr
from batcher.nouns import current_nouns
from batcher.plan.options import PlanWish, choose_plan_options, is_same_table, load_plan_options
from batcher.plan.retry_shards import recut_parked_lines
from batcher.plan.rows import ArtistReader, BadRows, describe_bad_rows
from batcher.state import wishes
from batcher.state.db.transaction import Transaction
from batcher.state.wishes import PlannedArtist, UnsentChoice
from batcher.views.sheet import format_count

if TYPE_CHECKING:
    from batcher.contracts.planning import ForgetAnswer

Choose = Callable[[Transaction], None]
"""Chooses the artists that are to be taken out. Raises InputError for one that cannot be."""


def run_forget(
    session: Session, artist_ids: Sequence[str], not_in_table: bool, table: Path | None, yes: bool
) -> "CommandAnswer[ForgetAnswer]":
    """Take these artists out of the plan, or those that are not in the table, once the user agrees to the count.

    What was sent stays. The rest of a planned shard is cut again and stays planned, that of a released one stays
    released. table: the one that is read; None: that of the last plan. Raises InputError for an artist that the plan
    does not have or that was sent, and for a table that cannot be read.
    """
    if bool(artist_ids) == not_in_table:
        nouns = current_nouns()
        raise InputError(
            f"name {nouns.rows} by {nouns.id_option}, or choose those that left the table by --not-in-table"
        )
    if table is not None and not not_in_table:
        raise InputError("--input names the table of --not-in-table, which is not given")
    job = session.load_job()
    choose = _choose_by_table(session, job, table) if not_in_table else _choose_by_name(artist_ids)
    with session.store.read_transaction() as tx:
        choose(tx)
        choice = wishes.count_unsent_choice(tx)
    if not choice.unsent:
        return _answer(choice, "")
    confirm_or_refuse(session, _describe_choice(choice, "would leave"), "--yes", yes)
    with session.store.transaction("forget") as tx:  # a process at work may have sent some of them meanwhile
        choose(tx)
        choice = wishes.forget_unsent_artists(tx)
    return _answer(choice, _cut_rest(session, job))


def _choose_by_name(artist_ids: Sequence[str]) -> Choose:
    def choose(tx: Transaction) -> None:
        found = {artist.artist_id: artist for artist in wishes.choose_named_artists(tx, artist_ids)}
        for artist_id in artist_ids:
            if artist_id not in found:
                raise build_unknown_artist_error(tx, artist_id)
            _check_unsent(found[artist_id])

    return choose


def _check_unsent(artist: PlannedArtist) -> None:
    nouns = current_nouns()
    if artist.was_sent:
        raise InputError(
            f"{nouns.row} {artist.artist_id!r} was sent (it is {artist.state}), and stays in the plan with what was "
            f"paid for it; only {nouns.rows} that were never sent can be taken out"
        )
    if artist.state in {ArtistState.DONE_BEFORE, ArtistState.SKIPPED}:
        raise InputError(
            f"{nouns.row} {artist.artist_id!r} is {artist.state}, so nothing will be sent for it; leave it"
        )


def _choose_by_table(session: Session, job: Job, table: Path | None) -> Choose:
    """Return the choice of the artists that are not in a table, which is read once.

    Raises InputError where it cannot be read whole: an artist of a bad row would be taken for one that is not there.
    """
    with session.store.read_transaction() as tx:
        earlier = load_plan_options(tx, session.store.folder)
    options = choose_plan_options(PlanWish(input=table), earlier, configured_tables(session))
    if table is None and earlier is not None and not is_same_table(options.input, earlier.input):
        raise InputError(
            f"this job was planned from {earlier.input}, and batcher.toml names {options.input} now; "
            "say by --input which of them is meant"
        )
    bad: BadRows = []
    with job_output_to_stderr():
        ids = {job.read_id(artist) for _, artist in ArtistReader(job).read_artists(options.input, bad)}
    if bad and not options.skip_bad_rows:
        raise InputError(
            f"{describe_bad_rows(options.input, bad)}; fix the table, as the {current_nouns().row} of a bad row cannot "
            "be known"
        )
    if not ids:
        raise InputError(f"{options.input} has no {current_nouns().rows}; name another table by --input")
    return lambda tx: wishes.choose_artists_not_in_table(tx, ids)


def _cut_rest(session: Session, job: Job) -> str:
    """Cut the rest of planned shards again; return why that has to wait, "" where it was done."""
    try:
        recut_parked_lines(session.store, job, session.config)
    except JobError as error:
        return f"The rest of the planned shards is cut again by the next command that sends: {error}."
    return ""


def _describe_choice(choice: UnsentChoice, verb: str) -> str:
    """Return what is taken out, as a sentence without its full stop."""
    parts = [
        f"{format_count(count, f'{kind} shard')}"
        for count, kind in ((choice.planned_shards, "planned"), (choice.released_shards, "released"))
        if count
    ]
    where = f" (of {' and '.join(parts)}, whose other lines, if any, stay)" if parts else ""
    text = f"{current_nouns().count_rows(choice.unsent)} that {_were(choice.unsent)} never sent"
    stay = f"; {choice.sent:,} that {_were(choice.sent)} sent stay" if choice.sent else ""
    return f"{text} {verb} the plan{where}{stay}"


def _were(count: int) -> str:
    return "were" if count != 1 else "was"


def _answer(choice: UnsentChoice, note: str) -> "CommandAnswer[ForgetAnswer]":
    def describe() -> "ForgetAnswer":
        from batcher.contracts.planning import ForgetAnswer

        return ForgetAnswer.model_validate({**choice._asdict(), "forgotten": choice.unsent, "note": note})

    if not choice.unsent:
        sent = (
            f" {choice.sent:,} of them {_were(choice.sent)} sent and stay{'s' if choice.sent == 1 else ''}."
            if choice.sent
            else ""
        )
        return CommandAnswer(lambda: f"Nobody is to be taken out of the plan.{sent}", describe)
    drawn = f"{_describe_choice(choice, 'left')}." + (f"\n{note}" if note else "")
    return CommandAnswer(lambda: drawn, describe)
