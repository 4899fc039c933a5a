"""Deciding what to do next, on any snapshot at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.actions import (
    Action,
    Finish,
    Gather,
    Ingest,
    Reconcile,
    Send,
    Split,
    Wait,
)
from batcher.core.admission import BATCHES_PER_HOUR
from batcher.core.decide import decide_actions, decide_cancel_actions
from batcher.core.lifecycle import ShardState, is_terminal
from batcher.core.model import ShardLimits
from batcher.core.room import Budget, Charge, Room
from batcher.core.snapshot import BatchView, LooseLines, Pause, ShardView, Snapshot
from tests.support.decide_kit import NOW
from tests.support.examples import examples

S = ShardState

TIMES = st.sampled_from([0.0, NOW - 1, NOW, NOW + 1, NOW + 29, NOW + 90])
SHARDS = st.lists(
    st.builds(
        ShardView,
        st.just(0),
        st.integers(1, 3),
        st.sampled_from([S.RELEASED, S.RELEASED, S.UPLOADED, S.UPLOADING, S.CREATING, S.IN_FLIGHT, S.ENDED]),
        st.integers(1, 3),
        st.integers(0, 900),
        TIMES,
        st.none(),
        st.just(1),
    ),
    max_size=4,
).map(lambda views: tuple(view._replace(shard=n) for n, view in enumerate(views)))
BATCHES = st.lists(
    st.builds(
        BatchView,
        st.just("b"),
        st.none(),
        st.sampled_from(["in_progress", "new", "completed"]),
        st.just(0),
        TIMES,
        st.sampled_from([False, False, True]),
        TIMES,
        st.sampled_from([False, False, True]),
    ),
    max_size=2,
).map(lambda views: tuple(view._replace(batch_id=f"b{n}") for n, view in enumerate(views)))
SNAPSHOTS = st.builds(
    Snapshot,
    room=st.builds(
        Room,
        st.integers(0, 1_500),
        st.just(0.8),
        st.sampled_from([1.0, 1.1]),
        st.integers(0, 900),
        st.none() | st.integers(1, 900),
        TIMES,
    ),
    shards=SHARDS,
    batches=BATCHES,
    loose=st.lists(st.builds(LooseLines, st.integers(1, 3), st.integers(1, 12), st.just(20), TIMES), max_size=3).map(
        tuple
    ),
    pauses=st.lists(
        st.builds(Pause, st.sampled_from(["all", "direct"]), st.just("x"), st.just(0.0), TIMES | st.none(), st.just(0)),
        max_size=1,
    ).map(tuple),
    budget=st.sampled_from([Budget(), Budget(max_usd=1, spent_usd=0.5, charges={1: Charge(0.0, 0.2)})]),
    shard_limits=st.just(ShardLimits(10, 10**6, 100)),
    polled_at=TIMES,
    poll_interval_s=st.just(30.0),
    outage_until=st.sampled_from([0.0, 0.0, NOW, NOW + 5]),
    created_last_hour=st.sampled_from([0, 1_999, 2_000]),
    unread=st.sampled_from([0, 0, 1]),
    files_due=st.sampled_from([0, 0, 1]),
    lapsed_ceiling=st.sampled_from([None, None, 500]),
    probing=st.booleans(),
    probe_since=TIMES,
    cancelled=st.sampled_from([frozenset(), frozenset(), frozenset({0}), frozenset({1, 2})]),
    stopped=st.sampled_from(["", "", "fix it"]),
)


@pytest.mark.slow("10 s: 5,000 examples")
@given(SNAPSHOTS)
@examples(2_500)
def test_every_decision_is_sound(snapshot: Snapshot) -> None:
    actions = decide_actions(snapshot, NOW)
    assert actions
    if isinstance(actions[-1], Wait | Finish):
        assert len(actions) == 1
    assert all(action.until > NOW for action in actions if isinstance(action, Wait))
    sends = [action for action in actions if isinstance(action, Send)]
    if sends:
        _check_sends(snapshot, sends)
    if Finish() in actions:
        assert not (snapshot.shards or snapshot.batches or snapshot.loose)
    _check_paid_first(snapshot, actions)


@given(SNAPSHOTS)
@examples(1_000)
def test_to_cancel_is_never_to_send(snapshot: Snapshot) -> None:
    actions = decide_cancel_actions(snapshot, NOW)
    assert actions
    assert not any(isinstance(action, Send | Split | Gather) for action in actions)
    assert all(action.until > NOW for action in actions if isinstance(action, Wait))
    assert actions != [Finish()] or not snapshot.cancelled


def _check_sends(snapshot: Snapshot, sends: list[Send]) -> None:
    assert snapshot.outage_until <= NOW
    assert snapshot.room.blocked_until <= NOW
    assert not snapshot.stopped
    assert not snapshot.cancelled & {s.shard for s in sends}
    assert not any(p.scope == "all" and (p.until is None or p.until > NOW) for p in snapshot.pauses)
    assert snapshot.room.reserved + sum(s.reserved for s in sends) <= snapshot.room.limit * 0.8
    assert snapshot.created_last_hour + len(sends) <= BATCHES_PER_HOUR
    if snapshot.probing:
        assert len(sends) == 1
        assert not any(batch.recorded_at >= snapshot.probe_since for batch in snapshot.batches)
    ready = [s for s in snapshot.shards if s.state in {S.RELEASED, S.UPLOADED} and s.wait_until <= NOW]
    in_turn = [s.shard for s in sorted(ready, key=lambda s: (s.priority, s.shard))]
    assert [s.shard for s in sends] == in_turn[: len(sends)]


def _check_paid_first(snapshot: Snapshot, actions: list[Action]) -> None:
    if snapshot.outage_until > NOW:
        return
    intents = [s.shard for s in snapshot.shards if s.state in {S.UPLOADING, S.CREATING} and s.wait_until <= NOW]
    ended = [b.batch_id for b in snapshot.batches if is_terminal(b.status) and b.retry_at <= NOW and not b.held_back]
    assert [a.shard for a in actions if isinstance(a, Reconcile)] == intents
    assert [a.batch_id for a in actions if isinstance(a, Ingest)] == ended
    if intents or ended:
        assert not any(isinstance(a, Send | Split | Gather | Wait | Finish) for a in actions)
