"""Admission: never past the limit, never out of turn, never over the budget; and what keeps a shard back."""

import pytest

from batcher.core.actions import Hold, Refuse, Send, Split
from batcher.core.admission import (
    BATCHES_PER_HOUR,
    admit_shards,
    find_budget_obstacle,
    find_gate_obstacle,
    find_lasting_refusal,
    find_send_obstacle,
    max_shard_cost,
)
from batcher.core.brake import PromptView
from batcher.core.lifecycle import ShardState
from batcher.core.room import Budget, Charge, Room
from batcher.core.snapshot import LooseLines, Pause, SendGate, ShardView
from tests.support.admission_kit import FREE, ROOM, sent_shards, shard_view

NOW = 1_000_000.0
LIMIT = "the enqueued-token limit is raised"
UNPRICED = "its price is not known, and a budget is set; set [budget] max_usd to 0 to go on without a bound"

# --- edges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reserved", "tokens", "sent"),
    [
        (0, 800, True),
        (0, 799, True),
        (1, 800, False),
        (799, 1, True),
        (800, 1, False),
        (801, 1, False),
        (5_000, 1, False),
        (800, 0, True),
        (801, 0, False),
    ],
)
def test_the_limit_is_reached_and_not_passed(reserved: int, tokens: int, sent: bool) -> None:
    decided = admit_shards([shard_view(1, tokens)], ROOM._replace(reserved=reserved), FREE)
    assert decided == [Send(1, tokens, 800 - reserved - tokens)] if sent else isinstance(decided[0], Hold)
    assert len(decided) == 1


def test_nothing_to_send_is_nothing_to_decide() -> None:
    assert admit_shards([], ROOM, FREE) == []


def test_room_is_kept_for_the_most_urgent() -> None:
    queue = [shard_view(3, 10, priority=2), shard_view(2, 500), shard_view(1, 400)]
    assert admit_shards(queue, ROOM, FREE) == [Send(1, 400, 400), Hold(2, "needs 500 tokens, 400 are free")]


def test_priority_first_then_the_order_of_cutting() -> None:
    queue = [shard_view(1, 1, 3), shard_view(9, 1, 1), shard_view(4, 1, 2), shard_view(2, 1, 2), shard_view(5, 1, 1)]
    assert sent_shards(admit_shards(queue, ROOM, FREE)) == [5, 9, 2, 4, 1]


def test_a_shrunken_limit_stops_sending_and_says_what_is_free() -> None:
    room = ROOM._replace(limit=500, reserved=700)
    assert room.headroom == -300
    assert admit_shards([shard_view(1, 100)], room, FREE) == [Hold(1, "needs 100 tokens, 0 are free")]


def test_a_shard_is_split_only_when_it_cannot_fit_the_empty_queue() -> None:
    assert isinstance(admit_shards([shard_view(1, 800)], ROOM._replace(reserved=800), FREE)[0], Hold)
    assert admit_shards([shard_view(1, 801), shard_view(2, 1)], ROOM, FREE) == [Split(1, 800)]
    assert admit_shards([shard_view(1, 801)], ROOM._replace(reserved=800), FREE) == [Split(1, 800)]
    assert admit_shards([shard_view(1, 801, lines=2)], ROOM._replace(factor=2.0), FREE) == [Split(1, 400)]


def test_a_shard_for_which_others_leave_no_room_is_split_and_a_single_line_is_not() -> None:
    room = ROOM._replace(largest=300)
    assert admit_shards([shard_view(1, 301), shard_view(2, 1)], room, FREE) == [Split(1, 300)]
    assert sent_shards(admit_shards([shard_view(1, 300), shard_view(2, 301, lines=1)], room, FREE)) == [1, 2]
    assert admit_shards([shard_view(1, 301, lines=2)], room, FREE) == [Split(1, 300)]


def test_one_line_over_the_limit_is_refused_with_its_reason() -> None:
    decided = admit_shards([shard_view(1, 801, lines=1), shard_view(2, 1)], ROOM, FREE)
    assert decided == [Refuse(1, "cannot be sent: one line of 801 tokens is over the limit of 800", LIMIT)]


def test_what_goes_before_a_shard_that_must_be_split_is_sent() -> None:
    decided = admit_shards([shard_view(1, 100), shard_view(2, 900), shard_view(3, 1)], ROOM, FREE)
    assert decided == [Send(1, 100, 700), Split(2, 800)]


def test_a_limit_of_nothing_lets_nothing_through() -> None:
    assert isinstance(admit_shards([shard_view(1, 1, lines=1)], ROOM._replace(limit=0), FREE)[0], Refuse)
    assert isinstance(admit_shards([shard_view(1, 1, lines=2)], ROOM._replace(limit=1), FREE)[0], Split)


