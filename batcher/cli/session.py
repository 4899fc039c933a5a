"""What every command is given: configuration, state, display. A command that only reads the state needs no more."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from batcher.config import Config, load_config
from batcher.state.db.store import Store
from batcher.views.progress import CleanConsole, Display

if TYPE_CHECKING:
    from batcher.job.job import Job


class Session(NamedTuple):
    """The configuration, the state and the display of a command. json: whether it answers as JSON."""

    config: Config
    store: Store
    display: Display
    json: bool

    def load_job(self) -> "Job":
        """Return the job, loaded from its folder. Raises JobError."""
        from batcher.job.loading import load_job

        return load_job(self.config.job.path)


def open_session(config_path: Path, json: bool) -> Session:
    """Read the configuration and return the session of a command. Raises ConfigError."""
    config = load_config(config_path)
    display = Display(CleanConsole(stderr=True))
    return Session(config, Store(config.state.dir, time.time, time.sleep), display, json)
