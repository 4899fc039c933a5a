"""What a token costs: genai-prices' rates, resolved once per model and then multiplied.

Its offline snapshot is used. A wrong context would silently give the standard price, so the batch rates are
checked to be below the standard ones.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple

from batcher.core.model import Lane, TokenUsage

PROBE_TOKENS = 1_000
"""Below every long-context step (the lowest is 128,000 input tokens), so that the base rates are read."""


class TokenRates(NamedTuple):
    """Dollars a token."""

    input: float
    cached: float
    output: float

    def usage_cost(self, usage: TokenUsage) -> float:
        """Dollars of one execution."""
        fresh = max(0, usage.input - usage.cached)
        return fresh * self.input + usage.cached * self.cached + usage.output * self.output


class ModelPrices(NamedTuple):
    """A model's rates in both lanes."""

    batch: TokenRates
    standard: TokenRates

    def rates_for(self, lane: Lane) -> TokenRates:
        """The rates of a lane."""
        return self.standard if lane is Lane.DIRECT else self.batch


PriceOf = Callable[[str], ModelPrices | None]
"""The rates of a model by its name; None for one whose price is not known."""


@cache
def resolve_prices(model: str, at: datetime | None = None) -> ModelPrices | None:
    """The rates of an OpenAI model at a time (default: of the first call); None where the table does not know it."""
    when = at or datetime.now(UTC)
    batch, standard = _fetch_rates(model, {"processing": "batch"}, when), _fetch_rates(model, {}, when)
    if batch is None or standard is None or not (batch.input < standard.input and batch.output < standard.output):
        return None
    return ModelPrices(batch, standard)


def _fetch_rates(model: str, context: dict[str, str], when: datetime) -> TokenRates | None:
    from genai_prices import Usage as PricedUsage  # noqa: PLC0415 - not needed by status, show, pause
    from genai_prices import calc_price  # noqa: PLC0415

    def price_per_token(**tokens: int) -> float:
        priced = calc_price(
            PricedUsage(**tokens), model, provider_id="openai", price_context=context, genai_request_timestamp=when
        )
        return float(priced.total_price / PROBE_TOKENS)

    try:
        return TokenRates(
            price_per_token(input_tokens=PROBE_TOKENS),
            price_per_token(input_tokens=PROBE_TOKENS, cache_read_tokens=PROBE_TOKENS),
            price_per_token(output_tokens=PROBE_TOKENS),
        )
    except LookupError:
        return None


def lookup_context_window(model: str) -> int | None:
    """The model's context in tokens, where the table tells it."""
    from genai_prices import Usage as PricedUsage  # noqa: PLC0415
    from genai_prices import calc_price  # noqa: PLC0415

    try:
        return calc_price(PricedUsage(input_tokens=1), model, provider_id="openai").model.context_window
    except LookupError:
        return None
