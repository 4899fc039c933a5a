"""`batcher log`: the lines of the job's log, and those that come."""

import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from batcher.commands.base.session import Session
from batcher.disk.log_files import LOG_FILE, LogReader
from batcher.errors import InputError, StateError
from batcher.views.log_lines import LogLine, parse_log_line

if TYPE_CHECKING:  # a terminal needs no contract
    from batcher.contracts.tools import LogAnswer

MOST_LINES = 100
"""The newest lines that are shown where no option says which."""
FOLLOW_EVERY_S = 0.5
"""Seconds between two looks for new lines."""
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class LogChoice(NamedTuple):
    """Which lines of the log are shown."""

    since: datetime | None = None
    shard: int | None = None
    most: int | None = None
    """None: all."""

    def takes(self, line: LogLine) -> bool:
        """Return whether a line is among them."""
        return (self.since is None or line.time >= self.since) and (self.shard is None or line.shard == self.shard)


def parse_since(text: str, now: datetime) -> datetime:
    """Return the time that `--since` names: a span before now (`90s`, `30m`, `2h`, `1d`), or a time in ISO 8601.

    A time without a zone is meant in that of this machine. Raises InputError for anything else.
    """
    span = _SPAN.fullmatch(text.strip())
    try:
        if span:
            return now - timedelta(seconds=float(span[1]) * _UNIT_S[span[2]])
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        example = "2h, 30m, 1d or 2026-11-27T07:30"
        raise InputError(f"--since {text!r} is neither a span nor a time; write it as {example}") from None


def show_log(session: Session, choice: LogChoice, follow: bool, write: Callable[[LogLine], None]) -> None:
    """Show the chosen lines of the log, and with `follow` those that come, until Ctrl-C.

    write: prints one line. Raises StateError where there is no log, or it cannot be read.
    """
    path = session.store.folder / LOG_FILE
    reader = LogReader(path)
    if not path.exists() and not follow:
        raise StateError(f"there is no log in {session.store.folder} yet; commands that act write it")
    try:
        for line in _choose_lines(reader, choice):
            write(line)
        while follow:
            sys.stdout.flush()
            time.sleep(FOLLOW_EVERY_S)
            for line in _choose_lines(reader, choice._replace(most=None)):
                write(line)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}; fix the rights of the state folder") from error
    finally:
        reader.close()


def _choose_lines(reader: LogReader, choice: LogChoice) -> Iterator[LogLine]:
    found = (line for text in reader.read_new_lines() if (line := parse_log_line(text)) and choice.takes(line))
    yield from found if choice.most is None else deque(found, maxlen=choice.most)


def choose_lines(since: str | None, shard: int | None, most: int | None) -> LogChoice:
    """Return the choice of the options. Raises InputError for a time that is none."""
    after = parse_since(since, datetime.now(UTC)) if since is not None else None
    if most is None and after is None and shard is None:
        most = MOST_LINES
    return LogChoice(after, shard, most)


def describe_line(line: LogLine) -> "LogAnswer":
    """Return a line by its contract."""
    from batcher.contracts.tools import LogAnswer

    fields = {**line._asdict(), "time": line.time.astimezone(UTC), "shard": line.shard}
    return LogAnswer.model_validate(fields)


def draw_line(line: LogLine) -> str:
    """Return a line for a terminal."""
    level = "" if line.level == "info" else f"{line.level}: "
    return f"{line.time.isoformat(timespec='seconds')} {line.command}[{line.pid}] {level}{line.sentence}"
