"""Batcher: a submission manager for OpenAI's Batch API.

`batcher.open("batcher.toml")` opens a job; its methods do what the commands of the same names do (docs/python.md).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batcher.api.opened_job import OpenedJob
    from batcher.api.opened_job import open_job as open
    from batcher.core import events
    from batcher.errors import (
        BatcherError,
        ConfigError,
        DecisionError,
        InputError,
        JobError,
        SetupError,
        StateError,
    )

__version__ = "0.1.0"
__all__ = [
    "BatcherError",
    "ConfigError",
    "DecisionError",
    "InputError",
    "JobError",
    "OpenedJob",
    "SetupError",
    "StateError",
    "__version__",
    "events",
    "open",
]


def __getattr__(name: str) -> object:
    """Return what is imported only where it is used: each start of the command line imports this module."""
    if name in {"open", "OpenedJob"}:
        module = import_module("batcher.api.opened_job")
        return module.open_job if name == "open" else module.OpenedJob
    if name == "events":
        return import_module("batcher.core.events")
    if name in __all__:
        return getattr(import_module("batcher.errors"), name)
    raise AttributeError(f"module 'batcher' has no attribute {name!r}")
