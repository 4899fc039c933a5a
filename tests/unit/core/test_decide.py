"""Deciding what to do next: the order of the promises, on small snapshots."""

from dataclasses import replace

import pytest

from batcher.core.actions import (
    Action,
    Cancel,
    Clean,
    Finish,
    Gather,
    Ingest,
    Reconcile,
    Refresh,
    Send,
    Split,
    Wait,
    Withdraw,
)
from batcher.core.admission import BATCHES_PER_HOUR
from batcher.core.decide import decide_actions, decide_cancel_actions
from batcher.core.lifecycle import ShardState
from batcher.core.room import Budget, Charge
from batcher.core.snapshot import BatchView, LooseLines, Pause, ShardView
from tests.support.decide_kit import EMPTY, FULL, LOOSE, NOW, POLL, READY, ROOM, RUNNING, SENT, soon

S = ShardState


# --- first what is open, then what was paid for, then a look, and only then more -------------------------------------


@pytest.mark.parametrize("state", [S.UPLOADING, S.CREATING])
def test_an_open_intent_comes_before_all_else(state: ShardState) -> None:
    open_intent = ShardView(2, 3, state, 1, 1)
    ended = BatchView("b2", 8, "completed", 0)
    snapshot = EMPTY._replace(shards=(READY, open_intent), batches=(RUNNING, ended), loose=(FULL,), polled_at=0.0)
    assert decide_actions(snapshot._replace(files_due=1), NOW) == [Reconcile(2), Ingest("b2"), Refresh(), Clean()]


def test_an_intent_that_waits_lets_the_rest_go_on() -> None:
    waits = ShardView(2, 1, S.CREATING, 1, 1, wait_until=soon(60))
    assert decide_actions(EMPTY._replace(shards=(waits, READY)), NOW) == [SENT]
    assert decide_actions(EMPTY._replace(shards=(waits,)), NOW) == [Wait(soon(60), "a shard waits to be retried")]
    assert decide_actions(EMPTY._replace(shards=(waits,)), soon(60)) == [Reconcile(2)]


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled", "overdue"])
def test_what_has_ended_is_taken_in_before_more_is_sent(status: str) -> None:
    ended = RUNNING._replace(status=status)
    assert decide_actions(EMPTY._replace(shards=(READY,), batches=(ended,)), NOW) == [Ingest("b1")]


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing", "cancelling", "anything new", ""])
def test_what_has_not_ended_is_not_taken_in(status: str) -> None:
    assert decide_actions(EMPTY._replace(batches=(RUNNING._replace(status=status),)), NOW) == [POLL]


def test_results_that_are_not_complete_are_waited_for_while_other_work_goes_on() -> None:
    late = RUNNING._replace(status="completed", retry_at=soon(60))
    assert decide_actions(EMPTY._replace(batches=(late,)), NOW) == [Wait(soon(60), "results not complete yet")]
    assert decide_actions(EMPTY._replace(batches=(late,), shards=(READY,)), NOW) == [SENT]
    assert decide_actions(EMPTY._replace(batches=(late,)), soon(60)) == [Ingest("b1")]


@pytest.mark.parametrize(("age", "due"), [(0, False), (29, False), (30, True), (1_000, True)])
def test_a_look_when_it_is_due(age: float, due: bool) -> None:
    snapshot = EMPTY._replace(batches=(RUNNING,), polled_at=NOW - age)
    expected = Refresh() if due else Wait(NOW - age + 30, "batches are running")
    assert decide_actions(snapshot, NOW) == [expected]


def test_nothing_is_looked_at_where_nothing_runs() -> None:
    late = RUNNING._replace(status="completed", retry_at=soon(60))
    assert decide_actions(EMPTY._replace(batches=(late,), polled_at=0.0), NOW)[0] != Refresh()
    assert decide_actions(EMPTY._replace(polled_at=0.0), NOW) == [Finish()]


def test_a_clock_that_was_set_back_does_not_keep_from_looking() -> None:
    assert decide_actions(EMPTY._replace(batches=(RUNNING,), polled_at=soon(5_000)), NOW) == [Refresh()]


