"""The state machines: every state with every event, which states absorb, and what an unknown status means."""

import pytest

from batcher.core.lifecycle import (
    ARTIST_EVENTS,
    FINAL_SHARD_STATES,
    INTENTS,
    OPEN_ARTIST_STATES,
    SHARD_EVENTS,
    TERMINAL_STATUSES,
    ArtistState,
    BatchStatus,
    ShardState,
    artist_transition,
    is_terminal,
    merge_batch_status,
    next_shard_state,
    shard_transition,
)
from batcher.errors import ExitCode, IllegalTransitionError

# Written out a second time, by hand and the other way round: what each state allows, and where it leads.
SHARD_TABLE = {
    "planned": {"release": "released", "adopt_late": "in_flight", "outdate": "stale"},
    "released": {
        "intend_upload": "uploading",
        "adopt_late": "in_flight",
        "withdraw": "planned",
        "outdate": "stale",
        "split": "split",
    },
    "uploading": {"record_upload": "uploaded", "adopt_late": "in_flight", "forget_upload": "released"},
    "uploaded": {
        "forget_upload": "released",
        "intend_create": "creating",
        "adopt_late": "in_flight",
        "lose_file": "released",
        "withdraw": "planned",
        "outdate": "stale",
        "split": "split",
    },
    "creating": {
        "record_create": "in_flight",
        "refuse_create": "uploaded",
        "find_absent": "released",
        "give_up_create": "stale",
    },
    "in_flight": {"end": "ended"},
    "ended": {"refuse_batch": "uploaded", "lose_file": "released", "settle": "settled"},
    "settled": {},
    "stale": {},
    "split": {},
}
ARTIST_TABLE = {
    "skipped": {},
    "done_before": {"redo": "ready"},
    "ready": {
        "claim_batch": "in_batch",
        "claim_direct": "in_direct",
        "accept_late": "done",
        "hold": "held",
        "share": "done",
        "give_up_with": "dead",
    },
    "waiting": {"fall_due": "ready", "accept_late": "done", "hold": "held"},
    "in_batch": {"give_back": "ready", "accept": "done", "delay": "waiting", "hold": "held", "give_up": "dead"},
    "in_direct": {"give_back": "ready", "accept": "done", "delay": "waiting", "hold": "held", "give_up": "dead"},
    "held": {"accept_late": "done", "share": "done", "bring_back": "ready", "put_back": "done_before"},
    "done": {"redo": "ready", "revoke": "held"},
    "dead": {"accept_late": "done", "share": "done", "bring_back": "ready"},
}
UNKNOWN = ("", "queued", "COMPLETED", "Failed", "paused_for_review", "completed ", "terminal", "\0")
RUNNING = ("validating", "in_progress", "finalizing", "cancelling")
ENDED = ("failed", "completed", "expired", "cancelled", "overdue")


def test_the_tables_know_every_state_and_every_event() -> None:
    assert set(SHARD_TABLE) == set(ShardState)
    assert set(ARTIST_TABLE) == set(ArtistState)
    assert set(SHARD_EVENTS) == {event for row in SHARD_TABLE.values() for event in row}
    assert set(ARTIST_EVENTS) == {event for row in ARTIST_TABLE.values() for event in row}


@pytest.mark.parametrize("event", SHARD_EVENTS)
@pytest.mark.parametrize("state", ShardState)
def test_a_shard_takes_each_event_or_refuses_it(state: ShardState, event: str) -> None:
    expected = SHARD_TABLE[state.value].get(event)
    if expected is None:
        with pytest.raises(IllegalTransitionError, match=event.replace("_", " ")) as caught:
            next_shard_state(state, event)
        assert caught.value.exit_code == ExitCode.UNEXPECTED
        assert state.value in str(caught.value)
    else:
        assert next_shard_state(state, event) == expected


