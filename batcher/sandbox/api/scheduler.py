"""Moves batches through their states as the clock advances. Nothing runs in between: each call catches up first.

Every batch has one next event in a queue ordered by time, so that what depends on others (room in the queue of
enqueued tokens, a file that was deleted) is decided in the order in which it would have happened.

    validating -> in_progress -> finalizing -> completed
    validating -> failed;  in_progress -> expired;  any of the first three -> cancelling -> cancelled
"""

import heapq
from collections.abc import Callable
from itertools import count
from pathlib import Path

from batcher.sandbox.answers import models
from batcher.sandbox.api.batches import Batch, Wish
from batcher.sandbox.api.execution import Executor
from batcher.sandbox.api.files import FileStore
from batcher.sandbox.api.ledger import Ledger
from batcher.sandbox.api.validation import Checked, batch_error, check_file
from batcher.sandbox.base.chance import between, hex32
from batcher.sandbox.base.errors import ApiError, no_file_for_batch, queue_full
from batcher.sandbox.base.settings import Faults, SandboxSettings

_HARD_LIMIT = "Billing hard limit has been reached"
_Event = tuple[float, int, Callable[[float], None]]


class Lifecycle:
    """All batches, in the order of their creation. The caller holds the sandbox's lock."""

    def __init__(self, settings: SandboxSettings, directory: Path, files: FileStore, ledger: Ledger) -> None:
        self.settings = settings
        self.batches: dict[str, Batch] = {}
        self._live: dict[str, Batch] = {}
        self._files = files
        self._ledger = ledger
        self._executor = Executor(directory, ledger, settings.seed)
        self._events: list[_Event] = []
        self._sequence = count()
        self._ordinal = 0

    @property
    def faults(self) -> Faults:
        return self.settings.faults

    def advance(self, now: float) -> None:
        """Let everything happen that was due until `now`."""
        while self._events and self._events[0][0] <= now:
            at, _, act = heapq.heappop(self._events)
            act(at)
        for batch in self._live.values():
            if batch.status == "in_progress":
                self._executor.run(batch, batch.due(now), self.faults)
        self._files.purge(now)

    # --- queue of enqueued tokens

    def queue_limit(self, model: str) -> int:
        """Return the enqueued-token limit of a model, in input tokens."""
        limits = self.settings.limits
        found = limits.get(model, limits.get(models.family(model), self.settings.enqueued_tokens))
        return models.table_limit(model, self.settings.tier) if found is None else found

    def enqueued(self, model: str) -> int:
        """Return the estimated tokens of the admitted batches of a model that haven't ended, and the phantom ones."""
        family = models.family(model)
        own = (batch.tokens for batch in self._live.values() if batch.model and models.family(batch.model) == family)
        return sum(own) + self.settings.phantom_tokens

    def _refusal(self, checked: Checked) -> str | None:
        limit = self.queue_limit(checked.model)
        if self.enqueued(checked.model) + checked.tokens <= limit:
            return None
        return queue_full(checked.model, self.settings.organization, limit)

    def _admit(self, batch: Batch, checked: Checked) -> None:
        batch.checked, batch.tokens = checked, checked.tokens
        batch.model = models.resolved(checked.model)

    # --- creation and cancelling

    def create(self, wish: Wish, now: float) -> Batch:
        """Create the batch, or raise the error of the call."""
        stored = self._files.find(wish.input_file_id, now)
        if stored is None or now < stored.ready_at:
            raise no_file_for_batch(wish.input_file_id, self.settings.project)
        if stored.purpose != "batch":
            message = f"Invalid file purpose '{stored.purpose}' for the Batch API. Expected 'batch'."  # a guess
            raise ApiError(400, message, param="input_file_id", code="invalid_value")
        if not self.settings.refuse_at_create:
            return self._new(wish, now)
        checked = check_file(stored.path, wish.endpoint, self._known(now), self.settings)
        refusal = None if checked.errors else self._refusal(checked)
        if refusal:
            raise ApiError(400, refusal, code="token_limit_exceeded")
        batch = self._new(wish, now)
        if not checked.errors:
            self._admit(batch, checked)
        return batch

    def create_later(self, wish: Wish, now: float, delay: float) -> None:
        """Let a batch come into being after a delay, if its input file is still there by then."""
        self._at(now + delay, lambda at: self._create_if_possible(wish, at))

    def _create_if_possible(self, wish: Wish, at: float) -> None:
        try:
            self.create(wish, at)
        except ApiError:
            return  # nobody waits for this answer any more

    def _new(self, wish: Wish, now: float) -> Batch:
        self._ordinal += 1
        batch = Batch(f"batch_{hex32(self.settings.seed, 'batch', self._ordinal)}", self._ordinal, wish, now)
        self.batches[batch.id] = self._live[batch.id] = batch
        self._schedule(batch, now + self._drawn("validating", self.settings.validating_s, batch))
        return batch

    def cancel(self, batch: Batch, now: float) -> None:
        """Begin to cancel a batch that runs; one that is cancelling or cancelled stays as it is."""
        if batch.status in ("cancelling", "cancelled"):
            return
        batch.status = "cancelling"
        batch.stamps["cancelling_at"] = now
        self._schedule(batch, now + self._drawn("cancelling", self.settings.cancelling_s, batch))

    # --- events

    def _at(self, time: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time, next(self._sequence), act))

    def _schedule(self, batch: Batch, time: float) -> None:
        """Set the batch's next event; one that was set before is void."""
        batch.version += 1
        version = batch.version

        def act(at: float) -> None:
            if batch.version == version:
                self._step(batch, at)

        self._at(time, act)

    def _step(self, batch: Batch, at: float) -> None:
        steps = {
            "validating": self._validated,
            "in_progress": self._served,
            "finalizing": self._finalized,
            "cancelling": self._cancelled,
        }
        steps[batch.status](batch, at)

    def _drawn(self, phase: str, bounds: tuple[float, float], batch: Batch) -> float:
        return between(bounds, self.settings.seed, phase, batch.ordinal)

    def _known(self, now: float) -> Callable[[str], bool]:
        return frozenset(models.available(now, self.settings.limits)).__contains__

    def _validated(self, batch: Batch, at: float) -> None:
        stored = self._files.find(batch.wish.input_file_id, at)
        code = self.faults.fail_batches.get(batch.ordinal)
        if stored is None:
            whose = f"organization {self.settings.organization}"
            message = f"Cannot find file {batch.wish.input_file_id}, or {whose} does not have access to it."
            self._fail(batch, at, [batch_error("invalid_request", message, "file_id")])
            return
        checked = batch.checked or check_file(stored.path, batch.wish.endpoint, self._known(at), self.settings)
        if code:
            self._fail(batch, at, [batch_error(code, self._failure_text(code, checked.model))])
        elif checked.errors:
            self._fail(batch, at, checked.errors)
        elif batch.checked is None and (refusal := self._refusal(checked)):
            self._fail(batch, at, [batch_error("token_limit_exceeded", refusal)])
        else:
            self._admit(batch, checked)
            batch.input = stored
            self._files.pin(stored)
            self._start(batch, at)

    def _failure_text(self, code: str, model: str) -> str:
        if code == "token_limit_exceeded":
            return queue_full(model, self.settings.organization, self.queue_limit(model))
        return _HARD_LIMIT if code == "billing_hard_limit_reached" else f"The batch failed: {code}."

    def _start(self, batch: Batch, at: float) -> None:
        batch.status = "in_progress"
        batch.stamps["in_progress_at"] = at
        batch.total = len(batch.checked.offsets) if batch.checked else 0
        batch.service_s = self._drawn("service", self.settings.service_s, batch)
        batch.stalled = batch.ordinal in self.faults.expire_batches
        self._schedule(batch, batch.expires_at if batch.stalled else min(batch.ends_at, batch.expires_at))

    def _served(self, batch: Batch, at: float) -> None:
        self._executor.run(batch, batch.due(at), self.faults)
        if batch.done < batch.total:
            self._executor.abandon(batch, "batch_expired")
            self._end(batch, "expired", at)
            return
        batch.status = "finalizing"
        batch.stamps["finalizing_at"] = at
        delay = self._drawn("finalizing", self.settings.finalizing_s, batch) + self.faults.stuck_finalizing_s
        self._schedule(batch, at + delay)

    def _finalized(self, batch: Batch, at: float) -> None:
        self._end(batch, "completed", at)

    def _cancelled(self, batch: Batch, at: float) -> None:
        if batch.input:
            self._executor.abandon(batch, "batch_cancelled")
        self._end(batch, "cancelled", at)

    def _fail(self, batch: Batch, at: float, errors: list[dict[str, object]]) -> None:
        batch.errors = errors
        self._end(batch, "failed", at)

    def _end(self, batch: Batch, status: str, at: float) -> None:
        """Publish the result files, leave the queue, let go of the input."""
        batch.status = status
        batch.stamps[f"{status}_at"] = at
        batch.output_file_id = self._publish(batch, self._executor.output_part(batch), "output", at)
        batch.error_file_id = self._publish(batch, self._executor.error_part(batch), "error", at)
        if batch.input:
            self._files.unpin(batch.input)
        batch.input = batch.checked = None
        self._live.pop(batch.id, None)
        self._ledger.finish(batch.id, status, at)

    def _publish(self, batch: Batch, part: Path, kind: str, at: float) -> str | None:
        if not part.exists():
            return None
        name = f"{batch.id}_{kind}.jsonl"
        stored = self._files.add(part, name, "batch_output", at, batch.wish.output_life_s)
        stored.ready_at = at + self.faults.file_not_ready_s
        return stored.id
