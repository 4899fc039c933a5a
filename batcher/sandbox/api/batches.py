"""A batch as the sandbox keeps it, and as callers see it; and the checks of a request to create one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from batcher.sandbox.answers.answers import BilledTokens, batch_usage_json
from batcher.sandbox.answers.requests import CHAT, EMBEDDINGS, MODERATIONS, RESPONSES
from batcher.sandbox.api.files import StoredFile, parse_lifetime
from batcher.sandbox.api.validation import BatchError, CheckedInput
from batcher.sandbox.base.errors import (
    ApiError,
    invalid_type_error,
    invalid_value_error,
    missing_parameter_error,
    out_of_range_error,
)

WINDOW_S = 86_400  # the only completion window: 24 hours
ENDPOINTS = (
    RESPONSES,
    CHAT,
    EMBEDDINGS,
    "/v1/completions",
    MODERATIONS,
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/videos",
)
SERVED = (CHAT, RESPONSES, EMBEDDINGS, MODERATIONS)  # the sandbox runs these
TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})
_STAMPS = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)
NO_USAGE = BilledTokens(0, 0, 0)
_MAX_PAIRS, _MAX_KEY, _MAX_VALUE = 16, 64, 512  # of metadata


@dataclass(frozen=True)
class BatchRequest:
    """A request to create a batch that passed its checks."""

    input_file_id: str
    endpoint: str
    metadata: Mapping[str, str] | None
    output_life_s: int | None


@dataclass
class Batch:
    """One batch; all times in the sandbox's epoch seconds, `done` counts executed lines in their shuffled order."""

    id: str
    ordinal: int  # the first batch is 1
    request: BatchRequest
    created_at: float
    status: str = "validating"
    model: str | None = None
    errors: list[BatchError] = field(default_factory=list)
    stamps: dict[str, float] = field(default_factory=dict)
    checked_input: CheckedInput | None = None
    input_file: StoredFile | None = None  # pinned while the batch runs
    total: int = 0
    tokens: int = 0  # estimated, while admitted to the queue
    service_s: float = 0.0
    stalled: bool = False
    done: int = 0
    completed: int = 0
    failed: int = 0
    usage: BilledTokens = NO_USAGE
    output_file_id: str | None = None
    error_file_id: str | None = None
    version: int = 0  # of its next event: an older event in the queue is void

    @property
    def expires_at(self) -> float:
        """When the completion window ends."""
        return self.created_at + WINDOW_S

    @property
    def ends_at(self) -> float:
        """When the last line has been executed, unless the batch stalls."""
        return self.stamps["in_progress_at"] + self.service_s

    def count_due_lines(self, now: float) -> int:
        """Return how many lines have been executed by `now`."""
        if self.stalled:
            return min(self._scheduled_lines(now), math.ceil(self.total / 2))
        return self.total if now >= self.ends_at else self._scheduled_lines(now)

    def _scheduled_lines(self, now: float) -> int:
        elapsed = max(0.0, now - self.stamps["in_progress_at"])
        return min(self.total, int(self.total * elapsed / self.service_s)) if self.service_s else self.total

    def execution_time(self, place: int) -> float:
        """Return when the line at this place of the order is executed."""
        return self.stamps["in_progress_at"] + self.service_s * (place + 1) / self.total

    def to_json(self, drop_metadata: bool = False) -> dict[str, object]:
        """Return the Batch object."""
        started = "in_progress_at" in self.stamps
        stamps = {name: int(self.stamps[name]) if name in self.stamps else None for name in _STAMPS}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.request.endpoint,
            "model": self.model,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.request.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": int(self.created_at),
            "expires_at": int(self.expires_at),
            **stamps,
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "usage": batch_usage_json(self.usage) if started else None,
            "metadata": None if drop_metadata else self.request.metadata,
        }


def parse_batch_request(payload: Mapping[str, object]) -> BatchRequest:
    """Check the body of POST /batches; raise the ApiError that the service would answer with."""
    for name in ("input_file_id", "endpoint", "completion_window"):
        value = payload.get(name)
        if value is None:
            raise missing_parameter_error(name)
        if not isinstance(value, str):
            raise invalid_type_error(name, "a string", value)
    if payload["endpoint"] not in ENDPOINTS:
        raise invalid_value_error("endpoint", payload["endpoint"], ENDPOINTS)
    if payload["completion_window"] != "24h":
        raise invalid_value_error("completion_window", payload["completion_window"], ("24h",))
    if payload["endpoint"] not in SERVED:
        raise ApiError(
            400,
            f"The sandbox serves {', '.join(SERVED[:-1])} and {SERVED[-1]} only.",
            param="endpoint",
            code="invalid_value",
        )
    life = payload.get("output_expires_after")
    return BatchRequest(
        input_file_id=str(payload["input_file_id"]),
        endpoint=str(payload["endpoint"]),
        metadata=parse_metadata(payload.get("metadata")),
        output_life_s=None if life is None else parse_lifetime("output_expires_after", life),
    )


def parse_metadata(value: object) -> Mapping[str, str] | None:
    """Check metadata: at most 16 pairs, keys up to 64 characters, values strings up to 512."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise invalid_type_error("metadata", "an object", value)
    if len(value) > _MAX_PAIRS:
        message = (
            f"Invalid 'metadata': too many properties. Expected an object with at most {_MAX_PAIRS} properties, "
            f"but got an object with {len(value)} properties instead."
        )
        raise ApiError(400, message, param="metadata", code="object_above_max_properties")
    for key, item in value.items():
        _check_metadata_pair(str(key), item)
    return {str(key): str(item) for key, item in value.items()}


def _check_metadata_pair(key: str, item: object) -> None:
    name = f"metadata.{key}"
    if len(key) > _MAX_KEY:
        raise _too_long_error(f"metadata.{key[:16]}...", "property name", _MAX_KEY, len(key))
    if not isinstance(item, str):
        raise invalid_type_error(name, "a string", item)
    if len(item) > _MAX_VALUE:
        raise _too_long_error(name, "string", _MAX_VALUE, len(item))


def _too_long_error(name: str, what: str, most: int, length: int) -> ApiError:
    message = (
        f"Invalid '{name}': {what} too long. Expected a string with maximum length {most}, "
        f"but got a string with length {length} instead."
    )
    return ApiError(400, message, param=name, code="string_above_max_length")


def check_cancellable(batch: Batch) -> None:
    """Raise the 409 for a batch that has ended; one that is cancelled already may be cancelled again."""
    if batch.status in TERMINAL - {"cancelled"}:
        raise ApiError(409, f"Cannot cancel a batch with status '{batch.status}'.")


def parse_list_limit(text: str | None, default: int, most: int) -> int:
    """Return the `limit` of a list call."""
    if text is None:
        return default
    if not text.lstrip("-").isdigit():
        raise invalid_type_error("limit", "an integer", text)
    if not 1 <= int(text) <= most:
        raise out_of_range_error("limit", int(text), 1, most)
    return int(text)
