"""Files and batches as the service describes them. Times are in the service's clock."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from batcher.core.failures import ErrorDetails

FILE_LIFE_S = 30 * 24 * 3600
"""How long input and output files live at OpenAI (the longest that the API takes; official description,
FileExpirationAfter): what a dead client leaves goes away by itself."""


class RemoteFile(NamedTuple):
    """A file at OpenAI; `created_at` in the service's clock."""

    file_id: str
    name: str
    created_at: float


class RemoteBatch(NamedTuple):
    """A batch as the service tells it. Unset ids are None (an empty id counts as unset)."""

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
    errors: tuple[ErrorDetails, ...] = ()
    metadata: Mapping[str, str] = MappingProxyType({})


class BatchListing(NamedTuple):
    """Batches, newest first, back to a time; `server_time` is the Date header of its first page."""

    batches: tuple[RemoteBatch, ...]
    server_time: float
