"""`batcher plan`, with its progress."""

import time
from contextlib import nullcontext
from pathlib import Path

from rich.console import Group
from rich.text import Text

from batcher.catalog.prices import resolve_prices
from batcher.catalog.tokens import TokenCounter
from batcher.cli.base.answer import CommandAnswer
from batcher.cli.base.session import Session
from batcher.plan.checks import check_price_known
from batcher.plan.planner import PlanOptions, plan_job
from batcher.plan.rows import find_unused_columns
from batcher.views.plan import draw_plan, plan_to_json, summarise_plan


def configured_options(session: Session) -> PlanOptions:
    """Return what the settings say is to be planned."""
    job = session.config.job
    return PlanOptions(job.input, Path(job.done) if job.done else None)


def run_plan(session: Session, options: PlanOptions) -> CommandAnswer:
    """Plan, and report the whole plan as it stands then."""
    config, job = session.config, session.load_job()
    with TokenCounter() as counter, session.display.show_progress("reading"):
        check_price_known(config, config.model.name, resolve_prices)
        result, report = plan_job(config, job, session.store, options, counter, session.display.report_progress)
    unused = find_unused_columns(options.input, job)
    summary = summarise_plan(report, config, resolve_prices, time.time(), unused)
    # A rehearsal of a plan leaves no state.
    with session.store.read_transaction() if session.store.exists() else nullcontext() as tx:
        name = session.name_service(tx)
    drawn = Group(Text(name.describe()), draw_plan(result, report, summary))
    return CommandAnswer(drawn, {**name.to_json(), **plan_to_json(result, report, summary)})
