"""The lines of a job's log: how one is written, and read again; pure.

2026-11-27T07:38:50+00:00 info poll[4001] shard 12: batch batch_64d2 created
"""

import re
from datetime import datetime
from typing import NamedTuple

from batcher.views.clean import escape_line

LONGEST = 2_000
"""Characters of a sentence in the log at most: a service may quote a whole request in an error."""
_LINE = re.compile(r"(?P<time>\S+) (?P<level>[a-z]+) (?P<command>[\w-]+)\[(?P<pid>\d+)\] (?P<sentence>.*)")
_SHARD = re.compile(r"\bshard (\d+)\b", re.IGNORECASE)


class LogLine(NamedTuple):
    """A line of the log."""

    time: datetime
    """With the zone of the machine that wrote it."""
    level: str
    """info, warning or error."""
    command: str
    pid: int
    sentence: str

    @property
    def shard(self) -> int | None:
        """The shard that the line is about; None: none, or several."""
        found = _SHARD.search(self.sentence)
        return int(found[1]) if found else None


def format_log_line(line: LogLine) -> str:
    """Return a line as it stands in the file, without a line feed."""
    at, sentence = line.time.isoformat(timespec="seconds"), escape_line(line.sentence)
    if len(sentence) > LONGEST:
        sentence = sentence[: LONGEST - 3] + "..."
    return f"{at} {line.level} {line.command}[{line.pid}] {sentence}"


def parse_log_line(text: str) -> LogLine | None:
    """Return a line of the file; None where it is none, as a full disk may leave."""
    found = _LINE.fullmatch(text)
    if found is None:
        return None
    try:
        time = datetime.fromisoformat(found["time"])
    except ValueError:
        return None
    if time.tzinfo is None:
        return None
    return LogLine(time, found["level"], found["command"], int(found["pid"]), found["sentence"])
