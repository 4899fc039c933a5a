"""What follows from the settings: the enqueued-token limit, the length of an answer, the size of a shard."""

from batcher.catalog.limits import lookup_cache_minimum, lookup_output_room, lookup_tier_limit
from batcher.config.sections import Config
from batcher.config.services import find_service_profile
from batcher.core.cutting import default_shard_limits
from batcher.core.model import ShardLimits, find_effort
from batcher.errors import ConfigError


def enqueued_token_limit(config: Config, hint: int = 0) -> int:
    """Return the enqueued-token limit of the settings. Raises ConfigError for a model that the table does not know.

    hint: what OpenAI names to an admin key, which ranks between the user's own setting and the table; 0: nothing.
    """
    if config.limits.enqueued_tokens is not None:
        return config.limits.enqueued_tokens
    if hint:
        return hint
    known = lookup_tier_limit(config.model.name, config.limits.tier)
    if known is None:
        raise ConfigError(
            f"the enqueued-token limit of {config.model.name} at tier {config.limits.tier} is not known; "
            "set enqueued_tokens under [limits] (Settings > Limits at OpenAI shows it)"
        )
    return known


def output_token_limit(config: Config) -> int:
    """Return the most tokens of an answer, with what is thought before it: of the settings, else of the model.

    An answer in numbers has none.
    """
    model = config.model
    if not model.endpoint.takes_prompt:
        return 0
    return model.max_output_tokens or lookup_output_room(model.name, find_effort(model.parameters.to_parameters()))


def takes_cache_breakpoints(config: Config) -> bool:
    """Return whether requests to the model of the settings may say what is cached: by endpoint, service and model."""
    model = config.model
    is_known = model.endpoint.takes_prompt and lookup_cache_minimum(model.name) is not None
    return is_known and find_service_profile(config).cache_breakpoints


def find_cache_problem(config: Config) -> str:
    """Return that `[model] cache` cannot be kept for the model, as a sentence; "" where it can, or is not set."""
    model = config.model
    if model.cache is None or not model.endpoint.takes_prompt or takes_cache_breakpoints(config):
        return ""
    if not find_service_profile(config).cache_breakpoints:
        told = f'[service] profile = "{config.service.profile}" is not known to take cache breakpoints'
        return f'[model] cache = "{model.cache}" is not sent: {told}, and the service caches as it does by itself.'
    return (
        f'[model] cache = "{model.cache}" is not sent: {model.name} is not known to take cache breakpoints (OpenAI\'s '
        "models from gpt-5.6 on do), and caches as its service does by itself."
    )


def shard_limits(config: Config) -> ShardLimits:
    """Return the size of a shard: that of the settings, or derived from the limit so that several fit at once."""
    limits = config.limits
    derived = default_shard_limits(enqueued_token_limit(config), limits.threshold, 1 + limits.margin)
    return ShardLimits(
        limits.lines_per_shard or derived.lines,
        limits.bytes_per_shard or derived.bytes,
        limits.tokens_per_shard or derived.tokens,
    )
