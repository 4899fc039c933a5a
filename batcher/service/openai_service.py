"""The service over the openai client; with `translation` the only module that knows this client.

The client's own retries are off everywhere: a repeated `POST /batches` can start a paid batch twice, and the API has
no idempotency key. Calls that may be repeated free of charge are retried here, quickly and a few times; longer waits
are left to the runner. The client's errors become two of ours: `CallRefused` (the service answered that it did not do
it) and `CallUnknown` (no answer, a 5xx, or an answer that cannot be read: it may have been done).
"""

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar, cast

from batcher.core.failures import ErrorDetails, FailureClass, classify_call_error
from batcher.core.remote import FILE_LIFE_S, BatchListing, RemoteBatch, RemoteFile
from batcher.core.retry import Jitter, RetryRules, delay_after_failure
from batcher.errors import SetupError
from batcher.service.service import CallError, CallRefused, CallUnknown, CompletionResponse, ignore_progress
from batcher.service.translation import (
    call_translating_errors,
    lowercase_keys,
    parse_remote_batch,
    parse_remote_file,
    parse_server_date,
    read_listing,
    unreadable_answer_error,
)

if TYPE_CHECKING:
    from openai import OpenAI

PAGE = 100
"""Batches in one page of a listing, the most that the API returns (its `limit` parameter)."""
LONGEST_QUICK_WAIT_S = 20.0
"""Longest Retry-After, in seconds, that is waited for inside a call. Longer ones are left to the runner, whose wait
can be interrupted."""
LONGEST_CONNECT_S = 30.0
"""Seconds to wait for a connection. One that is not open by then is not slow but missing: nothing was sent, and the
runner tries later."""
NO_ADDRESS = "OPENAI_BASE_URL is no address; it looks like https://api.openai.com/v1"

T = TypeVar("T")


class _UploadFile:
    """A file that reports how many of its bytes have been read."""

    def __init__(self, file: BinaryIO, report_sent: Callable[[int], None]) -> None:
        self._file, self._report_sent = file, report_sent

    def read(self, size: int = -1) -> bytes:
        """Read as the file does, then report its position."""
        chunk = self._file.read(size)
        self._report_sent(self._file.tell())
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _BatchPage(NamedTuple):
    """One page of the listing of batches; `server_time` is that of its Date header, 0 without one."""

    batches: list[RemoteBatch]
    has_more: bool
    server_time: float


