"""Checks before anything is sent: that unsent shards were planned for today's model, and that prices are known."""

from batcher.catalog.prices import PriceOf
from batcher.config import Config
from batcher.errors import ConfigError
from batcher.state.db.transaction import Transaction
from batcher.state.versions import load_open_lines, load_unsent_lines, load_versions


def check_unsent_lines(tx: Transaction, config: Config, price_of: PriceOf) -> None:
    """Raise ConfigError where unsent lines were planned for another model than today's, or where a budget is set and a
    model that lines wait for has no known price. Another model has another limit and another price."""
    versions, today = load_versions(tx), config.model.name
    for unsent in load_unsent_lines(tx):
        model = versions[unsent.version].model
        if model != today:
            raise ConfigError(
                f"{unsent.lines:,} unsent lines in {unsent.shards} shards are planned for {model}, and [model] name is "
                f"{today}; `batcher plan --replan` cuts them again (what was submitted stays as it is)"
            )
    for model in {today, *(versions[part.version].model for part in load_open_lines(tx))}:
        check_price_known(config, model, price_of)


def check_price_known(config: Config, model: str, price_of: PriceOf) -> None:
    """Raise ConfigError where a budget is set and the model's price is not known."""
    if config.budget.max_usd > 0 and price_of(model) is None:
        raise ConfigError(
            f"[budget] max_usd is set, but the price of {model} is not known; set it to 0 to go on without a bound"
        )