def test_of_two_batches_of_a_shard_the_last_word_waits_for_the_other() -> None:
    kept, other = RUNNING._replace(status="completed", held_back=True), RUNNING._replace(batch_id="b2")
    assert decide_actions(EMPTY._replace(batches=(kept, other)), NOW) == [POLL]
    ended = other._replace(status="cancelled")
    assert decide_actions(EMPTY._replace(batches=(kept, ended)), NOW) == [Ingest("b2")]
    assert decide_actions(EMPTY._replace(batches=(kept._replace(held_back=False),)), NOW) == [Ingest("b1")]


def test_what_the_user_cancels_is_cancelled_or_withdrawn_before_more_is_sent() -> None:
    asked = RUNNING._replace(cancels=True)
    uploaded = ShardView(2, 1, S.UPLOADED, 1, 1)
    perhaps = ShardView(3, 1, S.CREATING, 1, 1)
    snapshot = EMPTY._replace(shards=(READY, uploaded, perhaps), batches=(asked,), cancelled=frozenset({2, 3, 7}))
    assert decide_actions(snapshot, NOW) == [Reconcile(3), Cancel("b1"), Withdraw(2)]
    assert decide_actions(snapshot._replace(shards=(READY,), batches=(RUNNING,)), NOW) == [SENT]


CANCELLING = EMPTY._replace(shards=(READY,), loose=(FULL,), batches=(RUNNING,), cancelled=frozenset({7}))


def test_to_cancel_sends_nothing_and_follows_to_the_end() -> None:
    why = "batches are being cancelled"
    assert decide_cancel_actions(CANCELLING, NOW) == [Wait(soon(30), why)]
    assert decide_cancel_actions(CANCELLING._replace(polled_at=0.0), NOW) == [Refresh()]
    perhaps = ShardView(3, 1, S.CREATING, 1, 1, wait_until=soon(8))
    assert decide_cancel_actions(CANCELLING._replace(shards=(perhaps,)), NOW) == [Wait(soon(8), why)]
    late = RUNNING._replace(status="cancelled", retry_at=soon(9))
    assert decide_cancel_actions(CANCELLING._replace(batches=(late,)), NOW) == [Wait(soon(9), why)]
    assert decide_cancel_actions(CANCELLING._replace(batches=(late,)), soon(9)) == [Ingest("b1")]
    held_back = RUNNING._replace(status="cancelled", retry_at=NOW, held_back=True)
    assert decide_cancel_actions(CANCELLING._replace(batches=(held_back,)), NOW) == [Wait(soon(30), why)]
    assert decide_cancel_actions(CANCELLING._replace(cancelled=frozenset()), NOW) == [Finish()]
    out = CANCELLING._replace(outage_until=soon(60))
    assert decide_cancel_actions(out, NOW) == [Wait(soon(60), "the service does not answer")]


def test_files_are_cleaned_up_when_due() -> None:
    assert decide_actions(EMPTY._replace(files_due=2), NOW) == [Clean()]


# --- what keeps from sending -----------------------------------------------------------------------------------------


def test_in_an_outage_nothing_is_tried() -> None:
    snapshot = EMPTY._replace(shards=(READY,), batches=(RUNNING,), polled_at=0.0, outage_until=soon(60), stopped="x")
    assert decide_actions(snapshot, NOW) == [Wait(soon(60), "the service does not answer")]
    assert decide_actions(snapshot._replace(stopped=""), soon(60)) == [Refresh()]


def test_while_paused_nothing_is_sent_and_all_else_goes_on() -> None:
    pause = Pause("all", "quota", NOW - 1, soon(20))
    snapshot = EMPTY._replace(shards=(READY,), loose=(FULL,), batches=(RUNNING,), pauses=(pause,))
    assert decide_actions(snapshot, NOW) == [Wait(soon(20), "paused: quota")]
    assert decide_actions(snapshot._replace(polled_at=0.0), NOW) == [Refresh()]
    assert decide_actions(snapshot._replace(batches=(RUNNING._replace(status="completed"),)), NOW) == [Ingest("b1")]
    assert decide_actions(snapshot._replace(batches=()), soon(20)) == [Gather(1)]


def test_a_pause_by_hand_lasts_until_the_user_resumes() -> None:
    pause = Pause("all", "by hand", NOW - 10**6, None)
    snapshot = EMPTY._replace(shards=(READY,), pauses=(pause,))
    assert decide_actions(snapshot, NOW) == [Wait(soon(30), "paused: by hand; `batcher resume` goes on")]
    assert decide_actions(snapshot._replace(pauses=(Pause("all", "quota", 0, soon(9)), pause)), NOW)[0] == Wait(
        soon(9), "paused: quota"
    )
    assert decide_actions(snapshot._replace(shards=()), NOW) == [Finish()]


