"""What comes while a command works: progress and events on stdout with `--json`, and the notices of `[notify]`."""

from typing import Any, Literal

from pydantic import ConfigDict

from batcher.contracts.base import Answer, Part, Time, Usd


class LineCounts(Part):
    """The lines of a job by what became of them. Bios that were accepted are counted, never executions."""

    total: int
    """All of the lines below but `done_before`."""
    accepted: int
    in_flight: int
    to_be_retried: int
    held: int
    dead: int
    not_sent: int
    done_before: int
    """Bios of an earlier run."""


class EndTimes(Part):
    """When the job is expected to end."""

    best: Time
    expected: Time
    worst: Time


class ProgressLine(Answer):
    """How far a job is, every 30 seconds: a line of `run`, `poll` and `status --watch` before their answer."""

    kind: Literal["progress"] = "progress"
    at: Time
    lines: LineCounts
    batches: int
    """Those in flight."""
    reserved_tokens: int
    ceiling_tokens: int
    """The enqueued tokens that may be reserved."""
    spent_usd: Usd | None
    """null where the model's price is not known."""
    expected_usd: Usd | None
    """What the whole job is expected to cost."""
    ends_at: EndTimes | None
    """null where the job has ended, or first waits for the user."""


class EventLine(Answer):
    """Something that has happened: a line of `run` and `poll` before their answer.

    An event has further fields of its own, such as `shard` and `batch_id`: batcher/core/events.py lists them.
    """

    model_config = ConfigDict(extra="allow")

    kind: Literal["event"] = "event"
    at: Time
    event: str
    """Which one: `upload_started`, `batch_created`, `batch_settled` and others."""
    text: str
    """The same in words, as it is printed without `--json`."""


class NoticeObject(Answer):
    """What the command of `[notify]` gets on its stdin."""

    kind: str
    """`finished`, `stopped`, `paused`, `resumed`, `pilot_failed`, `brake`, `budget_80`, `forecast_past_deadline` or
    `dead_share`."""
    time: Time
    job: str
    """The name of the job's folder."""
    sentence: str
    """What has happened, and what to do."""
    numbers: dict[str, Any]
    """The figures that the sentence names, and others."""
