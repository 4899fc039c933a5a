"""`batcher plan`, with its progress."""

import time

from batcher.planner import PlanOptions, PlanReport, PlanResult, plan
from batcher.prices import resolve
from batcher.report import PlanSummary, summarise_plan
from batcher.session import Session


def run_plan(session: Session, options: PlanOptions) -> tuple[PlanResult, PlanReport, PlanSummary]:
    """Plans and sums up."""
    config = session.config
    with session.display.moving("reading"):
        result, report = plan(config, session.job(), session.store, options, session.display.count)
    return result, report, summarise_plan(report, config, resolve(config.model.name), time.time())
