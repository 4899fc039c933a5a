"""`batcher plan`, with its progress."""

import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from batcher.catalog.prices import resolve_prices
from batcher.catalog.tokens import TokenCounter
from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.confirm import confirm_or_refuse
from batcher.commands.base.project import read_project, record_limit_hint, set_limit_hint
from batcher.commands.base.session import Session
from batcher.errors import StateError
from batcher.nouns import current_nouns
from batcher.plan.checks import check_price_known
from batcher.plan.options import (
    NamedTables,
    PlanOptions,
    PlanWish,
    choose_plan_options,
    is_same_table,
    load_plan_options,
)
from batcher.plan.planner import plan_job
from batcher.plan.rows import find_unused_columns
from batcher.plan.tables import read_column_names
from batcher.state.reports.outlook import OpenLines
from batcher.views.plan import draw_plan, plan_to_json, summarise_plan

if TYPE_CHECKING:
    from batcher.contracts.planning import PlanAnswer


def configured_tables(session: Session) -> NamedTables:
    """Return the tables that the settings name."""
    job = session.config.job
    return NamedTables(job.input, Path(job.done) if job.done else None)


def load_last_options(session: Session) -> PlanOptions | None:
    """Return the options of the last plan; None where there is none."""
    with suppress(StateError), session.store.read_transaction() as tx:  # there may be no plan, or one that was killed
        return load_plan_options(tx, session.store.folder)
    return None


def choose_options(session: Session, wish: PlanWish, add: bool) -> PlanOptions:
    """Return what is to be planned, once the user agrees where that is another table than the last plan's.

    add: the user has agreed. Raises InputError or DecisionError where the user does not, and InputError for a table
    that cannot be read.
    """
    earlier = load_last_options(session)
    options = choose_plan_options(wish, earlier, configured_tables(session))
    if earlier is not None and not is_same_table(options.input, earlier.input):
        read_column_names(options.input)  # a name mistyped is no question
        question = (
            f"this job was planned from {earlier.input} (--input goes on with it), and {options.input} is another "
            f"table, whose {current_nouns().rows} would be added to the plan"
        )
        confirm_or_refuse(session, question, "--add", add)
    return options


def choose_run_options(session: Session, wish: PlanWish, add: bool) -> PlanOptions | None:
    """Return what `run` is to plan first; None where it only goes on with the plan of a part of the table.

    Raises as `choose_options` does.
    """
    options = choose_options(session, wish, add)
    return None if options.limit == 0 and wish == PlanWish() else options


def run_plan(session: Session, options: PlanOptions) -> "CommandAnswer[PlanAnswer]":
    """Plan, and report the whole plan as it stands then."""
    job = session.load_job()
    project = read_project(session.config)
    config = set_limit_hint(session.config, project)
    with TokenCounter() as counter, session.display.show_progress("reading"):
        check_price_known(config, config.model.name, resolve_prices)
        result, report = plan_job(config, job, session.store, options, counter, session.display.report_progress)
    if not options.dry_run:
        record_limit_hint(session.store, session.config.model.name, project)
    unused = find_unused_columns(options.input, job)
    reused = result.reused
    lines = []
    if reused.version is not None and reused.lines:
        lines.append(OpenLines(reused.version, reused.lines, reused.tokens, reused.longest))
    summary = summarise_plan(report, config, resolve_prices, time.time(), unused, lines)
    if project is not None:
        from batcher.views.project import describe_project_notes

        told = describe_project_notes(project, session.config, summary.expectation.dollars.most)
        sentences = (f"{note.sentence[:1].upper()}{note.sentence[1:]}." for note in told)
        summary = summary._replace(warnings=[*summary.warnings, *sentences])
    # A rehearsal of a plan leaves no state.
    with session.store.read_transaction() if session.store.exists() else nullcontext() as tx:
        name = session.name_service(tx)

    def describe() -> "PlanAnswer":
        from batcher.contracts.planning import PlanAnswer

        return PlanAnswer.model_validate({**name.to_json(), **plan_to_json(result, report, summary)})

    return CommandAnswer(
        lambda: Group(Text(name.describe()), draw_plan(result, report, summary)),
        describe,
    )
