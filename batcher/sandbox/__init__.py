"""A local server of OpenAI's Batch, Files, chat and responses API, with a clock that can run fast and faults on demand.

It imports nothing from the rest of the program, and listens on the loopback interface alone.
"""

from batcher.sandbox.api.sandbox import Sandbox, scaled_clock
from batcher.sandbox.base.settings import (
    Dialect,
    Faults,
    SandboxSettings,
    SettingError,
    apply_changes,
    settings_to_json,
)

__all__ = [
    "Dialect",
    "Faults",
    "Sandbox",
    "SandboxSettings",
    "SettingError",
    "apply_changes",
    "scaled_clock",
    "settings_to_json",
]