@pytest.mark.parametrize("until", [None, NOW + 5])
def test_a_pause_of_the_direct_lane_is_none_of_ours(until: float | None) -> None:
    pause = Pause("direct", "daily requests", NOW - 1, until)
    snapshot = EMPTY._replace(pauses=(pause,))
    assert decide_actions(snapshot._replace(shards=(READY,)), NOW) == [SENT]
    assert decide_actions(snapshot._replace(batches=(RUNNING,)), NOW) == [POLL]
    too_large = READY._replace(lines=1, tokens=10**6)
    assert isinstance(decide_actions(snapshot._replace(shards=(too_large,)), NOW)[0], Finish)
    strange = snapshot._replace(shards=(READY,), room=ROOM._replace(reserved=800))
    assert decide_actions(strange, NOW) == [Wait(soon(30), "waiting for room")]


def test_a_refusal_for_the_limit_is_waited_out() -> None:
    room = ROOM._replace(blocked_until=soon(60))
    snapshot = EMPTY._replace(shards=(READY,), loose=(FULL,), room=room)
    assert decide_actions(snapshot, NOW) == [Wait(soon(60), "the service has no room for more")]
    assert decide_actions(snapshot._replace(batches=(RUNNING,)), NOW) == [POLL]
    assert decide_actions(snapshot._replace(room=ROOM, loose=()), NOW) == [SENT]


def test_after_a_quota_pause_one_shard_probes() -> None:
    second = READY._replace(shard=2)
    over = Pause("all", "quota", NOW - 500, NOW - 200)
    snapshot = EMPTY._replace(shards=(READY, second), pauses=(over,), probing=True)
    assert decide_actions(snapshot, NOW) == [SENT]
    assert decide_actions(snapshot._replace(batches=(RUNNING,)), NOW) == [POLL]
    late = RUNNING._replace(status="completed", retry_at=soon(60))
    assert decide_actions(snapshot._replace(batches=(late,)), NOW)[0] == Wait(soon(60), "results not complete yet")
    assert decide_actions(snapshot._replace(probing=False), NOW) == [SENT, Send(2, 100, 600)]


def test_a_probe_that_is_perhaps_sent_is_a_probe() -> None:
    perhaps = ShardView(3, 1, S.CREATING, 1, 1, wait_until=soon(60))
    snapshot = EMPTY._replace(shards=(READY, perhaps), probing=True)
    assert decide_actions(snapshot, NOW) == [Wait(soon(60), "a shard waits to be retried")]


def test_a_probe_keeps_the_hourly_cap() -> None:
    snapshot = EMPTY._replace(shards=(READY,), probing=True, created_last_hour=BATCHES_PER_HOUR)
    assert decide_actions(snapshot, NOW)[0] == Wait(soon(60), "shard 1: 2,000 batches were created within the hour")


@pytest.mark.parametrize(("reserved", "sent"), [(0, [SENT]), (300, [Send(1, 100, 400)]), (301, None)])
def test_past_a_lapsed_limit_one_shard_probes(reserved: int, sent: list[Action] | None) -> None:
    """What is reserved beyond it is the probe, and has no outcome yet."""
    room = ROOM._replace(reserved=reserved)
    snapshot = EMPTY._replace(shards=(READY, READY._replace(shard=2)), room=room, lapsed_ceiling=300)
    assert decide_actions(snapshot, NOW) == (sent or [Wait(soon(30), "waiting for room")])


@pytest.mark.parametrize(("created", "sent"), [(0, 2), (1_998, 2), (1_999, 1), (2_000, 0), (2_500, 0)])
def test_the_hourly_cap(created: int, sent: int) -> None:
    snapshot = EMPTY._replace(shards=(READY, READY._replace(shard=2)), created_last_hour=created)
    actions = decide_actions(snapshot, NOW)
    assert [isinstance(action, Send) for action in actions] == ([True] * sent or [False])
    assert sent or isinstance(actions[0], Wait)


@pytest.mark.parametrize("state", [s for s in S if s not in {S.RELEASED, S.UPLOADED, S.UPLOADING, S.CREATING}])
def test_only_what_is_released_or_uploaded_is_sent(state: ShardState) -> None:
    assert not any(
        isinstance(a, Send) for a in decide_actions(EMPTY._replace(shards=(READY._replace(state=state),)), NOW)
    )


