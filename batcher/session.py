"""Putting a command together: configuration, state, display. What only looks needs no more than this."""

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from batcher.config import Config, load_config
from batcher.display import Display
from batcher.job import Job, load_job
from batcher.store import Store


@dataclass(frozen=True, slots=True)
class Session:
    """What every command has."""

    config: Config
    store: Store
    display: Display
    json: bool

    def job(self) -> Job:
        """The job folder, loaded."""
        return load_job(self.config.job.path)


def open_session(config_path: Path, json: bool) -> Session:
    """Reads the configuration; raises ConfigError."""
    config = load_config(config_path)
    console = Console(stderr=True, quiet=False)
    return Session(config, Store(config.state.dir, time.time, time.sleep), Display(console), json)
