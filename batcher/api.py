"""The service, as Batcher sees it: a thin layer over the openai client, and the only module that imports it.

Its own retries are off everywhere: a repeated `POST /batches` can start a paid batch twice, and the API has no
idempotency key. Calls whose repetition is free are repeated here, quickly and a few times; what then still fails
is the runner's to wait for. Foreign errors become two of ours: `CallRefused` (an answer came: it did not happen) and
`CallUnknown` (no answer, or a 5xx: it may have happened).
"""

import os
import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from batcher.errors import SetupError
from batcher.model import Listing, RemoteBatch, RemoteFile
from batcher.retry import Jitter, Policy, Trouble, delay_s, retry_after_s

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch, FileObject

FILE_LIFE_S = 30 * 24 * 3600
"""How long input and output files live at OpenAI (the longest that the API takes; official description,
FileExpirationAfter): what a dead client leaves goes away by itself."""
PAGE = 100
"""Batches in one page of a listing (the most that the API gives)."""
LONGEST_QUICK_WAIT_S = 20.0
"""A Retry-After beyond this is not waited for inside a call: the runner waits, and may be interrupted."""

T = TypeVar("T")


class CallError(Exception):
    """A call of ours failed. `trouble` says how; `wait_s` is what Retry-After asks for."""

    def __init__(self, trouble: Trouble, wait_s: float | None = None) -> None:
        super().__init__(trouble.message or trouble.code or "no answer")
        self.trouble = trouble
        self.wait_s = wait_s


class CallRefused(CallError):  # noqa: N818 - a verdict, and read as one
    """The service answered and did not do it."""


class CallUnknown(CallError):  # noqa: N818 - a verdict, and read as one
    """No answer came, or a server error: it may have been done."""