@pytest.mark.parametrize("state", [S.RELEASED, S.UPLOADED])
def test_a_shard_is_sent_when_its_time_has_come(state: ShardState) -> None:
    waits = READY._replace(state=state, wait_until=soon(60))
    assert decide_actions(EMPTY._replace(shards=(waits,)), NOW) == [Wait(soon(60), "a shard waits to be retried")]
    assert decide_actions(EMPTY._replace(shards=(waits,)), soon(60)) == [SENT]


def test_the_most_urgent_goes_first_and_keeps_its_room() -> None:
    urgent, other = ShardView(9, 1, S.UPLOADED, 10, 600), ShardView(2, 2, S.RELEASED, 10, 300)
    assert decide_actions(EMPTY._replace(shards=(other, urgent)), NOW) == [Send(9, 600, 200)]
    held = EMPTY._replace(shards=(other, urgent), room=ROOM._replace(reserved=300), batches=(RUNNING,))
    assert decide_actions(held, NOW) == [replace(POLL, reason="shard 9: needs 600 tokens, 500 are free")]


def test_a_shard_over_the_limit_is_split_and_a_line_over_it_stops_the_work() -> None:
    huge = READY._replace(tokens=900)
    assert decide_actions(EMPTY._replace(shards=(huge,)), NOW) == [Split(1, 800)]
    line = huge._replace(lines=1)
    why = "shard 1 cannot be sent: one line of 900 tokens is over the limit of 800"
    assert decide_actions(EMPTY._replace(shards=(line,)), NOW) == [Finish(why)]
    assert decide_actions(EMPTY._replace(shards=(line,), batches=(RUNNING,)), NOW) == [POLL]
    first = READY._replace(shard=0)
    assert decide_actions(EMPTY._replace(shards=(line, first)), NOW) == [Send(0, 100, 700)]


def test_a_budget_that_is_spent_stops_the_work() -> None:
    budget = Budget(max_usd=1.0, spent_usd=0.5, charges={1: Charge(0.0, 0.1)})
    (finish,) = decide_actions(EMPTY._replace(shards=(READY,), budget=budget), NOW)
    assert isinstance(finish, Finish)
    assert "$0.5000 of the budget of $1.00 is left" in finish.problem


# --- gathering -------------------------------------------------------------------------------------------------------


def _gathers(*loose: LooseLines, shards: tuple[ShardView, ...] = ()) -> bool:
    actions = decide_actions(EMPTY._replace(loose=loose, shards=shards), NOW)
    assert all(isinstance(a, Gather) for a in actions) or not any(isinstance(a, Gather) for a in actions)
    return isinstance(actions[0], Gather)


GATHERING = [
    ("due and alone", (LOOSE,), (), True),
    ("not due", (LOOSE._replace(due=NOW + 1),), (), False),
    ("due this moment", (LOOSE._replace(due=NOW),), (), True),
    ("as urgent a shard waits", (LOOSE,), (READY,), False),
    ("a more urgent shard waits", (LOOSE._replace(priority=2),), (READY,), False),
    ("only a less urgent shard waits", (LOOSE,), (READY._replace(priority=2),), True),
    ("as urgent a shard waits for its time", (LOOSE,), (READY._replace(wait_until=NOW + 9),), True),
    ("full by lines", (FULL,), (READY,), True),
    ("full by tokens", (LOOSE._replace(tokens=500),), (READY,), True),
    ("nearly full", (LOOSE._replace(lines=9, tokens=499),), (READY,), False),
    ("full but not due", (FULL._replace(due=NOW + 1),), (), False),
    ("more fall due soon", (LOOSE, LOOSE._replace(due=NOW + 30)), (), False),
    ("more fall due later", (LOOSE, LOOSE._replace(due=NOW + 31)), (), True),
    ("others fall due soon", (LOOSE, LOOSE._replace(priority=2, due=NOW + 5)), (), True),
    ("full, and more fall due soon", (FULL, LOOSE._replace(due=NOW + 5)), (), True),
]


@pytest.mark.parametrize(("loose", "shards", "gathered"), [c[1:] for c in GATHERING], ids=[c[0] for c in GATHERING])
def test_loose_lines_become_a_shard(
    loose: tuple[LooseLines, ...], shards: tuple[ShardView, ...], gathered: bool
) -> None:
    assert _gathers(*loose, shards=shards) == gathered


