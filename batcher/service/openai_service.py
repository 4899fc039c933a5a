"""The service, as Batcher sees it: a thin layer over the openai client, and the only module that imports it.

Its own retries are off everywhere: a repeated `POST /batches` can start a paid batch twice, and the API has no
idempotency key. Calls whose repetition is free are repeated here, quickly and a few times; what then still fails
is the runner's to wait for. Foreign errors become two of ours: `CallRefused` (an answer came: it did not happen) and
`CallUnknown` (no answer, a 5xx, or one that cannot be read: it may have happened).
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from batcher.core.failures import ErrorDetails, FailureClass, classify_call_error
from batcher.core.remote import FILE_LIFE_S, BatchListing, RemoteBatch, RemoteFile
from batcher.core.retry import Jitter, RetryPolicy, retry_delay_seconds
from batcher.errors import SetupError
from batcher.service.service import CallError, CallRefused, CallUnknown, CompletionResponse, ignore_progress
from batcher.service.translation import (
    call_translating_errors,
    lowercase_keys,
    parse_remote_batch,
    parse_remote_file,
    parse_server_date,
    unreadable_answer,
)

if TYPE_CHECKING:
    from openai import OpenAI

PAGE = 100
"""Batches in one page of a listing (the most that the API gives)."""
LONGEST_QUICK_WAIT_S = 20.0
"""A Retry-After beyond this is not waited for inside a call: the runner waits, and may be interrupted."""
RETRY_AFTER_SPREAD_S = 5.0
"""Up to this much is added to a Retry-After, so that not all come back at once."""
LONGEST_CONNECT_S = 30.0
"""A connection that is not open by then is not slow, it is missing: nothing was sent, and the runner tries later."""
NO_ADDRESS = "OPENAI_BASE_URL is no address; it looks like https://api.openai.com/v1"

T = TypeVar("T")


class _ProgressFile:
    """A file that tells how much of it was read."""

    def __init__(self, file: BinaryIO, sent: Callable[[int], None]) -> None:
        self._file, self._sent = file, sent

    def read(self, size: int = -1) -> bytes:
        """As the file, and tells where it stands then."""
        chunk = self._file.read(size)
        self._sent(self._file.tell())
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class OpenAIService:
    """The service over the openai client."""

    jitter_share = 0.10
    """How much of a pause between two tries chance may take off."""

    def __init__(self, client: "OpenAI", policy: RetryPolicy, sleep: Callable[[float], None], jitter: Jitter) -> None:
        # Whatever the client was made with: it may not repeat a call by itself.
        self._client = client.with_options(max_retries=0)
        self._policy, self._sleep, self._jitter = policy, sleep, jitter

    def check_access(self) -> None:
        """Lists one batch. Raises CallRefused or CallUnknown."""
        self._call_with_retries(lambda: self._client.batches.list(limit=1))

    def fetch_shutdown_date(self, model: str) -> str | None:
        """Asks for the model; its `shutdown_date` is in the official description, and not yet in the client's types."""
        found = self._call_unless_missing(lambda: self._client.models.retrieve(model))
        return None if found is None else str(getattr(found, "shutdown_date", None) or "")

    def upload_file(self, path: Path, name: str, sent: Callable[[int], None] = ignore_progress) -> RemoteFile:
        """Uploads from disk, streamed. An upload costs nothing, but a repetition leaves an orphan: done once."""

        def send_upload() -> RemoteFile:
            with path.open("rb") as file:
                answer = self._client.files.create(
                    file=(name, cast("IO[bytes]", _ProgressFile(file, sent)), "application/jsonl"),
                    purpose="batch",
                    expires_after={"anchor": "created_at", "seconds": FILE_LIFE_S},
                )
            return parse_remote_file(answer)

        return self._call_once(send_upload)

    def create_batch(self, file_id: str, endpoint: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """Creates the batch, once. After CallUnknown it may exist."""

        def send_create() -> RemoteBatch:
            answer = self._client.batches.create(
                input_file_id=file_id,
                endpoint=endpoint,  # type: ignore[arg-type]
                completion_window="24h",
                metadata=dict(metadata),
                output_expires_after={"anchor": "created_at", "seconds": FILE_LIFE_S},
            )
            return parse_remote_batch(answer)

        return self._call_once(send_create)

    def list_batches(self, back_to: float) -> BatchListing:
        """Pages through the listing, newest first, until it is older than `back_to`.

        Raises CallUnknown for a listing that cannot be read to its end: absence is only told of a complete one.
        """
        found: dict[str, RemoteBatch] = {}
        server_time, after = 0.0, ""
        while True:
            batches, more, date = self._call_with_retries(lambda a=after: self._list_page(a))  # type: ignore[misc]
            server_time = server_time or date
            if more and found.keys() >= {batch.batch_id for batch in batches}:
                raise CallUnknown(ErrorDetails(message="the listing of the batches does not go on"))
            found.update((batch.batch_id, batch) for batch in batches)
            if not more or _is_last_page(batches, back_to):
                return BatchListing(tuple(b for b in found.values() if b.created_at >= back_to), server_time)
            after = batches[-1].batch_id

    def _list_page(self, after: str) -> tuple[list[RemoteBatch], bool, float]:
        """One page, whether more follow, and the server's time."""
        api = self._client.batches.with_raw_response
        raw = api.list(limit=PAGE, after=after) if after else api.list(limit=PAGE)
        page: Any = raw.parse()
        if not isinstance(page.data, list):
            raise unreadable_answer("listing")
        batches = [parse_remote_batch(batch) for batch in page.data]
        more = page.has_more if isinstance(page.has_more, bool) else len(batches) >= PAGE
        return batches, more, parse_server_date(raw.headers)

    def retrieve_batch(self, batch_id: str) -> RemoteBatch | None:
        """One batch; None for a 404."""
        return self._call_unless_missing(lambda: parse_remote_batch(self._client.batches.retrieve(batch_id)))

    def cancel_batch(self, batch_id: str) -> RemoteBatch | None:
        """Asks to cancel; a batch that has ended already is told as it is."""
        try:
            return self._call_unless_missing(lambda: parse_remote_batch(self._client.batches.cancel(batch_id)))
        except CallRefused as error:
            if error.trouble.status != 409:
                raise
            return self.retrieve_batch(batch_id)

    def download_file(self, file_id: str, path: Path) -> None:
        """Streams to disk beside `path` and moves into place, once as many bytes came as Content-Length says."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".part")
        try:
            self._call_with_retries(lambda: self._stream_to_file(file_id, beside))
        except CallError:
            beside.unlink(missing_ok=True)
            raise
        beside.replace(path)

    def _stream_to_file(self, file_id: str, path: Path) -> None:
        with self._client.files.with_streaming_response.content(file_id) as response, path.open("wb") as file:
            for chunk in response.iter_bytes():  # as they come: making larger ones doubles the cost
                file.write(chunk)
            came = response.http_response.num_bytes_downloaded  # before any content-encoding is undone
            expected = response.headers.get("content-length", "")
        if expected.isdecimal() and int(expected) != came:
            raise CallUnknown(ErrorDetails(message=f"{came:,} of {int(expected):,} bytes came"))

    def delete_file(self, file_id: str) -> None:
        """Deletes a file; a 404 is success."""
        self._call_unless_missing(lambda: self._client.files.delete(file_id))

    def can_see_file(self, file_id: str) -> bool:
        """Asks for the file's description."""
        return self._call_unless_missing(lambda: self._client.files.retrieve(file_id)) is not None

    def find_files(self, name: str) -> list[RemoteFile]:
        """Batch input files of this name among those that the key may see."""

        def list_files() -> list[RemoteFile]:
            return [parse_remote_file(file) for file in self._client.files.list(purpose="batch", limit=10_000)]

        return [file for file in self._call_with_retries(list_files) if file.name == name]

    def request_completion(self, endpoint: str, body: Mapping[str, object]) -> CompletionResponse:
        """Asks for one answer now, once. After CallUnknown (but CallUnsent) it may have been given, and billed.

        Safe to call from several threads.
        """
        import httpx2  # noqa: PLC0415

        def send_request() -> CompletionResponse:
            raw = self._client.post(endpoint.removeprefix("/v1"), cast_to=httpx2.Response, body=dict(body))
            return CompletionResponse(raw.content, lowercase_keys(raw.headers))

        return self._call_once(send_request)

    def find_stored_completion(self, model: str, metadata: Mapping[str, str]) -> bytes | None:
        """The newest stored chat completion that carries this metadata, as JSON."""

        def find_newest() -> bytes | None:
            for found in self._client.chat.completions.list(model=model, metadata=dict(metadata), order="desc"):
                return found.model_dump_json().encode()
            return None

        return self._call_with_retries(find_newest)

    def _call_unless_missing(self, call: Callable[[], T]) -> T | None:
        try:
            return self._call_with_retries(call)
        except CallRefused as error:
            if error.trouble.status == 404 and not _NO_SUCH_ADDRESS.match(error.trouble.message):
                return None
            raise

    def _call_once(self, call: Callable[[], T]) -> T:
        return call_translating_errors(call, self._client.api_key)

    def _call_with_retries(self, call: Callable[[], T]) -> T:
        """A call whose repetition is free: repeated a few times when no answer, or one of "later", came."""
        for n in range(self._policy.tries or 0):
            try:
                return self._call_once(call)
            except CallError as error:
                if not _is_retryable(error) or (error.wait_s or 0) > LONGEST_QUICK_WAIT_S:
                    raise
                self._sleep(self._retry_delay_seconds(n, error.wait_s))
        return self._call_once(call)

    def _retry_delay_seconds(self, n: int, wait_s: float | None) -> float:
        if wait_s is not None:
            return wait_s + RETRY_AFTER_SPREAD_S * self._jitter()
        return retry_delay_seconds(self._policy, n, self._jitter(), self.jitter_share)


_NO_SUCH_ADDRESS = re.compile(r"Invalid URL\b")
"""How OpenAI's 404 begins where the address is wrong, and not the id."""


def _is_retryable(error: CallError) -> bool:
    """Whether trying again at once makes sense: not where the account is out of money."""
    later = isinstance(error, CallUnknown) or error.trouble.status == 429
    return later and classify_call_error(error.trouble) is not FailureClass.QUOTA


def _is_last_page(batches: list[RemoteBatch], back_to: float) -> bool:
    """Whether a page is the last one needed. One that is not newest first says nothing about the next."""
    times = [batch.created_at for batch in batches]
    return times == sorted(times, reverse=True) and times[-1] < back_to


# The client checks no answer against the official description: any field may be missing, or be of another type.


def connect_service(
    timeout_s: float, policy: RetryPolicy, sleep: Callable[[float], None], jitter: Jitter
) -> OpenAIService:
    """The service that the environment names. Raises SetupError without a key, or with one that cannot be sent."""
    key = os.environ.get("OPENAI_API_KEY", "")
    if not key:
        raise SetupError("OPENAI_API_KEY is not set; export your key (platform.openai.com, API keys)")
    if not re.fullmatch(r"[!-~]+", key):
        raise SetupError("OPENAI_API_KEY holds a blank, a line break or a character beyond ASCII; export it again")
    import httpx2  # noqa: PLC0415
    import openai  # noqa: PLC0415

    timeout = openai.Timeout(timeout_s, connect=min(timeout_s, LONGEST_CONNECT_S))
    try:
        client = openai.OpenAI(max_retries=0, timeout=timeout)
    except httpx2.InvalidURL as error:
        raise SetupError(f"{NO_ADDRESS} ({error})") from error
    except openai.OpenAIError as error:
        raise SetupError(f"the client cannot be set up: {error}") from error
    if client.base_url.scheme not in {"http", "https"} or not client.base_url.host:
        raise SetupError(NO_ADDRESS)
    return OpenAIService(client, policy, sleep, jitter)
