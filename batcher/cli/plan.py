"""`batcher plan`, with its progress."""

import time
from pathlib import Path

from batcher.catalog.prices import resolve
from batcher.catalog.tokens import TokenCounter
from batcher.cli.session import Session
from batcher.plan.checks import check_price
from batcher.plan.planner import PlanOptions, PlanReport, PlanResult, plan
from batcher.views.plan import PlanSummary, summarise_plan


def configured(session: Session) -> PlanOptions:
    """What the settings say is to be planned."""
    job = session.config.job
    return PlanOptions(job.input, Path(job.done) if job.done else None)


def run_plan(session: Session, options: PlanOptions) -> tuple[PlanResult, PlanReport, PlanSummary]:
    """Plans and sums up."""
    config = session.config
    with TokenCounter() as counter, session.display.moving("reading"):
        check_price(config, config.model.name, resolve)
        result, report = plan(config, session.job(), session.store, options, counter, session.display.count)
    return result, report, summarise_plan(report, config, resolve, time.time())
