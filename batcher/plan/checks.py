"""Checks before anything is sent: that unsent shards were planned for today's model, and that prices are known."""

from batcher.catalog.prices import PriceOf
from batcher.config import Config
from batcher.errors import ConfigError
from batcher.state.db.transaction import Transaction
from batcher.state.versions import load_versions


def check_unsent_lines(tx: Transaction, config: Config, price_of: PriceOf) -> None:
    """Raises ConfigError where what waits to be sent was planned for another model than today's (its limit and its
    price are others), or has no known price while a budget is set."""
    versions, today = load_versions(tx), config.model.name
    for number, lines, shards in tx.fetch_all("unsent_by_version"):
        model = versions[number].model
        if model != today:
            raise ConfigError(
                f"{lines:,} unsent lines in {shards} shards are planned for {model}, and [model] name is {today}; "
                "`batcher plan --replan` cuts them again (what was submitted stays as it is)"
            )
    for model in {today, *(versions[number].model for number, _, _ in tx.fetch_all("open_by_version"))}:
        check_price_known(config, model, price_of)


def check_price_known(config: Config, model: str, price_of: PriceOf) -> None:
    """Raises ConfigError where a budget is set and the model's price is not known."""
    if config.budget.max_usd > 0 and price_of(model) is None:
        raise ConfigError(
            f"[budget] max_usd is set, but the price of {model} is not known; set it to 0 to go on without a bound"
        )
