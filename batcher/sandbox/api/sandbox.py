"""The sandbox: files, batches and the direct endpoints behind one lock and one clock.

No threads and no sleeping: what is due by the clock happens at the next call. Everything random comes from the
seed. Files are on disk in `directory`; batches live in memory, and end with the process.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import RLock

from batcher.sandbox.answers.caching import PromptCache
from batcher.sandbox.api.batches import Batch, check_cancellable, parse_batch_request
from batcher.sandbox.api.dialect import rewrite_batch
from batcher.sandbox.api.direct import DirectEndpoints
from batcher.sandbox.api.files import PURPOSES, FileStore, StoredFile, check_first_line, parse_form_lifetime
from batcher.sandbox.api.ledger import Ledger
from batcher.sandbox.api.scheduler import Lifecycle
from batcher.sandbox.base.errors import ApiError, batch_not_found_error, invalid_value_error, missing_parameter_error
from batcher.sandbox.base.faults import FaultSampler
from batcher.sandbox.base.forms import Form
from batcher.sandbox.base.settings import Dialect, Faults, SandboxSettings, apply_changes

Clock = Callable[[], float]


def scaled_clock(speed: float, start: float | None = None) -> Clock:
    """Return a clock that begins at `start` (epoch seconds; None: now) and runs `speed` times as fast as real time."""
    origin = time.time() if start is None else start
    began = time.monotonic()
    return lambda: origin + (time.monotonic() - began) * speed


class CallWindow:
    """Counts calls in a moving window of seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._times: deque[float] = deque()

    def is_full(self, limit: int, now: float) -> bool:
        """Return whether the window holds as many calls as the limit allows."""
        while self._times and self._times[0] <= now - self._seconds:
            self._times.popleft()
        return len(self._times) >= limit

    def record_call(self, now: float) -> None:
        """Count a call."""
        self._times.append(now)


