"""Whether requests to the service and the model of the settings may say what the prompt cache keeps."""

from batcher.catalog.limits import lookup_cache_minimum
from batcher.config.sections import Config
from batcher.config.services import find_service_profile


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
