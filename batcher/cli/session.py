"""Putting a command together: configuration, state, display. What only looks needs no more than this."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from batcher.config import Config, load_config
from batcher.state.db.store import Store
from batcher.views.progress import Display

if TYPE_CHECKING:
    from batcher.job.job import Job


class Session(NamedTuple):
    """What every command has."""

    config: Config
    store: Store
    display: Display
    json: bool

    def load_job(self) -> "Job":
        """The job folder, loaded."""
        from batcher.job.loading import load_job  # noqa: PLC0415 - what only looks asks for nothing

        return load_job(self.config.job.path)


def open_session(config_path: Path, json: bool) -> Session:
    """Reads the configuration; raises ConfigError."""
    config = load_config(config_path)
    console = Console(stderr=True, quiet=False)
    return Session(config, Store(config.state.dir, time.time, time.sleep), Display(console), json)
