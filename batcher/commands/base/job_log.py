"""The log of a job: what acting commands write, through the logger "batcher", to `batcher.log` in the state folder.

A program that uses Batcher as a library attaches handlers of its own to that logger. Each record has the attributes
`job_folder` and `job_command`. Nothing else imports this module before something is logged.
"""

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from batcher.disk.log_files import LOG_FILE, append_line
from batcher.disk.private_files import STATE_FILE
from batcher.service.masking import find_secrets, keep_maskable, mask_secrets
from batcher.views.log_lines import LogLine, format_log_line

LOGGER = logging.getLogger("batcher")
LOGGER.addHandler(logging.NullHandler())
MOST_KEPT = 100
"""Lines that are kept until there is a state: a first `plan` makes it, and one that is refused leaves nothing."""

Complain = Callable[[str], None]


class FileLogHandler(logging.Handler):
    """Appends the records of one job to its log. A log that cannot be written ends and delays nothing.

    complain: is called with a sentence for the user the first time that it cannot.
    """

    def __init__(self, folder: Path, complain: Complain) -> None:
        super().__init__()
        self.path = folder / LOG_FILE
        self._complain: Complain | None = complain
        self._kept: list[bytes] = []
        self.addFilter(self._is_of_this_job)

    def _is_of_this_job(self, record: logging.LogRecord) -> bool:
        return getattr(record, "job_folder", None) == str(self.path.parent)

    def emit(self, record: logging.LogRecord) -> None:
        """Append the line of a record, after those that had to wait for the state."""
        self._kept = [*self._kept, _encode_record(record)][-MOST_KEPT:]
        try:
            if (self.path.parent / STATE_FILE).exists():
                while self._kept:
                    append_line(self.path, self._kept[0])
                    self._kept.pop(0)
        except OSError as error:
            if self._complain is not None:
                complain, self._complain = self._complain, None
                complain(f"the log {self.path} cannot be written ({error.strerror}); the job goes on without it")


def _encode_record(record: logging.LogRecord) -> bytes:
    secrets = keep_maskable((os.environ.get("OPENAI_API_KEY", ""), *find_secrets(os.environ)))
    at = datetime.fromtimestamp(record.created, UTC).astimezone()
    command = getattr(record, "job_command", "") or "batcher"
    line = LogLine(at, record.levelname.lower(), command, record.process or 0, record.getMessage())
    return mask_secrets(format_log_line(line), secrets).encode("utf-8", "replace") + b"\n"


class JobLog:
    """Writes into the log of the job in one state folder. command: in whose name."""

    def __init__(self, folder: Path, command: str, complain: Complain) -> None:
        self._extra = {"job_folder": str(folder), "job_command": command}
        if not any(isinstance(each, FileLogHandler) and each.path.parent == folder for each in LOGGER.handlers):
            LOGGER.addHandler(FileLogHandler(folder, complain))
        if LOGGER.level == logging.NOTSET:  # else only warnings would come, as from Python's root
            LOGGER.setLevel(logging.INFO)

    def write(self, level: int, sentence: str) -> None:
        """Write a sentence. level: of Python's logging."""
        LOGGER.log(level, "%s", sentence, extra=self._extra)
