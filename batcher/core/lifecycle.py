"""The state machines of artists and shards: one table each, and the only place that knows them.

`artist_transition` and `shard_transition` return the states in which an event is legal, and the state that it leads to.
The store repeats the guard in SQL (`UPDATE ... WHERE state IN sources`), so that an illegal event changes nothing even
when two processes disagree. The picture in docs/lifecycle.md is drawn from here.
"""

from collections.abc import Mapping
from enum import StrEnum

from batcher.errors import IllegalTransitionError


class ArtistState(StrEnum):
    """The states of an artist. Each artist is in exactly one, and the states add up to the input."""

    SKIPPED = "skipped"
    """A bad row, left out at the user's request (`--skip-bad-rows`). Final."""
    DONE_BEFORE = "done_before"
    """Has a bio from an earlier run (`--done`). Only `redo` requests another."""
    READY = "ready"
    """May be sent, or waits for the answer to another line that asks the same. A crash leaves it here when nothing was
    sent for it."""
    WAITING = "waiting"
    """Failed, and is retried at its time (`wait_until`). A crash changes nothing: the time is stored."""
    IN_BATCH = "in_batch"
    """Claimed by an open submission. A crash leaves it here; the next owner of batch.lock reconciles the
    submission, and its end moves the line on."""
    IN_DIRECT = "in_direct"
    """Claimed by a synchronous call. A crash leaves it here; the next owner of direct.lock repeats the call."""
    HELD = "held"
    """Waits for the user (cancelled, perhaps paid, or its bio revoked). Only `retry` moves it, or a bio that arrives
    late, or one of an earlier run that is put back."""
    DONE = "done"
    """Has an accepted bio. Only `redo` asks for another; `judge --revoke` takes back what today's job refuses."""
    DEAD = "dead"
    """Given up, with its reason. Only `retry` brings it back; a bio that arrives late is accepted."""


class ShardState(StrEnum):
    """The states of a shard."""

    PLANNED = "planned"
    """Cut and written to disk; not released. A crash leaves it sound: the file was moved into place first."""
    RELEASED = "released"
    """May be sent when there is room."""
    UPLOADING = "uploading"
    """Intent: an upload was begun. A crash may leave an orphan file at OpenAI, which costs nothing; the next
    owner uploads again and deletes the orphan."""
    UPLOADED = "uploaded"
    """Its file is at OpenAI and no batch names it. Waits for room (`wait_until`) and is created from there."""
    CREATING = "creating"
    """Intent: a batch was requested. A crash leaves "perhaps done"; the next owner searches for the batch by its
    metadata and adopts it, or proves it absent before anything is repeated."""
    IN_FLIGHT = "in_flight"
    """A batch runs. A crash changes nothing: the batch goes on, and the next owner polls it."""
    ENDED = "ended"
    """Its batch has ended and its results are not recorded yet. A crash repeats the download."""
    SETTLED = "settled"
    """Every line has its verdict. Final."""
    STALE = "stale"
    """Its lines went elsewhere (edited prompt, direct lane). Final; its remaining lines are cut again."""
    SPLIT = "split"
    """Was larger than the whole limit, and cut into smaller ones. Final."""


A, S = ArtistState, ShardState

ARTIST_EVENTS: Mapping[str, tuple[frozenset[ArtistState], ArtistState]] = {
    "claim_batch": (frozenset({A.READY}), A.IN_BATCH),
    "claim_direct": (frozenset({A.READY}), A.IN_DIRECT),
    "give_back": (frozenset({A.IN_BATCH, A.IN_DIRECT}), A.READY),
    "accept": (frozenset({A.IN_BATCH, A.IN_DIRECT}), A.DONE),
    "accept_late": (frozenset({A.READY, A.WAITING, A.HELD, A.DEAD}), A.DONE),
    "delay": (frozenset({A.IN_BATCH, A.IN_DIRECT}), A.WAITING),
    "hold": (frozenset({A.IN_BATCH, A.IN_DIRECT, A.READY, A.WAITING}), A.HELD),
    "give_up": (frozenset({A.IN_BATCH, A.IN_DIRECT}), A.DEAD),
    "give_up_with": (frozenset({A.READY}), A.DEAD),
    "share": (frozenset({A.READY, A.HELD, A.DEAD}), A.DONE),
    "fall_due": (frozenset({A.WAITING}), A.READY),
    "bring_back": (frozenset({A.HELD, A.DEAD}), A.READY),
    "revoke": (frozenset({A.DONE}), A.HELD),
    "put_back": (frozenset({A.HELD}), A.DONE_BEFORE),
    "redo": (frozenset({A.DONE, A.DONE_BEFORE}), A.READY),
}