def test_reserved_tokens_are_rounded_up() -> None:
    assert ROOM._replace(factor=1.01).reserved_tokens(1) == 2
    assert ROOM._replace(factor=1.5).reserved_tokens(0) == 0
    assert ROOM._replace(factor=1.1).reserved_tokens(110) == 121
    assert ROOM._replace(factor=1.000_000_4).reserved_tokens(1_000) == 1_000
    assert ROOM._replace(factor=1.000_001).reserved_tokens(1_000) == 1_001
    assert ROOM._replace(factor=1.1).reserved_tokens(100) == 110
    assert Room(90_000, 0.8, 1.1).ceiling == 72_000
    assert Room(7, 0.5, 1.0).ceiling == 3


def test_a_shard_cut_to_fill_the_queue_does_fill_it() -> None:
    """Pin a bug: 170 tokens x 1.1 became 188, which did not fit into 187, and were split into 170 tokens, for ever."""
    room = Room(limit=187, threshold=1.0, factor=1.1)
    assert admit_shards([shard_view(1, 171)], room, FREE) == [Split(1, 170)]
    assert admit_shards([shard_view(2, 170)], room, FREE) == [Send(2, 187, 0)]


@pytest.mark.parametrize("most", [-3, 0, 1, 2, 5])
def test_the_hourly_cap(most: int) -> None:
    decided = admit_shards([shard_view(n, 1) for n in range(4)], ROOM, FREE, most)
    assert len(sent_shards(decided)) == min(max(most, 0), 4)
    assert len(decided) == len(sent_shards(decided)) + (most < 4)
    assert most >= 4 or isinstance(decided[-1], Hold)


def test_openai_takes_2000_batches_an_hour() -> None:
    decided = admit_shards([shard_view(n, 0) for n in range(2_001)], ROOM, FREE)
    assert BATCHES_PER_HOUR == 2_000
    assert len(sent_shards(decided)) == 2_000
    assert isinstance(decided[-1], Hold)


def test_the_budget_is_reached_and_not_passed() -> None:
    budget = Budget(max_usd=10.0, spent_usd=2.0, in_flight_usd=3.0, charges={1: Charge(0.01, 0.15)})
    assert max_shard_cost(shard_view(1, 100, lines=10), budget) == 2.5
    decided = admit_shards([shard_view(n, 100, lines=10) for n in (1, 2, 3)], ROOM, budget)
    assert sent_shards(decided) == [1, 2]
    assert decided[2] == Hold(
        3, "may cost $2.50; $0 of the budget of $10.00 is left; raise [budget] max_usd to at least $12.50"
    )


def test_a_shard_costs_what_its_own_version_says() -> None:
    budget = Budget(max_usd=10.0, charges={1: Charge(0.01, 0.15), 2: Charge(0.02, 0.30)})
    dear = shard_view(2, 100, lines=10)._replace(version=2)
    assert max_shard_cost(dear, budget) == 5.0
    assert sent_shards(admit_shards([dear, shard_view(3, 100, lines=10)], ROOM, budget._replace(max_usd=7.4))) == [2]
    assert sent_shards(admit_shards([dear, shard_view(3, 100, lines=10)], ROOM, budget._replace(max_usd=7.6))) == [2, 3]


def test_a_shard_with_a_line_that_may_be_a_long_request_is_priced_as_if_all_were() -> None:
    charge = Charge(0.01, 0.15, long_from=60, long_input=2.0, long_output=1.5)
    assert charge.most_usd(100, 10, 60) == 2.5
    assert charge.most_usd(100, 10, 61) == pytest.approx(2 * 1.0 + 1.5 * 1.5)
    budget = Budget(max_usd=10.0, charges={1: charge})
    assert max_shard_cost(shard_view(1, 100, lines=10), budget) == 2.5
    assert max_shard_cost(shard_view(1, 100, lines=10)._replace(longest=61), budget) == pytest.approx(4.25)


def test_what_has_no_known_price_is_sent_only_without_a_budget() -> None:
    unknown = shard_view(1, 100)._replace(version=9)
    assert max_shard_cost(unknown, FREE) is None
    assert sent_shards(admit_shards([unknown], ROOM, FREE)) == [1]
    bound = Budget(max_usd=10.0, charges={1: Charge(0.01, 0.15)})
    assert admit_shards([unknown], ROOM, bound) == [Refuse(1, UNPRICED, "[budget] max_usd is 0")]
    assert isinstance(admit_shards([unknown], ROOM, bound._replace(max_usd=0.5))[0], Refuse)


def test_what_costs_nothing_uses_up_no_budget() -> None:
    budget = Budget(max_usd=1.0, charges={1: Charge(0.0, 0.0), 2: Charge(0.0, 0.1)})
    dear = shard_view(2, 100, lines=10)._replace(version=2)
    assert sent_shards(admit_shards([shard_view(1, 100), dear], ROOM, budget)) == [1, 2]


