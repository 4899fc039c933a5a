"""The truth about the money: reserved, spent, saved and wasted, of the job, of each shard and of one artist."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from batcher.catalog.prices import PriceOf
from batcher.core.model import JobVersion, TokenUsage
from batcher.state.db.transaction import Transaction


class Costs(NamedTuple):
    """Dollars; None where a price is not known. `shard` is None for more than one, and for the direct lane."""

    shard: int | None
    bios: int
    reserved: float | None
    """The most that what is in flight may cost, or was given up and may have been paid."""
    spent: float | None
    wasted: float | None
    """Of that on answers that gave no bio, or a second one."""
    saved: float | None
    """Against the standard price of the same tokens."""


def costs_by_shard(
    tx: Transaction, versions: Mapping[int, JobVersion], price_of: PriceOf, artist_id: str | None = None
) -> list[Costs]:
    """The costs of every shard that cost anything, or may; artist_id: of this artist's line alone."""
    in_flight: dict[int, float | None] = dict(tx.fetch_all("reserved_by_shard", artist_id=artist_id))
    found = []
    for shard, version, bios, spent, wasted, unpriced, *tokens in tx.fetch_all("money_by_shard", artist_id=artist_id):
        prices = price_of(versions[version].model) if version is not None else None
        used = TokenUsage(*(int(n) for n in tokens))
        saved = 0.0 if used == TokenUsage() else None
        if prices is not None:
            saved = prices.standard.usage_cost(used) - prices.batch.usage_cost(used)
        known = (None, None) if unpriced else (float(spent), float(wasted))
        found.append(Costs(shard, int(bios), in_flight.pop(shard, 0.0), known[0], known[1], saved))
    found += [Costs(shard, 0, usd, 0.0, 0.0, 0.0) for shard, usd in in_flight.items()]
    return sorted(found, key=lambda c: (c.shard is None, c.shard or 0))


def sum_costs(costs: Iterable[Costs]) -> Costs:
    """The sum; what is not known of one is not known of all."""
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
