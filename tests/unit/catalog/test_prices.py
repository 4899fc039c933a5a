"""What a token costs, against the facts of the price list and against the library that has it."""

from collections.abc import Iterator
from datetime import UTC, datetime

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from batcher.catalog.prices import (
    LONG_REQUEST,
    WRITE_FACTOR,
    ModelPrices,
    TokenRates,
    fill_write_rates,
    resolve_prices,
)
from batcher.core.model import CacheMode, Lane, TokenUsage
from tests.support.examples import examples

DEFAULT = "gpt-6-luna"
WHEN = datetime(2026, 11, 1, tzinfo=UTC)
USAGES = (
    TokenUsage(1_000, 0, 500),
    TokenUsage(1_000, 300, 500, 700),
    TokenUsage(LONG_REQUEST, 2_000, 500, 100_000),
    TokenUsage(LONG_REQUEST + 1, 2_000, 500, 100_000),
)


def rates_of(model: str) -> ModelPrices:
    prices = resolve_prices(model, WHEN)
    assert prices is not None
    return prices


def priced_models() -> Iterator[tuple[str, ModelPrices]]:
    """Yield OpenAI's models that have a price in both lanes."""
    (openai,) = (provider for provider in get_snapshot().providers if provider.id == "openai")
    for model in openai.models:
        prices = resolve_prices(model.id, WHEN)
        if prices is not None:
            yield model.id, prices


def test_the_default_model_costs_what_its_page_says() -> None:
    batch, standard = rates_of(DEFAULT)
    million = 1e6
    assert [n * million for n in batch[:4]] == pytest.approx([0.05, 0.005, 0.25, 0.0625])
    assert [n * million for n in standard[:4]] == pytest.approx([0.10, 0.01, 0.50, 0.125])
    assert batch[4:] == standard[4:] == (272_000, 2.0, 1.5)
    assert rates_of(f"{DEFAULT}-2026-09-01") == rates_of(DEFAULT)


def test_flex_processing_costs_what_a_batch_does() -> None:
    prices = rates_of(DEFAULT)
    assert [n * 1e6 for n in prices.rates_for(Lane.DIRECT, is_flex=True)[:4]] == pytest.approx(
        [0.05, 0.005, 0.25, 0.0625]
    )
    assert prices.rates_for(Lane.DIRECT) == prices.standard
    assert prices.rates_for(Lane.BATCH) == prices.batch == prices.rates_for(Lane.DIRECT, is_flex=True)


def test_what_is_written_to_the_cache_costs_a_quarter_more() -> None:
    rates = rates_of(DEFAULT).batch
    plain, written = TokenUsage(1_000, 0, 100), TokenUsage(1_000, 0, 100, 1_000)
    assert rates.usage_cost(plain) == pytest.approx(1_000 * 0.05e-6 + 100 * 0.25e-6)
    assert rates.usage_cost(written) == pytest.approx(1_000 * 0.0625e-6 + 100 * 0.25e-6)
    assert rates.usage_cost(TokenUsage(1_000, 400, 100, 600)) == pytest.approx(
        400 * 0.005e-6 + 600 * 0.0625e-6 + 100 * 0.25e-6
    )


def test_a_model_without_such_a_price_writes_at_its_price_of_input() -> None:
    rates = rates_of("gpt-5-mini").batch
    assert rates.written == rates.input == rates.dearest_input
    assert rates.long_from == 0


def test_where_the_table_lacks_the_price_of_one_lane_it_is_derived() -> None:
    batch, standard = TokenRates(1.0, 0.1, 5.0, 1.0), TokenRates(2.0, 0.2, 10.0, 2.5)
    filled = fill_write_rates(ModelPrices(batch, standard))
    assert filled == ModelPrices(batch._replace(written=WRITE_FACTOR), standard)
    assert fill_write_rates(ModelPrices(batch, standard._replace(written=2.0))).batch.written == 1.0


