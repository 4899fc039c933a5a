"""The service as the lanes see it: a protocol, and the errors that its calls raise."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batcher.core.failures import ErrorDetails
from batcher.core.remote import BatchListing, RemoteBatch, RemoteFile

_WRONG_ADDRESS = re.compile(r"Invalid URL\b")
"""The beginning of OpenAI's 404 for a wrong address, as opposed to one for an id that does not exist."""


class CallError(Exception):
    """A failed call of the service.

    details: the status, code and message of the answer. wait_s: the seconds of its Retry-After, None without one.
    headers: the headers of the answer, names in lower case; empty where no answer arrived.
    """

    def __init__(
        self, details: ErrorDetails, wait_s: float | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(details.message or details.code or "no answer")
        self.details = details
        self.wait_s = wait_s
        self.headers = headers or {}

    def with_longest_wait(self, longest_s: float) -> "CallError":
        """Return the same failure, which asks to wait no longer than `longest_s` seconds."""
        if self.wait_s is None or self.wait_s <= longest_s:
            return self
        return type(self)(self.details, longest_s, self.headers)

    @property
    def may_concern_one_object(self) -> bool:
        """Whether the call may have failed for the object that it names alone, so that others are worth a call."""
        return self.wait_s is None


class CallRefused(CallError):  # noqa: N818 - a verdict, and read as one
    """The service answered that it did not do what the call asks for."""

    @property
    def refuses_key(self) -> bool:
        """Whether the key or its permission was refused (401, 403): every other call would be refused, too."""
        return self.details.status in {401, 403}

    @property
    def asks_to_wait(self) -> bool:
        """Whether the call came too early (429): every other call would be refused, too."""
        return self.details.status == 429

    @property
    def concerns_all_calls(self) -> bool:
        """Whether the refusal is about the caller rather than about the object that was named."""
        return self.refuses_key or self.asks_to_wait

    @property
    def may_concern_one_object(self) -> bool:
        """Whether the object that was named may be the reason."""
        return self.wait_s is None and not self.concerns_all_calls

    @property
    def names_missing_object(self) -> bool:
        """Whether the batch or file that was named does not exist (404), as opposed to a wrong address."""
        return self.details.status == 404 and not _WRONG_ADDRESS.match(self.details.message)

    @property
    def conflicts_with_state(self) -> bool:
        """Whether the state of the object forbids the call (409), as when a batch that has ended is cancelled."""
        return self.details.status == 409


class CallUnknown(CallError):  # noqa: N818 - a verdict, and read as one
    """No answer arrived, or a server error, or one that cannot be read: the call may have taken effect."""


class CallUnsent(CallUnknown):
    """The connection could not be opened: nothing was sent."""

    @property
    def may_concern_one_object(self) -> bool:
        """Return False: no call would reach the service."""
        return False


class CallAbandoned(KeyboardInterrupt):
    """The user asked to end while a call was under way that changes nothing: its answer is not waited for.

    It is no CallError: nothing is to be recorded of it. Where no lane ends at a safe point because of it, it ends the
    command as Ctrl-C does.
    """


@dataclass(frozen=True, slots=True)
class CompletionResponse:
    """The answer to a synchronous call: its body, undecoded, and its headers (names in lower case)."""

    body: bytes
    headers: Mapping[str, str]


def ignore_progress(_bytes: int) -> None:
    """Ignore how far an upload is: the default where progress is not displayed."""


class Service(Protocol):
    """The calls that the lanes make. All raise CallRefused or CallUnknown (CallUnsent where nothing was sent).

    Each ends within a bounded time. One that only looks raises CallAbandoned once the user asked to end.
    """

    def check_access(self) -> None:
        """Make a call that costs nothing, to see whether the key and the address are good for batches."""

    def check_key(self) -> None:
        """Make a call that costs nothing, to see whether key and address are good, also where no batches are served."""

    def fetch_shutdown_date(self, model: str) -> str | None:
        """Return the day on which a model ends (YYYY-MM-DD; "" when none is set), None for an unknown model."""

    def upload_file(self, path: Path, name: str, report_sent: Callable[[int], None] = ...) -> RemoteFile:
        """Upload a batch input file under a name; never repeated.

        report_sent: called with the number of bytes that have been read for sending.
        """

    def create_batch(self, file_id: str, endpoint: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """Create a batch of an uploaded file; never repeated."""

    def list_batches(self, back_to: float) -> BatchListing:
        """Return the batches created at `back_to` (service time, epoch seconds) or later, as far as they can be read.

        It says whether it proves that another one is absent.
        """

    def retrieve_batch(self, batch_id: str) -> RemoteBatch | None:
        """Return one batch, None when the service does not know it."""

    def cancel_batch(self, batch_id: str) -> RemoteBatch | None:
        """Ask to cancel a batch and return it, None when the service does not know it."""

    def download_file(self, file_id: str, path: Path, most_bytes: int = ...) -> None:
        """Download a file to `path`, which is only replaced once the download is complete.

        most_bytes: the length of the longest file that is believed; CallUnknown is raised for a longer one.
        """

    def delete_file(self, file_id: str) -> None:
        """Delete a file; one that does not exist counts as deleted."""

    def can_see_file(self, file_id: str) -> bool:
        """Return whether the key may see this file."""

    def find_files(self, name: str) -> list[RemoteFile]:
        """Return the batch input files with exactly this name."""

    def request_completion(self, endpoint: str, body: Mapping[str, object]) -> CompletionResponse:
        """Request one answer synchronously; never repeated."""

    def find_stored_completion(self, model: str, metadata: Mapping[str, str]) -> bytes | None:
        """Return a stored chat completion that carries this metadata, as JSON; None where there is none."""
