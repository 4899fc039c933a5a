"""What a token costs: genai-prices' rates, resolved once per model and then multiplied.

Its offline snapshot is used. A wrong context would silently give the standard price, so the batch rates are
checked to be below the standard ones. Models for embeddings have no context there, and half the price in a batch.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from batcher.core.model import CacheMode, Lane, TokenUsage

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

PROBE_TOKENS = 1_000
"""Tokens of the requests that the rates are read from. They are below the step of long requests, so that the rates are
those of ordinary ones."""


WRITE_FACTOR = 1.25
"""What writing to the prompt cache costs, as a multiple of the input, on models that charge for it (OpenAI's model
pages from gpt-5.6 on, 2026-11). The table of prices has it; this is for a context for which the table lacks it."""

LONG_REQUEST = 272_000
"""Input tokens above which a whole request costs more, on models that take that much (OpenAI's model pages, 2026-11:
input twice, output 1.5 times). The rates of a model say what holds for it; all that have such a step have this one."""


class TokenRates(NamedTuple):
    """Dollars for each token of a request of ordinary length, and how many times that a long request costs."""

    input: float
    cached: float
    """For input read from the prompt cache."""
    output: float
    written: float
    """For input written to the prompt cache."""
    long_from: int = 0
    """Input tokens above which a request is a long one; 0: none is."""
    long_input: float = 1.0
    """How many times as much the input of a long request costs, cached and written as well."""
    long_output: float = 1.0

    def at_length(self, input_tokens: float) -> "TokenRates":
        """Return the rates of a request with this number of input tokens."""
        if not self.long_from or input_tokens <= self.long_from:
            return self
        return TokenRates(
            self.input * self.long_input,
            self.cached * self.long_input,
            self.output * self.long_output,
            self.written * self.long_input,
        )

    @property
    def dearest_input(self) -> float:
        """The most that a token of input may cost: whether it is written to the cache is the service's to decide."""
        return max(self.input, self.cached, self.written)

    def without_writes(self) -> "TokenRates":
        """Return the rates of requests that write nothing to the cache: their input costs no more than its price."""
        return self._replace(written=self.input)

    def usage_cost(self, usage: TokenUsage) -> float:
        """Return the dollars of one execution."""
        return self.at_length(usage.input).summed_cost(usage)

    def summed_cost(self, usage: TokenUsage) -> float:
        """Return the dollars of the tokens of any number of executions, none of them long."""
        fresh = max(0, usage.input - usage.cached - usage.written)
        read_and_written = usage.cached * self.cached + usage.written * self.written
        return fresh * self.input + read_and_written + usage.output * self.output

    def most_cost(self, input_tokens: int, output_tokens: int) -> float:
        """Return the most dollars of one execution with at most this number of tokens."""
        rates = self.at_length(input_tokens)
        return input_tokens * rates.dearest_input + output_tokens * rates.output


class ModelPrices(NamedTuple):
    """A model's rates in both lanes."""

    batch: TokenRates
    standard: TokenRates

    def rates_for(self, lane: Lane, is_flex: bool = False) -> TokenRates:
        """Return the rates of a lane. is_flex: whether its answers come by flex processing.

        Flex costs what a batch does, the discount for cached tokens as well (OpenAI's page on flex processing and the
        model pages, 2026-11). The table of prices has no context for it.
        """
        return self.standard if lane is Lane.DIRECT and not is_flex else self.batch

    def for_cache(self, mode: CacheMode) -> "ModelPrices":
        """Return the rates of requests that say this of the prompt cache."""
        if mode is not CacheMode.EXPLICIT:
            return self
        return ModelPrices(self.batch.without_writes(), self.standard.without_writes())


PriceOf = Callable[[str], ModelPrices | None]
"""The rates of a model by its name; None for one whose price is not known."""


@cache
def resolve_prices(model: str, at: datetime | None = None) -> ModelPrices | None:
    """Return the rates of an OpenAI model at a time (default: of the first call); None where the table lacks them."""
    when = at or datetime.now(UTC)
    batch, standard = _fetch_rates(model, {"processing": "batch"}, when), _fetch_rates(model, {}, when)
    if batch is None or standard is None:
        return None
    if not standard.output:  # a model that writes nothing: an answer in numbers, or free of charge
        return ModelPrices(batch if batch.input < standard.input else halve_rates(standard), standard)
    if not (batch.input < standard.input and batch.output < standard.output):
        return None
    return fill_write_rates(ModelPrices(batch, standard))


def halve_rates(standard: TokenRates) -> TokenRates:
    """Return the rates of a batch, of a model for which the table of prices lacks them.

    A batch costs half of what is asked one by one, at every endpoint (OpenAI, guides/batch, 2026-07).
    """
    share = 0.5
    return standard._replace(
        input=standard.input * share,
        cached=standard.cached * share,
        output=standard.output * share,
        written=standard.written * share,
    )


def fill_write_rates(prices: ModelPrices) -> ModelPrices:
    """Return the rates with a price of writing to the cache in both lanes, where the table has one in either."""
    if all(rates.written <= rates.input for rates in prices):
        return prices
    return ModelPrices(*(rates._replace(written=max(rates.written, WRITE_FACTOR * rates.input)) for rates in prices))


def _fetch_rates(model: str, context: dict[str, str], when: datetime) -> TokenRates | None:
    def read_rates(count: int) -> tuple[float, float, float, float]:
        def price_per_token(**tokens: int) -> float:
            return float(_price_request(model, tokens, context, when).total_price) / count

        whole = price_per_token(input_tokens=count)
        with_output = price_per_token(input_tokens=count, output_tokens=count)
        return (
            whole,
            price_per_token(input_tokens=count, cache_read_tokens=count),
            with_output - whole,
            price_per_token(input_tokens=count, cache_write_tokens=count),
        )

    try:
        usual, long = read_rates(PROBE_TOKENS), read_rates(LONG_REQUEST + 1)
    except LookupError:
        return None
    times = [round(after / before, 6) if before else 1.0 for before, after in zip(usual, long, strict=True)]
    if max(times) == 1:
        return TokenRates(*usual)
    return TokenRates(*usual, LONG_REQUEST, max(times[0], times[1], times[3]), times[2])


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
