"""The service over the openai client; with `connecting` and `translation` the only modules that know this client.

The client's own retries are off everywhere: a repeated `POST /batches` can start a paid batch twice, and the API has
no idempotency key. Calls that may be repeated free of charge are retried here, quickly and a few times; longer waits
are left to the runner. The client's errors become two of ours: `CallRefused` (the service answered that it did not do
it) and `CallUnknown` (no answer, a 5xx, or an answer that cannot be read: it may have been done).
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from batcher.core.failures import ErrorDetails, FailureClass, classify_call_error
from batcher.core.remote import FILE_LIFE_S, BatchListing, RemoteBatch, RemoteFile
from batcher.core.retry import LONGEST_LOOK_WAIT_S, Jitter, RetryRules, delay_after_failure
from batcher.disk.private_files import make_private_folder, open_private_file
from batcher.service.answers import parse_remote_batch, parse_remote_file, read_json, read_object
from batcher.service.bounds import (
    FLEX_PATIENCE_S,
    LONGEST_ANSWER_BYTES,
    LONGEST_CONNECT_S,
    LONGEST_LISTING_S,
    LONGEST_QUICK_WAIT_S,
    LONGEST_RESULT_BYTES,
    PATIENCE_S,
    Exchange,
    bounded_exchange,
    never_ends,
)
from batcher.service.masking import keep_maskable, mask_bytes
from batcher.service.paging import Listing, ListingReader, Page, Position, is_last_page, parse_page
from batcher.service.profiles import ServiceProfile, load_profile
from batcher.service.service import (
    CallAbandoned,
    CallError,
    CallRefused,
    CallUnknown,
    CompletionResponse,
    ignore_progress,
)
from batcher.service.streams import MaskedWriter, UploadFile, with_paths
from batcher.service.translation import call_translating_errors, lowercase_keys, none_where_missing, parse_server_date

if TYPE_CHECKING:
    import httpx2
    from openai import OpenAI

PAGE = 100
"""Objects in one page of a listing, the most that the API returns of batches (its `limit` parameter)."""

T = TypeVar("T")


class _AnswerTooLong(CallUnknown):
    """A file is longer than it may be: there is no use in asking for it again at once."""


class OpenAIService:
    """The service over the openai client. Safe to call from several threads.

    is_ending: whether the user asked to end. patience_s: seconds that an exchange may take before its bytes count.
    secrets: what besides the key is taken out of every text. profile: what the service is like; None: as OpenAI.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - one for each thing that a test replaces
        self,
        client: "OpenAI",
        rules: RetryRules,
        sleep: Callable[[float], None],
        jitter: Jitter,
        is_ending: Callable[[], bool] = never_ends,
        patience_s: float = PATIENCE_S,
        secrets: tuple[str, ...] = (),
        profile: ServiceProfile | None = None,
    ) -> None:
        # The client may not retry a call itself, however it was configured.
        self._client = client.with_options(max_retries=0)
        self._rules, self._sleep, self._jitter = rules, sleep, jitter
        self._is_ending, self._patience_s = is_ending, patience_s
        self._secrets = keep_maskable((client.api_key, *secrets))
        self._profile = profile or load_profile()
        self._is_limit_taken = True
        """Whether listings take `limit`. A service that refused it is not asked so again."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def with_profile(self, profile: ServiceProfile) -> "OpenAIService":
        """Return the service at the same address, taken for another kind."""
        rest = (self._rules, self._sleep, self._jitter, self._is_ending, self._patience_s, self._secrets, profile)
        return OpenAIService(self._client, *rest)

    def is_signed_as_openai(self) -> bool:
        """Return whether an answer carries the header that OpenAI's (and the sandbox's) have. Raises CallError."""
        answer = self._look(self._client.models.with_raw_response.list)
        return "openai-version" in answer.headers

    def check_access(self) -> None:
        """List one batch; where no batches are listed, one file, or the models. Raises CallRefused or CallUnknown."""
        if self._profile.has("list_batches"):
            self._fetch_page(self._client.batches.with_raw_response.list, Position(), 1)
        elif self._profile.has("list_files"):
            self._fetch_page(self._client.files.with_raw_response.list, Position(), 1)
        else:
            self.check_key()

    def check_key(self) -> None:
        """List the models; a service that has no such list, or does not let the key see it, is there nevertheless.

        Raises CallRefused for a key that is wrong, and CallUnknown.
        """
        try:
            self._look(self._client.models.with_raw_response.list)
        except CallRefused as error:
            if error.details.status == 401 or error.asks_to_wait:
                raise
        except CallUnknown as error:
            if error.details.status not in {404, 501}:
                raise

    def fetch_shutdown_date(self, model: str) -> str | None:
        """Return the `shutdown_date` of a model ("" when none is set), None for an unknown model.

        The field is in the official description of the API, but not yet in the client's types.
        """
        answer = self._look_unless_missing(lambda: self._client.models.with_raw_response.retrieve(model))
        if answer is None:
            return None
        found = read_object(answer.content, "description of a model", self._secrets)
        return str(found.get("shutdown_date") or "")

    def list_models(self) -> list[str]:
        """Return the names of the models that the key can use. Raises CallRefused or CallUnknown."""
        answer = self._look(self._client.models.with_raw_response.list)
        found = read_object(answer.content, "list of the models", self._secrets).get("data")
        rows = found if isinstance(found, list) else []
        return [row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]

    def upload_file(self, path: Path, name: str, report_sent: Callable[[int], None] = ignore_progress) -> RemoteFile:
        """Upload a file, streamed from disk; never repeated: it is free, but a repetition leaves an orphaned file."""

        def send_upload() -> Any:
            with with_paths(path, self._profile.path) as sent, sent.open("rb") as file:
                return self._client.files.with_raw_response.create(
                    file=(name, cast("IO[bytes]", UploadFile(file, report_sent)), "application/jsonl"),
                    purpose=self._profile.purpose,  # type: ignore[arg-type]
                    **self._expiry("expires_after"),
                )

        answer = self._exchange(send_upload, most_bytes=LONGEST_RESULT_BYTES)
        found = read_object(answer.content, "description of a file", self._secrets)
        return parse_remote_file(found, parse_server_date(answer.headers))

    def create_batch(self, file_id: str, endpoint: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """Create a batch; never repeated. After CallUnknown it may exist."""
        marks: dict[str, Any] = {"metadata": dict(metadata)} if self._profile.has("metadata") else {}
        answer = self._exchange(
            lambda: self._client.batches.with_raw_response.create(
                input_file_id=file_id,
                endpoint=self._profile.format_path(endpoint),  # type: ignore[arg-type]
                completion_window=self._profile.window,  # type: ignore[arg-type]
                **marks,
                **self._expiry("output_expires_after"),
            )
        )
        return self._read_batch(answer)

    def _expiry(self, key: str) -> dict[str, Any]:
        """Return the key of a request that has a file deleted after its time; nothing where the service has no such."""
        life = {"anchor": "created_at", "seconds": FILE_LIFE_S}
        return {key: life} if self._profile.has("file_expiry") else {}

    def _read_batch(self, answer: "httpx2.Response") -> RemoteBatch:
        """Return the batch that an answer describes. One without a time of its own has that of the answer, or ours."""
        described = read_object(answer.content, "description of a batch", self._secrets)
        return parse_remote_batch(described, parse_server_date(answer.headers) or time.time(), self._profile)

    def list_batches(self, back_to: float) -> BatchListing:
        """Return the batches created at `back_to` or later, read page by page, newest first.

        Raises CallError where nothing can be read, or the key is refused. What breaks off later is returned as it is,
        and proves no absence. Where no batches are listed nothing is asked or found, which proves none either.
        """

        def parse_entry(entry: object, server_time: float) -> RemoteBatch:
            return parse_remote_batch(entry, server_time or time.time(), self._profile)

        if not self._profile.has("list_batches"):
            return BatchListing((), 0.0, proves_absence=False)
        listing = self._read_pages(
            lambda position: self._fetch_page(self._client.batches.with_raw_response.list, position),
            parse_entry,
            lambda entries: is_last_page(entries, back_to),
        )
        return BatchListing(
            tuple(batch for batch in listing.found if batch.created_at >= back_to),
            listing.server_time,
            listing.complete,
            tuple(f"the listing of the batches: {problem}" for problem in listing.problems),
        )

    def _read_pages(
        self,
        fetch_page: Callable[[Position], Page],
        parse_entry: Callable[[object, float], T],
        is_enough: Callable[[list[object]], bool] = lambda _entries: False,
    ) -> Listing[T]:
        ends_at = time.monotonic() + max(LONGEST_LISTING_S, self._patience_s)
        return ListingReader(fetch_page, parse_entry, is_enough, lambda: time.monotonic() >= ends_at).read_pages()

    def _fetch_page(
        self, list_objects: Callable[..., Any], position: Position, limit: int = PAGE, **options: object
    ) -> Page:
        """Return a page of a listing. A service that refuses `limit` is asked without it, from then on."""
        if position.after:
            options["after"] = position.after
        if position.cursor:
            options["extra_query"] = {"cursor": position.cursor}
        if self._is_limit_taken:
            try:
                return self._read_page(lambda: list_objects(limit=limit, **options))
            except CallRefused as error:
                if error.details.status not in {400, 422}:
                    raise
                page = self._read_page(lambda: list_objects(**options))
                self._is_limit_taken = False
                return page
        return self._read_page(lambda: list_objects(**options))

    def _read_page(self, call: Callable[[], Any]) -> Page:
        def fetch_once() -> Page:
            answer = self._exchange(call, may_abandon=True)
            return parse_page(read_object(answer.content, "answer", self._secrets), parse_server_date(answer.headers))

        return self._repeat_call(fetch_once, is_look=True)

    def retrieve_batch(self, batch_id: str) -> RemoteBatch | None:
        """Return one batch, None for a 404."""
        return self._describe_batch(lambda: self._client.batches.with_raw_response.retrieve(batch_id), is_look=True)

    def cancel_batch(self, batch_id: str) -> RemoteBatch | None:
        """Ask to cancel a batch and return it; one that has ended already is returned as it is. None for a 404."""
        try:
            return self._describe_batch(lambda: self._client.batches.with_raw_response.cancel(batch_id))
        except CallRefused as error:
            if not error.conflicts_with_state:
                raise
            return self.retrieve_batch(batch_id)

    def _describe_batch(self, call: Callable[[], Any], is_look: bool = False) -> RemoteBatch | None:
        return none_where_missing(
            lambda: self._repeat_call(lambda: self._read_batch(self._exchange(call, may_abandon=is_look)), is_look)
        )

    def download_file(self, file_id: str, path: Path, most_bytes: int = LONGEST_RESULT_BYTES) -> None:
        """Stream a file to disk beside `path`; replace `path` once all bytes that Content-Length announced arrived.

        Raises CallUnknown as well for a file that is longer than `most_bytes`.
        """
        make_private_folder(path.parent)
        partial_path = path.with_name(path.name + ".part")
        try:
            self._repeat_call(lambda: self._stream_to_file(file_id, partial_path, most_bytes), is_look=True)
        except (CallError, CallAbandoned):
            partial_path.unlink(missing_ok=True)
            raise
        partial_path.replace(path)

    def _stream_to_file(self, file_id: str, path: Path, most_bytes: int) -> None:
        def stream_content() -> None:
            with (
                self._client.files.with_streaming_response.content(file_id) as response,
                open_private_file(path) as file,
            ):
                masked = MaskedWriter(file.write, self._secrets)
                for chunk in response.iter_bytes():  # in the sizes that arrive: collecting larger ones doubles the cost
                    if masked.write(chunk) > most_bytes:
                        raise _AnswerTooLong(ErrorDetails(message=f"the file is longer than {most_bytes:,} bytes"))
                masked.finish()
                received = response.http_response.num_bytes_downloaded  # before any content-encoding is undone
                expected = response.headers.get("content-length", "")
            if expected.isdecimal() and int(expected[:20]) != received:
                raise CallUnknown(ErrorDetails(message=f"{received:,} of {int(expected[:20]):,} bytes came"))

        self._exchange(stream_content, may_abandon=True, most_bytes=most_bytes)

    def delete_file(self, file_id: str) -> None:
        """Delete a file; a 404 counts as success. A service that deletes none keeps it, and is not asked."""
        if not self._profile.has("delete_files"):
            return
        call = self._client.files.with_raw_response.delete
        none_where_missing(lambda: self._repeat_call(lambda: self._exchange(lambda: call(file_id))))

    def can_see_file(self, file_id: str) -> bool:
        """Return whether the service describes the file rather than answering 404."""
        return self._look_unless_missing(lambda: self._client.files.with_raw_response.retrieve(file_id)) is not None

    def find_files(self, name: str) -> list[RemoteFile]:
        """Return the batch input files with this name among those that the key may see, as far as they can be read."""

        def fetch_page(position: Position) -> Page:
            return self._fetch_page(self._client.files.with_raw_response.list, position, purpose=self._profile.purpose)

        if not self._profile.has("list_files"):
            return []
        return [file for file in self._read_pages(fetch_page, parse_remote_file).found if file.name == name]

    def request_completion(self, endpoint: str, body: Mapping[str, object]) -> CompletionResponse:
        """Request one answer; never repeated.

        After CallUnknown the answer may have been generated and billed, except after CallUnsent.
        """
        import httpx2

        if body.get("service_tier") == "flex" and self._patience_s < FLEX_PATIENCE_S:
            client = self._client.with_options(timeout=httpx2.Timeout(FLEX_PATIENCE_S, connect=LONGEST_CONNECT_S))
            rest = (self._rules, self._sleep, self._jitter, never_ends, FLEX_PATIENCE_S, self._secrets, self._profile)
            return OpenAIService(client, *rest).request_completion(endpoint, body)
        answer = self._exchange(
            lambda: self._client.post(endpoint.removeprefix("/v1"), cast_to=httpx2.Response, body=dict(body))
        )
        return CompletionResponse(mask_bytes(answer.content, self._secrets), lowercase_keys(answer.headers))

    def find_stored_completion(self, model: str, metadata: Mapping[str, str]) -> bytes | None:
        """Return the newest stored chat completion that carries this metadata, as JSON; None where there is none."""
        completions = self._client.chat.completions.with_raw_response

        def read_newest() -> bytes | None:
            answer = self._exchange(
                lambda: completions.list(model=model, metadata=dict(metadata), order="desc"), may_abandon=True
            )
            found = parse_page(read_json(answer.content, "answer"), 0.0).entries
            return mask_bytes(json.dumps(found[0]).encode(), self._secrets) if found else None

        return self._repeat_call(read_newest, is_look=True)

    def _look(self, call: Callable[[], Any]) -> "httpx2.Response":
        """Make a call that changes nothing; return its answer."""

        def make_look() -> "httpx2.Response":
            answer: httpx2.Response = self._exchange(call, may_abandon=True)
            return answer

        return self._repeat_call(make_look, is_look=True)

    def _look_unless_missing(self, call: Callable[[], Any]) -> "httpx2.Response | None":
        return none_where_missing(lambda: self._look(call))

    def _exchange(
        self, call: Callable[[], Any], may_abandon: bool = False, most_bytes: int = LONGEST_ANSWER_BYTES
    ) -> Any:
        """Make a call once, within its bounds; return its raw answer. may_abandon: once the user asked to end."""
        is_ending = self._is_ending if may_abandon else never_ends
        with bounded_exchange(Exchange(self._patience_s, most_bytes, is_ending)):
            answer = call_translating_errors(call, self._secrets, self._profile)
        return getattr(answer, "http_response", answer)

    def _repeat_call(self, call: Callable[[], T], is_look: bool = False) -> T:
        """Make a call that may be repeated free of charge, and retry it as often as the rules for CALL allow.

        A call is retried when no answer arrived, or one that asks to wait no longer than LONGEST_QUICK_WAIT_S; never
        when the account is out of money, nor once the user asked to end. is_look: whether it changes nothing.
        """
        tries = self._rules.policies[FailureClass.CALL].tries or 0
        for n in range(tries + 1):
            if is_look and self._is_ending():
                raise CallAbandoned
            try:
                return call()
            except CallError as error:
                if is_look and self._is_ending():
                    raise CallAbandoned from error
                if n == tries or self._is_ending() or not _may_pass_soon(error):
                    raise (error.with_longest_wait(LONGEST_LOOK_WAIT_S) if is_look else error) from error.__cause__
                self._sleep(delay_after_failure(self._rules, FailureClass.CALL, n, self._jitter(), error.wait_s))
        raise AssertionError  # the last try returns or raises


def _may_pass_soon(error: CallError) -> bool:
    """Return whether a call that failed so may succeed within seconds."""
    temporary = isinstance(error, CallUnknown) or (isinstance(error, CallRefused) and error.asks_to_wait)
    out_of_money = classify_call_error(error.details) is FailureClass.QUOTA
    is_long = (error.wait_s or 0) > LONGEST_QUICK_WAIT_S
    return temporary and not (out_of_money or is_long or isinstance(error, _AnswerTooLong))
