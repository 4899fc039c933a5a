"""Cutting what is unsent again with a pilot in front, for `pilot` and `run`."""

from batcher.catalog.tokens import TokenCounter
from batcher.config.sections import Config
from batcher.job.job import Job, job_output_to_stderr
from batcher.plan.checks import build_todays_version
from batcher.plan.options import PlanOptions
from batcher.plan.pilot_draw import PilotWish
from batcher.plan.planner import Planner, Progress
from batcher.plan.rows import RowPreparer
from batcher.state.db.store import Store


def recut_with_pilot(
    config: Config, job: Job, store: Store, wish: PilotWish, counter: TokenCounter, progress: Progress
) -> None:
    """Cut the unsent lines again as the job is today, those of a pilot in front; where nothing is unsent, nothing is.

    The rows are those that the state keeps; no table is read. Raises JobError, ConfigError or StateError; then nothing
    was changed.
    """
    preparer = RowPreparer(config, job, build_todays_version(config, job, counter), counter)
    planner = Planner(config, preparer, PlanOptions(config.job.input, pilot=wish), progress)
    with job_output_to_stderr(), store.plan_transaction() as tx:
        planner.recut_unsent(tx, store.folder, wish.retries)
