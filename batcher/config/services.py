"""Which service the settings name, and what it is like."""

import os

from batcher.config.sections import Config
from batcher.service.profiles import ServiceProfile, find_profile


def find_service_profile(config: Config) -> ServiceProfile:
    """Return what the service is like that the settings name; the environment tells a classic endpoint."""
    service = config.service
    return find_profile(service.profile, service.lacks, service.window, service.purpose, os.environ)
