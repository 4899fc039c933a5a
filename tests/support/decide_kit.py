"""What the tests of decisions share: an empty snapshot, and small parts that a test puts into it."""

from batcher.core.actions import Send, Wait
from batcher.core.lifecycle import ShardState
from batcher.core.model import ShardLimits
from batcher.core.room import Room
from batcher.core.snapshot import BatchView, LooseLines, ShardView, Snapshot

NOW = 1_000_000.0
ROOM = Room(limit=1_000, threshold=0.8, factor=1.0)
EMPTY = Snapshot(room=ROOM, polled_at=NOW, shard_limits=ShardLimits(10, 10**6, 500))
READY = ShardView(1, 1, ShardState.RELEASED, 10, 100)
SENT = Send(1, 100, 700)
RUNNING = BatchView("b1", 7, "in_progress", 100)
LOOSE = LooseLines(1, 3, 30, 0.0)
FULL = LooseLines(1, 10, 30, 0.0)
POLL = Wait(NOW + 30, "batches are running")


def soon(seconds: float) -> float:
    return NOW + seconds
