"""The expected end of the job and its further costs, against the deadline."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from batcher.catalog.limits import ANSWER_TOKENS, lookup_thinking_room, lookup_tier_limit
from batcher.catalog.prices import ModelPrices, PriceOf
from batcher.config.sections import Config
from batcher.core.cache.shares import forecast_cache_shares
from batcher.core.direct.flex import FLEX
from batcher.core.direct.workers import MOST_WORKERS, recommend_workers
from batcher.core.forecast import MAX_RETRY_SHARE, Forecast, compute_forecast, count_fitting_lines
from batcher.core.model import JobVersion, TokenUsage
from batcher.core.room import Budget, MeasuredUsage
from batcher.nouns import current_nouns
from batcher.state.reports.outlook import OpenLines, Outlook
from batcher.state.snapshot import compute_charge

if TYPE_CHECKING:
    from batcher.core.actions import Refuse

ASSUMED_OUTPUT_SHARES = (0.25, 0.5)
"""The shares of max_output_tokens that an answer is assumed to use, at best and most likely, before any is measured."""
ASSUMED_THINKING_SHARES = (0.05, 0.25)
"""The same of the part of it that is room for what the model thinks before the answer."""

TIERS = 5
"""The highest usage tier."""


class CostForecast(NamedTuple):
    """Dollars that the lines that are still to be sent may cost; None where the price is not known."""

    best: float | None
    expected: float | None
    most: float | None
    """With every answer at max_output_tokens, and the same share of lines paid for twice as so far."""
    standard: float | None
    """The expected amount at the standard price."""
    input: float | None = None
    """The part of the expected amount that is paid for input."""
    cache_saved: float | None = None
    """How much more the input would cost without the prompt cache; negative where writing costs more than it saves."""


class Expectation(NamedTuple):
    """When the job is expected to end and what it is expected to cost from now on, against the deadline."""

    forecast: Forecast
    dollars: CostForecast
    deadline_s: float
    """Seconds until the deadline; negative when it is past."""
    advice: Sequence[str]
    """What would help, where the expected end is past the deadline."""
    measured: MeasuredUsage
    waits_for: str
    """What a person has to do before anything is sent, as the end of "not before ..."; "": nothing. The forecast counts
    from then on."""
    refusal: str
    """Which shard is refused until a person acts, why, and what to do; "": none."""
    now: float
    """When this was computed (epoch seconds): the spans of time above count from then."""


def build_expectation(outlook: Outlook, config: Config, price_of: PriceOf, now: float) -> Expectation:
    """Return the expectation at `now` (epoch seconds)."""
    view = compute_forecast(outlook.load, outlook.ended_s)
    deadline_s = outlook.planned_at + config.deadline.hours * 3600 - now
    refusal = _find_refusal(outlook, config.budget.max_usd, price_of, now)
    return Expectation(
        forecast=view,
        dollars=_forecast_cost(outlook, price_of),
        deadline_s=deadline_s,
        advice=_deadline_advice(outlook, config, deadline_s) if view.expected_s > deadline_s else (),
        measured=outlook.measured,
        waits_for=outlook.waits_for or (refusal.waits_for if refusal else ""),
        refusal=_describe_refusal(refusal) if refusal else "",
        now=now,
    )


def _find_refusal(outlook: Outlook, max_usd: float, price_of: PriceOf, now: float) -> "Refuse | None":
    """Return the refusal that keeps back all that is released. max_usd: the budget; 0: no bound."""
    if not outlook.queue:
        return None
    from batcher.core.admission import find_lasting_refusal

    priced = {shard.version for shard in outlook.queue} if max_usd > 0 else set[int]()
    charges = {
        number: compute_charge(outlook.versions[number], prices, outlook.room)
        for number in priced
        if (prices := price_of(outlook.versions[number].model)) is not None
    }
    budget = Budget(max_usd, outlook.spent_usd, outlook.in_flight_usd, outlook.frees, charges)
    return find_lasting_refusal(outlook.queue, outlook.loose, outlook.room, budget, outlook.prompts, now=now)


def _describe_refusal(refusal: "Refuse") -> str:
    return f"shard {refusal.shard} {refusal.reason}; `batcher poll` goes on once {refusal.waits_for}"


def _forecast_cost(outlook: Outlook, price_of: PriceOf) -> CostForecast:
    """Return the costs of the lines that are neither sent nor ended, each at the price of its version."""
    parts = [(part, price_of(part.version.model)) for part in outlook.open]
    known = [_forecast_part_cost(part, outlook, prices) for part, prices in parts if prices is not None]
    if len(known) < len(parts):
        return CostForecast(None, None, None, None)
    return CostForecast(*(sum(amounts) for amounts in zip((0.0,) * len(CostForecast._fields), *known, strict=True)))


def forecast_lines_usd(parts: Sequence[OpenLines], outlook: Outlook, price_of: PriceOf) -> float | None:
    """Return the dollars that lines are expected to cost at batch rates; None where a price is not known."""
    return _forecast_cost(outlook._replace(open=parts), price_of).expected


def _forecast_part_cost(part: OpenLines, outlook: Outlook, prices: ModelPrices) -> tuple[float, ...]:
    """Return the costs of the open lines of one version in the order of `CostForecast`; the most as the budget does."""
    measured, most = outlook.measured, part.version.max_output_tokens
    charge = compute_charge(part.version, prices, outlook.room)
    if measured.has_enough_lines:
        low = middle = min(most, measured.output / measured.executed)
    else:
        low, middle = assume_output_tokens(part.version)
    shares = forecast_cache_shares(part.prefix, part.lines, part.tokens, measured)
    # Lines that expired or met a rate limit or a server error are retried as well, but nothing was paid for them.
    paid_tries = 1 / (1 - min(measured.paid_retry_share, MAX_RETRY_SHARE))

    def estimate_usage(output: float, tries: float) -> TokenUsage:
        tokens = int(part.tokens * measured.token_ratio * tries)
        read, written = int(tokens * shares.read), int(tokens * shares.written)
        return TokenUsage(tokens, read, int(part.lines * output * tries), written)

    expected = estimate_usage(middle, paid_tries)
    batch, standard = (rates.at_length(part.tokens * measured.token_ratio / part.lines) for rates in prices)
    return (
        batch.summed_cost(estimate_usage(low, 1.0)),
        batch.summed_cost(expected),
        charge.most_usd(part.tokens, part.lines, part.longest) * paid_tries,
        standard.summed_cost(expected),
        paid_input := batch.summed_cost(expected._replace(output=0)),
        expected.input * batch.input - paid_input,
    )


def assume_output_tokens(version: JobVersion) -> tuple[float, float]:
    """Return the tokens that an answer is assumed to use, what is thought counted in: at best, and most likely."""
    thinking = min(
        lookup_thinking_room(version.model, version.effort), max(version.max_output_tokens - ANSWER_TOKENS, 0)
    )
    answer = version.max_output_tokens - thinking
    (low, middle), (little, usual) = ASSUMED_OUTPUT_SHARES, ASSUMED_THINKING_SHARES
    return low * answer + little * thinking, middle * answer + usual * thinking


def _deadline_advice(outlook: Outlook, config: Config, deadline_s: float) -> list[str]:
    """Return what would bring the expected end before the deadline."""
    if deadline_s <= 0:
        return [_advise_later()]
    advice = []
    tiers = [(lookup_tier_limit(config.model.name, tier), tier) for tier in range(config.limits.tier + 1, TIERS + 1)]
    known = [(limit, tier) for limit, tier in tiers if limit is not None]

    def can_meet_deadline(limit: int) -> bool:
        wider = outlook.load._replace(ceiling=int(limit * config.limits.threshold))
        return compute_forecast(wider, outlook.ended_s).expected_s <= deadline_s

    # Bisection, as a forecast for each tier takes time.
    first = bisect_left(known, True, key=lambda row: can_meet_deadline(row[0]))
    for limit, tier in known[first : first + 1]:
        advice.append(f"usage tier {tier} (a limit of {limit:,} enqueued tokens) would do")
    lines = count_fitting_lines(outlook.load, outlook.ended_s, deadline_s)
    if lines:
        advice.append(f"the {lines:,} most urgent of the {outlook.open_line_count:,} open lines fit")
    rest = outlook.open_line_count - lines
    if 0 < rest <= MOST_WORKERS * outlook.per_worker_s * deadline_s:
        workers = recommend_workers(rest, deadline_s / 3600, outlook.per_worker_s)
        price = "flex" if config.direct.service_tier == FLEX else "standard"
        advice.append(f"`batcher direct --unreleased --workers {workers}` for {rest:,} lines, at the {price} price")
    return advice or [_advise_later()]


def _advise_later() -> str:
    return f"a later [deadline], or fewer {current_nouns().rows}"
