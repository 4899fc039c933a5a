"""The service as the lanes see it: a protocol, and the two errors that a call of it raises."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batcher.core.failures import ErrorDetails
from batcher.core.remote import BatchListing, RemoteBatch, RemoteFile


class CallError(Exception):
    """A call of ours failed. `trouble` says how; `wait_s` is what Retry-After asks for, `headers` came with it."""

    def __init__(
        self, trouble: ErrorDetails, wait_s: float | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(trouble.message or trouble.code or "no answer")
        self.trouble = trouble
        self.wait_s = wait_s
        self.headers = headers or {}


class CallRefused(CallError):  # noqa: N818 - a verdict, and read as one
    """The service answered and did not do it."""

    @property
    def refuses_key(self) -> bool:
        """Whether the key, or its permission, was refused (401, 403): every other call would be, too."""
        return self.trouble.status in {401, 403}

    @property
    def asks_to_wait(self) -> bool:
        """Whether the call came too early (429): every other call would, too."""
        return self.trouble.status == 429

    @property
    def concerns_all_calls(self) -> bool:
        """Whether the refusal is about the caller and not about the object that was named."""
        return self.refuses_key or self.asks_to_wait


class CallUnknown(CallError):  # noqa: N818 - a verdict, and read as one
    """No answer came, or a server error: it may have been done."""


class CallUnsent(CallUnknown):
    """No connection came about: nothing was sent."""


@dataclass(frozen=True, slots=True)
class CompletionResponse:
    """What a synchronous call gave: the body as it came, and the headers (names in lower case)."""

    body: bytes
    headers: Mapping[str, str]


class Service(Protocol):
    """What the runner needs of a service."""

    def check_access(self) -> None:
        """Asks whether key and address are good."""

    def fetch_shutdown_date(self, model: str) -> str | None:
        """The day on which a model ends (YYYY-MM-DD; "" when none is set); None for an unknown model."""

    def upload_file(self, path: Path, name: str, sent: Callable[[int], None] = ...) -> RemoteFile:
        """Uploads a batch input file, once. sent: told how many bytes have gone."""

    def create_batch(self, file_id: str, endpoint: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """Asks for a batch, once."""

    def list_batches(self, back_to: float) -> BatchListing:
        """Every batch created at `back_to` or later."""

    def retrieve_batch(self, batch_id: str) -> RemoteBatch | None:
        """One batch; None when the service does not know it."""

    def cancel_batch(self, batch_id: str) -> RemoteBatch | None:
        """Asks to cancel; None when the service does not know it."""

    def download_file(self, file_id: str, path: Path) -> None:
        """The whole content of a file, moved into place when it is complete."""

    def delete_file(self, file_id: str) -> None:
        """Deletes a file; one that is gone counts as deleted."""

    def can_see_file(self, file_id: str) -> bool:
        """Whether the key may see this file."""

    def find_files(self, name: str) -> list[RemoteFile]:
        """Batch input files of exactly this name."""

    def request_completion(self, endpoint: str, body: Mapping[str, object]) -> CompletionResponse:
        """Asks for one answer now, once."""

    def find_stored_completion(self, model: str, metadata: Mapping[str, str]) -> bytes | None:
        """A stored chat completion that carries this metadata; None where there is none."""


def ignore_progress(_bytes: int) -> None:
    """Tells nobody."""
