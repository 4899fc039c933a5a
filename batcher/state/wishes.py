"""What the user does to shards and lines by hand: cancel, retry and forget. Functions of an open transaction.

A cancel is a wish, a row for each shard: what is in flight is cancelled by the acting process, which alone calls the
service. What was not sent becomes planned again at once. A retry is done at once: it concerns nothing that runs. So is
taking artists out of the plan: only those that were never sent are.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from batcher.core.cutting import split_chunks
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import FINAL_SHARD_STATES, SENDABLE_STATES, ArtistState, ShardState
from batcher.errors import InputError
from batcher.nouns import current_nouns
from batcher.state import batches, pilots, shards, submissions
from batcher.state.db.transaction import Transaction
from batcher.state.following.settling import promote_heirs, promote_strays
from batcher.state.shards import load_open_wishes, load_shard_states

ID_CHUNK = 10_000
"""Ids of a table that are staged at a time."""


class CancelResult(NamedTuple):
    """What a cancel led to: shards in flight, shards that became planned again, and retries that are held."""

    following: Sequence[int]
    withdrawn: Sequence[int]
    held: int


def request_cancel(tx: Transaction, shards: Sequence[int]) -> CancelResult:
    """Request the cancel of these shards; of everything that was released where none is named.

    Raises InputError for the number of a shard that cannot be cancelled.
    """
    states = load_shard_states(tx)
    for shard in shards:
        _check_cancellable(shard, states.get(shard))
    targets = list(shards) or [
        s for s, state in states.items() if state not in FINAL_SHARD_STATES | {ShardState.PLANNED}
    ]
    withdrawn = [shard for shard in targets if states[shard] in SENDABLE_STATES]
    following = [shard for shard in targets if states[shard] not in SENDABLE_STATES]
    for shard in withdrawn:
        withdraw_shard(tx, shard)
    for shard in following:
        tx.fetch_all("insert_wish", shard=shard, now=tx.now)
        submissions.request_submission_cancel(tx, shard)
        for batch_id in batches.load_running_batch_ids(tx, shard):
            batches.intend_cancel(tx, batch_id)
    held = 0 if shards else tx.move_lines("hold_loose_lines", "hold")
    counts = f"shards in flight: {len(following):,}, not sent: {len(withdrawn):,}, retries held: {held:,}"
    tx.record_event("cancel_asked", counts)
    return CancelResult(following, withdrawn, held)


def _check_cancellable(shard: int, state: ShardState | None) -> None:
    if state is None:
        raise InputError(f"there is no shard {shard}; `batcher status --json` and `batcher plan` name them")
    if state is ShardState.PLANNED:
        raise InputError(f"shard {shard} was not released, so there is nothing to cancel")
    if state in FINAL_SHARD_STATES:
        raise InputError(f"shard {shard} is {state}: it has ended, and nothing of it is in flight")


def withdraw_shard(tx: Transaction, shard: int) -> None:
    """Make an unsent shard planned again and have its file at OpenAI deleted.

    A shard in any other state is left alone.
    """
    if shards.load_shard(tx, shard).state not in SENDABLE_STATES:
        return
    shards.queue_shard_file(tx, shard)
    tx.move_shard(shard, "withdraw", "cancelled")
    shards.set_shard_file(tx, shard, None, None)
    fulfil_wish(tx, shard, "not sent")


def fulfil_wish(tx: Transaction, shard: int, outcome: str) -> None:
    """End the wish to cancel a shard, where there is one."""
    tx.fetch_all("end_wishes", shard=shard, outcome=outcome, now=tx.now)


def is_cancel_requested(tx: Transaction, shard: int) -> bool:
    """Return whether the user asked to cancel this shard."""
    return shard in load_open_wishes(tx)


class RetryFilter(NamedTuple):
    """Which dead and held lines to bring back; None: any."""

    failure: FailureClass | None = None
    artist_id: str | None = None
    states: Sequence[ArtistState] = (ArtistState.HELD, ArtistState.DEAD)
    code: str | None = None


class RetriedLines(NamedTuple):
    """Lines that came back, by the state and the failure that they had."""

    state: str
    class_: str
    lines: int


class RetryResult(NamedTuple):
    """Which lines came back, and how many stay held because they are perhaps paid."""

    lines: Sequence[RetriedLines]
    perhaps_paid: int


def retry_lines(tx: Transaction, choice: RetryFilter) -> RetryResult:
    """Make dead or held lines ready. Their tries are counted from 0 for the class that they ended with."""
    named = choice.failure.value if choice.failure else None
    tx.fetch_all(
        "choose_retries",
        states=[state.value for state in choice.states], failure=named, artist_id=choice.artist_id, code=choice.code,
    )  # fmt: skip
    lines = [RetriedLines(str(state), str(failure), int(n)) for state, failure, n in tx.fetch_all("count_retries")]
    tx.fetch_all("forget_tries")
    tx.fetch_all("note_retries", now=tx.now)
    tx.move_lines("bring_back_lines", "bring_back")
    promote_strays(tx)
    (paid,) = tx.fetch_one("perhaps_paid", artist_id=choice.artist_id) if named != FailureClass.MISSING else (0,)
    return RetryResult(lines, paid)


class CancelledShard(NamedTuple):
    """A shard that the user asked to cancel: its outcome (None: none yet), and its lines that are done or held."""

    shard: int
    outcome: str | None
    bios: int
    held: int


def load_cancelled_shards(tx: Transaction, shards: Sequence[int], since: float) -> list[CancelledShard]:
    """Return those of these shards that the user asked to cancel at `since` (epoch seconds) or later."""
    return [CancelledShard(*row) for row in tx.fetch_all("cancelled_shards", shards=list(shards), since=since)]


class UnsentChoice(NamedTuple):
    """Artists that the user wants out of the plan: how many were never sent, in how many unsent shards, and how many of
    the wanted ones were sent and so stay."""

    unsent: int
    planned_shards: int
    released_shards: int
    sent: int


class PlannedArtist(NamedTuple):
    """An artist of the plan, and whether anything was ever sent for it."""

    artist_id: str
    state: ArtistState
    was_sent: bool


def choose_named_artists(tx: Transaction, artist_ids: Sequence[str]) -> list[PlannedArtist]:
    """Choose these artists to be taken out of the plan; return those of them that the plan has."""
    _choose_unsent(tx, artist_ids, ())
    return [PlannedArtist(name, ArtistState(state), sent) for name, state, sent in tx.fetch_all("chosen_artists")]


def choose_artists_not_in_table(tx: Transaction, artist_ids: Iterable[str]) -> None:
    """Choose the artists to be taken out of the plan that have not ended and are not among these of a table."""
    _choose_unsent(tx, None, artist_ids)


def _choose_unsent(tx: Transaction, named: Sequence[str] | None, in_table: Iterable[str]) -> None:
    tx.fetch_all("create_table_ids")
    for chunk in split_chunks(in_table, ID_CHUNK):
        tx.insert_rows("table_ids", [(artist_id,) for artist_id in chunk])
    tx.fetch_all("choose_unsent", artist_ids=list(named) if named is not None else None)


def count_unsent_choice(tx: Transaction) -> UnsentChoice:
    """Count the chosen artists."""
    return UnsentChoice(*tx.fetch_one("count_chosen"))


def forget_unsent_artists(tx: Transaction) -> UnsentChoice:
    """Take those of the chosen artists out of the plan that were never sent; return what was taken out.

    The other lines of a planned shard stay in it, stale, until they are cut again into planned shards
    (`recut_parked_lines`). Those of a released one are gathered into released ones. An artist that follows one of them
    takes its place. A file at OpenAI is deleted. A
    pilot of which no line is left is forgotten.
    """
    choice = count_unsent_choice(tx)
    promote_heirs(tx)
    for shard, state in tx.fetch_all("shards_of_chosen"):
        shards.mark_shard_stale(tx, shard, f"{current_nouns().rows} of it were taken out of the plan")
        if ShardState(state) is not ShardState.PLANNED:
            shards.loosen_shard_lines(tx, shard)
    tx.fetch_all("note_forgotten", now=tx.now)
    tx.fetch_all("delete_forgotten_pilot_lines")
    pilots.drop_empty_pilots(tx)
    tx.fetch_all("delete_forgotten")
    return choice
