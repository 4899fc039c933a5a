"""`batcher preview`: requests as they will be sent, and what they cost. It reads, and writes nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from batcher.catalog.prices import resolve_prices
from batcher.catalog.tokens import TokenCounter
from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.choices import describe_similar_artists
from batcher.commands.base.session import Session
from batcher.commands.planning.plan import configured_tables
from batcher.config.caching import find_cache_problem
from batcher.core.model import JobVersion
from batcher.errors import InputError
from batcher.job.job import Job, job_output_to_stderr
from batcher.nouns import current_nouns
from batcher.plan.checks import build_todays_version, find_outdated_lines
from batcher.plan.options import load_plan_options
from batcher.plan.previewing import (
    LinePreview,
    PreparerOf,
    find_similar_ids,
    find_table_artists,
    find_urgent_artist,
    preview_planned_rows,
    preview_table_artists,
    sample_table_artists,
    spread_ranks,
)
from batcher.plan.rows import RowPreparer, find_unused_columns
from batcher.state.db.transaction import Transaction
from batcher.state.reports.rows import (
    PlannedRow,
    count_lines_to_send,
    load_most_urgent_row,
    load_planned_rows,
    load_rows_by_length,
)
from batcher.state.reports.status import find_similar_artists
from batcher.state.versions import (
    find_version_number,
    load_prompt_numbers,
    load_versions,
)
from batcher.views.preview import draw_previews, preview_to_json, price_line

if TYPE_CHECKING:
    from batcher.contracts.planning import PreviewAnswer


def run_preview(
    session: Session, artist_ids: Sequence[str], sample: int | None, table: Path | None
) -> "CommandAnswer[PreviewAnswer]":
    """Show the requests of these artists; else of `sample` ones from the shortest row to the longest; else of the most
    urgent one.

    table: the rows are read from it; None: from the plan, and what it does not have from the table of the last plan.
    Raises InputError for an artist that neither has.
    """
    if artist_ids and sample is not None:
        rows = current_nouns().rows
        raise InputError(f"{rows} and --sample are both given; name the {rows}, or let --sample choose them")
    job = session.load_job()
    with TokenCounter() as counter, job_output_to_stderr(), _open_plan(session) as tx:
        today = build_todays_version(session.config, job, counter)
        look = _Look(session, job, today, _keep_preparers(session, job, counter), None if table else tx, table)
        previews = look.preview_artists(list(dict.fromkeys(artist_ids)), sample)
        name, notes = session.name_service(tx), look.describe_plan()
    unused = _read_unused_columns(look.table, job, notes)
    notes += filter(None, [find_cache_problem(session.config)])
    lines = [price_line(preview, resolve_prices) for preview in previews]

    def describe() -> "PreviewAnswer":
        from batcher.contracts.planning import PreviewAnswer

        return PreviewAnswer.model_validate({**name.to_json(), **preview_to_json(lines, look.table, unused, notes)})

    return CommandAnswer(
        lambda: draw_previews(name.describe(), lines, look.table, unused, notes),
        describe,
    )


@contextmanager
def _open_plan(session: Session) -> Iterator[Transaction | None]:
    """Open the plan for reading; None where there is none."""
    if not session.store.exists():
        yield None
        return
    with session.store.read_transaction() as tx:
        yield tx


def _keep_preparers(session: Session, job: Job, counter: TokenCounter) -> PreparerOf:
    """Return what makes the preparer of a version once: its constant part is counted then."""
    made: list[RowPreparer] = []

    def find_preparer(version: JobVersion) -> RowPreparer:
        preparer = next((each for each in made if each.version == version), None)
        if preparer is None:
            preparer = RowPreparer(session.config, job, version, counter)
            made.append(preparer)
        return preparer

    return find_preparer


def _read_unused_columns(table: Path, job: Job, notes: list[str]) -> list[str]:
    """Return the columns that the job does not use; where the table cannot be read, say so in the notes."""
    try:
        return find_unused_columns(table, job)
    except InputError as error:
        notes.append(f"The table was not looked at: {error}.")
        return []


class _Look:
    """One look: where the rows come from, and the lines that they become."""

    def __init__(
        self,
        session: Session,
        job: Job,
        today: JobVersion,
        preparer_of: PreparerOf,
        tx: Transaction | None,
        table: Path | None,
    ) -> None:
        """tx: of the plan that rows are taken from; None: none are."""
        self._job, self._today, self._preparer_of, self._tx = job, today, preparer_of, tx
        kept = load_plan_options(tx, session.store.folder) if tx is not None else None
        self.table = table or (kept or configured_tables(session)).input

    def preview_artists(self, artist_ids: Sequence[str], sample: int | None) -> list[LinePreview]:
        """Return the lines that are to be shown."""
        if artist_ids:
            return self._preview_named_artists(artist_ids)
        rows = self._choose_planned_rows(sample)
        if rows:
            return self._preview_planned(rows)
        if sample is not None:
            return preview_table_artists(
                sample_table_artists(self.table, self._job, sample), self._preparer_of(self._today)
            )
        return preview_table_artists([find_urgent_artist(self.table, self._job)], self._preparer_of(self._today))

    def _choose_planned_rows(self, sample: int | None) -> list[PlannedRow]:
        if self._tx is None:
            return []
        if sample is None:
            row = load_most_urgent_row(self._tx)
            return [row] if row else []
        return load_rows_by_length(self._tx, spread_ranks(count_lines_to_send(self._tx), sample))

    def _preview_named_artists(self, artist_ids: Sequence[str]) -> list[LinePreview]:
        planned = load_planned_rows(self._tx, artist_ids) if self._tx is not None else []
        lines = {line.artist_id: line for line in self._preview_planned(planned)}
        missing = [artist_id for artist_id in artist_ids if artist_id not in lines]
        if missing:
            found = find_table_artists(self.table, self._job, missing)
            unknown = [artist_id for artist_id in missing if artist_id not in found]
            if unknown:
                raise InputError(self._describe_unknown(unknown[0]))
            fresh = preview_table_artists([found[artist_id] for artist_id in missing], self._preparer_of(self._today))
            lines.update(zip(missing, fresh, strict=True))
        return [lines[artist_id] for artist_id in artist_ids]

    def _describe_unknown(self, artist_id: str) -> str:
        nouns = current_nouns()
        places = (
            f"{self.table} has no {nouns.row}"
            if self._tx is None
            else f"neither the plan nor {self.table} has {nouns.a_row}"
        )
        similar = find_similar_artists(self._tx, artist_id) if self._tx else []
        similar = similar or find_similar_ids(self.table, self._job, artist_id)
        return f"{places} {artist_id!r}{describe_similar_artists(similar)}"

    def _preview_planned(self, rows: Sequence[PlannedRow]) -> list[LinePreview]:
        """Return the lines of planned artists: as they were planned where that asks today's prompt, else as today's."""
        if self._tx is None:
            return []
        versions, prompts = load_versions(self._tx), load_prompt_numbers(self._tx)
        prompt = prompts.get(find_version_number(self._tx, self._today))
        same = {number: version for number, version in versions.items() if prompts[number] == prompt}
        return preview_planned_rows(rows, same, self._today, self._preparer_of)

    def describe_plan(self) -> list[str]:
        """Return a note where unsent lines were planned with another version of the job."""
        if self._tx is None:
            return []
        sentence = find_outdated_lines(self._tx, self._today)
        return [f"Shown is what the job asks now: {sentence}."] if sentence else []
