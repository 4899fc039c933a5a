"""Drawing the pilot of a plan: which of its lines are cut into shards of their own, in front of all others."""

from typing import NamedTuple

from batcher.core.sampling import draw_sample
from batcher.state import pilots
from batcher.state.db.transaction import Transaction


class PilotWish(NamedTuple):
    """The pilot that is asked for. fewest: with fewer lines in the plan there is none."""

    lines: int
    seed: int
    fewest: int = 1
    retries: bool = True
    """Whether lines that were sent before and are ready again are cut again for it; else they stay as they were, but
    those that have today's version and were never sent with it."""


def draw_pilot(tx: Transaction, wish: PilotWish | None, version: int) -> int | None:
    """Draw a pilot from the staged lines of a plan, and record it; return its number, None where there is none."""
    if wish is None:
        return None
    candidates = list(pilots.load_sample_candidates(tx))
    if len(candidates) < wish.fewest:
        return None
    drawn = draw_sample(candidates, wish.lines, wish.seed)
    return pilots.record_pilot(tx, version, wish.lines, wish.seed, drawn)
