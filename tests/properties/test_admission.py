"""Admission over any queue in any room, and in any order of events: the limit, the turns and the budget hold."""

from random import Random

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from batcher.core.actions import Hold, Refuse, Send, Split
from batcher.core.admission import admit_shards, max_shard_cost
from batcher.core.room import Budget, Charge, Room
from batcher.core.snapshot import ShardView
from tests.support.admission_kit import FREE, ROOM, sent_shards, shard_view
from tests.support.examples import examples

# --- any queue in any room -------------------------------------------------------------------------------------------

QUEUES = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 900)), max_size=6).map(
    lambda rows: [shard_view(n, tokens, priority, lines) for n, (priority, lines, tokens) in enumerate(rows)]
)
FACTORS = st.sampled_from([0.8, 1.0, 1.1, 1.15, 1.21, 1.37, 2.0])
ROOMS = st.builds(
    Room,
    st.integers(0, 2_500),
    st.sampled_from([0.5, 0.8, 0.95, 1.0]),
    FACTORS,
    st.integers(0, 2_500),
    st.none(),
    st.just(0.0),
)
BUDGETS = st.builds(
    Budget,
    st.sampled_from([0.0, 1.0, 5.0]),
    st.floats(0, 6),
    st.sampled_from([0.0, 0.5]),
    st.booleans(),
    st.sampled_from([{}, *({1: Charge(token, line)} for token in (0.0, 0.001) for line in (0.0, 0.1))]),
)


@pytest.mark.slow("7 s: 4,000 examples")
@given(QUEUES, ROOMS, BUDGETS, st.integers(-1, 6), st.randoms(use_true_random=False))
@examples(2_000)
def test_every_decision_keeps_the_promises(
    queue: list[ShardView], room: Room, budget: Budget, most: int, random: Random
) -> None:
    decided = admit_shards(queue, room, budget, most)
    in_turn = sorted(queue, key=lambda s: (s.priority, s.shard))
    assert [step.shard for step in decided] == [s.shard for s in in_turn[: len(decided)]]
    assert all(isinstance(step, Send) for step in decided[:-1])
    assert len(decided) == len(queue) or not isinstance(decided[-1], Send)
    sends = [step for step in decided if isinstance(step, Send)]
    assert len(sends) <= max(most, 0)
    _check_room(sends, room)
    _check_money(in_turn[: len(sends)], budget)
    random.shuffle(queue)
    assert admit_shards(queue, room, budget, most) == decided


def _check_room(sends: list[Send], room: Room) -> None:
    reserved = room.reserved
    for send in sends:
        reserved += send.reserved
        assert reserved <= room.limit * room.threshold
        assert send.headroom_after == room.ceiling - reserved


def _check_money(sent: list[ShardView], budget: Budget) -> None:
    costs = [max_shard_cost(shard, budget) for shard in sent]
    if budget.max_usd > 0 and sent:
        assert budget.spent_usd + budget.in_flight_usd + _known(costs) <= budget.max_usd + 1e-9


def _known(costs: list[float | None]) -> float:
    assert None not in costs
    return sum(cost for cost in costs if cost is not None)


@pytest.mark.slow("6 s: 3,000 examples")
@example([shard_view(0, 0, lines=1)], ROOM, Budget(max_usd=1.0, spent_usd=0.9, charges={1: Charge(0.0, 0.1)}))
@given(QUEUES, ROOMS, BUDGETS)
@examples(1_500)
def test_what_is_not_sent_has_a_true_reason(queue: list[ShardView], room: Room, budget: Budget) -> None:
    decided = admit_shards(queue, room, budget)
    assume(decided and not isinstance(decided[-1], Send))
    step, shard = decided[-1], next(s for s in queue if s.shard == decided[-1].shard)
    own, fits = room.reserved_tokens(shard.tokens), room.reserved_tokens(shard.tokens) <= room.ceiling
    free = room.headroom - sum(s.reserved for s in decided if isinstance(s, Send))
    assert isinstance(step, Split) == (not fits and shard.lines > 1)
    if isinstance(step, Hold):
        assert own > free or (budget.in_flight_usd > 0 and budget.frees)
    if isinstance(step, Refuse) and fits:
        # In floats 1.0 - 0.9 is less than 0.1: what would reach the budget to the cent may be refused, never passed.
        costs = [max_shard_cost(s, budget) for s in queue]
        assert budget.max_usd > 0
        gone = budget.spent_usd + (0.0 if budget.frees else budget.in_flight_usd)
        assert None in costs or budget.max_usd < gone + _known(costs) + 1e-9


