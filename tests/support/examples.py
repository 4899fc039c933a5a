"""How many examples a property takes, in `make test` and in `make soak`."""

import os

from hypothesis import HealthCheck, settings

SOAK = 20 if os.environ.get("HYPOTHESIS_SOAK") == "1" else 1


def examples(count: int) -> settings:
    """So many examples, twenty times as many in `make soak`, and no verdict that hangs on how busy the machine is."""
    slow = [HealthCheck.too_slow]
    return settings(max_examples=count * SOAK, deadline=None, database=None, suppress_health_check=slow)
