"""`report`: the job as one page; and the page of a run, rewritten while it lasts."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from batcher.collect.report_file import check_report_target, write_report_file
from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.session import Session
from batcher.errors import BatcherError
from batcher.nouns import current_nouns
from batcher.state.reports.report import ReportData, read_report
from batcher.state.snapshot import load_saved_prices
from batcher.views.report.page import build_page
from batcher.views.sheet import format_usd

if TYPE_CHECKING:
    from batcher.contracts.results import ReportAnswer
    from batcher.core.actions import Action
    from batcher.core.snapshot import Snapshot
    from batcher.lanes.batch.runner import Decide

REPORT_EVERY_S = 300.0
"""Seconds after which the page of a run is rewritten."""
REFRESH_S = 60
"""Seconds after which the page of a run loads itself again."""


class WrittenReport(NamedTuple):
    """A report that was written, and its size in bytes."""

    data: ReportData
    size: int


def run_report(session: Session, out: Path, overwrite: bool) -> "CommandAnswer[ReportAnswer]":
    """Write the job as a page. Raises InputError where the file is not ours to replace, StateError without a plan."""
    check_report_target(session.store, out, overwrite)
    data, size = write_report(session, out, overwrite)
    dead, held = (data.status.states.get(state, 0) for state in ("dead", "held"))
    spent = data.status.costs.spent

    def describe() -> "ReportAnswer":
        from batcher.contracts.results import ReportAnswer

        return ReportAnswer(path=str(out), bytes=size, bios=data.bios, dead=dead, held=held, spent=spent)

    price = f"{format_usd(spent)} spent" if spent is not None else "price unknown"
    lost = "".join(f", {count:,} {state}" for count, state in ((dead, "dead"), (held, "held")) if count)
    bios = current_nouns().count_answers(data.bios)
    return CommandAnswer(lambda: Text(f"Report written to {out}: {bios}{lost}, {price}."), describe)


def write_report(session: Session, out: Path, overwrite: bool, refresh_s: int = 0) -> WrittenReport:
    """Write the page; the target was checked. refresh_s: as for `build_page`."""
    with session.store.read_transaction() as tx:
        data = read_report(tx, session.config, partial(load_saved_prices, tx))
        name = session.name_service(tx)
    page = build_page(data, session.config.job.path.name, name.describe(), refresh_s if data.is_open else 0)
    return WrittenReport(data, write_report_file(session.store, out, page, overwrite))


class RunReport:
    """The page of a run: rewritten every few minutes, and once more at the end. out: None writes none.

    A page that cannot be written ends no run: that is printed, once.
    """

    def __init__(self, session: Session, out: Path | None, overwrite: bool) -> None:
        self._session, self._out, self._overwrite = session, out, overwrite
        self._written_at: float | None = None

    def check_target(self) -> None:
        """Raise InputError where the page could not be written, or would replace a file that is not ours."""
        if self._out is not None:
            check_report_target(self._session.store, self._out, self._overwrite)

    def follow(self, how: "Decide") -> "Decide":
        """Return `how`, by which the batch lane decides each round; it writes the page whenever it is due."""
        if self._out is None:
            return how

        def decide(snapshot: "Snapshot", now: float) -> "list[Action]":
            if self._written_at is None or not 0 <= now - self._written_at < REPORT_EVERY_S:
                self._written_at = now  # one that cannot be written is not tried again each round
                self._write(REFRESH_S)
            return how(snapshot, now)

        return decide

    def write_first(self) -> None:
        """Write the page of what was planned."""
        self._write(REFRESH_S)

    def write_last(self) -> None:
        """Write the page as it stays."""
        self._write(0)

    def _write(self, refresh_s: int) -> None:
        if self._out is None or not self._session.store.exists():
            return
        try:
            self._written_at = write_report(self._session, self._out, self._overwrite, refresh_s).data.status.now
        except BatcherError as error:
            self._session.display.print_once(f"the report was not written: {error}")