def test_each_priority_gathers_for_itself() -> None:
    loose = (LOOSE, LOOSE._replace(priority=2), LOOSE._replace(priority=3, due=NOW + 9))
    assert decide_actions(EMPTY._replace(loose=loose), NOW) == [Gather(1), Gather(2)]


def test_lines_that_fall_due_soon_are_waited_for() -> None:
    loose = (LOOSE, LOOSE._replace(due=soon(12)))
    assert decide_actions(EMPTY._replace(loose=loose), NOW) == [Wait(soon(12), "failed lines wait to be sent again")]
    assert decide_actions(EMPTY._replace(loose=(LOOSE, LOOSE)), soon(12)) == [Gather(1), Gather(1)]


# --- ends and waits --------------------------------------------------------------------------------------------------


def test_with_nothing_left_the_work_is_finished() -> None:
    assert decide_actions(EMPTY, NOW) == [Finish()]
    over = (Pause("all", "quota", 0, NOW - 1), Pause("direct", "x", 0, soon(50)), Pause("all", "y", 0, soon(50)))
    assert decide_actions(EMPTY._replace(pauses=over), NOW) == [Finish()]


def test_once_stopped_nothing_is_sent_but_what_was_paid_is_taken_in() -> None:
    snapshot = EMPTY._replace(shards=(READY,), loose=(FULL,), batches=(RUNNING,), stopped="fix the key")
    assert decide_actions(snapshot, NOW) == [Finish("fix the key")]
    assert decide_actions(snapshot._replace(polled_at=0.0), NOW) == [Refresh()]
    assert decide_actions(snapshot._replace(batches=(RUNNING._replace(status="completed"),)), NOW) == [Ingest("b1")]


BY_QUOTA = Pause("all", "quota", 0, NOW + 15)
HELD_BACK = BatchView("b2", 7, "completed", 0, retry_at=NOW, held_back=True)
"""Its results are due, and another batch of its shard is read first."""
WAITS = [
    ({"batches": (RUNNING._replace(status="completed", retry_at=NOW + 11),)}, 11, "results not complete yet"),
    ({"batches": (RUNNING,), "polled_at": NOW - 18}, 12, "batches are running"),
    ({"shards": (READY._replace(wait_until=NOW + 13),)}, 13, "a shard waits to be retried"),
    ({"loose": (LOOSE._replace(due=NOW + 14),)}, 14, "failed lines wait to be sent again"),
    ({"shards": (READY,), "pauses": (Pause("all", "quota", 0, NOW + 15),)}, 15, "paused: quota"),
    ({"shards": (READY,), "room": ROOM._replace(blocked_until=NOW + 16)}, 16, "the service has no room for more"),
    ({"shards": (READY,), "room": ROOM._replace(reserved=800)}, 30, "waiting for room"),
    ({"shards": (READY,), "loose": (FULL._replace(due=NOW),), "pauses": (BY_QUOTA,)}, 15, "paused: quota"),
    ({"batches": (HELD_BACK, RUNNING), "polled_at": NOW - 18}, 12, "batches are running"),
    (
        {"loose": (LOOSE._replace(due=NOW + 90),), "created_last_hour": BATCHES_PER_HOUR},
        60,
        "2,000 batches were created within the hour",
    ),
]


@pytest.mark.parametrize(("fields", "seconds", "reason"), WAITS)
def test_each_thing_is_waited_for(fields: dict[str, object], seconds: float, reason: str) -> None:
    assert decide_actions(EMPTY._replace(**fields), NOW) == [Wait(soon(seconds), reason)]  # type: ignore[arg-type]


@pytest.mark.parametrize("first", range(5))
def test_of_several_the_earliest_is_waited_for(first: int) -> None:
    times = [NOW + (5 if n == first else 20 + n) for n in range(5)]
    late = BatchView("b2", 8, "completed", 0, retry_at=times[0])
    pause = Pause("all", "quota", 0, times[3])
    snapshot = EMPTY._replace(
        batches=(RUNNING, late),
        shards=(READY._replace(wait_until=times[1]),),
        loose=(LOOSE._replace(due=times[2]),),
        pauses=(pause,),
        room=ROOM._replace(blocked_until=times[4]),
    )
    (wait,) = decide_actions(snapshot, NOW)
    assert isinstance(wait, Wait)
    assert wait.until == soon(5)
