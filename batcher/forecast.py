"""How long it will take: waves through the headroom, best and worst, against the deadline. Pure.

Before anything is measured the assumptions are OpenAI's word (a batch ends within 24 hours) and a good day (1 hour).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from batcher.planning import waves

BEST_BATCH_S = 3600.0
WORST_BATCH_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds from now to the end, and what they rest on."""

    waves: int
    best_s: float
    worst_s: float
    measured: bool


def forecast(shard_reserved: Sequence[int], ceiling: int, service_times: Sequence[float] = ()) -> Forecast:
    """The forecast for shards of these reserved tokens under limit x threshold.

    service_times: seconds of this run's completed batches, in rising order; their quartiles replace the assumptions.
    """
    count = waves(shard_reserved, max(ceiling, 1))
    best, worst = BEST_BATCH_S, WORST_BATCH_S
    measured = len(service_times) >= 4
    if measured:
        best = service_times[len(service_times) // 4]
        worst = max(service_times[-1], service_times[(3 * len(service_times)) // 4])
    return Forecast(count, count * best, count * worst, measured)
