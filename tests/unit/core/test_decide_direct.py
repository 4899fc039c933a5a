"""What the direct lane does next, as tables; and when a run hands its last lines over to it."""

from dataclasses import replace

import pytest

from batcher.core.actions import Finish, Send, Wait
from batcher.core.decide import HAND_OVER, decide_tail_actions
from batcher.core.decide_direct import LOOK_S, UNDER_WAY, Claim, DirectLaneView, decide_direct_action
from batcher.core.lifecycle import ShardState
from batcher.core.room import Room
from batcher.core.snapshot import LooseLines, Pause, ShardView, Snapshot

NOW = 1_000.0
READY = DirectLaneView(ready=100, workers=4)
BY_HAND = Pause("all", "by hand", 0.0, None)
DAILY = Pause("direct", "daily requests", 0.0, NOW + 500)
OVER = Pause("all", "quota", 0.0, NOW)

CASES = {
    "as many as there are workers": (READY, Claim(4)),
    "those under way count": (replace(READY, running=3), Claim(1)),
    "no more than are ready": (replace(READY, ready=2), Claim(2)),
    "a full crew waits": (replace(READY, running=4), Wait(NOW + LOOK_S, UNDER_WAY)),
    "a smaller crew than runs waits": (replace(READY, running=6, workers=3), Wait(NOW + LOOK_S, UNDER_WAY)),
    "nothing is left": (replace(READY, ready=0), Finish()),
    "nothing is left, but something is under way": (replace(READY, ready=0, running=1), Wait(NOW + LOOK_S, UNDER_WAY)),
    "a failed line is due later": (
        replace(READY, ready=0, next_due=NOW + 60),
        Wait(NOW + 60, "failed lines wait to be tried again"),
    ),
    "blocked": (replace(READY, blocked_until=NOW + 9, blocked_by="why"), Wait(NOW + 9, "why")),
    "blocked while calls are under way": (
        replace(READY, running=1, blocked_until=NOW + 9, blocked_by="why"),
        Wait(NOW + LOOK_S, "why"),
    ),
    "no longer blocked": (replace(READY, blocked_until=NOW, blocked_by="why"), Claim(4)),
    "paused until a time": (replace(READY, pauses=(DAILY,)), Wait(NOW + 500, "paused: daily requests")),
    "paused by hand": (
        replace(READY, pauses=(BY_HAND,)),
        Wait(NOW + LOOK_S, "paused: by hand; `batcher resume` goes on"),
    ),
    "the last of two waits is over last": (
        replace(READY, pauses=(DAILY,), blocked_until=NOW + 900, blocked_by="why"),
        Wait(NOW + 900, "why"),
    ),
    "a pause that is over is probed": (replace(READY, pauses=(OVER,), probing=True), Claim(1)),
    "one probe at a time": (
        replace(READY, pauses=(OVER,), probing=True, running=1),
        Wait(NOW + LOOK_S, UNDER_WAY),
    ),
    "the day leaves two": (replace(READY, daily_left=2), Claim(2)),
    "stopped": (replace(READY, stopped="why"), Finish("why")),
    "stopped, and something is under way": (replace(READY, stopped="why", running=2), Wait(NOW + LOOK_S, UNDER_WAY)),
    "the user ends it": (replace(READY, ending=True), Finish()),
    "the user ends it, and something is under way": (
        replace(READY, ending=True, running=1),
        Wait(NOW + LOOK_S, UNDER_WAY),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_next_step(name: str) -> None:
    view, step = CASES[name]
    assert decide_direct_action(view, NOW) == step


# --- the tail --------------------------------------------------------------------------------------------------------

ROOM = Room(1_000_000, 0.8, 1.1)
FAR = NOW + 1e6


def shard(lines: int, state: ShardState = ShardState.RELEASED, wait_until: float = 0.0) -> ShardView:
    return ShardView(1, 3, state, lines, lines * 100, wait_until)


def tail(snapshot: Snapshot, deadline: float = FAR) -> bool:
    """Whether a run hands over 100 lines or fewer."""
    return decide_tail_actions(snapshot, NOW, fewer_than=100, deadline=deadline) == [Finish(HAND_OVER)]


@pytest.mark.parametrize(
    ("snapshot", "hands_over"),
    [
        (Snapshot(ROOM, shards=(shard(99),)), True),
        (Snapshot(ROOM, shards=(shard(100),)), False),
        (Snapshot(ROOM, loose=(LooseLines(1, 99, 9_900, 0.0),)), True),
        (Snapshot(ROOM, shards=(shard(60),), loose=(LooseLines(1, 60, 6_000, 0.0),)), False),
        (Snapshot(ROOM, loose=(LooseLines(1, 9, 900, NOW + 60),)), False),  # not due yet
        (Snapshot(ROOM, shards=(shard(9, wait_until=NOW + 60),)), False),
        (Snapshot(ROOM, shards=(shard(9, ShardState.IN_FLIGHT),)), False),
        (Snapshot(ROOM, shards=(shard(9),), pauses=(BY_HAND,)), False),
        (Snapshot(ROOM, shards=(shard(9),), pauses=(DAILY,)), False),  # the batch lane goes on
        (Snapshot(ROOM, shards=(shard(9),), pauses=(OVER,)), True),
        (Snapshot(ROOM, shards=(shard(9),), stopped="why"), False),
        (Snapshot(ROOM), False),
    ],
)
def test_a_run_hands_over_when_few_lines_are_left_to_send(snapshot: Snapshot, hands_over: bool) -> None:
    assert tail(snapshot) is hands_over


def test_a_run_hands_over_when_a_batch_may_end_after_the_deadline() -> None:
    many = Snapshot(ROOM, shards=(shard(5_000),))
    assert tail(many, deadline=NOW + 23 * 3600)
    assert not tail(many, deadline=NOW + 25 * 3600)
    assert isinstance(decide_tail_actions(many, NOW, fewer_than=100, deadline=FAR)[0], Send)