@pytest.mark.parametrize("event", SHARD_EVENTS)
def test_the_database_is_given_the_same_guard(event: str) -> None:
    sources, target = shard_transition(event)
    assert {s.value: target.value for s in sources} == {s: row[event] for s, row in SHARD_TABLE.items() if event in row}


@pytest.mark.parametrize("event", ARTIST_EVENTS)
@pytest.mark.parametrize("state", ArtistState)
def test_an_artist_takes_each_event_or_refuses_it(state: ArtistState, event: str) -> None:
    sources, target = artist_transition(event)
    expected = ARTIST_TABLE[state.value].get(event)
    assert (state in sources) == (expected is not None)
    assert expected in {None, target.value}


@pytest.mark.parametrize("name", ["", "explode", "RELEASE", "release "])
def test_an_unknown_event_is_an_error_and_no_transition(name: str) -> None:
    for look_up in (artist_transition, shard_transition, lambda event: next_shard_state(ShardState.PLANNED, event)):
        with pytest.raises(KeyError):
            look_up(name)


def test_final_states_absorb() -> None:
    assert {s for s, row in SHARD_TABLE.items() if not row} == FINAL_SHARD_STATES
    assert {s for s, row in ARTIST_TABLE.items() if not row} == {"skipped"}


def test_only_the_user_or_a_late_bio_moves_what_is_dead_or_held() -> None:
    assert ARTIST_TABLE["dead"].keys() == {"bring_back", "accept_late", "share"}
    assert ARTIST_TABLE["held"].keys() == {"bring_back", "accept_late", "share", "put_back"}
    assert ARTIST_EVENTS["bring_back"][0] == {ArtistState.DEAD, ArtistState.HELD}


def test_what_is_sent_or_done_cannot_be_claimed_again() -> None:
    for event in ("claim_batch", "claim_direct"):
        assert artist_transition(event)[0] == {ArtistState.READY}


def test_every_state_can_be_reached_and_every_open_one_can_end() -> None:
    assert _reachable(SHARD_TABLE, "planned") == set(ShardState)
    assert _reachable(ARTIST_TABLE, "ready") == set(ArtistState) - {"skipped"}
    for state in ShardState:
        assert _reachable(SHARD_TABLE, state.value) & FINAL_SHARD_STATES
    for open_state in OPEN_ARTIST_STATES:
        assert {"done", "dead"} <= _reachable(ARTIST_TABLE, open_state.value)


def _reachable(table: dict[str, dict[str, str]], start: str) -> set[str]:
    found, todo = {start}, [start]
    while todo:
        new = set(table[todo.pop()].values()) - found
        found |= new
        todo += new
    return found


def test_open_states_are_those_without_an_end() -> None:
    assert {"ready", "waiting", "in_batch", "in_direct"} == OPEN_ARTIST_STATES


def test_an_intent_leads_to_its_outcome_or_back() -> None:
    assert {"uploading", "creating"} == INTENTS
    assert set(SHARD_TABLE["uploading"].values()) == {"uploaded", "released", "in_flight"}
    assert set(SHARD_TABLE["creating"].values()) == {"in_flight", "uploaded", "released", "stale"}


def test_batch_statuses_are_known_whole() -> None:
    assert set(RUNNING) | set(ENDED) == set(BatchStatus)
    assert set(ENDED) == TERMINAL_STATUSES


@pytest.mark.parametrize("status", RUNNING + UNKNOWN)
def test_an_unknown_status_means_not_finished(status: str) -> None:
    assert not is_terminal(status)


@pytest.mark.parametrize("status", ENDED)
def test_a_terminal_status_is_one(status: str) -> None:
    assert is_terminal(status)


@pytest.mark.parametrize("seen", RUNNING + ENDED + UNKNOWN)
@pytest.mark.parametrize("known", RUNNING + ENDED + UNKNOWN)
def test_a_terminal_status_absorbs_and_any_other_gives_way(known: str, seen: str) -> None:
    assert merge_batch_status(known, seen) == (known if known in ENDED else seen)
