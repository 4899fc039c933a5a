"""The number of examples of a property: in `make test`, in `make soak`, and in `make mutation`."""

import os

from hypothesis import HealthCheck, settings

SOAK = 20 if os.environ.get("HYPOTHESIS_SOAK") == "1" else 1
FEW = os.environ.get("HYPOTHESIS_FEW") == "1"
"""Whether the tests are run once for each of some thousand changes to the code: few examples, and always the same."""


def examples(count: int) -> settings:
    """Return settings for `count` examples, twenty times as many in `make soak`, that do not fail on a busy machine."""
    slow = [HealthCheck.too_slow]
    number = max(20, count // 50) if FEW else count * SOAK
    return settings(max_examples=number, deadline=None, database=None, suppress_health_check=slow, derandomize=FEW)