@pytest.mark.parametrize(
    ("cost", "left", "text"),
    [
        (0.01, 0.0, "may cost $0.0100; $0 of the budget of $1.00 is left; raise [budget] max_usd to at least $1.01"),
        (
            0.000_25,
            0.000_1,
            "may cost $0.000250; $0.000100 of the budget of $1.00 is left; raise [budget] max_usd to at least $1.01",
        ),
        (
            1_234.5,
            1.0,
            "may cost $1,234.50; $1.00 of the budget of $1.00 is left; raise [budget] max_usd to at least $1,234.50",
        ),
    ],
)
def test_small_amounts_of_dollars_are_told_with_more_digits(cost: float, left: float, text: str) -> None:
    budget = Budget(max_usd=1.0, charges={1: Charge(0.0, cost)})
    assert find_budget_obstacle(shard_view(1, 1, lines=1), budget, left) == text


def test_a_budget_that_nothing_can_free_is_told() -> None:
    budget = Budget(max_usd=1.0, spent_usd=0.9, charges={1: Charge(0.0, 0.2)})
    text = "may cost $0.2000; $0.1000 of the budget of $1.00 is left; raise [budget] max_usd to at least $1.10"
    assert admit_shards([shard_view(1, 1, lines=1)], ROOM, budget) == [Refuse(1, text, "the budget is raised")]
    in_flight = budget._replace(in_flight_usd=0.5)
    assert isinstance(admit_shards([shard_view(1, 1, lines=1)], ROOM, in_flight)[0], Hold)
    assert isinstance(admit_shards([shard_view(1, 1, lines=1)], ROOM, in_flight._replace(frees=False))[0], Refuse)
    assert sent_shards(admit_shards([shard_view(1, 1, lines=1)], ROOM, budget._replace(max_usd=0.0))) == [1]


# --- what only a person removes -------------------------------------------------------------------------------------

DEAR = Budget(max_usd=1.0, spent_usd=0.9, charges={1: Charge(0.0, 0.2)})
NEXT = shard_view(1, 1, lines=1)


def test_a_shard_that_is_refused_waits_for_a_person() -> None:
    text = "may cost $0.2000; $0.1000 of the budget of $1.00 is left; raise [budget] max_usd to at least $1.10"
    assert find_lasting_refusal([NEXT], (), ROOM, DEAR, now=NOW) == Refuse(1, text, "the budget is raised")
    found = find_lasting_refusal([shard_view(1, 801, lines=1)], (), ROOM, FREE, now=NOW)
    assert found is not None and found.waits_for == LIMIT
    assert find_lasting_refusal([NEXT], (), ROOM, DEAR._replace(max_usd=1.1001), now=NOW) is None
    assert find_lasting_refusal([], (), ROOM, DEAR, now=NOW) is None


@pytest.mark.parametrize(("spent", "in_flight", "frees", "waits"), [
    (0.5, 0.4, True, False),  # the batch may cost less than it holds
    (0.5, 0.4, False, True),  # what was lost never ends
    (0.81, 0.1, True, True),  # even if it cost nothing, too little would be left
])  # fmt: skip
def test_what_is_in_flight_may_free_enough(spent: float, in_flight: float, frees: bool, waits: bool) -> None:
    budget = DEAR._replace(spent_usd=spent, in_flight_usd=in_flight, frees=frees)
    found = find_lasting_refusal([NEXT], (), ROOM, budget, now=NOW)
    assert (found is not None) is waits
    # It says what the command says, which counts what is in flight.
    assert found is None or "raise [budget] max_usd to at least $1." in found.reason


def test_what_goes_first_may_still_be_sent() -> None:
    cheap = shard_view(2, 1, priority=0, lines=1)._replace(version=2)
    budget = DEAR._replace(charges={1: Charge(0.0, 0.2), 2: Charge(0.0, 0.01)})
    assert find_lasting_refusal([NEXT, cheap], (), ROOM, budget, now=NOW) is None
    waiting = cheap._replace(wait_until=NOW + 1)
    assert find_lasting_refusal([NEXT, waiting], (), ROOM, budget, now=NOW) is None
    assert find_lasting_refusal([NEXT, waiting._replace(priority=2)], (), ROOM, budget, now=NOW) is not None
    assert find_lasting_refusal([NEXT._replace(wait_until=NOW + 1)], (), ROOM, budget, now=NOW) is None
    urgent = LooseLines(priority=NEXT.priority - 1, lines=3, tokens=30, due=NOW + 60)
    assert find_lasting_refusal([NEXT], [urgent], ROOM, budget, now=NOW) is None
    assert find_lasting_refusal([NEXT], [urgent._replace(priority=NEXT.priority)], ROOM, budget, now=NOW) is not None