class Service(Protocol):
    """What the runner needs of a service."""

    def check(self) -> None:
        """Asks whether key and address are good."""

    def upload(self, path: Path, name: str) -> RemoteFile:
        """Uploads a batch input file, once."""

    def create(self, file_id: str, endpoint: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """Asks for a batch, once."""

    def list_batches(self, back_to: float) -> Listing:
        """Every batch created at `back_to` or later."""

    def retrieve(self, batch_id: str) -> RemoteBatch | None:
        """One batch; None when the service does not know it."""

    def cancel(self, batch_id: str) -> RemoteBatch | None:
        """Asks to cancel; None when the service does not know it."""

    def download(self, file_id: str, path: Path) -> None:
        """The whole content of a file, moved into place when it is complete."""

    def delete(self, file_id: str) -> None:
        """Deletes a file; one that is gone counts as deleted."""

    def find_files(self, name: str) -> list[RemoteFile]:
        """Batch input files of exactly this name."""


class OpenAIService:
    """The service over the openai client."""

    def __init__(self, client: "OpenAI", policy: Policy, sleep: Callable[[float], None], jitter: Jitter) -> None:
        self._client = client
        self._policy, self._sleep, self._jitter = policy, sleep, jitter

    def check(self) -> None:
        """Lists one batch. Raises CallRefused or CallUnknown."""
        self._free(lambda: self._client.batches.list(limit=1))

    def upload(self, path: Path, name: str) -> RemoteFile:
        """Uploads from disk, streamed. An upload costs nothing, but a repetition leaves an orphan: done once."""

        def call() -> RemoteFile:
            with path.open("rb") as file:
                answer = self._client.files.create(
                    file=(name, file, "application/jsonl"),
                    purpose="batch",
                    expires_after={"anchor": "created_at", "seconds": FILE_LIFE_S},
                )
            return _file(answer)

        return _translated(call)

    def create(self, file_id: str, endpoint: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """Creates the batch, once. After CallUnknown it may exist."""
        batch = _translated(
            lambda: self._client.batches.create(
                input_file_id=file_id,
                endpoint=endpoint,  # type: ignore[arg-type]
                completion_window="24h",
                metadata=dict(metadata),
                output_expires_after={"anchor": "created_at", "seconds": FILE_LIFE_S},
            )
        )
        return _batch(batch)

    def list_batches(self, back_to: float) -> Listing:
        """Pages through the listing, newest first, until it is older than `back_to`."""
        found: dict[str, RemoteBatch] = {}
        server_time, after = 0.0, ""
        while True:
            page, date = self._free(lambda a=after: self._page(a))  # type: ignore[misc]
            server_time = server_time or date
            batches = [_batch(batch) for batch in page.data]
            found.update((batch.batch_id, batch) for batch in batches)
            if not page.has_more or not batches or batches[-1].created_at < back_to:
                return Listing(tuple(b for b in found.values() if b.created_at >= back_to), server_time)
            after = batches[-1].batch_id

    def _page(self, after: str) -> tuple[Any, float]:
        batches = self._client.batches.with_raw_response
        raw = batches.list(limit=PAGE, after=after) if after else batches.list(limit=PAGE)
        return raw.parse(), _date(raw.headers)

    def retrieve(self, batch_id: str) -> RemoteBatch | None:
        """One batch; None for a 404."""
        batch = self._unless_gone(lambda: self._client.batches.retrieve(batch_id))
        return _batch(batch) if batch is not None else None

    def cancel(self, batch_id: str) -> RemoteBatch | None:
        """Asks to cancel; a batch that has ended already is told as it is."""
        try:
            batch = self._unless_gone(lambda: self._client.batches.cancel(batch_id))
        except CallRefused as error:
            if error.trouble.status != 409:
                raise
            return self.retrieve(batch_id)
        return _batch(batch) if batch is not None else None

    def download(self, file_id: str, path: Path) -> None:
        """Streams to disk beside `path` and moves into place, once as many bytes came as Content-Length says."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".part")
        self._free(lambda: self._stream(file_id, beside))
        beside.replace(path)

    def _stream(self, file_id: str, path: Path) -> None:
        with self._client.files.with_streaming_response.content(file_id) as response, path.open("wb") as file:
            for chunk in response.iter_bytes(1 << 20):
                file.write(chunk)
            written = file.tell()
            expected = response.headers.get("content-length")
            encoded = response.headers.get("content-encoding")
        if expected is not None and not encoded and int(expected) != written:
            raise CallUnknown(Trouble(message=f"{written:,} of {expected} bytes came"))

    def delete(self, file_id: str) -> None:
        """Deletes a file; a 404 is success."""
        self._unless_gone(lambda: self._client.files.delete(file_id))

    def find_files(self, name: str) -> list[RemoteFile]:
        """Batch input files of this name among those that the key may see."""
        page = self._free(lambda: list(self._client.files.list(purpose="batch", limit=10_000)))
        return [_file(file) for file in page if file.filename == name]

    def _unless_gone(self, call: Callable[[], T]) -> T | None:
        try:
            return self._free(call)
        except CallRefused as error:
            if error.trouble.status == 404:
                return None
            raise

    def _free(self, call: Callable[[], T]) -> T:
        """A call whose repetition is free: repeated a few times when no answer, or one of "later", came."""
        for n in range(self._policy.tries or 0):
            try:
                return _translated(call)
            except CallError as error:
                if not _may_pass(error) or (error.wait_s or 0) > LONGEST_QUICK_WAIT_S:
                    raise
                self._sleep(max(error.wait_s or 0.0, delay_s(self._policy, n, self._jitter())))
        return _translated(call)


def _may_pass(error: CallError) -> bool:
    return isinstance(error, CallUnknown) or error.trouble.status == 429


def _translated(call: Callable[[], T]) -> T:
    """Runs a call; the client's errors become ours."""
    import httpx2  # noqa: PLC0415 - with openai, two thirds of a second of start-up that most commands do not need
    import openai  # noqa: PLC0415

    try:
        return call()
    except openai.APIStatusError as error:
        raise _status_error(error) from error
    except openai.APIConnectionError as error:
        cause = error.__cause__ or error
        raise CallUnknown(Trouble(message=f"{error.message} ({type(cause).__name__}: {cause})")) from error
    except httpx2.HTTPError as error:  # while a body is streamed, the client does not wrap them
        raise CallUnknown(Trouble(message=f"{type(error).__name__}: {error}")) from error


def _status_error(error: Any) -> CallError:
    body = error.body if isinstance(error.body, dict) else {}
    # The refusal of a wrong key quotes it in part; a secret stays out of every message.
    text = re.sub(r"sk-[\w*.-]+", "sk-...", str(body.get("message") or error.message))[:500]
    trouble = Trouble(error.status_code, error.code or "", error.type or "", text)
    headers = {key.lower(): value for key, value in error.response.headers.items()}
    wait = retry_after_s(headers, _date(headers))
    unknown = error.status_code >= 500 or error.status_code == 408
    return (CallUnknown if unknown else CallRefused)(trouble, wait)


def _date(headers: Mapping[str, str]) -> float:
    """The server's time in an answer; 0 where it sends none."""
    text = headers.get("date", "")
    try:
        return parsedate_to_datetime(text).timestamp() if text else 0.0
    except (ValueError, TypeError):
        return 0.0


def _file(file: "FileObject") -> RemoteFile:
    return RemoteFile(file.id, file.filename, float(file.created_at))


def _batch(batch: "Batch") -> RemoteBatch:
    counts, usage = batch.request_counts, batch.usage
    finished = batch.completed_at or batch.failed_at or batch.expired_at or batch.cancelled_at
    return RemoteBatch(
        batch_id=batch.id,
        status=str(batch.status),
        created_at=float(batch.created_at),
        input_file_id=batch.input_file_id,
        output_file_id=batch.output_file_id or None,
        error_file_id=batch.error_file_id or None,
        expires_at=float(batch.expires_at) if batch.expires_at else None,
        finished_at=float(finished) if finished else None,
        total=counts.total if counts else 0,
        completed=counts.completed if counts else 0,
        failed=counts.failed if counts else 0,
        usage=(usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens) if usage else None,
        errors=tuple(_trouble(e) for e in (batch.errors.data or [])) if batch.errors else (),
        metadata={str(k): str(v) for k, v in (batch.metadata or {}).items()},
    )


def _trouble(error: Any) -> Trouble:
    return Trouble(None, error.code or "", "", error.message or "", error.line)


def connect(timeout_s: float, policy: Policy, sleep: Callable[[float], None], jitter: Jitter) -> OpenAIService:
    """The service that the environment names. Raises SetupError without a key."""
    if not os.environ.get("OPENAI_API_KEY"):
        raise SetupError("OPENAI_API_KEY is not set; export your key (platform.openai.com, API keys)")
    import openai  # noqa: PLC0415

    try:
        client = openai.OpenAI(max_retries=0, timeout=timeout_s)
    except openai.OpenAIError as error:
        raise SetupError(f"the client cannot be set up: {error}") from error
    return OpenAIService(client, policy, sleep, jitter)
