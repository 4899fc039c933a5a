"""What the tests of decisions about pauses share: a moment, and a pause of each kind around it."""

from batcher.core.snapshot import Pause

NOW = 1_000.0
BY_HAND = Pause("all", "by hand", 0.0, None)
DAILY = Pause("direct", "daily requests", 0.0, NOW + 500)
OVER = Pause("all", "quota", 0.0, NOW)
