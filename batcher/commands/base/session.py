"""What every command is given: configuration, state, display. A command that only reads the state needs no more."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from batcher.config.loading import load_config
from batcher.config.sections import Config
from batcher.errors import SetupError
from batcher.nouns import find_nouns, set_nouns
from batcher.service.address import read_origin
from batcher.state import facts
from batcher.state.db.store import Store
from batcher.state.db.transaction import Transaction
from batcher.views.progress import CleanConsole, Display

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher.commands.base.signals import EndRequest
    from batcher.core.events import Event
    from batcher.job.job import Job


class ServiceName(NamedTuple):
    """Whom a job speaks to: the model, and the addresses of the service without user and password."""

    model: str
    service: str
    """The address that the state records; before any contact the one that is set."""
    address_set: str
    """The address that the environment sets now."""

    def describe(self) -> str:
        """Return the first line of an answer."""
        other = f"; the address set now is {self.address_set}" if self.address_set != self.service else ""
        return f"{self.model} at {self.service}{other}"

    def to_json(self) -> dict[str, str]:
        """Return the first fields of an answer in JSON."""
        return {"model": self.model, "service": self.service}


class Host(NamedTuple):
    """Who runs a command: the command line, or a Python program."""

    report_event: "Callable[[Event], None] | None" = None
    """Is called with each event of a lane, beside the display."""
    end: "EndRequest | None" = None
    """Set by the host to have the command end at the next safe point, as by Ctrl-C."""
    handles_signals: bool = True
    """Whether Ctrl-C, SIGTERM and SIGHUP end the command at a safe point; only the main thread can."""
    asks: bool = True
    """Whether a person is there, who sees the job that is followed and is asked questions; otherwise an answer that is
    not given beforehand raises DecisionError."""


class Session(NamedTuple):
    """What a command is given. json: whether it answers as JSON; service_moved: the user says that the address of the
    service has changed, and that it is the same service; command: the name of the command."""

    config: Config
    store: Store
    display: Display
    json: bool
    service_moved: bool = False
    command: str = ""
    waits: bool = True
    """Whether it waits for another process that has the lane."""
    streams: bool = False
    """Whether a followed job is reported as JSON, one object a line on stdout, before the answer."""
    host: Host = Host()

    def write_log(self, level: int, sentence: str) -> None:
        """Write a sentence into the log of the job. level: of Python's logging."""
        from batcher.commands.base.job_log import JobLog

        JobLog(self.store.folder, self.command, self.display.print_once).write(level, sentence)

    def load_job(self) -> "Job":
        """Return the job, loaded from its folder. Raises JobError."""
        from batcher.job.loading import load_job

        return load_job(self.config.job.path, self.config.model.endpoint)

    def name_service(self, tx: Transaction | None) -> ServiceName:
        """Return whom the job speaks to. tx: None where there is no plan yet."""
        recorded = facts.read_service_origin(tx) if tx is not None else ""
        address = read_service_address(self.config)
        return ServiceName(self.config.model.name, recorded or address, address)

    def check_origin(self, tx: Transaction) -> None:
        """Raise SetupError where the work of this job is at another service than the one that is set now.

        What one service has taken is unknown to another: it would be bought again, or mixed with a rehearsal.
        """
        name = self.name_service(tx)
        if name.service != name.address_set and not self.service_moved:
            raise SetupError(
                f"this job's work is at {name.service}, and the address set now is {name.address_set}; set "
                "OPENAI_BASE_URL back, or give this service a [state] dir of its own (where it is the same service "
                "at a new address: --service-moved)"
            )


def read_service_address(config: Config) -> str:
    """Return the address of the service that settings and environment name, as it is recorded and shown."""
    if config.service.profile is None:  # as in most jobs: `status` loads no profile for them
        return read_origin()
    from batcher.config.services import find_service_profile

    return find_service_profile(config).read_address(os.environ)


def open_session(
    config_path: Path,
    json: bool,
    service_moved: bool = False,
    command: str = "",
    quiet: bool = False,
    waits: bool = True,
) -> Session:
    """Read the configuration and return the session of a command of this name; texts use the nouns of its job.

    quiet: show neither progress nor notes.

    Raises ConfigError.
    """
    config = load_config(config_path)
    set_nouns(find_nouns(config.job.path))
    display = Display(CleanConsole(stderr=True, quiet=quiet))
    return Session(config, Store(config.state.dir, time.time, time.sleep), display, json, service_moved, command, waits)