class OpenAIService:
    """The service over the openai client. Safe to call from several threads."""

    def __init__(self, client: "OpenAI", rules: RetryRules, sleep: Callable[[float], None], jitter: Jitter) -> None:
        # The client may not retry a call itself, however it was configured.
        self._client = client.with_options(max_retries=0)
        self._rules, self._sleep, self._jitter = rules, sleep, jitter

    def check_access(self) -> None:
        """List one batch. Raises CallRefused or CallUnknown."""
        self._call_with_retries(lambda: read_listing(lambda: self._client.batches.list(limit=1)))

    def fetch_shutdown_date(self, model: str) -> str | None:
        """Return the `shutdown_date` of a model ("" when none is set), None for an unknown model.

        The field is in the official description of the API, but not yet in the client's types.
        """
        found = self._call_unless_missing(lambda: self._client.models.retrieve(model))
        return None if found is None else str(getattr(found, "shutdown_date", None) or "")

    def upload_file(self, path: Path, name: str, report_sent: Callable[[int], None] = ignore_progress) -> RemoteFile:
        """Upload a file, streamed from disk; never repeated: it is free, but a repetition leaves an orphaned file."""

        def send_upload() -> RemoteFile:
            with path.open("rb") as file:
                answer = self._client.files.create(
                    file=(name, cast("IO[bytes]", _UploadFile(file, report_sent)), "application/jsonl"),
                    purpose="batch",
                    expires_after={"anchor": "created_at", "seconds": FILE_LIFE_S},
                )
            return parse_remote_file(answer)

        return self._call_once(send_upload)

    def create_batch(self, file_id: str, endpoint: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """Create a batch; never repeated. After CallUnknown it may exist."""

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
        """Return the batches created at `back_to` or later, read page by page, newest first.

        Raises CallUnknown for a listing that cannot be read to its end: only a complete one proves that a batch is
        absent.
        """
        found: dict[str, RemoteBatch] = {}
        server_time, after = 0.0, ""
        while True:
            page = self._call_with_retries(partial(self._fetch_page, after))
            server_time = server_time or page.server_time
            if page.has_more and found.keys() >= {batch.batch_id for batch in page.batches}:
                raise CallUnknown(ErrorDetails(message="the listing of the batches does not go on"))
            found.update((batch.batch_id, batch) for batch in page.batches)
            if not page.has_more or _is_last_page(page.batches, back_to):
                return BatchListing(tuple(b for b in found.values() if b.created_at >= back_to), server_time)
            after = page.batches[-1].batch_id

    def _fetch_page(self, after: str) -> _BatchPage:
        """Return the page of batches that follows the batch with the id `after` ("": the first page)."""
        api = self._client.batches.with_raw_response
        raw = api.list(limit=PAGE, after=after) if after else api.list(limit=PAGE)
        page = read_listing(raw.parse)
        entries: object = page.data
        if not isinstance(entries, list):
            raise unreadable_answer_error("listing")
        batches = [parse_remote_batch(entry) for entry in entries]
        has_more = page.has_more if isinstance(page.has_more, bool) else len(batches) >= PAGE
        return _BatchPage(batches, has_more, parse_server_date(raw.headers))

    def retrieve_batch(self, batch_id: str) -> RemoteBatch | None:
        """Return one batch, None for a 404."""
        return self._call_unless_missing(lambda: parse_remote_batch(self._client.batches.retrieve(batch_id)))

    def cancel_batch(self, batch_id: str) -> RemoteBatch | None:
        """Ask to cancel a batch and return it; one that has ended already is returned as it is. None for a 404."""
        try:
            return self._call_unless_missing(lambda: parse_remote_batch(self._client.batches.cancel(batch_id)))
        except CallRefused as error:
            if not error.conflicts_with_state:
                raise
            return self.retrieve_batch(batch_id)

    def download_file(self, file_id: str, path: Path) -> None:
        """Stream a file to disk beside `path`; replace `path` once all bytes that Content-Length announced arrived."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_path = path.with_name(path.name + ".part")
        try:
            self._call_with_retries(lambda: self._stream_to_file(file_id, partial_path))
        except CallError:
            partial_path.unlink(missing_ok=True)
            raise
        partial_path.replace(path)

    def _stream_to_file(self, file_id: str, path: Path) -> None:
        with self._client.files.with_streaming_response.content(file_id) as response, path.open("wb") as file:
            for chunk in response.iter_bytes():  # in the sizes that arrive: collecting larger ones doubles the cost
                file.write(chunk)
            received = response.http_response.num_bytes_downloaded  # before any content-encoding is undone
            expected = response.headers.get("content-length", "")
        if expected.isdecimal() and int(expected) != received:
            raise CallUnknown(ErrorDetails(message=f"{received:,} of {int(expected):,} bytes came"))

    def delete_file(self, file_id: str) -> None:
        """Delete a file; a 404 counts as success."""
        self._call_unless_missing(lambda: self._client.files.delete(file_id))

    def can_see_file(self, file_id: str) -> bool:
        """Return whether the service describes the file rather than answering 404."""
        return self._call_unless_missing(lambda: self._client.files.retrieve(file_id)) is not None

    def find_files(self, name: str) -> list[RemoteFile]:
        """Return the batch input files with this name among those that the key may see."""

        def list_files() -> list[RemoteFile]:
            files = read_listing(lambda: list(self._client.files.list(purpose="batch", limit=10_000)))
            return [parse_remote_file(file) for file in files]

        return [file for file in self._call_with_retries(list_files) if file.name == name]

    def request_completion(self, endpoint: str, body: Mapping[str, object]) -> CompletionResponse:
        """Request one answer; never repeated.

        After CallUnknown the answer may have been generated and billed, except after CallUnsent.
        """
        import httpx2

        def send_request() -> CompletionResponse:
            raw = self._client.post(endpoint.removeprefix("/v1"), cast_to=httpx2.Response, body=dict(body))
            return CompletionResponse(raw.content, lowercase_keys(raw.headers))

        return self._call_once(send_request)

    def find_stored_completion(self, model: str, metadata: Mapping[str, str]) -> bytes | None:
        """Return the newest stored chat completion that carries this metadata, as JSON; None where there is none."""

        def read_newest() -> bytes | None:
            for found in self._client.chat.completions.list(model=model, metadata=dict(metadata), order="desc"):
                return found.model_dump_json().encode()
            return None

        return self._call_with_retries(lambda: read_listing(read_newest))

    def _call_unless_missing(self, call: Callable[[], T]) -> T | None:
        """Return what the call returns, None where the object that it names does not exist."""
        try:
            return self._call_with_retries(call)
        except CallRefused as error:
            if error.names_missing_object:
                return None
            raise

    def _call_once(self, call: Callable[[], T]) -> T:
        return call_translating_errors(call, self._client.api_key)

    def _call_with_retries(self, call: Callable[[], T]) -> T:
        """Make a call that may be repeated free of charge, and retry it as often as the rules for CALL allow.

        A call is retried when no answer arrived, or one that asks to wait no longer than LONGEST_QUICK_WAIT_S; never
        when the account is out of money.
        """
        for n in range(self._rules.policies[FailureClass.CALL].tries or 0):
            try:
                return self._call_once(call)
            except CallError as error:
                temporary = isinstance(error, CallUnknown) or (isinstance(error, CallRefused) and error.asks_to_wait)
                out_of_money = classify_call_error(error.details) is FailureClass.QUOTA
                if not temporary or out_of_money or (error.wait_s or 0) > LONGEST_QUICK_WAIT_S:
                    raise
                self._sleep(delay_after_failure(self._rules, FailureClass.CALL, n, self._jitter(), error.wait_s))
        return self._call_once(call)


def _is_last_page(batches: list[RemoteBatch], back_to: float) -> bool:
    """Return whether the next pages hold older batches only; unknown, so False, for a page that is not newest first."""
    times = [batch.created_at for batch in batches]
    return times == sorted(times, reverse=True) and times[-1] < back_to


def connect_service(
    timeout_s: float, rules: RetryRules, sleep: Callable[[float], None], jitter: Jitter
) -> OpenAIService:
    """Return the service at the address and with the key that the environment variables of the client name.

    timeout_s: seconds without a byte after which a call fails. Raises SetupError without a key, for a key that no
    HTTP header can carry, and for an address that is none.
    """
    key = os.environ.get("OPENAI_API_KEY", "")
    if not key:
        raise SetupError("OPENAI_API_KEY is not set; export your key (platform.openai.com, API keys)")
    if not re.fullmatch(r"[!-~]+", key):
        raise SetupError("OPENAI_API_KEY holds a blank, a line break or a character beyond ASCII; export it again")
    import httpx2
    import openai

    timeout = openai.Timeout(timeout_s, connect=min(timeout_s, LONGEST_CONNECT_S))
    try:
        client = openai.OpenAI(max_retries=0, timeout=timeout)
    except httpx2.InvalidURL as error:
        raise SetupError(NO_ADDRESS) from error  # the client's own words quote a part of it, perhaps of a password
    except openai.OpenAIError as error:
        raise SetupError(f"the client cannot be set up: {error}") from error
    if client.base_url.scheme not in {"http", "https"} or not client.base_url.host:
        raise SetupError(NO_ADDRESS)
    return OpenAIService(client, rules, sleep, jitter)
