"""When the job is expected to end and what it will still cost, against the deadline and the budget."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from batcher.catalog.limits import lookup_tier_limit
from batcher.catalog.prices import ModelPrices, PriceOf
from batcher.config import Config
from batcher.core.forecast import MAX_RETRY_SHARE, Forecast, compute_forecast, count_fitting_lines
from batcher.core.model import TokenUsage
from batcher.core.pacing import MOST_WORKERS, recommend_workers
from batcher.core.room import MeasuredUsage
from batcher.state.outlook import OpenLines, Outlook
from batcher.state.snapshot import compute_charge

ASSUMED_OUTPUT_SHARES = (0.25, 0.5)
"""The shares of max_output_tokens that an answer is assumed to use at best and most likely, before any is measured."""

TIERS = 5

LATER = "a later [deadline], or fewer artists"


class CostForecast(NamedTuple):
    """What is still to be sent may cost, beside what is spent and in flight; None for an unknown price."""

    best: float | None
    expected: float | None
    most: float | None
    """Every answer at max_output_tokens, and as many lines paid for again as so far."""
    standard: float | None
    """The expected amount at the standard price."""


class Expectation(NamedTuple):
    """When it will have ended and what it will still cost, against the deadline."""

    forecast: Forecast
    dollars: CostForecast
    deadline_s: float
    """Seconds until the deadline; negative when it is past."""
    advice: Sequence[str]
    """What would help where the expected end is past the deadline."""
    measured: MeasuredUsage
    waits_for_user: bool


def build_expectation(outlook: Outlook, config: Config, price_of: PriceOf, now: float) -> Expectation:
    """The expectation of this moment."""
    view = compute_forecast(outlook.load, outlook.ended_s)
    deadline_s = outlook.planned_at + config.deadline.hours * 3600 - now
    return Expectation(
        forecast=view,
        dollars=_forecast_cost(outlook, price_of),
        deadline_s=deadline_s,
        advice=_deadline_advice(outlook, config, deadline_s) if view.expected_s > deadline_s else (),
        measured=outlook.measured,
        waits_for_user=outlook.waits_for_user,
    )


def _forecast_cost(outlook: Outlook, price_of: PriceOf) -> CostForecast:
    """The price of the lines that are neither sent nor ended, each at that of its version."""
    parts = [(part, price_of(part.version.model)) for part in outlook.open]
    known = [_forecast_part_cost(part, outlook, prices) for part, prices in parts if prices is not None]
    if len(known) < len(parts):
        return CostForecast(None, None, None, None)
    best, expected, most, standard = (sum(amounts) for amounts in zip((0.0,) * 4, *known, strict=True))
    return CostForecast(best, expected, most, standard)


def _forecast_part_cost(part: OpenLines, outlook: Outlook, prices: ModelPrices) -> tuple[float, float, float, float]:
    """Best, expected, most (as the budget reserves it), and expected at the standard price."""
    seen, most = outlook.measured, part.version.max_output_tokens
    charge = compute_charge(part.version, prices, outlook.room)
    if seen.has_enough_lines:
        low = middle = min(most, seen.output / seen.executed)
        cached = seen.cached / max(seen.input, 1)
    else:
        low, middle = (share * most for share in ASSUMED_OUTPUT_SHARES)
        cached = 0.0
    # What expired, met a rate limit or an error of the server's goes again too, but nobody paid for it.
    paid = 1 / (1 - min(seen.paid_retry_share, MAX_RETRY_SHARE))

    def estimate_usage(output: float, factor: float, cached_share: float) -> TokenUsage:
        tokens = int(part.tokens * seen.token_ratio * factor)
        return TokenUsage(tokens, int(tokens * cached_share), int(part.lines * output * factor))

    expected = estimate_usage(middle, paid, cached)
    return (
        prices.batch.usage_cost(estimate_usage(low, 1.0, cached)),
        prices.batch.usage_cost(expected),
        (part.tokens * charge.usd_per_token + part.lines * charge.usd_per_line) * paid,
        prices.standard.usage_cost(expected),
    )


def _deadline_advice(outlook: Outlook, config: Config, deadline_s: float) -> list[str]:
    """What would bring the expected end before the deadline."""
    if deadline_s <= 0:
        return [LATER]
    found = []
    tiers = [(lookup_tier_limit(config.model.name, tier), tier) for tier in range(config.limits.tier + 1, TIERS + 1)]
    known = [(limit, tier) for limit, tier in tiers if limit is not None]

    def can_meet_deadline(limit: int) -> bool:
        wider = outlook.load._replace(ceiling=int(limit * config.limits.threshold))
        return compute_forecast(wider, outlook.ended_s).expected_s <= deadline_s

    first = bisect_left(known, True, key=lambda row: can_meet_deadline(row[0]))  # a forecast each is what takes time
    for limit, tier in known[first : first + 1]:
        found.append(f"usage tier {tier} (a limit of {limit:,} enqueued tokens) would do")
    lines = count_fitting_lines(outlook.load, outlook.ended_s, deadline_s)
    if lines:
        found.append(f"the {lines:,} most urgent of the {outlook.open_line_count:,} open lines fit")
    rest = outlook.open_line_count - lines
    if 0 < rest <= MOST_WORKERS * outlook.per_worker_s * deadline_s:
        workers = recommend_workers(rest, deadline_s / 3600, outlook.per_worker_s)
        found.append(f"`batcher direct --workers {workers}` for {rest:,} lines, at the standard price")
    return found or [LATER]
