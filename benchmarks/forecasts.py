"""How good the forecast of a running job is: its expected end at 25%, 50% and 75% of the lines, and the true end.

The simulation of `benchmarks.makespan`, with 2% of the lines retried; the forecaster sees what a running job sees
(batches that ended, the ages of the others) and does not know the law of the service times.
"""

import random
from statistics import median

from batcher.catalog.limits import lookup_tier_limit
from batcher.core.forecast import BatchInFlight, Forecast, RemainingWork, compute_forecast
from benchmarks.makespan import LAWS, MODEL, PRIORITIES, VALIDATING_S, Queue, Simulated, cut

LINES = sum(lines for _, lines in PRIORITIES)
AGAIN = 0.02
SHARES = (0.25, 0.50, 0.75)
SEEDS = 8


def load_of(run: Simulated) -> RemainingWork:
    """Return what a running job knows of itself."""
    room = run.snapshot.room
    flights = [BatchInFlight(run.reserved[s], run.shards[s].lines, run.now - at) for s, at in run.started.items()]
    unsent = sorted(run.snapshot.shards, key=lambda s: (s.priority, s.shard))
    loose = run.snapshot.loose
    return RemainingWork(
        ceiling=int(room.limit * room.threshold),
        shards=[(room.reserved_tokens(s.tokens), s.lines) for s in unsent],
        flights=flights,
        loose=(sum(room.reserved_tokens(g.tokens) for g in loose), sum(g.lines for g in loose)),
        retry_share=AGAIN,
    )


def errors(tier: int, law: str, share: float, seed: int) -> list[tuple[float, float, bool]]:
    """Return for each of SHARES how good the forecast was.

    That is the error of the expected end, relative to the whole and to the rest, and whether the interval contained the
    true end.
    """
    dice = random.Random(seed)
    limit = lookup_tier_limit(MODEL, tier) or 0
    shards = cut(limit)
    times = {s.shard: VALIDATING_S + LAWS[law](dice) for s in shards}
    run = Simulated(shards, Queue(limit, int(limit * share), times), dice, AGAIN, LAWS[law])
    told: list[tuple[float, Forecast]] = []

    def look() -> None:
        while len(told) < len(SHARES) and run.lines_done >= SHARES[len(told)] * LINES:
            told.append((run.now, compute_forecast(load_of(run), sorted(run.times))))

    run.to_its_end(look)
    found = []
    for at, view in told:
        left = max(run.last - at, 1.0)
        off = abs(view.expected_s - left)
        found.append((off / run.last, off / left, view.best_s <= left <= view.worst_s))
    return found


def show() -> None:
    """Print the table."""
    print(f"Error of the expected end (median of {SEEDS} seeds), to the whole job and to what is left of it:\n")
    print("| tier | service time | others hold | at 25%: whole | left | at 50%: whole | left | at 75%: whole | left |")
    print("|" + "---|" * 9)
    everything: list[list[tuple[float, float, bool]]] = [[] for _ in SHARES]
    for tier in (1, 2, 3, 4):
        for law in LAWS:
            for share in (0.0, 0.3):
                per_seed = [errors(tier, law, share, seed) for seed in range(SEEDS)]
                cells = []
                for place in range(len(SHARES)):
                    found = [seed[place] for seed in per_seed]
                    everything[place] += found
                    cells += [f"{median(f[k] for f in found):.0%}" for k in (0, 1)]
                print("| " + " | ".join([str(tier), law, f"{share:.0%}", *cells]) + " |")
    for share, found in zip(SHARES, everything, strict=True):
        inside = sum(f[2] for f in found) / len(found)
        print(
            f"\nat {share:.0%}: median {median(f[0] for f in found):.1%} of the whole, "
            f"{median(f[1] for f in found):.1%} of what is left; "
            f"the true end lay between best and worst in {inside:.0%}"
        )


if __name__ == "__main__":
    show()
