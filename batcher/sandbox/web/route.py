"""A route of the API: method, path, the name of the operation for faults, and what answers."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from batcher.sandbox.api.sandbox import Sandbox
from batcher.sandbox.web.messages import Reply, Request


@dataclass(frozen=True)
class ApiCall:
    """A request that has a route; `name` is the id in its path, `lost` says that its answer won't arrive."""

    sandbox: Sandbox
    request: Request
    name: str
    number: int
    lost: bool


Handler = Callable[[ApiCall], Reply]


@dataclass(frozen=True)
class Route:
    """`operation` is the name that faults know the call by, or "" for none."""

    method: str
    pattern: re.Pattern[str]
    operation: str
    handler: Handler


def build_route(method: str, path: str, operation: str, handler: Handler) -> Route:
    """Return a route; `{id}` in its path stands for a name."""
    return Route(method, re.compile(path.replace("{id}", "([^/]+)") + "/?"), operation, handler)
