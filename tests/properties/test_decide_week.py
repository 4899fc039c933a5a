"""A week with all its faults, decided a step at a time: every line is settled."""

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.actions import Action, Clean, Finish, Gather, Ingest, Reconcile, Refresh, Send, Split, Wait
from batcher.core.cutting import ShardCutter
from batcher.core.decide import decide_actions
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import FINAL_SHARD_STATES, ArtistState, ShardState, is_terminal, next_shard_state
from batcher.core.model import ShardLimits
from batcher.core.retry import DEFAULT_POLICIES, RetryRules
from batcher.core.room import Room
from batcher.core.snapshot import BatchView, LooseLines, Pause, ShardView, Snapshot
from batcher.core.verdicts import decide_line_verdict
from tests.support.examples import examples

pytestmark = pytest.mark.slow("whole simulated weeks")

S, A, F = ShardState, ArtistState, FailureClass
NOW = 1_000_000.0
RULES = RetryRules(DEFAULT_POLICIES)
LINE_FAULTS = [F.RATE_LIMIT, F.SERVER, F.EXPIRED, F.UNUSABLE, F.INVALID, F.CANCELLED, F.QUOTA]
MOST_STEPS = 3_000
LARGEST_LINE = 60


@dataclass
class Line:
    priority: int
    tokens: int
    state: ArtistState = A.READY
    shard: int | None = None
    due: float = 0.0
    failures: list[FailureClass] = field(default_factory=list)


@dataclass
class Batch:
    shard: int
    ends_at: float
    status: str = "validating"
    retry_at: float = 0.0


@dataclass
class Shard:
    view: ShardView
    lines: list[Line]
    reserved: int = 0
    perhaps: bool = False
    """Whether the service has made the batch of an intent to create."""


