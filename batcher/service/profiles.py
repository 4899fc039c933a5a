"""What differs between services that serve the Batch API, as data: `data/services.toml`, checked here.

`[service] profile` chooses one, `lacks` and the like change single facts of it. Everything that depends on the service
asks the profile that `find_profile` returns; no other place knows the names of services.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from batcher.core.failures import ErrorDetails
from batcher.core.lifecycle import BatchStatus
from batcher.service.address import format_origin, read_origin

Ability = Literal["metadata", "list_batches", "list_files", "file_expiry", "delete_files"]
"""What a service may lack: metadata of batches, listings of batches and of files, expiry and deletion of files."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassicEndpoint(_Part):
    """What differs at an endpoint that has its version in the query. version_variable: of the environment, names it."""

    version_variable: str
    path: Literal["/v1", ""]
    address_path: str


class ServiceProfile(_Part):
    """The facts of a service; `data/services.toml` describes each."""

    is_known: bool
    window: str
    purpose: str
    path: Literal["/v1", ""]
    runs_over_window: bool
    lacks: tuple[Ability, ...]
    cache_breakpoints: bool
    key_header: Literal["authorization", "api-key"]
    key_variables: tuple[str, ...]
    token_variable: str
    key_source: str
    address_variable: str
    address_path: str
    address_example: str
    codes: Mapping[str, str]
    statuses: Mapping[str, BatchStatus]
    classic: ClassicEndpoint | None = None
    api_version: str = ""
    """Of the classic endpoint, in the query of every address; "": the endpoint has none."""

    def has(self, ability: Ability) -> bool:
        """Return whether the service has an ability."""
        return ability not in self.lacks

    def read_status(self, status: str) -> str:
        """Return what a status means, in OpenAI's spelling; an unknown one as it is, in lower case."""
        return self.statuses.get(status.lower(), status.lower())

    def translate_error(self, details: ErrorDetails) -> ErrorDetails:
        """Return an error whose code is OpenAI's, where the service has one of its own for it."""
        code = self.codes.get(details.code)
        return details if code is None else details._replace(code=code)

    def format_path(self, endpoint: str) -> str:
        """Return the path of an endpoint ("/v1/chat/completions") as the service has it in lines and batches."""
        return self.path + endpoint.removeprefix("/v1")

    def find_key_variable(self, environment: Mapping[str, str]) -> str:
        """Return the name of the variable that has the key, or a token; "" where none is set."""
        names = (*filter(None, [self.token_variable]), *self.key_variables)
        return next((name for name in names if environment.get(name)), "")

    def read_key(self, environment: Mapping[str, str]) -> str:
        """Return the key that the environment sets; "" where it sets none."""
        return next((environment[name] for name in self.key_variables if environment.get(name)), "")

    def read_token(self, environment: Mapping[str, str]) -> str:
        """Return the token that is sent in place of a key; "" where the environment sets none."""
        return environment.get(self.token_variable, "") if self.token_variable else ""

    def read_base_url(self, environment: Mapping[str, str]) -> str:
        """Return the address that the client is given; "" where OPENAI_BASE_URL, or the client's own default, is it."""
        if not self.address_variable:
            return ""
        host = environment.get(self.address_variable, "").strip().rstrip("/")
        if not host:
            return environment.get("OPENAI_BASE_URL", "").strip()
        return host.removesuffix("/v1").removesuffix("/openai") + self.address_path

    def read_address(self, environment: Mapping[str, str]) -> str:
        """Return the address that the environment sets, as it is recorded and shown."""
        if not self.address_variable:
            return read_origin()
        address = self.read_base_url(environment)
        return format_origin(address) if address else f"an address that {self.address_variable} does not set"


@cache
def _load_data() -> dict[str, Any]:
    data: dict[str, Any] = tomllib.loads(
        resources.files("batcher").joinpath("data/services.toml").read_text(encoding="utf-8")
    )
    return data


def list_profiles() -> tuple[str, ...]:
    """Return the names of the profiles."""
    return tuple(_load_data()["profiles"])


@cache
def load_profile(name: str = "openai") -> ServiceProfile:
    """Return a profile as the data has it."""
    data = _load_data()
    return ServiceProfile(statuses=data["statuses"], **data["profiles"][name])


def find_profile(
    name: str | None,
    lacks: tuple[Ability, ...] = (),
    window: str | None = None,
    purpose: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> ServiceProfile:
    """Return the profile that settings and environment name. name: None is OpenAI's.

    lacks: what the service lacks besides; window, purpose: in place of the profile's, where they are set.
    """
    found = load_profile(name or "openai")
    changes: dict[str, Any] = {"lacks": tuple(dict.fromkeys((*found.lacks, *lacks)))}
    changes |= {key: value for key, value in (("window", window), ("purpose", purpose)) if value is not None}
    version = (environment or {}).get(found.classic.version_variable, "") if found.classic else ""
    if found.classic and version:
        changes |= {
            "path": found.classic.path, "address_path": found.classic.address_path, "api_version": version.strip()
        }  # fmt: skip
    return found.model_copy(update=changes)
