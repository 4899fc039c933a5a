"""The brake: what the newest judged answers say, and what the first wave lets through."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.actions import Finish, Gather, Hold, Send, Wait
from batcher.core.admission import admit_shards, find_send_obstacle
from batcher.core.brake import (
    REMEDIES,
    AnswerReason,
    BrakeRule,
    JudgedAnswers,
    Prompts,
    PromptView,
    bound_first_wave,
    bound_loose_lines,
    bound_share_below,
    decide_brake,
    describe_brake,
)
from batcher.core.decide import HAND_OVER, decide_actions, decide_tail_actions
from batcher.core.lifecycle import ShardState
from batcher.core.model import ShardLimits
from batcher.core.room import Budget, Room
from batcher.core.snapshot import BatchView, LooseLines, Pause, SendGate, ShardView, Snapshot
from tests.support.examples import examples

S = ShardState
NOW = 1_000_000.0
RULE = BrakeRule(max_unusable=0.2, window=500, first_wave=0.1)
ROOM = Room(limit=10_000, threshold=1.0, factor=1.0)
EMPTY = Snapshot(room=ROOM, polled_at=NOW, shard_limits=ShardLimits(10, 10**6, 500))
READY = ShardView(1, 1, S.RELEASED, 10, 100)
RUNNING = BatchView("b1", 7, "in_progress", 100)
WAITS = "the first answers of prompt 1 have not been judged yet"


def _judged(bios: int, unusable: int) -> JudgedAnswers:
    return JudgedAnswers(bios, (AnswerReason("not_accepted", unusable),) if unusable else ())


def _braked(*versions: int) -> Prompts:
    verdict = decide_brake(RULE, 1, _judged(2, 38))
    assert verdict is not None
    return {version: PromptView(1, verdict) for version in versions}


# --- the verdict -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bios", "unusable", "trips"),
    [
        (0, 0, False),
        (0, 19, False),  # too few to tell, whatever they are
        (0, 20, True),
        (1, 19, True),
        (12, 8, False),  # 40% of 20: might be 20% and bad luck
        (11, 9, True),
        (10, 10, True),
        (80, 20, False),
        (71, 29, False),  # the bound is 19.7%
        (70, 30, True),
        (400, 100, False),  # a full window: the share itself, and the bound is not passed
        (399, 101, True),
        (499, 1, False),
        (0, 500, True),
    ],
)
def test_the_brake_by_the_counts(bios: int, unusable: int, trips: bool) -> None:
    assert (decide_brake(RULE, 1, _judged(bios, unusable)) is not None) is trips


@pytest.mark.parametrize(("part", "whole", "bound"), [(0, 0, 0.0), (0, 50, 0.0), (30, 100, 0.2059), (20, 20, 0.787)])
def test_the_lower_bound_of_a_share(part: int, whole: int, bound: float) -> None:
    assert bound_share_below(part, whole) == pytest.approx(bound, abs=5e-4)


def test_a_share_of_1_is_no_brake() -> None:
    assert decide_brake(RULE._replace(max_unusable=1.0), 1, _judged(0, 500)) is None


def test_the_remedy_names_a_command_for_each_thing_that_can_be_done() -> None:
    assert REMEDIES.endswith(
        "After a change of accept: `batcher judge`; after a change of the prompt: `batcher plan --replan`; "
        "to go on with the job as it is: `batcher resume`"
    )


def test_the_verdict_says_the_share_and_the_reasons_and_what_to_do() -> None:
    reasons = tuple(AnswerReason(code, n) for code, n in (("not_accepted", 30), ("length", 5), ("", 2), ("json", 1)))
    verdict = decide_brake(RULE, 3, JudgedAnswers(2, reasons))
    assert verdict is not None
    assert describe_brake(verdict) == (
        "the brake: 38 of the newest 40 answers of prompt 3 (95%) were unusable (not_accepted 30, length 5, "
        f"no reason 2, others 1); nothing more of it is sent. {REMEDIES}"
    )


@given(st.integers(0, 600), st.integers(0, 600), st.floats(0.01, 0.99))
@examples(300)
def test_more_bios_never_trip_and_more_useless_answers_never_release(bios: int, bad: int, most: float) -> None:
    rule = RULE._replace(max_unusable=most, window=10_000)
    trips = decide_brake(rule, 1, _judged(bios, bad)) is not None
    assert trips or decide_brake(rule, 1, _judged(bios + 1, bad)) is None
    assert not trips or decide_brake(rule, 1, _judged(bios, bad + 1)) is not None


@given(st.integers(1, 5_000), st.floats(0, 1))
@examples(300)
def test_the_bound_is_below_the_share_and_solves_its_equation(whole: int, share: float) -> None:
    part = round(share * whole)
    bound = bound_share_below(part, whole)
    assert 0 <= bound <= part / whole + 1e-12
    square = (part / whole - bound) ** 2
    assert math.isclose(square, 2.326**2 * bound * (1 - bound) / whole, rel_tol=1e-6, abs_tol=1e-15)


# --- what the decision makes of it -----------------------------------------------------------------------------------


def test_nothing_of_a_braked_prompt_is_sent_or_gathered() -> None:
    snapshot = EMPTY._replace(shards=(READY,), loose=(LooseLines(1, 50, 500, 0.0),), prompts=_braked(1))
    (end,) = decide_actions(snapshot, NOW)
    assert isinstance(end, Finish)
    assert end.asks
    assert "38 of the newest 40" in end.problem


def test_what_is_in_flight_is_taken_in_first() -> None:
    snapshot = EMPTY._replace(shards=(READY,), batches=(RUNNING,), prompts=_braked(1))
    (wait,) = decide_actions(snapshot, NOW)
    assert isinstance(wait, Wait)
    assert wait.until == NOW + 30
    assert wait.reason.startswith("the brake: 38 of the newest 40 answers of prompt 1")
    ended = snapshot._replace(batches=(RUNNING._replace(status="completed"),))
    assert [type(action).__name__ for action in decide_actions(ended, NOW)] == ["Ingest"]


def test_an_open_create_of_a_braked_prompt_is_still_reconciled() -> None:
    snapshot = EMPTY._replace(shards=(READY._replace(state=S.CREATING),), prompts=_braked(1))
    assert [type(action).__name__ for action in decide_actions(snapshot, NOW)] == ["Reconcile"]


def test_lines_of_another_prompt_go_on() -> None:
    other = ShardView(2, 5, S.RELEASED, 10, 100, version=2)
    loose = (LooseLines(1, 50, 500, 0.0), LooseLines(1, 50, 500, 0.0, version=2))
    snapshot = EMPTY._replace(shards=(READY, other), prompts=_braked(1))
    assert decide_actions(snapshot, NOW) == [Send(2, 100, 9_900)]
    assert decide_actions(snapshot._replace(loose=loose), NOW) == [Gather(1, 2)]


def test_a_braked_job_does_not_wait_for_what_it_would_not_send() -> None:
    pause = Pause("all", "quota", NOW - 5, NOW + 3_600)
    waiting = READY._replace(wait_until=NOW + 600)
    loose = LooseLines(1, 50, 500, NOW + 600)
    snapshot = EMPTY._replace(shards=(waiting,), loose=(loose,), pauses=(pause,), prompts=_braked(1))
    (end,) = decide_actions(snapshot, NOW)
    assert isinstance(end, Finish)


def test_the_brake_is_no_question_where_nothing_waits() -> None:
    assert decide_actions(EMPTY._replace(prompts=_braked(1)), NOW) == [Finish()]
    settled = EMPTY._replace(batches=(RUNNING,), prompts=_braked(1))
    assert decide_actions(settled, NOW) == [Wait(NOW + 30, "batches are running")]


def test_a_stop_is_told_before_the_brake() -> None:
    snapshot = EMPTY._replace(shards=(READY,), stopped="the key is wrong", prompts=_braked(1))
    assert decide_actions(snapshot, NOW) == [Finish("the key is wrong")]


def test_braked_lines_are_not_handed_over_to_the_direct_lane() -> None:
    snapshot = EMPTY._replace(shards=(READY,), prompts=_braked(1))
    (end,) = decide_tail_actions(snapshot, NOW, fewer_than=100, deadline=NOW + 1e6)
    assert isinstance(end, Finish)
    assert end.asks
    going = snapshot._replace(shards=(READY, READY._replace(shard=2, version=2)))
    assert decide_tail_actions(going, NOW, fewer_than=100, deadline=NOW + 1e6) == [Finish(HAND_OVER)]


# --- the three moments -----------------------------------------------------------------------------------------------


def test_the_brake_keeps_a_shard_back_at_each_moment() -> None:
    gate = SendGate(prompts=_braked(1))
    for moment in ({"reserved": 100, "room": ROOM, "budget": Budget()}, {}):
        why = find_send_obstacle(gate, READY, NOW, **moment)  # type: ignore[arg-type]
        assert why.startswith("the brake: 38 of the newest 40")
        assert find_send_obstacle(gate, READY._replace(version=2), NOW, **moment) == ""  # type: ignore[arg-type]


# --- the first wave --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "lines", "is_judged", "most"),
    [(0.1, 500, False, 50), (0.1, 9, False, 0), (1.0, 500, False, None), (0.1, 500, True, None)],
)
def test_how_many_lines_the_first_wave_takes(share: float, lines: int, is_judged: bool, most: int | None) -> None:
    assert bound_first_wave(RULE._replace(first_wave=share), lines, is_judged) == most


@pytest.mark.parametrize(
    ("most", "in_flight", "sent"),
    [(50, 0, [1, 2]), (50, 20, [1]), (50, 31, []), (0, 0, [1]), (0, 1, []), (None, 500, [1, 2, 3]), (60, 0, [1, 2, 3])],
)
def test_the_first_wave_is_a_share_of_the_lines_or_one_shard(most: int | None, in_flight: int, sent: list[int]) -> None:
    queue = [ShardView(number, 1, S.RELEASED, 20, 100) for number in (1, 2, 3)]
    prompts = {1: PromptView(1, None, most, in_flight)}
    decided = admit_shards(queue, ROOM, Budget(), prompts=prompts)
    assert [step.shard for step in decided if isinstance(step, Send)] == sent
    held = [step for step in decided if isinstance(step, Hold)]
    assert held == ([Hold(sent[-1] + 1 if sent else 1, WAITS)] if len(sent) < 3 else [])


def test_versions_of_one_prompt_share_its_first_wave() -> None:
    queue = [ShardView(1, 1, S.RELEASED, 20, 100), ShardView(2, 1, S.RELEASED, 20, 100, version=2)]
    view = PromptView(1, None, 30)
    decided = admit_shards(queue, ROOM, Budget(), prompts={1: view, 2: view})
    assert decided == [Send(1, 100, 9_900), Hold(2, WAITS)]


def test_another_prompt_overtakes_what_waits_for_its_first_answers() -> None:
    queue = [ShardView(1, 1, S.RELEASED, 20, 100), ShardView(2, 1, S.RELEASED, 20, 100, version=2)]
    prompts = {1: PromptView(1, None, 0, 20), 2: PromptView(2)}
    assert admit_shards(queue, ROOM, Budget(), prompts=prompts) == [Send(2, 100, 9_900), Hold(1, WAITS)]


def test_what_waits_says_for_what() -> None:
    prompts = {1: PromptView(1, None, 0, 20)}
    snapshot = EMPTY._replace(shards=(READY,), batches=(RUNNING,), prompts=prompts)
    assert decide_actions(snapshot, NOW) == [Wait(NOW + 30, f"shard 1: {WAITS}")]
    assert find_send_obstacle(SendGate(prompts=prompts), READY, NOW) == WAITS


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.integers(0, 100), st.integers(0, 200))
@examples(300)
def test_the_first_wave_is_never_passed(sizes: list[int], most: int, in_flight: int) -> None:
    queue = [ShardView(number, 1, S.RELEASED, lines, 1) for number, lines in enumerate(sizes, 1)]
    decided = admit_shards(queue, ROOM, Budget(), prompts={1: PromptView(1, None, most, in_flight)})
    sent = [sizes[step.shard - 1] for step in decided if isinstance(step, Send)]
    assert not sent or in_flight + sum(sent) <= most or (not in_flight and len(sent) == 1)
    assert sent or in_flight


def test_a_wave_after_one_without_an_answer_is_larger() -> None:
    rule = RULE._replace(first_wave=0.1)
    assert [bound_first_wave(rule, 6_000, False, unanswered=n) for n in (0, 100, 600, 1_800)] == [600, 600, 1200, 3600]
    assert bound_first_wave(rule, 6_000, True, unanswered=600) is None


def test_a_whole_pilot_may_be_in_flight() -> None:
    assert bound_first_wave(RULE._replace(first_wave=0.1), 60, False, 12) == 12
    assert bound_first_wave(RULE._replace(first_wave=0.1), 6_000, False, 12) == 600


LOOSE = LooseLines(1, 400, 400, 0.0)
UNTRIED = PromptView(1, None, 40)


@pytest.mark.parametrize(
    ("view", "under_way", "most"),
    [(None, 0, None), (PromptView(1), 500, None), (UNTRIED, 0, 40), (UNTRIED, 30, 10), (UNTRIED, 50, 0),
     (PromptView(1, None, 3), 0, 20), (PromptView(1, None, 3), 1, 2)],
)  # fmt: skip
def test_how_many_loose_lines_the_first_wave_takes(view: PromptView | None, under_way: int, most: int | None) -> None:
    assert bound_loose_lines(view, under_way) == most


WIDE = EMPTY._replace(shard_limits=ShardLimits(1_000, 10**6, 10**6))
READY_2 = READY._replace(priority=2)


@pytest.mark.parametrize(
    ("loose", "shards", "view", "gathered"),
    [
        ([LOOSE], [], UNTRIED, [Gather(1, 1, 40)]),
        ([LOOSE], [], PromptView(1), [Gather(1, 1)]),  # judged: nothing is slowed
        ([LOOSE], [READY], UNTRIED, [Gather(1, 1, 30)]),  # what fills the first wave waits for nothing
        ([LOOSE], [READY._replace(lines=40)], UNTRIED, []),
        ([LOOSE], [READY_2._replace(lines=40)], UNTRIED, [Gather(1, 1, 40)]),  # promise 4
        ([LOOSE], [], UNTRIED._replace(in_flight=25), [Gather(1, 1, 15)]),
        ([LOOSE], [], UNTRIED._replace(in_flight=40), []),
        ([LOOSE._replace(priority=2), LOOSE._replace(lines=30)], [], UNTRIED, [Gather(1, 1, 40), Gather(2, 1, 10)]),
        ([LOOSE, LOOSE._replace(version=2)], [], UNTRIED, [Gather(1, 1, 40)]),  # a wider version of the same prompt
        ([LOOSE._replace(due=NOW + 9)], [], UNTRIED, []),
    ],
)  # fmt: skip
def test_of_loose_lines_of_an_untried_prompt_a_first_wave_is_gathered(
    loose: list[LooseLines], shards: list[ShardView], view: PromptView, gathered: list[Gather]
) -> None:
    snapshot = WIDE._replace(loose=tuple(loose), shards=tuple(shards), prompts={1: view, 2: view})
    assert [a for a in decide_actions(snapshot, NOW) if isinstance(a, Gather)] == gathered


def test_loose_lines_beyond_the_first_wave_wait_for_its_answers() -> None:
    flying = PromptView(1, None, 40, 40)
    snapshot = WIDE._replace(loose=(LOOSE,), batches=(RUNNING,), prompts={1: flying})
    assert decide_actions(snapshot, NOW) == [Wait(NOW + 30, "batches are running")]
