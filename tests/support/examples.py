"""The number of examples of a property, in `make test` and in `make soak`."""

import os

from hypothesis import HealthCheck, settings

SOAK = 20 if os.environ.get("HYPOTHESIS_SOAK") == "1" else 1


def examples(count: int) -> settings:
    """Return settings for `count` examples, twenty times as many in `make soak`, that do not fail on a busy machine."""
    slow = [HealthCheck.too_slow]
    return settings(max_examples=count * SOAK, deadline=None, database=None, suppress_health_check=slow)
