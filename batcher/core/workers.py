"""How many calls the direct lane makes at once: a setting, or a number that finds itself. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

WORKERS: Mapping[str, int] = {"conservative": 2, "moderate": 4, "aggressive": 8}
"""Calls at once, by name."""
AUTO = "auto"
FEWEST_WORKERS, MOST_WORKERS = 2, 16
LINES_PER_WORKER_S = 0.75
"""Lines that one worker does in a second, before it is measured here (an earlier run: 240 a minute with 4; its plan
counted with 0.75)."""


def check_workers(wanted: str | int) -> str | int:
    """The setting, with a number that came as text as a number. Raises ValueError for what is none."""
    if isinstance(wanted, str) and wanted.isdecimal():
        wanted = int(wanted)
    if wanted in WORKERS or wanted == AUTO or (isinstance(wanted, int) and 1 <= wanted <= MOST_WORKERS):
        return wanted
    raise ValueError(f"workers are {', '.join(WORKERS)}, {AUTO}, or a number from 1 to {MOST_WORKERS}")


def recommended_workers(lines: int, hours: float, per_worker_s: float = LINES_PER_WORKER_S) -> int:
    """Workers that do so many lines in so many hours: rounded up, 2 at least and 16 at most."""
    needed = lines / (hours * 3600.0) / per_worker_s if hours > 0 and per_worker_s > 0 else math.inf
    return FEWEST_WORKERS if needed <= FEWEST_WORKERS else math.ceil(min(needed, MOST_WORKERS))


@dataclass(slots=True)
class Crew:
    """How many calls run at once: a fixed number, or one that finds its own."""

    workers: int
    adapts: bool = False
    _succeeded: int = 0
    """Successes since the number last changed."""

    def succeeded(self, room: bool) -> None:
        """A call was answered. room: nothing had to wait for a window since."""
        self._succeeded += 1
        if self.adapts and room and self._succeeded >= self.workers and self.workers < MOST_WORKERS:
            self.workers += 1
            self._succeeded = 0

    def refused(self) -> None:
        """A call was refused for its rate: half of them."""
        if self.adapts:
            self.workers = max(1, self.workers // 2)
        self._succeeded = 0


def crew_of(wanted: str | int) -> Crew:
    """The crew of a setting: a name, a number, or `auto`."""
    if wanted == AUTO:
        return Crew(FEWEST_WORKERS, adapts=True)
    return Crew(WORKERS[wanted] if isinstance(wanted, str) else wanted)