@given(st.integers(1, 10**10), st.sampled_from([0.5, 0.8, 0.95, 1.0]), FACTORS | st.floats(0.3, 4))
@examples(1_500)
def test_a_piece_of_a_split_shard_fits(limit: int, threshold: float, factor: float) -> None:
    room = Room(limit, threshold, factor)
    (split,) = admit_shards([shard_view(1, 2 * 10**11)], room, FREE)
    assert isinstance(split, Split)
    assert split.tokens == 1 or room.reserved_tokens(split.tokens) <= room.ceiling
    assert room.reserved_tokens(split.tokens + 2) > room.ceiling - factor


# --- any order of events ---------------------------------------------------------------------------------------------


class Service(RuleBasedStateMachine):
    """An account: shards come, are sent, end, are refused; the limit moves; strangers' batches come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.room = ROOM
        self.budget = Budget(max_usd=3.0, charges={1: Charge(0.0001, 0.01)})
        self.queue: dict[int, ShardView] = {}
        self.in_flight: dict[int, tuple[ShardView, int]] = {}
        self.phantoms: list[int] = []
        self.shards = 0

    def _room(self) -> Room:
        held = sum(reserved for _, reserved in self.in_flight.values()) + sum(self.phantoms)
        return self.room._replace(reserved=held)

    def _budget(self) -> Budget:
        return self.budget._replace(
            in_flight_usd=_known([max_shard_cost(s, self.budget) for s, _ in self.in_flight.values()])
        )

    @rule(priority=st.integers(1, 3), lines=st.integers(1, 30), tokens=st.integers(0, 900))
    def add(self, priority: int, lines: int, tokens: int) -> None:
        self.shards += 1
        self.queue[self.shards] = shard_view(self.shards, tokens, priority, lines)

    @precondition(lambda self: self.queue)
    @rule(most=st.integers(0, 4))
    def submit(self, most: int) -> None:
        before = self._room()
        for step in admit_shards(self.queue.values(), before, self._budget(), most):
            if isinstance(step, Send):
                self._send(step)
            elif isinstance(step, Split):
                self._split(step)
            elif isinstance(step, Refuse):
                del self.queue[step.shard]
        assert self._room().reserved <= max(before.ceiling, before.reserved)

    def _send(self, send: Send) -> None:
        shard = self.queue.pop(send.shard)
        assert all((shard.priority, shard.shard) < (s.priority, s.shard) for s in self.queue.values())
        self.in_flight[shard.shard] = (shard, send.reserved)
        assert self._room().reserved <= self.room.limit * self.room.threshold
        budget = self._budget()
        assert budget.spent_usd + budget.in_flight_usd <= budget.max_usd + 1e-9

    def _split(self, split: Split) -> None:
        shard = self.queue.pop(split.shard)
        assert self.room.reserved_tokens(shard.tokens) > self.room.ceiling
        half = shard.lines // 2
        self.add(shard.priority, half, shard.tokens // 2)
        self.add(shard.priority, shard.lines - half, shard.tokens - shard.tokens // 2)

    def _take(self, which: int) -> ShardView:
        return self.in_flight.pop(sorted(self.in_flight)[which % len(self.in_flight)])[0]

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 9), share=st.floats(0, 1))
    def end(self, which: int, share: float) -> None:
        cost = _known([max_shard_cost(self._take(which), self.budget)]) * share
        self.budget = self.budget._replace(spent_usd=self.budget.spent_usd + cost)

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 9))
    def refuse(self, which: int) -> None:
        shard = self._take(which)
        self.queue[shard.shard] = shard

    @rule(limit=st.sampled_from([1, 100, 500, 999, 1_000, 1_001, 5_000]), factor=FACTORS)
    def change_limit(self, limit: int, factor: float) -> None:
        self.room = self.room._replace(limit=limit, factor=factor)

    @rule(reserved=st.integers(1, 600))
    def phantom(self, reserved: int) -> None:
        self.phantoms.append(reserved)

    @precondition(lambda self: self.phantoms)
    @rule()
    def phantom_ends(self) -> None:
        self.phantoms.pop()

    @invariant()
    def nothing_is_sent_into_a_full_queue(self) -> None:
        room = self._room()
        if room.reserved > room.ceiling:
            assert not sent_shards(admit_shards(self.queue.values(), room, self._budget()))


TestService = Service.TestCase
TestService.settings = settings(examples(400), stateful_step_count=20)
