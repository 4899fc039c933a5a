"""When a run hands its last lines over to the direct lane."""

import pytest

from batcher.core.actions import Finish, Send
from batcher.core.decide import HAND_OVER, decide_tail_actions
from batcher.core.lifecycle import ShardState
from batcher.core.room import Room
from batcher.core.snapshot import LooseLines, ShardView, Snapshot
from tests.support.pause_kit import BY_HAND, DAILY, NOW, OVER

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
        (Snapshot(ROOM, shards=(shard(9, wait_until=NOW),)), True),
        (Snapshot(ROOM, loose=(LooseLines(1, 9, 900, NOW),)), True),
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
    assert not tail(many, deadline=NOW + 24 * 3600)
    assert tail(many, deadline=NOW + 24 * 3600 - 1)
    assert isinstance(decide_tail_actions(many, NOW, fewer_than=100, deadline=FAR)[0], Send)
