"""How many calls the direct lane makes at once: a fixed number, or one that adapts. Pure."""

import math
from collections.abc import Mapping
from typing import NamedTuple

WORKERS: Mapping[str, int] = {"conservative": 2, "moderate": 4, "aggressive": 8}
"""Calls in progress at the same time, by the name of the setting."""

AUTO = "auto"
"""The setting with which the number of workers adapts to the limits."""

FEWEST_WORKERS, MOST_WORKERS = 2, 16
"""The bounds of a recommended and of an adapting number of workers."""

LINES_PER_WORKER_S = 0.75
"""Lines that one worker does in a second, until it is measured here. An earlier run did 240 a minute with 4 workers;
its plan assumed 0.75."""


def parse_workers(setting: str | int) -> str | int:
    """Return the setting, with a number that was given as text as a number. Raises ValueError for an invalid one."""
    if isinstance(setting, str) and setting.isdecimal():
        setting = int(setting)
    if setting in WORKERS or setting == AUTO or (isinstance(setting, int) and 1 <= setting <= MOST_WORKERS):
        return setting
    raise ValueError(f"workers are {', '.join(WORKERS)}, {AUTO}, or a number from 1 to {MOST_WORKERS}")


def recommend_workers(lines: int, hours: float, per_worker_s: float = LINES_PER_WORKER_S) -> int:
    """Return the workers that do `lines` lines in `hours` hours: rounded up, from 2 to 16.

    per_worker_s: lines that one worker does in a second.
    """
    needed = lines / (hours * 3600.0) / per_worker_s if hours > 0 and per_worker_s > 0 else math.inf
    return FEWEST_WORKERS if needed <= FEWEST_WORKERS else math.ceil(min(needed, MOST_WORKERS))


class Workers(NamedTuple):
    """How many calls may be in progress at the same time: a fixed number, or one that adapts."""

    workers: int
    """Calls in progress at most."""
    adapts: bool = False
    """Whether the number follows successes and refusals."""
    successes: int = 0
    """Successful calls since the number last changed, or since the last refusal."""

    def after_success(self, has_room: bool) -> "Workers":
        """Return the workers after a call that was answered: one more when each has succeeded once.

        has_room: nothing had to wait for a window of the minute since that call was sent.
        """
        successes = self.successes + 1
        if self.adapts and has_room and successes >= self.workers and self.workers < MOST_WORKERS:
            return Workers(self.workers + 1, self.adapts)
        return self._replace(successes=successes)

    def after_refusal(self) -> "Workers":
        """Return the workers after a call that was refused for its rate: half of them, at least 1."""
        return Workers(max(1, self.workers // 2) if self.adapts else self.workers, self.adapts)


def build_workers(setting: str | int) -> Workers:
    """Return the workers of a setting: a name, a number, or `auto`."""
    if setting == AUTO:
        return Workers(FEWEST_WORKERS, adapts=True)
    return Workers(WORKERS[setting] if isinstance(setting, str) else setting)
