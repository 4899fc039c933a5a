"""Connecting to a service: key, address and client, as the environment and the service's profile say."""

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from batcher.core.retry import Jitter, RetryRules
from batcher.errors import SetupError
from batcher.service.bounds import LONGEST_CONNECT_S, never_ends
from batcher.service.masking import find_secrets, mask_secrets
from batcher.service.openai_service import OpenAIService
from batcher.service.profiles import ServiceProfile, load_profile

if TYPE_CHECKING:
    import openai

    from batcher.service.http_client import BoundedClient


def connect_service(
    timeout_s: float,
    rules: RetryRules,
    sleep: Callable[[float], None],
    jitter: Jitter,
    is_ending: Callable[[], bool] = never_ends,
    profile: ServiceProfile | None = None,
) -> OpenAIService:
    """Return the service at the address and with the key that the environment variables of the client name.

    timeout_s: seconds without a byte after which a call fails, and before its bytes are counted. is_ending: whether the
    user asked to end. profile: what the service is like; None: as OpenAI. Raises SetupError without a key, for a key
    that no HTTP header can carry, and for an address that is none.
    """
    profile = profile or load_profile()
    _check_key(profile, os.environ)
    import httpx2
    import openai

    from batcher.service.http_client import BoundedClient

    timeout = openai.Timeout(timeout_s, connect=min(timeout_s, LONGEST_CONNECT_S))
    secrets = find_secrets(os.environ)
    no_address = (
        f"{profile.address_variable or 'OPENAI_BASE_URL'} is no address; it looks like {profile.address_example}"
    )
    try:
        http_client = BoundedClient(timeout=timeout, limits=openai.DEFAULT_CONNECTION_LIMITS)
        client = _make_client(profile, os.environ, http_client, timeout)
    except httpx2.InvalidURL as error:
        raise SetupError(no_address) from error  # the client's own words quote a part of it, perhaps of a password
    except openai.OpenAIError as error:
        raise SetupError(f"the client cannot be set up: {mask_secrets(str(error), secrets)}") from error
    if client.base_url.scheme not in {"http", "https"} or not client.base_url.host:
        raise SetupError(no_address)
    return OpenAIService(client, rules, sleep, jitter, is_ending, timeout_s, secrets, profile)


def _check_key(profile: ServiceProfile, environment: Mapping[str, str]) -> None:
    """Raise SetupError where the environment has no key, or one that no HTTP header can carry."""
    name = profile.find_key_variable(environment)
    if not name:
        raise SetupError(f"{profile.key_variables[0]} is not set; export your key ({profile.key_source})")
    if not re.fullmatch(r"[!-~]+", environment[name]):
        raise SetupError(f"{name} holds a blank, a line break or a character beyond ASCII; export it again")


def _make_client(
    profile: ServiceProfile, environment: Mapping[str, str], http_client: "BoundedClient", timeout: "openai.Timeout"
) -> "openai.OpenAI":
    """Return the client, whose address and key are those of the environment."""
    import openai

    token, address = profile.read_token(environment), profile.read_base_url(environment)
    key = token or profile.read_key(environment)
    if profile.address_variable and not address:  # never OpenAI's own address, which is the client's default
        raise SetupError(f"{profile.address_variable} is not set; it looks like {profile.address_example}")
    if profile.api_version:
        return openai.AzureOpenAI(
            api_key=None if token else key, azure_ad_token=token or None, api_version=profile.api_version,
            base_url=address, max_retries=0, timeout=timeout, http_client=http_client,
        )  # fmt: skip
    if profile.key_header != "authorization" and not token:
        from batcher.service.http_client import send_key_in

        send_key_in(http_client, profile.key_header)
    return openai.OpenAI(
        api_key=key, base_url=address or None, max_retries=0, timeout=timeout, http_client=http_client
    )  # fmt: skip
