"""Files and batches as the service describes them. Times are epoch seconds by the service's clock."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from batcher.core.failures import ErrorDetails

FILE_LIFE_S = 30 * 24 * 3600
"""Seconds after which OpenAI deletes our input and output files, so that nothing is left of a client that died. It is
the longest time that the API accepts (official description, FileExpirationAfter)."""


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
