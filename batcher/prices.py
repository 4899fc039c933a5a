"""What a token costs: genai-prices' rates, resolved once per model and then multiplied.

Its offline snapshot is used. A wrong context would silently give the standard price, so the batch rates are
checked to be below the standard ones.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING

from batcher.model import Lane, Usage

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

PROBE_TOKENS = 1_000
"""Below every long-context step (the lowest is 128,000 input tokens), so that the base rates are read."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Dollars a token."""

    input: float
    cached: float
    output: float

    def cost(self, usage: Usage) -> float:
        """Dollars of one execution."""
        fresh = max(0, usage.input - usage.cached)
        return fresh * self.input + usage.cached * self.cached + usage.output * self.output


@dataclass(frozen=True, slots=True)
class Prices:
    """A model's rates in both lanes."""

    batch: Rates
    standard: Rates

    def of(self, lane: Lane) -> Rates:
        """The rates of a lane."""
        return self.standard if lane is Lane.DIRECT else self.batch


PriceOf = Callable[[str], Prices | None]
"""The rates of a model by its name; None for one whose price is not known."""


@cache
def resolve(model: str, at: datetime | None = None) -> Prices | None:
    """The rates of an OpenAI model at a time (default: of the first call); None where the table does not know it."""
    when = at or datetime.now(UTC)
    batch, standard = _rates(model, {"processing": "batch"}, when), _rates(model, {}, when)
    if batch is None or standard is None or not (batch.input < standard.input and batch.output < standard.output):
        return None
    return Prices(batch, standard)


def _rates(model: str, context: dict[str, str], when: datetime) -> Rates | None:
    def per_token(**tokens: int) -> float:
        return float(_priced(model, tokens, when, context).total_price / PROBE_TOKENS)

    try:
        return Rates(
            per_token(input_tokens=PROBE_TOKENS),
            per_token(input_tokens=PROBE_TOKENS, cache_read_tokens=PROBE_TOKENS),
            per_token(output_tokens=PROBE_TOKENS),
        )
    except LookupError:
        return None


def _priced(
    model: str, tokens: Mapping[str, int], when: datetime | None = None, context: dict[str, str] | None = None
) -> "PriceCalculation":
    """The price of tokens. Raises LookupError for a model that the table does not know.

    The package is imported without its own first module: that one imports an HTTP client and asyncio, for updates that
    are not wanted here, and they take longer than all the rest of it.
    """
    package = find_spec("genai_prices")
    assert package is not None
    sys.modules.setdefault("genai_prices", module_from_spec(package))
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - not needed by status, show, pause
    from genai_prices.types import Usage as PricedUsage  # noqa: PLC0415

    return get_snapshot().calc(PricedUsage(**tokens), model, "openai", None, when, context)


def context_window(model: str) -> int | None:
    """The model's context in tokens, where the table tells it."""
    try:
        return _priced(model, {"input_tokens": 1}).model.context_window
    except LookupError:
        return None
