"""What the job has used and cost by Batcher's own count, and from when to when, for `bill`."""

from typing import NamedTuple

from batcher.state.db.transaction import Transaction


class CountedUsage(NamedTuple):
    """The tokens and dollars of one model in one lane, by the usage that the answers told."""

    model: str
    lane: str
    requests: int
    """Answers that were paid for."""
    input: int
    cached: int
    written: int
    output: int
    usd: float | None
    """None: the price of the model is not known."""


class BillSpan(NamedTuple):
    """From when to when the service worked at the job (epoch seconds): by its clock where batches have times of it."""

    start: float
    end: float


def load_counted_usage(tx: Transaction) -> list[CountedUsage]:
    """Return what was used and paid, by model and lane."""
    found = []
    for model, lane, requests, whole, cached, written, output, usd, unpriced in tx.fetch_all("counted_usage"):
        paid = None if unpriced else float(usd)
        found.append(CountedUsage(model, lane, int(requests), int(whole), int(cached), int(written), int(output), paid))
    return found


def load_bill_span(tx: Transaction) -> BillSpan:
    """Return the span of the job; where nothing was answered yet it ends with now."""
    start, end = tx.fetch_one("bill_span")
    return BillSpan(float(start or tx.now), float(end or tx.now))
