"""Everything that a lane depends on: store, service, job, settings, clock.

Clock, jitter and sleep are passed in, so that a week can be simulated.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from batcher.catalog.prices import PriceOf
from batcher.config.sections import Config
from batcher.config.services import find_service_profile
from batcher.core.events import Event
from batcher.core.failures import FailureClass
from batcher.core.retry import Jitter, RetryRules, delay_after_call_failure, delay_after_failure
from batcher.job.job import Job
from batcher.service.profiles import ServiceProfile
from batcher.service.service import Service
from batcher.state.db.store import Store
from batcher.state.quota_pauses import QuotaRule


@dataclass(frozen=True, slots=True)
class LaneContext:
    """The dependencies and settings of one acting process."""

    store: Store
    service: Service
    job: Job
    config: Config
    rules: RetryRules
    prices: PriceOf
    jitter: Jitter
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    notify: Callable[[Event], None] = lambda _event: None
    """Is called with each event; the views put it into words."""
    interrupted: Callable[[], bool] = lambda: False
    """Returns whether the user asked to end at the next safe point."""

    @property
    def profile(self) -> ServiceProfile:
        """What the service is like."""
        return find_service_profile(self.config)

    @property
    def quota_rule(self) -> QuotaRule:
        """How quota failures are handled under these settings."""
        return QuotaRule(self.rules, self.jitter, self.config.pause.duration_hours * 3600)

    def next_delay_seconds(self, failure: FailureClass, n: int, wait_s: float | None = None) -> float:
        """Return the seconds before retry `n` of a class; a Retry-After (`wait_s`) wins, with up to 5 s on top."""
        return delay_after_failure(self.rules, failure, n, self.jitter(), wait_s)

    def next_call_delay_seconds(self, n: int, wait_s: float | None = None) -> float:
        """Return the seconds before a call that has failed `n` times in a row is retried."""
        return delay_after_call_failure(self.rules, n, self.jitter(), wait_s)
