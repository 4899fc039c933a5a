"""What a token costs: genai-prices' rates, resolved once per model and then multiplied.

Its offline snapshot is used. A wrong context would silently give the standard price, so the batch rates are
checked to be below the standard ones.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from batcher.core.model import Lane, TokenUsage

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

PROBE_TOKENS = 1_000
"""Tokens of the requests that the rates are read from. They are below every long-context step (the lowest is 128,000
input tokens), so that the rates are the base rates."""


class TokenRates(NamedTuple):
    """Dollars for each token."""

    input: float
    cached: float
    output: float

    def usage_cost(self, usage: TokenUsage) -> float:
        """Return the dollars of one execution."""
        fresh = max(0, usage.input - usage.cached)
        return fresh * self.input + usage.cached * self.cached + usage.output * self.output


class ModelPrices(NamedTuple):
    """A model's rates in both lanes."""

    batch: TokenRates
    standard: TokenRates

    def rates_for(self, lane: Lane) -> TokenRates:
        """Return the rates of a lane."""
        return self.standard if lane is Lane.DIRECT else self.batch


PriceOf = Callable[[str], ModelPrices | None]
"""The rates of a model by its name; None for one whose price is not known."""


@cache
def resolve_prices(model: str, at: datetime | None = None) -> ModelPrices | None:
    """Return the rates of an OpenAI model at a time (default: of the first call); None where the table lacks them."""
    when = at or datetime.now(UTC)
    batch, standard = _fetch_rates(model, {"processing": "batch"}, when), _fetch_rates(model, {}, when)
    if batch is None or standard is None or not (batch.input < standard.input and batch.output < standard.output):
        return None
    return ModelPrices(batch, standard)


def _fetch_rates(model: str, context: dict[str, str], when: datetime) -> TokenRates | None:
    def price_per_token(**tokens: int) -> float:
        return float(_price_request(model, tokens, context, when).total_price / PROBE_TOKENS)

    try:
        return TokenRates(
            price_per_token(input_tokens=PROBE_TOKENS),
            price_per_token(input_tokens=PROBE_TOKENS, cache_read_tokens=PROBE_TOKENS),
            price_per_token(output_tokens=PROBE_TOKENS),
        )
    except LookupError:
        return None


def lookup_context_window(model: str) -> int | None:
    """Return the model's context in tokens; None where the table does not have it."""
    try:
        return _price_request(model, {"input_tokens": 1}).model.context_window
    except LookupError:
        return None


def _price_request(
    model: str, tokens: dict[str, int], context: dict[str, str] | None = None, when: datetime | None = None
) -> "PriceCalculation":
    """Return genai-prices' calculation for a request. Raises LookupError for an unknown model."""
    import genai_prices  # noqa: PLC0415 - it loads the table of all models, and most commands need no price

    return genai_prices.calc_price(
        genai_prices.Usage(**tokens),
        model,
        provider_id="openai",
        price_context=context,
        genai_request_timestamp=when,
    )
