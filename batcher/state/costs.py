"""Money: reserved, spent, saved and wasted, of the job, of each shard and of one artist."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from batcher.catalog.prices import ModelPrices, PriceOf
from batcher.core.model import JobVersion, TokenUsage
from batcher.state.db.transaction import Transaction


class Spending(NamedTuple):
    """What counts against the budget, in dollars."""

    spent_usd: float
    in_flight_usd: float
    """The most that what is in flight may cost, or was given up and may have been paid."""


class Costs(NamedTuple):
    """Dollars; None where a price is not known. `shard` is None for more than one, and for the direct lane."""

    shard: int | None
    bios: int
    reserved: float | None
    """The most that what is in flight may cost, or was given up and may have been paid."""
    spent: float | None
    wasted: float | None
    """The part of `spent` that was paid for answers that gave no bio, or a second one."""
    saved: float | None
    """The difference from the standard price of the same tokens."""


class _Reservation(NamedTuple):
    """The dollars reserved for a shard, for the direct lane, or for everything in flight."""

    shard: int | None
    usd: float
    unpriced: bool
    """Whether the price of a part of it is not known, so that nothing was reserved for that part."""


class _ShardAttempts(NamedTuple):
    """What the tries of one shard (None: those of the direct lane) have cost."""

    shard: int | None
    version: int | None
    bios: int
    spent: float
    wasted: float
    unpriced: int
    """Tries that used tokens whose price was not known."""
    batch_input: int
    batch_cached: int
    batch_output: int
    batch_written: int
    batch_usd: float
    """The tokens of `batch_*` were billed at batch rates."""


def load_spending(tx: Transaction, factor: float = 0.0) -> Spending:
    """Return the dollars spent and in flight.

    factor: reserved tokens of one counted token, by what is known now; what was reserved by a lower one counts as if it
    were reserved now. 0: as it was reserved.
    """
    in_flight = _load_reservations(tx, by_shard=False, factor=factor)
    return Spending(float(tx.fetch_one("money_spent")[0]), in_flight[0].usd if in_flight else 0.0)


def load_budget_spending(tx: Transaction, max_usd: float, factor: float) -> Spending:
    """Return what counts against a budget; zeros where it has no bound (0): the sum reads every attempt of the job.

    factor: as for `load_spending`.
    """
    return load_spending(tx, factor) if max_usd > 0 else Spending(0.0, 0.0)


def costs_by_shard(
    tx: Transaction, versions: Mapping[int, JobVersion], price_of: PriceOf, artist_id: str | None = None
) -> list[Costs]:
    """Return the costs of every shard that has cost anything or may, in order, those of the direct lane last.

    artist_id: count the line of this artist alone.
    """
    in_flight = {
        reserved.shard: None if reserved.unpriced else reserved.usd
        for reserved in _load_reservations(tx, by_shard=True, artist_id=artist_id)
    }
    found = []
    for row in tx.fetch_all("money_by_shard", artist_id=artist_id):
        paid = _ShardAttempts(*row)
        prices = price_of(versions[paid.version].model) if paid.version is not None else None
        saved = _saved_by_batch(paid, prices) if paid.batch_input or paid.batch_output else 0.0
        spent, wasted = (None, None) if paid.unpriced else (float(paid.spent), float(paid.wasted))
        found.append(Costs(paid.shard, int(paid.bios), in_flight.pop(paid.shard, 0.0), spent, wasted, saved))
    found += [Costs(shard, 0, usd, 0.0, 0.0, 0.0) for shard, usd in in_flight.items()]
    return sorted(found, key=lambda costs: (costs.shard is None, costs.shard or 0))


def _saved_by_batch(paid: _ShardAttempts, prices: ModelPrices | None) -> float | None:
    """Return the dollars that the same tokens would have cost more at the standard rates; None where they are unknown.

    It is a share of what was paid: long requests are dearer by the same factors in both lanes.
    """
    if prices is None:
        return None
    used = TokenUsage(
        int(paid.batch_input), int(paid.batch_cached), int(paid.batch_output), written=int(paid.batch_written)
    )
    return float(paid.batch_usd) * (prices.standard.summed_cost(used) / prices.batch.summed_cost(used) - 1)


def _load_reservations(
    tx: Transaction, by_shard: bool, artist_id: str | None = None, factor: float = 0.0
) -> list[_Reservation]:
    """Return what is reserved, as one sum or by shard; empty where nothing is. artist_id: for this line alone."""
    rows = tx.fetch_all("money_in_flight", by_shard=by_shard, artist_id=artist_id, factor=factor)
    return [_Reservation(shard, float(usd), bool(unpriced)) for shard, usd, unpriced in rows]


def sum_costs(costs: Iterable[Costs]) -> Costs:
    """Return the sum; an amount that is not known of one is not known of the sum."""
    parts = list(costs)

    def sum_amounts(amounts: Iterable[float | None]) -> float | None:
        known = list(amounts)
        return None if None in known else sum((n for n in known if n is not None), 0.0)

    return Costs(
        shard=None,
        bios=sum(part.bios for part in parts),
        reserved=sum_amounts(part.reserved for part in parts),
        spent=sum_amounts(part.spent for part in parts),
        wasted=sum_amounts(part.wasted for part in parts),
        saved=sum_amounts(part.saved for part in parts),
    )
