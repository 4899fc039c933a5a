"""What the tests of admission share: an account without a budget, shards, and those of them that a decision sends."""

from batcher.core.actions import Admission, Send
from batcher.core.lifecycle import ShardState
from batcher.core.room import Budget, Room
from batcher.core.snapshot import ShardView

FREE = Budget()
ROOM = Room(limit=1_000, threshold=0.8, factor=1.0)


def shard_view(shard: int, tokens: int, priority: int = 1, lines: int = 10) -> ShardView:
    return ShardView(shard, priority, ShardState.RELEASED, lines, tokens)


def sent_shards(decided: list[Admission]) -> list[int]:
    return [step.shard for step in decided if isinstance(step, Send)]
