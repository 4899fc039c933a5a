"""What follows from the settings: the enqueued-token limit, the length of an answer, the size of a shard."""

from batcher.catalog.limits import lookup_output_room, lookup_tier_limit
from batcher.config.sections import Config
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


def shard_limits(config: Config) -> ShardLimits:
    """Return the size of a shard: that of the settings, or derived from the limit so that several fit at once."""
    limits = config.limits
    derived = default_shard_limits(enqueued_token_limit(config), limits.threshold, 1 + limits.margin)
    return ShardLimits(
        limits.lines_per_shard or derived.lines,
        limits.bytes_per_shard or derived.bytes,
        limits.tokens_per_shard or derived.tokens,
    )