SHARD_EVENTS: Mapping[str, tuple[frozenset[ShardState], ShardState]] = {
    "release": (frozenset({S.PLANNED}), S.RELEASED),
    "intend_upload": (frozenset({S.RELEASED}), S.UPLOADING),
    "record_upload": (frozenset({S.UPLOADING}), S.UPLOADED),
    "forget_upload": (frozenset({S.UPLOADING, S.UPLOADED}), S.RELEASED),
    "intend_create": (frozenset({S.UPLOADED}), S.CREATING),
    "record_create": (frozenset({S.CREATING}), S.IN_FLIGHT),
    "adopt_late": (frozenset({S.PLANNED, S.RELEASED, S.UPLOADING, S.UPLOADED}), S.IN_FLIGHT),
    "refuse_create": (frozenset({S.CREATING}), S.UPLOADED),
    "find_absent": (frozenset({S.CREATING}), S.RELEASED),
    "give_up_create": (frozenset({S.CREATING}), S.STALE),
    "end": (frozenset({S.IN_FLIGHT}), S.ENDED),
    "refuse_batch": (frozenset({S.ENDED}), S.UPLOADED),
    "lose_file": (frozenset({S.ENDED, S.UPLOADED}), S.RELEASED),
    "settle": (frozenset({S.ENDED}), S.SETTLED),
    "withdraw": (frozenset({S.RELEASED, S.UPLOADED}), S.PLANNED),
    "outdate": (frozenset({S.PLANNED, S.RELEASED, S.UPLOADED}), S.STALE),
    "split": (frozenset({S.RELEASED, S.UPLOADED}), S.SPLIT),
}

FOLLOWING_EVENTS: Mapping[ArtistState, str] = {A.HELD: "hold", A.DEAD: "give_up_with"}
"""What happens to artists that follow a line, by the state in which the line has ended."""
VERDICT_EVENTS = ("give_back", "delay", "hold", "give_up")
"""The events that move failed lines. Each moves the lines whose verdict is its target state."""
FINAL_SHARD_STATES = frozenset({S.SETTLED, S.STALE, S.SPLIT})
OPEN_ARTIST_STATES = frozenset({A.READY, A.WAITING, A.IN_BATCH, A.IN_DIRECT})
INTENTS = frozenset({S.UPLOADING, S.CREATING})
SENDABLE_STATES = frozenset({S.RELEASED, S.UPLOADED})


def count_open_artists(states: Mapping[str, int]) -> int:
    """Return how many artists have lines in flight or to be sent. states: artists by state."""
    return sum(states.get(state, 0) for state in OPEN_ARTIST_STATES)


def artist_transition(event: str) -> tuple[frozenset[ArtistState], ArtistState]:
    """Return the legal sources and the target of an artist's event. Raises KeyError for an unknown event."""
    return ARTIST_EVENTS[event]


def shard_transition(event: str) -> tuple[frozenset[ShardState], ShardState]:
    """Return the legal sources and the target of a shard's event. Raises KeyError for an unknown event."""
    return SHARD_EVENTS[event]


def next_shard_state(state: ShardState, event: str) -> ShardState:
    """Return the state after `event`. Raises IllegalTransitionError, which leaves the shard where it is."""
    sources, target = SHARD_EVENTS[event]
    if state not in sources:
        raise IllegalTransitionError(f"a shard that is {state} cannot {event.replace('_', ' ')}")
    return target


class BatchStatus(StrEnum):
    """OpenAI's statuses (official description, `Batch.status`). Any other text means "not finished"."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    OVERDUE = "overdue"
    """Our own status: a batch that the service no longer knows, or that has not ended long after it should have."""


TERMINAL_STATUSES = frozenset(
    {BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED, BatchStatus.OVERDUE}
)


def is_terminal(status: str) -> bool:
    """Return whether a batch of this status has ended. One of an unknown status has not (promise 6)."""
    return status in TERMINAL_STATUSES


def merge_batch_status(known: str, seen: str) -> str:
    """Return the status to keep when `seen` arrives after `known`: a terminal one is never replaced."""
    return known if is_terminal(known) else seen
