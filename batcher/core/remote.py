"""Files and batches as the service describes them. Their times are epoch seconds by the service's clock."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from batcher.core.failures import ErrorDetails

FILE_LIFE_S = 30 * 24 * 3600
"""Seconds after which OpenAI deletes our input and output files, so that nothing is left of a client that died. It is
the longest time that the API accepts (official description, FileExpirationAfter)."""


LINE_BYTES = 256 * 1024
"""Bytes of a result line beside its answer: ids, usage, the instructions and the schema that /v1/responses repeats."""
TOKEN_BYTES = 64
"""Bytes of an output token at most: some are a dozen characters, and a character that is escaped takes six bytes."""
FEWEST_LINES, MOST_LINES = 1_000, 50_000
"""Lines that a result file may always have (a bound is there for a file without an end, not for one that is odd), and
the most that a batch may have (OpenAI, guides/batch, 2026-07)."""


def longest_result_bytes(lines: int, output_tokens: int) -> int:
    """Return the length of the longest result file of a batch; a longer one has no end, and would fill the disk.

    lines: of the batch. output_tokens: the most that each may have.
    """
    return max(FEWEST_LINES, min(lines, MOST_LINES)) * (LINE_BYTES + output_tokens * TOKEN_BYTES)


DATE_STEP_S = 1.0
"""Resolution of a Date header in seconds: the time between two of them may be this much shorter than they say."""


class Moment(NamedTuple):
    """One moment by two clocks, either of which may be wrong. Times are epoch seconds."""

    ours: float
    server: float
    """By the Date header of an answer; 0 where it carried none."""


def seconds_between(then: Moment, now: Moment) -> float:
    """Return the seconds that have passed by both clocks; negative where one of them was set back.

    Ours alone counts where an answer carried no time. One clock that is wrong makes a wait longer, never shorter.
    """
    ours = now.ours - then.ours
    if not then.server or not now.server:
        return ours
    server = now.server - then.server
    return min(ours, max(0.0, server - DATE_STEP_S) if server >= 0 else server)


class RemoteFile(NamedTuple):
    """A file at OpenAI."""

    file_id: str
    name: str
    created_at: float


class RemoteBatch(NamedTuple):
    """A batch as the service reports it. Ids that are not set are None (an empty id counts as not set)."""

    batch_id: str
    status: str
    created_at: float
    input_file_id: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    expires_at: float | None = None
    finished_at: float | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    usage: tuple[int, int, int] | None = None
    """Input, cached and output tokens."""
    errors: tuple[ErrorDetails, ...] = ()
    metadata: Mapping[str, str] = MappingProxyType({})


class BatchListing(NamedTuple):
    """The batches back to a time, newest first."""

    batches: tuple[RemoteBatch, ...]
    server_time: float
    """The Date header of the first page."""
    proves_absence: bool = True
    """Whether a batch that is not in it does not exist: it was read to its end, and every object was understood."""
    problems: tuple[str, ...] = ()
    """What could not be read of it, a sentence each."""