def test_a_shard_that_its_prompt_keeps_back_is_not_refused() -> None:
    kept_back = {1: PromptView(1, None, most_lines=1, in_flight=1)}
    assert find_lasting_refusal([NEXT], (), ROOM, DEAR, kept_back, now=NOW) is None


# --- the one question: may this shard be sent? ------------------------------------------------------------------------

OPEN = SendGate()
READY = shard_view(1, 100)
PRICED = Budget(max_usd=10.0, charges={1: Charge(0.01, 0.0)})
UNPAUSED = (
    Pause("direct", "daily limit", NOW - 9, None),
    Pause("all", "quota", NOW - 9, NOW),
    Pause("all", "by hand", NOW - 9, NOW - 1),
)

OBSTACLES: dict[str, tuple[SendGate, ShardView, int, Room, Budget, str]] = {
    "nothing": (OPEN, READY, 100, ROOM, PRICED, ""),
    "nothing, to the last token and dollar": (
        OPEN, READY, 100, ROOM._replace(reserved=700), PRICED._replace(spent_usd=8.0, in_flight_usd=1.0), "",
    ),
    "pauses that are over, or of the other lane": (OPEN._replace(pauses=UNPAUSED), READY, 100, ROOM, PRICED, ""),
    "waits that are over": (OPEN._replace(outage_until=NOW, blocked_until=NOW), READY, 100, ROOM, PRICED, ""),
    "another shard is cancelled": (OPEN._replace(cancelled=frozenset({2})), READY, 100, ROOM, PRICED, ""),
    "an unknown price without a budget": (OPEN, READY, 100, ROOM, FREE, ""),
    "a pause until a time": (
        OPEN._replace(pauses=(*UNPAUSED, Pause("all", "quota", NOW - 9, NOW + 1))), READY, 100, ROOM, PRICED,
        "paused: quota",
    ),
    "a pause without an end": (
        OPEN._replace(pauses=(Pause("all", "by hand", NOW - 9, None),)), READY, 100, ROOM, PRICED, "paused: by hand",
    ),
    "an outage, or a time that the service asked for": (
        OPEN._replace(outage_until=NOW + 1), READY, 100, ROOM, PRICED, "the service does not answer",
    ),
    "a refusal for the room, or for the rate": (
        OPEN._replace(blocked_until=NOW + 1), READY, 100, ROOM, PRICED, "the service has no room for more",
    ),
    "a stop": (OPEN._replace(stopped="fix the key"), READY, 100, ROOM, PRICED, "fix the key"),
    "a cancel": (OPEN._replace(cancelled=frozenset({1})), READY, 100, ROOM, PRICED, "it is to be cancelled"),
    "one token too few": (
        OPEN, READY, 100, ROOM._replace(reserved=701), PRICED, "needs 100 tokens, 99 are free",
    ),
    "a limit that has shrunk": (
        OPEN, READY, 0, ROOM._replace(reserved=801), PRICED, "needs 0 tokens, 0 are free",
    ),
    "the budget": (
        OPEN, READY, 100, ROOM, PRICED._replace(spent_usd=8.0, in_flight_usd=1.01),
        "may cost $1.00; $0.9900 of the budget of $10.00 is left; raise [budget] max_usd to at least $10.01",
    ),
    "an unknown price with a budget": (
        OPEN, READY, 100, ROOM, PRICED._replace(charges={}), UNPRICED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OBSTACLES)
def test_each_reason_alone_keeps_a_shard_back(case: str) -> None:
    gate, shard, reserved, room, budget, why = OBSTACLES[case]
    assert find_send_obstacle(gate, shard, NOW, reserved=reserved, room=room, budget=budget) == why


@pytest.mark.parametrize("state", list(ShardState))
def test_only_a_shard_that_waits_to_be_sent_is_sent(state: ShardState) -> None:
    why = find_send_obstacle(OPEN, READY._replace(state=state), NOW, reserved=100, room=ROOM, budget=PRICED)
    assert why == ("" if state in {ShardState.RELEASED, ShardState.UPLOADED} else f"it is {state}")


def test_what_is_reserved_already_is_not_counted_twice() -> None:
    """Right before the create, the submission holds its tokens and dollars."""
    assert find_send_obstacle(OPEN, READY._replace(state=ShardState.UPLOADED), NOW) == ""
    assert find_send_obstacle(OPEN, READY, NOW, room=ROOM._replace(reserved=800)) == ""
    assert find_send_obstacle(OPEN._replace(cancelled=frozenset({1})), READY, NOW) == "it is to be cancelled"


@pytest.mark.parametrize("case", OBSTACLES)
def test_the_gate_is_shut_for_every_shard_or_for_none(case: str) -> None:
    gate, *_, why = OBSTACLES[case]
    of_one_shard = "needs", "may cost", "its price", "it is to be"
    assert find_gate_obstacle(gate, NOW) == ("" if why.startswith(of_one_shard) else why)