class Sandbox:
    """The service without HTTP. Hold `lock` around a sequence of calls that belongs together."""

    def __init__(
        self, settings: SandboxSettings, directory: Path, clock: Clock, fault_sampler: FaultSampler | None = None
    ) -> None:
        self.lock = RLock()
        self.directory = directory
        self.incoming = directory / "incoming"
        self.incoming.mkdir(parents=True, exist_ok=True)
        self.files = FileStore(directory / "files", settings.id_seed)
        self.ledger = Ledger(directory / "ledger.jsonl")
        cache = PromptCache()
        self.lifecycle = Lifecycle(settings, directory / "parts", self.files, self.ledger, cache)
        self.direct = DirectEndpoints(self.ledger, settings, cache)
        self.fault_sampler = fault_sampler or FaultSampler(settings.seed)
        self._clock = clock
        self._offset = 0.0
        self._numbers = count(1)
        self._shown: dict[str, dict[str, object]] = {}
        self._creates = CallWindow(3600.0)
        self._uploads = CallWindow(60.0)

    @property
    def settings(self) -> SandboxSettings:
        """The settings that apply now, with the faults."""
        return self.lifecycle.settings

    @settings.setter
    def settings(self, settings: SandboxSettings) -> None:
        self.lifecycle.apply_settings(settings)
        self.direct.apply_settings(settings)

    @property
    def faults(self) -> Faults:
        """The faults that are played now."""
        return self.settings.faults

    def update_faults(self, changes: Mapping[str, object]) -> None:
        """Change the named faults; raise SettingError for a name or value that cannot be."""
        self.settings = replace(self.settings, faults=apply_changes(self.faults, changes))

    @property
    def dialect(self) -> Dialect:
        """The dialect that is spoken now."""
        return self.settings.dialect

    def update_dialect(self, changes: Mapping[str, object]) -> None:
        """Change the named parts of the dialect; raise SettingError for a name or value that cannot be."""
        self.settings = replace(self.settings, dialect=apply_changes(self.dialect, changes))

    def update_settings(self, changes: Mapping[str, object]) -> None:
        """Change settings of the queue while it runs; raise SettingError for a name or value that cannot be."""
        self.settings = apply_changes(self.settings, changes)

    def next_request_number(self) -> int:
        """Return the ordinal of a request. Needs no lock: one step of the interpreter."""
        return next(self._numbers)

    def now(self) -> float:
        """Return the sandbox's time, epoch seconds."""
        return self._clock() + self._offset

    def advance_clock(self, seconds: float) -> None:
        """Move the clock forward."""
        self._offset += seconds

    def run_due_events(self) -> float:
        """Run every event that is due, and return the time."""
        now = self.now()
        self.lifecycle.run_due_events(now)
        return now

    def add_file(self, form: Form, source: Path) -> StoredFile:
        """Take over an uploaded file; `source` is moved."""
        now = self.now()
        purpose = form.fields.get("purpose")
        if purpose is None:
            raise missing_parameter_error("purpose")
        if purpose not in PURPOSES:
            raise invalid_value_error("purpose", purpose, PURPOSES)
        if form.filename is None:
            raise missing_parameter_error("file")
        if form.size > self.settings.max_upload_bytes:
            raise ApiError(400, "File is too large.")
        if self._uploads.is_full(self.settings.uploads_per_minute, now):
            raise _too_many_error("uploads", self.settings.uploads_per_minute, "minute")
        life_s = parse_form_lifetime(form.fields)
        if purpose == "batch":
            check_first_line(source)
        self._uploads.record_call(now)
        stored = self.files.add(source, form.filename, purpose, now, life_s)
        stored.ready_at = now + self.faults.file_not_ready_s
        stored.input_ready_at = now + self.faults.input_not_ready_s
        return stored

    def create_batch(self, payload: Mapping[str, object], lost: bool = False) -> Batch | None:
        """Create a batch. With a lost answer and `late_create_s`, it is only created later: None."""
        now = self.now()
        request = parse_batch_request(payload)
        if self._creates.is_full(self.settings.batches_per_hour, now):
            raise _too_many_error("batches", self.settings.batches_per_hour, "hour")
        if lost and self.faults.late_create_s:
            self._creates.record_call(now)
            self.lifecycle.create_batch_later(request, now, self.faults.late_create_s)
            return None
        batch = self.lifecycle.create_batch(request, now)
        self._creates.record_call(now)
        return batch

    def get_batch(self, batch_id: str) -> Batch:
        """Return the batch, or raise the 404."""
        found = self.lifecycle.batches.get(batch_id)
        if found is None:
            raise batch_not_found_error(batch_id)
        return found

    def cancel_batch(self, batch_id: str) -> Batch:
        """Begin to cancel the batch and return it, or raise the 404, or the 409 for one that has ended."""
        batch = self.get_batch(batch_id)
        check_cancellable(batch)
        self.lifecycle.cancel_batch(batch, self.now())
        return batch

    def list_batches(self) -> list[Batch]:
        """Return the batches that a list shows, newest first."""
        before = self.now() - self.faults.list_lag_s
        return [each for each in reversed(self.lifecycle.batches.values()) if each.created_at <= before]

    def describe_batch(self, batch: Batch) -> dict[str, object]:
        """Return the Batch object in the dialect, without its metadata where a fault drops it."""
        found = rewrite_batch(batch.to_json(self.faults.drop_metadata), self.dialect, self.faults.quoted_text)
        self._shown[batch.id] = found
        return found

    def describe_listed_batch(self, batch: Batch) -> dict[str, object]:
        """Return the Batch object of a list; in a frozen one, as it was when it was last asked for by itself."""
        if self.dialect.frozen_listing and batch.id in self._shown:
            return self._shown[batch.id]
        return self.describe_batch(batch)


def _too_many_error(what: str, limit: int, period: str) -> ApiError:
    message = f"Rate limit reached for {what}: Limit {limit} per {period}. Please try again later."  # text unknown
    return ApiError(429, message, "requests", None, "rate_limit_exceeded")
