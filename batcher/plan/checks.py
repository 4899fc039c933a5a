"""Checks before anything is sent: that unsent lines ask what today's job asks, and that prices are known."""

from batcher.catalog.prices import PriceOf
from batcher.catalog.tokens import TokenCounter
from batcher.config.caching import takes_cache_breakpoints
from batcher.config.derived import output_token_limit
from batcher.config.sections import Config
from batcher.core.model import JobVersion
from batcher.errors import ConfigError
from batcher.job.job import Job
from batcher.plan.cache_mode import choose_cache_mode
from batcher.plan.outdated import describe_outdated_lines
from batcher.state.db.transaction import Transaction
from batcher.state.versions import (
    count_unsent_of_other_versions,
    find_version_number,
    load_open_lines,
    load_versions,
)


def build_todays_version(config: Config, job: Job, counter: TokenCounter | None = None) -> JobVersion:
    """Return what the job asks with the settings of now. counter: as for `choose_cache_mode`."""
    model = config.model
    version = job.build_version(
        model.name, model.endpoint, output_token_limit(config), model.parameters.to_parameters()
    )
    cache = model.cache if takes_cache_breakpoints(config) else None
    return version._replace(cache=choose_cache_mode(cache, version, counter))


def check_sending(tx: Transaction, config: Config, job: Job, price_of: PriceOf) -> None:
    """Raise ConfigError where unsent lines ask something else than today's job, or where a budget is set and the price
    of a model that lines wait for is not known."""
    check_unsent_lines(tx, build_todays_version(config, job))
    versions = load_versions(tx)
    for model in {config.model.name, *(versions[part.version].model for part in load_open_lines(tx))}:
        check_price_known(config, model, price_of)


def check_unsent_lines(tx: Transaction, today: JobVersion) -> None:
    """Raise ConfigError where lines that were never sent were planned with another version of the job than today's."""
    problem = find_outdated_lines(tx, today)
    if problem:
        raise ConfigError(problem)


def find_outdated_lines(tx: Transaction, today: JobVersion) -> str:
    """Return what lines that were never sent were planned with, and the remedy; "" where that is today's version."""
    unsent = count_unsent_of_other_versions(tx, find_version_number(tx, today))
    if not unsent.lines:
        return ""
    versions = load_versions(tx)
    return describe_outdated_lines(unsent, [versions[number] for number in unsent.versions], today)


def check_price_known(config: Config, model: str, price_of: PriceOf) -> None:
    """Raise ConfigError where a budget is set and the model's price is not known."""
    if config.budget.max_usd > 0 and price_of(model) is None:
        raise ConfigError(
            f"[budget] max_usd is set, but the price of {model} is not known; set it to 0 to go on without a bound"
        )