class Week:
    """The smallest world that `decide` can drive: a service with a finite number of faults, and a state beside it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        pick = self.random
        self.now = NOW
        self.room = Room(pick.choice([100, 187, 400, 2_000]), pick.choice([0.8, 1.0]), pick.choice([1.0, 1.1]))
        self.limits = ShardLimits(pick.randint(1, 6), 10**9, pick.choice([30, 150, 10**6]))
        self.faults = pick.randint(0, 12)
        self.shards: list[Shard] = []
        self.batches: dict[str, Batch] = {}
        self.pauses: list[Pause] = []
        self.created: list[float] = []
        self.phantom, self.blocked_until, self.outage_until, self.polled_at, self.files_due = 0, 0.0, 0.0, 0.0, 0
        self.lines = [Line(pick.randint(1, 3), pick.randint(0, LARGEST_LINE)) for _ in range(pick.randint(0, 14))]
        self._plan()

    def _plan(self) -> None:
        """The first shards: one too large for the limit is possible, and is split."""
        cutter = ShardCutter(self.limits)
        for line in sorted(self.lines, key=lambda line: line.priority):
            if cutter.add_line(line.priority, 1, line.tokens):
                self._new_shard(line.priority)
            self._put(self.shards[-1], line)

    def _new_shard(self, priority: int) -> None:
        self.shards.append(Shard(ShardView(len(self.shards), priority, S.RELEASED, 0, 0), []))

    def _put(self, shard: Shard, line: Line) -> None:
        shard.lines.append(line)
        line.shard = shard.view.shard
        shard.view = shard.view._replace(lines=len(shard.lines), tokens=shard.view.tokens + line.tokens)

    def _fault(self, chance: float) -> bool:
        if self.faults and self.random.random() < chance:
            self.faults -= 1
            return True
        return False

    # --- looking

    def reserved(self) -> int:
        return sum(shard.reserved for shard in self.shards) + self.phantom

    def snapshot(self) -> Snapshot:
        for line in self.lines:
            if line.state is A.WAITING and line.due <= self.now:
                line.state, line.due = A.READY, 0.0
        return Snapshot(
            room=self.room._replace(reserved=self.reserved(), blocked_until=self.blocked_until),
            shards=tuple(s.view for s in self.shards if s.view.state not in FINAL_SHARD_STATES),
            batches=tuple(BatchView(i, b.shard, b.status, 0, b.retry_at) for i, b in self.batches.items()),
            loose=self._loose(),
            pauses=tuple(self.pauses),
            shard_limits=self._limits_now(),
            polled_at=self.polled_at,
            outage_until=self.outage_until,
            created_last_hour=sum(at > self.now - 3600 for at in self.created),
            files_due=self.files_due,
            probing=self._probing(),
        )

    def _probing(self) -> bool:
        return any(p.reason == "quota" and p.until is not None and p.until <= self.now for p in self.pauses)

    def _limits_now(self) -> ShardLimits:
        return self.limits._replace(tokens=min(self.limits.tokens, int(self.room.ceiling / self.room.factor)))

    def _loose(self) -> tuple[LooseLines, ...]:
        groups: dict[tuple[int, float], list[Line]] = {}
        for line in self.lines:
            if line.shard is None and line.state in {A.READY, A.WAITING}:
                groups.setdefault((line.priority, line.due), []).append(line)
        return tuple(LooseLines(p, len(g), sum(line.tokens for line in g), due) for (p, due), g in groups.items())

    # --- acting

    def perform(self, action: Action) -> bool:
        """Perform one action; return whether the next may be performed without another snapshot."""
        match action:
            case Send():
                return self._send(action)
            case Refresh():
                self._refresh()
            case Ingest():
                self._ingest(action.batch_id)
            case Gather():
                self._gather(action.priority)
            case Reconcile() | Split():
                self._open_or_split(action)
            case Clean():
                self.files_due = 0
            case _:
                self._wait(action)
        return True

    def _move(self, shard: Shard, event: str, wait_s: float = 0.0) -> None:
        until = self.now + wait_s if wait_s else 0.0
        shard.view = shard.view._replace(state=next_shard_state(shard.view.state, event), wait_until=until)

    def _send(self, send: Send) -> bool:
        shard = self.shards[send.shard]
        self._check_turn(shard)
        self._claim(shard, send.reserved)
        if shard.view.state is S.RELEASED:
            self._move(shard, "intend_upload")
            self._move(shard, "record_upload")
        self._move(shard, "intend_create")
        if self._fault(0.15):
            self._refused(shard)
            return False
        if self._fault(0.15):
            shard.perhaps = self.random.random() < 0.5
            shard.view = shard.view._replace(wait_until=self.now + self.random.choice([0, 60]))
            return False
        self._start(shard)
        return True

    def _check_turn(self, shard: Shard) -> None:
        """Promise 4: nothing as ready is more urgent."""
        assert not any(p.scope == "all" and (p.until is None or p.until > self.now) for p in self.pauses)
        if self._probing():
            assert not self.batches
        ready = [s.view for s in self.shards if s.view.state in {S.RELEASED, S.UPLOADED}]
        in_turn = sorted((v for v in ready if v.wait_until <= self.now), key=lambda v: (v.priority, v.shard))
        assert shard.view == in_turn[0]

    def _claim(self, shard: Shard, reserved: int) -> None:
        """Promises 2 and 3: each line is free, and there is room."""
        assert self.reserved() + reserved <= self.room.limit * self.room.threshold
        assert reserved == self.room.reserved_tokens(shard.view.tokens)
        for line in shard.lines:
            assert (line.state, line.shard) == (A.READY, shard.view.shard)
            line.state = A.IN_BATCH
        shard.reserved = reserved

    def _free(self, shard: Shard) -> None:
        shard.reserved = 0
        for line in shard.lines:
            line.state = A.READY

    def _refused(self, shard: Shard) -> None:
        kind = self.random.choice(["limit", "shard", "quota", "outage", "phantom", "pause"])
        self._free(shard)
        self._move(shard, "refuse_create", 60 if kind == "shard" else 0)
        if kind == "limit":
            self._no_room()
        elif kind == "quota":
            self._quota()
        elif kind == "outage":
            self.outage_until = self.now + 60
        elif kind == "phantom":
            self.phantom = self.random.randint(1, 3_000)
        elif kind == "pause":
            self.pauses.append(Pause("all", "by hand", self.now, None))

    def _no_room(self) -> None:
        """Refuse a shard for the limit, and perhaps name another one. Each line alone fits into all of them."""
        self.blocked_until = self.now + 60
        self.room = self.room._replace(limit=self.random.choice([100, 130, 187, 1_000]))

    def _quota(self) -> None:
        self.pauses = [p for p in self.pauses if p.reason != "quota"]
        self.pauses.append(Pause("all", "quota", self.now, self.now + self.random.choice([5, 300])))

    def _start(self, shard: Shard) -> None:
        self._move(shard, "record_create")
        self.created.append(self.now)
        ends_at = self.now + self.random.choice([0, 10, 40, 150])
        self.batches[f"b{len(self.created)}"] = Batch(shard.view.shard, ends_at)

    def _reconcile(self, shard: Shard) -> None:
        if shard.perhaps:
            shard.perhaps = False
            self._start(shard)
        else:
            self._free(shard)
            self._move(shard, "find_absent")

    def _refresh(self) -> None:
        self.polled_at = self.now
        for batch in self.batches.values():
            if not is_terminal(batch.status):
                self._look_at(batch)

    def _look_at(self, batch: Batch) -> None:
        batch.status = self.random.choice(["in_progress", "finalizing", "a new status"])
        if batch.ends_at <= self.now:
            batch.status = self.random.choice(["failed", "expired"]) if self._fault(0.2) else "completed"
            self.shards[batch.shard].reserved = 0
            self._move(self.shards[batch.shard], "end")
            self.blocked_until = 0.0

    def _ingest(self, batch_id: str) -> None:
        batch = self.batches[batch_id]
        if batch.status == "completed" and self._fault(0.1):
            batch.retry_at = self.now + 60
            return
        del self.batches[batch_id]
        self.files_due += 1
        shard = self.shards[batch.shard]
        if batch.status == "failed":
            self._free(shard)
            self._move(shard, "refuse_batch")
            self._no_room()
            return
        self._move(shard, "settle")
        for line in shard.lines:
            self._judge(line, expired=batch.status == "expired")

    def _judge(self, line: Line, expired: bool) -> None:
        """Promise 1 and 6: each line takes one verdict, and only while it is claimed."""
        assert line.state is A.IN_BATCH
        failure = F.EXPIRED if expired and self.random.random() < 0.7 else None
        if failure is None and self._fault(0.3):
            failure = self.random.choice(LINE_FAULTS)
        if failure is None:
            line.state = A.DONE
            self.pauses = [p for p in self.pauses if p.reason != "quota"]
            return
        if failure is F.QUOTA:
            self._quota()
        verdict = decide_line_verdict(RULES, failure, line.failures.count(failure), len(line.failures), self.now, 0.5)
        line.failures += [failure] if verdict.counted else []
        line.state, line.due, line.shard = verdict.state, verdict.wait_until or 0.0, None

    def _gather(self, priority: int) -> None:
        due = [x for x in self.lines if x.shard is None and x.state is A.READY and x.priority == priority]
        cutter = ShardCutter(self._limits_now())
        assert due
        self._new_shard(priority)
        for line in due:
            if cutter.add_line(priority, 1, line.tokens) and self.shards[-1].lines:
                break
            self._put(self.shards[-1], line)

    def _open_or_split(self, action: Reconcile | Split) -> None:
        act = self._reconcile if isinstance(action, Reconcile) else self._split
        act(self.shards[action.shard])

    def _split(self, shard: Shard) -> None:
        assert len(shard.lines) > 1
        self._move(shard, "split")
        for line in shard.lines:
            line.shard = None

    def _wait(self, wait: Action) -> None:
        assert isinstance(wait, Wait)
        assert wait.until > self.now
        self.now = wait.until
        self.pauses = [p for p in self.pauses if p.until is not None]  # the user resumes
        if self.random.random() < 0.5:
            self.phantom = 0

    # --- what must hold at every moment

    def check(self) -> None:
        """Promise 1: each line that is not settled is somewhere that leads on."""
        open_shards = {S.UPLOADING, S.UPLOADED, S.CREATING, S.IN_FLIGHT, S.ENDED}
        for line in self.lines:
            state = None if line.shard is None else self.shards[line.shard].view.state
            if line.state is A.IN_BATCH:
                assert state in open_shards
            elif line.state is A.READY:
                assert state in {None, S.RELEASED, S.UPLOADED}
            elif line.state is A.WAITING:
                assert state is None
                assert line.due > 0
            else:
                assert line.state in {A.DONE, A.DEAD, A.HELD}

    def run(self) -> Finish:
        for _ in range(MOST_STEPS):
            for action in decide_actions(self.snapshot(), self.now):
                if isinstance(action, Finish):
                    return action
                goes_on = self.perform(action)
                self.check()
                if not goes_on:
                    break
        raise AssertionError("the work does not end")


@given(st.integers(0, 2**40))
@examples(2_500)
def test_a_week_of_faults_ends_with_every_line_settled(seed: int) -> None:
    week = Week(seed)
    assert week.run() == Finish()
    assert all(line.state in {A.DONE, A.DEAD, A.HELD} for line in week.lines)
    assert all(shard.view.state in FINAL_SHARD_STATES for shard in week.shards)
    assert not week.batches
    assert week.reserved() == week.phantom
    assert all(len(line.failures) <= RULES.max_attempts for line in week.lines)
    assert all(line.failures.count(f) <= (DEFAULT_POLICIES[f].tries or 0) + 1 for line in week.lines for f in F)
    if not any(line.failures for line in week.lines):
        assert all(line.state is not A.DEAD for line in week.lines)


def test_a_week_without_faults_sends_every_line_once() -> None:
    for seed in range(200):
        week = Week(seed)
        week.faults = 0
        assert week.run() == Finish()
        assert all(line.state is A.DONE for line in week.lines)
        assert len(week.created) == sum(s.view.state is S.SETTLED for s in week.shards)
