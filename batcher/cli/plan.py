"""`batcher plan`, with its progress."""

import time
from pathlib import Path

from batcher.catalog.prices import resolve_prices
from batcher.catalog.tokens import TokenCounter
from batcher.cli.session import Session
from batcher.plan.checks import check_price_known
from batcher.plan.planner import PlanOptions, PlanReport, PlanResult, plan_job
from batcher.views.plan import PlanSummary, summarise_plan


def configured_options(session: Session) -> PlanOptions:
    """What the settings say is to be planned."""
    job = session.config.job
    return PlanOptions(job.input, Path(job.done) if job.done else None)


def run_plan(session: Session, options: PlanOptions) -> tuple[PlanResult, PlanReport, PlanSummary]:
    """Plans and sums up."""
    config = session.config
    with TokenCounter() as counter, session.display.show_progress("reading"):
        check_price_known(config, config.model.name, resolve_prices)
        result, report = plan_job(
            config, session.load_job(), session.store, options, counter, session.display.report_progress
        )
    return result, report, summarise_plan(report, config, resolve_prices, time.time())