def test_every_cost_is_that_of_the_table() -> None:
    seen = 0
    for model, prices in priced_models():
        if not prices.standard.output:  # the table has no price of a batch for models that write nothing
            continue
        for context, rates in (({"processing": "batch"}, prices.batch), ({}, prices.standard)):
            for usage in USAGES:
                asked = genai_prices.Usage(
                    input_tokens=usage.input, cache_read_tokens=usage.cached, output_tokens=usage.output,
                    cache_write_tokens=usage.written,
                )  # fmt: skip
                price = genai_prices.calc_price(
                    asked, model, provider_id="openai", price_context=context, genai_request_timestamp=WHEN
                )
                # The table rounds a price of gpt-5.4's cache, so that it does not double; ours does.
                assert rates.usage_cost(usage) == pytest.approx(float(price.total_price), rel=1e-4), (model, context)
                assert rates.usage_cost(usage) >= float(price.total_price) * (1 - 1e-12)
                seen += 1
    assert seen > 200


@pytest.mark.parametrize(
    ("model", "standard"),
    [("text-embedding-3-small", 0.02), ("text-embedding-3-large", 0.13), ("text-embedding-ada-002", 0.1)],
)
def test_a_vector_costs_its_input_alone_and_half_of_it_in_a_batch(model: str, standard: float) -> None:
    prices = rates_of(model)
    assert prices.standard.usage_cost(TokenUsage(1_000_000)) == pytest.approx(standard)
    assert prices.batch.usage_cost(TokenUsage(1_000_000)) == pytest.approx(standard / 2)
    assert prices.batch.output == prices.standard.output == 0


def test_a_moderation_is_free_which_is_a_known_price() -> None:
    for rates in rates_of("omni-moderation-latest"):
        assert rates.usage_cost(TokenUsage(1_000_000)) == rates.most_cost(10, 10) == 0


def test_models_that_charge_for_writing_do_so_in_both_lanes_by_the_documented_factor() -> None:
    charging = {model for model, prices in priced_models() if prices.batch.written > prices.batch.input}
    assert {DEFAULT, "gpt-5.6-luna", "gpt-5.6-sol", "gpt-6-sol"} <= charging
    for model in charging:
        for rates in rates_of(model):
            assert rates.written == pytest.approx(WRITE_FACTOR * rates.input)


def test_a_long_request_is_priced_as_a_whole() -> None:
    rates = rates_of(DEFAULT).batch
    assert rates.usage_cost(TokenUsage(272_000, 0, 1_000)) == pytest.approx(272_000 * 0.05e-6 + 1_000 * 0.25e-6)
    assert rates.usage_cost(TokenUsage(272_001, 0, 1_000)) == pytest.approx(272_001 * 0.10e-6 + 1_000 * 0.375e-6)
    assert rates.at_length(272_000) is rates
    assert rates.at_length(272_001).long_from == 0


@given(
    st.sampled_from([DEFAULT, "gpt-5-mini", "gpt-4.1"]), st.integers(0, 600_000), st.integers(0, 30_000),
    st.tuples(*[st.floats(0, 1)] * 5),
)  # fmt: skip
@examples(200)
def test_no_execution_costs_more_than_its_bound(
    model: str, most_input: int, most_output: int, shares: tuple[float, ...]
) -> None:
    whole, cached, written = int(most_input * shares[0]), int(most_input * shares[1]), int(most_input * shares[2])
    cached = min(cached, whole)
    used = TokenUsage(whole, cached, int(most_output * shares[3]), min(written, whole - cached))
    for rates in rates_of(model):
        assert rates.usage_cost(used) <= rates.most_cost(most_input, most_output) * (1 + 1e-12)


def test_requests_that_write_nothing_to_the_cache_pay_plain_input_at_most() -> None:
    prices = resolve_prices("gpt-6-luna")
    assert prices is not None
    silent = prices.for_cache(CacheMode.EXPLICIT)
    assert [rates.dearest_input for rates in silent] == [rates.input for rates in prices]
    assert prices.for_cache(CacheMode.BREAKPOINT) == prices.for_cache(CacheMode.UNSET) == prices
