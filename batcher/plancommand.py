"""`batcher plan`, with its progress."""

import time
from pathlib import Path

from batcher.planner import PlanOptions, PlanReport, PlanResult, plan
from batcher.report import PlanSummary, summarise_plan
from batcher.session import Session, prices_of


def configured(session: Session) -> PlanOptions:
    """What the settings say is to be planned."""
    job = session.config.job
    return PlanOptions(job.input, Path(job.done) if job.done else None)


def run_plan(session: Session, options: PlanOptions) -> tuple[PlanResult, PlanReport, PlanSummary]:
    """Plans and sums up."""
    config = session.config
    prices = prices_of(config)
    with session.display.moving("reading"):
        result, report = plan(config, session.job(), session.store, options, session.display.count)
    return result, report, summarise_plan(report, config, prices, time.time())
