"""Moves batches through their states as the clock advances. Nothing runs in between: each call catches up first.

Every batch has one next event in a queue ordered by time, so that what depends on others (room in the queue of
enqueued tokens, a file that was deleted) is decided in the order in which it would have happened.

    validating -> in_progress -> finalizing -> completed
    validating -> failed;  in_progress -> expired;  any of the first three -> cancelling -> cancelled
"""

import heapq
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

from batcher.sandbox.answers import models
from batcher.sandbox.answers.caching import PromptCache
from batcher.sandbox.api.batches import Batch, BatchRequest
from batcher.sandbox.api.execution import LineExecutor
from batcher.sandbox.api.files import FileStore
from batcher.sandbox.api.ledger import Ledger
from batcher.sandbox.api.validation import CheckedInput, build_batch_error, check_input_file
from batcher.sandbox.base.chance import seeded_hex_id, seeded_uniform
from batcher.sandbox.base.errors import ApiError, input_not_found_error, queue_full_message
from batcher.sandbox.base.settings import Faults, SandboxSettings

_HARD_LIMIT = "Billing hard limit has been reached"
_Event = tuple[float, int, Callable[[float], None]]


class Lifecycle:
    """All batches, in the order of their creation. The caller holds the sandbox's lock."""

    def __init__(
        self, settings: SandboxSettings, directory: Path, files: FileStore, ledger: Ledger, cache: PromptCache
    ) -> None:
        self.settings = settings
        self.batches: dict[str, Batch] = {}
        self._live: dict[str, Batch] = {}
        self._files = files
        self._ledger = ledger
        self._executor = LineExecutor(directory, ledger, settings.seed, cache)
        self._events: list[_Event] = []
        self._sequence = count()
        self._ordinal = 0

    @property
    def faults(self) -> Faults:
        """The faults that are played now."""
        return self.settings.faults

    def apply_settings(self, settings: SandboxSettings) -> None:
        """Use other settings from now on."""
        self.settings = settings

    def run_due_events(self, now: float) -> None:
        """Run every event that was due until `now`, in the order of their times."""
        while self._events and self._events[0][0] <= now:
            at, _, act = heapq.heappop(self._events)
            act(at)
        for batch in self._live.values():
            if batch.status == "in_progress":
                self._executor.execute_lines(batch, batch.count_due_lines(now), self.settings)
        self._files.purge_expired(now)

    def queue_limit(self, model: str) -> int:
        """Return the enqueued-token limit of a model, in input tokens."""
        limits = self.settings.limits
        found = limits.get(model, limits.get(models.family_name(model), self.settings.enqueued_tokens))
        return models.default_queue_limit(model, self.settings.tier) if found is None else found

    def enqueued_tokens(self, model: str) -> int:
        """Return the estimated tokens of the admitted batches of a model that haven't ended, and the phantom ones."""
        family = models.family_name(model)
        own = (
            batch.tokens for batch in self._live.values() if batch.model and models.family_name(batch.model) == family
        )
        return sum(own) + self.settings.phantom_tokens

    def _find_queue_refusal(self, checked: CheckedInput) -> str | None:
        limit = self.queue_limit(checked.model)
        if self.enqueued_tokens(checked.model) + checked.tokens <= limit:
            return None
        return queue_full_message(checked.model, self.settings.organization, limit)

    def _admit_batch(self, batch: Batch, checked: CheckedInput) -> None:
        batch.checked_input, batch.tokens = checked, checked.tokens
        batch.model = models.resolve_snapshot(checked.model)

    def create_batch(self, request: BatchRequest, now: float) -> Batch:
        """Create the batch, or raise the error of the call."""
        stored = self._files.find(request.input_file_id, now)
        if stored is None and self.settings.accept_missing_input:
            return self._add_batch(request, now)
        if stored is None or now < max(stored.ready_at, stored.input_ready_at):
            raise input_not_found_error(request.input_file_id, self.settings.project)
        if stored.purpose != "batch":
            message = f"Invalid file purpose '{stored.purpose}' for the Batch API. Expected 'batch'."  # a guess
            raise ApiError(400, message, param="input_file_id", code="invalid_value")
        if not self.settings.refuse_at_create:
            return self._add_batch(request, now)
        checked = check_input_file(stored.path, request.endpoint, self._build_model_check(now), self.settings)
        refusal = None if checked.errors else self._find_queue_refusal(checked)
        if refusal:
            raise ApiError(400, refusal, code="token_limit_exceeded")
        batch = self._add_batch(request, now)
        if not checked.errors:
            self._admit_batch(batch, checked)
        return batch

    def create_batch_later(self, request: BatchRequest, now: float, delay: float) -> None:
        """Create the batch after a delay in seconds, if its input file is still there by then."""

        def create_if_possible(at: float) -> None:
            with suppress(ApiError):  # the client doesn't wait for this answer any more
                self.create_batch(request, at)

        self._push_event(now + delay, create_if_possible)

    def _add_batch(self, request: BatchRequest, now: float) -> Batch:
        self._ordinal += 1
        batch = Batch(
            f"batch_{seeded_hex_id(self.settings.id_seed, 'batch', self._ordinal)}", self._ordinal, request, now
        )
        self.batches[batch.id] = self._live[batch.id] = batch
        self._schedule_next_event(batch, now + self._draw_duration("validating", self.settings.validating_s, batch))
        return batch

    def cancel_batch(self, batch: Batch, now: float) -> None:
        """Begin to cancel a batch that runs; one that is cancelling or cancelled stays as it is."""
        if batch.status in ("cancelling", "cancelled"):
            return
        batch.status = "cancelling"
        batch.stamps["cancelling_at"] = now
        self._schedule_next_event(batch, now + self._draw_duration("cancelling", self.settings.cancelling_s, batch))

    def _push_event(self, time: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time, next(self._sequence), act))

    def _schedule_next_event(self, batch: Batch, time: float) -> None:
        """Schedule the batch's next event; an earlier one that is still in the queue becomes void."""
        batch.version += 1
        version = batch.version

        def step_if_current(at: float) -> None:
            if batch.version == version:
                self._step_batch(batch, at)

        self._push_event(time, step_if_current)

    def _step_batch(self, batch: Batch, at: float) -> None:
        steps = {
            "validating": self._finish_validation,
            "in_progress": self._finish_service,
            "finalizing": self._finish_finalizing,
            "cancelling": self._finish_cancelling,
        }
        steps[batch.status](batch, at)

    def _draw_duration(self, phase: str, bounds: tuple[float, float], batch: Batch) -> float:
        return seeded_uniform(bounds, self.settings.seed, phase, batch.ordinal)

    def _build_model_check(self, now: float) -> Callable[[str], bool]:
        return frozenset(models.list_available(now, self.settings.limits)).__contains__

    def _finish_validation(self, batch: Batch, at: float) -> None:
        stored = self._files.find(batch.request.input_file_id, at)
        code = self.faults.fail_batches.get(batch.ordinal)
        if stored is None:
            whose = f"organization {self.settings.organization}"
            message = f"Cannot find file {batch.request.input_file_id}, or {whose} does not have access to it."
            self._fail_batch(batch, at, [build_batch_error("invalid_request", message, "file_id")])
            return
        checked = batch.checked_input or check_input_file(
            stored.path, batch.request.endpoint, self._build_model_check(at), self.settings
        )
        if code:
            self._fail_batch(batch, at, [build_batch_error(code, self._batch_failure_message(code, checked.model))])
        elif checked.errors:
            self._fail_batch(batch, at, checked.errors)
        elif batch.checked_input is None and (refusal := self._find_queue_refusal(checked)):
            self._fail_batch(batch, at, [build_batch_error("token_limit_exceeded", refusal)])
        else:
            self._admit_batch(batch, checked)
            batch.input_file = stored
            self._files.pin(stored)
            self._start_batch(batch, at)

    def _batch_failure_message(self, code: str, model: str) -> str:
        if code == "token_limit_exceeded":
            return queue_full_message(model, self.settings.organization, self.queue_limit(model))
        return _HARD_LIMIT if code == "billing_hard_limit_reached" else f"The batch failed: {code}."

    def _start_batch(self, batch: Batch, at: float) -> None:
        batch.status = "in_progress"
        batch.stamps["in_progress_at"] = at
        batch.total = len(batch.checked_input.offsets) if batch.checked_input else 0
        batch.service_s = self._draw_duration("service", self.settings.service_s, batch)
        batch.stalled = batch.ordinal in self.faults.expire_batches
        self._schedule_next_event(batch, batch.expires_at if batch.stalled else min(batch.ends_at, batch.expires_at))

    def _finish_service(self, batch: Batch, at: float) -> None:
        self._executor.execute_lines(batch, batch.count_due_lines(at), self.settings)
        if batch.done < batch.total:
            self._executor.abandon_lines(batch, "batch_expired", self.settings)
            self._end_batch(batch, "expired", at)
            return
        batch.status = "finalizing"
        batch.stamps["finalizing_at"] = at
        delay = self._draw_duration("finalizing", self.settings.finalizing_s, batch) + self.faults.stuck_finalizing_s
        self._schedule_next_event(batch, at + delay)

    def _finish_finalizing(self, batch: Batch, at: float) -> None:
        self._end_batch(batch, "completed", at)

    def _finish_cancelling(self, batch: Batch, at: float) -> None:
        if batch.input_file:
            self._executor.abandon_lines(batch, "batch_cancelled", self.settings)
        self._end_batch(batch, "cancelled", at)

    def _fail_batch(self, batch: Batch, at: float, errors: list[dict[str, object]]) -> None:
        batch.errors = errors
        self._end_batch(batch, "failed", at)

    def _end_batch(self, batch: Batch, status: str, at: float) -> None:
        """Publish the result files, leave the queue, unpin the input file."""
        batch.status = status
        batch.stamps[f"{status}_at"] = at
        if status == "expired" and self.faults.late_files_s:
            self._push_event(at + self.faults.late_files_s, lambda later: self._publish_files(batch, later))
        else:
            self._publish_files(batch, at)
        if batch.input_file:
            self._files.unpin(batch.input_file)
        batch.input_file = batch.checked_input = None
        self._live.pop(batch.id, None)
        self._ledger.record_batch_end(batch.id, status, at)

    def _publish_files(self, batch: Batch, at: float) -> None:
        batch.output_file_id = self._publish_part(batch, self._executor.output_part_path(batch), "output", at)
        batch.error_file_id = self._publish_part(batch, self._executor.error_part_path(batch), "error", at)

    def _publish_part(self, batch: Batch, part: Path, kind: str, at: float) -> str | None:
        if not part.exists():
            return None
        name = f"{batch.id}_{kind}.jsonl"
        stored = self._files.add(part, name, "batch_output", at, batch.request.output_life_s)
        stored.ready_at = at + self.faults.file_not_ready_s
        return stored.id
