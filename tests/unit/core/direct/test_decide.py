"""The decisions of the direct lane as tables: the next step, what follows a call, the limit of a day, and verdicts."""

from dataclasses import replace

import pytest

from batcher.core.actions import Finish, Wait
from batcher.core.direct import decide as decide_direct
from batcher.core.direct.decide import (
    FREE_TRIES,
    LOOK_S,
    LOST_BEFORE_HELD,
    RATE,
    UNDER_WAY,
    Block,
    Change,
    Claim,
    DailyAllowance,
    DailyUse,
    Delivery,
    DirectLaneView,
    EndedCall,
    LaneHistory,
    LanePolicy,
    LaneStanding,
    LineTries,
    NoChange,
    PauseForQuota,
    PauseLane,
    decide_after_call,
    decide_daily_allowance,
    decide_direct_action,
    decide_direct_verdict,
    find_longest_block,
    is_probing,
)
from batcher.core.direct.flex import FlexHistory, is_flex_full
from batcher.core.direct.pacing import DAY_S, RateLimit
from batcher.core.direct.workers import Workers
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import ArtistState
from batcher.core.retry import DEFAULT_POLICIES, RetryPolicy, RetryRules
from batcher.core.snapshot import Pause
from batcher.core.verdicts import Verdict
from tests.support.pause_kit import BY_HAND, DAILY, NOW, OVER

READY = DirectLaneView(ready=100, workers=4)
CASES = {
    "as many as there are workers": (READY, Claim(4)),
    "two workers where nothing is said": (DirectLaneView(ready=100), Claim(2)),
    "those under way count": (replace(READY, running=3), Claim(1)),
    "no more than are ready": (replace(READY, ready=2), Claim(2)),
    "a full crew waits": (replace(READY, running=4), Wait(NOW + LOOK_S, UNDER_WAY)),
    "a smaller crew than runs waits": (replace(READY, running=6, workers=3), Wait(NOW + LOOK_S, UNDER_WAY)),
    "nothing is left": (replace(READY, ready=0), Finish()),
    "nothing is left, but something is under way": (replace(READY, ready=0, running=1), Wait(NOW + LOOK_S, UNDER_WAY)),
    "the day leaves none, and nothing waits": (
        replace(READY, daily_left=0),
        Wait(NOW + LOOK_S, "failed lines wait to be retried"),
    ),
    "a failed line is due later": (
        replace(READY, ready=0, next_due=NOW + 60),
        Wait(NOW + 60, "failed lines wait to be retried"),
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


RULES = RetryRules(DEFAULT_POLICIES)
POLICY = LanePolicy(RULES, pause_s=DAY_S)
START = LaneHistory(Workers(4))
SENT = NOW - 1.0
REFUSED = EndedCall(SENT, Delivery.ANSWERED, FailureClass.RATE_LIMIT, error="slow down")
OUTAGE = EndedCall(SENT, Delivery.ANSWERED, FailureClass.SERVER, error="overloaded")
FULL = EndedCall(SENT, Delivery.ANSWERED, FailureClass.RESOURCE_UNAVAILABLE, error="none left", is_flex=True)
NO_FLEX = "flex processing has no room"
NO_ROOM = "the service has no room for more calls"
AFTER_CALLS: dict[str, tuple[LaneHistory, EndedCall, Change, LaneHistory]] = {
    "the first refusal blocks for the base delay": (
        START, REFUSED, Block(60.0, NO_ROOM), START._replace(refusals=1, refused_at=NOW),
    ),
    "the next doubles it": (
        START._replace(refusals=1), REFUSED, Block(120.0, NO_ROOM), START._replace(refusals=2, refused_at=NOW),
    ),
    "up to the cap": (
        START._replace(refusals=4), REFUSED, Block(300.0, NO_ROOM), START._replace(refusals=5, refused_at=NOW),
    ),
    "the tries come to an end: a day's pause, and they begin again": (
        START._replace(refusals=5),
        REFUSED,
        PauseLane(DAY_S, RATE, "6 calls in a row were refused for their rate"),
        START._replace(refusals=0, refused_at=NOW),
    ),
    "a Retry-After is kept to and costs no try": (
        START._replace(refusals=2),
        REFUSED._replace(wait_s=20.0),
        Block(20.0, NO_ROOM),
        START._replace(refusals=2, refused_at=NOW),
    ),
    "a Retry-After is kept to even where the tries have come to an end": (
        START._replace(refusals=5),
        REFUSED._replace(wait_s=20.0),
        Block(20.0, NO_ROOM),
        START._replace(refusals=5, refused_at=NOW),
    ),
    "a call sent before the last refusal is of the same incident": (
        START._replace(refusals=1, refused_at=SENT), REFUSED, NoChange(), START._replace(refusals=1, refused_at=SENT),
    ),
    "a refusal halves workers that adapt": (
        LaneHistory(Workers(9, adapts=True, successes=3)),
        REFUSED,
        Block(60.0, NO_ROOM),
        LaneHistory(Workers(4, adapts=True), refusals=1, refused_at=NOW),
    ),
    "an outage begins with quick retries": (
        START, OUTAGE, Block(0.5, "overloaded"), START._replace(outages=1, outage_at=NOW),
    ),
    "the third is the last quick one": (
        START._replace(outages=2), OUTAGE, Block(2.0, "overloaded"), START._replace(outages=3, outage_at=NOW),
    ),
    "then it waits as in an outage": (
        START._replace(outages=3), OUTAGE, Block(60.0, "overloaded"), START._replace(outages=4, outage_at=NOW),
    ),
    "and never for longer than five minutes": (
        START._replace(outages=99), OUTAGE, Block(300.0, "overloaded"), START._replace(outages=100, outage_at=NOW),
    ),
    "a Retry-After of a server error is kept to": (
        START, OUTAGE._replace(wait_s=120.0), Block(120.0, "overloaded"), START._replace(outages=1, outage_at=NOW),
    ),
    "a call sent before the last outage is of the same incident": (
        START._replace(outages=1, outage_at=SENT), OUTAGE, NoChange(), START._replace(outages=1, outage_at=SENT),
    ),
    "a lost answer is an outage": (
        START,
        EndedCall(SENT, Delivery.LOST, FailureClass.MISSING, error="timed out"),
        Block(0.5, "timed out"),
        START._replace(outages=1, outage_at=NOW),
    ),
    "so is a call that was not sent": (
        START,
        EndedCall(SENT, Delivery.UNSENT, FailureClass.SERVER, error="no connection"),
        Block(0.5, "no connection"),
        START._replace(outages=1, outage_at=NOW),
    ),
    "a quota failure pauses both lanes and is no outage": (
        START._replace(outages=2, refusals=2),
        EndedCall(SENT, Delivery.ANSWERED, FailureClass.QUOTA, wait_s=9.0),
        PauseForQuota(9.0),
        START._replace(outages=2, refusals=2),
    ),
    "a success ends refusals and outages": (
        START._replace(outages=2, refusals=2, refused_at=5.0),
        EndedCall(SENT, Delivery.ANSWERED),
        NoChange(),
        LaneHistory(Workers(4, successes=1), refused_at=5.0),
    ),
    "so does an answer that is of no use": (
        START._replace(outages=2),
        EndedCall(SENT, Delivery.ANSWERED, FailureClass.UNUSABLE),
        NoChange(),
        LaneHistory(Workers(4, successes=1)),
    ),
    "a refusal of flex keeps back its line alone": (
        START, FULL, NoChange(), START._replace(flex=FlexHistory(1, NOW)),
    ),
    "the sixth in a row blocks the lane for the base delay": (
        START._replace(flex=FlexHistory(5)), FULL, Block(30.0, NO_FLEX), START._replace(flex=FlexHistory(6, NOW)),
    ),
    "the next ones double it": (
        START._replace(flex=FlexHistory(7)), FULL, Block(120.0, NO_FLEX), START._replace(flex=FlexHistory(8, NOW)),
    ),
    "up to ten minutes": (
        START._replace(flex=FlexHistory(90)), FULL, Block(600.0, NO_FLEX), START._replace(flex=FlexHistory(91, NOW)),
    ),
    "a Retry-After says how long": (
        START._replace(flex=FlexHistory(5)), FULL._replace(wait_s=7.0), Block(7.0, NO_FLEX),
        START._replace(flex=FlexHistory(6, NOW)),
    ),
    "refusals of calls that were under way are one": (
        START._replace(flex=FlexHistory(6, SENT)), FULL, NoChange(), START._replace(flex=FlexHistory(6, SENT)),
    ),
    "an answer by flex ends its refusals": (
        START._replace(flex=FlexHistory(6, 5.0)),
        EndedCall(SENT, Delivery.ANSWERED, is_flex=True),
        NoChange(),
        LaneHistory(Workers(4, successes=1)),
    ),
    "an answer without flex does not": (
        START._replace(flex=FlexHistory(6, 5.0)),
        EndedCall(SENT, Delivery.ANSWERED),
        NoChange(),
        LaneHistory(Workers(4, successes=1), flex=FlexHistory(6, 5.0)),
    ),
    "each worker's success adds one": (
        LaneHistory(Workers(2, adapts=True, successes=1)),
        EndedCall(SENT, Delivery.ANSWERED),
        NoChange(),
        LaneHistory(Workers(3, adapts=True)),
    ),
    "but not where a line had to wait for a window": (
        LaneHistory(Workers(2, adapts=True, successes=1)),
        EndedCall(SENT, Delivery.ANSWERED, has_room=False),
        NoChange(),
        LaneHistory(Workers(2, adapts=True, successes=2)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AFTER_CALLS)
def test_what_follows_a_call(name: str) -> None:
    history, call, change, then = AFTER_CALLS[name]
    assert decide_after_call(POLICY, history, call, NOW, jitter=0.0) == (change, then)


def test_the_lane_falls_back_after_ten_refusals_beyond_those_that_hold_nothing_up() -> None:
    assert [is_flex_full(RULES, FlexHistory(n)) for n in (0, 15, 16)] == [False, False, True]
    endless = {**RULES.policies, FailureClass.RESOURCE_UNAVAILABLE: RetryPolicy(30, 600, None)}
    assert not is_flex_full(RULES._replace(policies=endless), FlexHistory(1_000))


def test_a_delay_has_its_jitter() -> None:
    assert decide_after_call(POLICY, START, REFUSED, NOW, jitter=1.0).change == Block(54.0, NO_ROOM)
    waited = REFUSED._replace(wait_s=20.0)
    assert decide_after_call(POLICY, START, waited, NOW, jitter=1.0).change == Block(25.0, NO_ROOM)


def test_without_a_number_of_tries_they_never_end() -> None:
    endless = {**DEFAULT_POLICIES, FailureClass.RATE_LIMIT: DEFAULT_POLICIES[FailureClass.OUTAGE]}
    policy = LanePolicy(RULES._replace(policies=endless), DAY_S)
    assert decide_after_call(policy, START._replace(refusals=99), REFUSED, NOW, 0.0).change == Block(300.0, NO_ROOM)


@pytest.mark.parametrize(
    ("wait_until", "paced_until", "block"),
    [
        (0.0, float("-inf"), Wait(0.0, "the service wants no calls before")),
        (NOW + 9, NOW + 5, Wait(NOW + 9, "the service wants no calls before")),
        (NOW + 5, NOW + 9, Wait(NOW + 9, "the minute's limit is used")),
        (NOW + 5, NOW + 122, Wait(NOW + 122, "the minute's limit is used")),
        (NOW + 5, NOW + 123, Wait(NOW + 5, "the service wants no calls before")),  # the clock was set back
        (0.0, NOW + 123, Wait(0.0, "the service wants no calls before")),
    ],
)
def test_the_longest_block(wait_until: float, paced_until: float, block: Wait) -> None:
    assert find_longest_block(wait_until, paced_until, NOW) == block


@pytest.mark.parametrize(
    ("pauses", "history", "probing"),
    [
        ((), START, False),
        ((OVER,), START, True),
        ((OVER._replace(until=NOW + 1),), START, False),
        ((BY_HAND,), START, False),
        ((DAILY._replace(until=NOW),), START, False),
        ((), START._replace(outages=1), True),
    ],
)
def test_one_call_at_a_time(pauses: tuple[Pause, ...], history: LaneHistory, probing: bool) -> None:
    assert is_probing(pauses, history, NOW) is probing


DAY = DailyUse(limit=10, threshold=0.8, used=0, nth_call_at=None, header=None, running=0, is_paused=False)
HEADER = RateLimit(100, 100, None)
USED_UP = "80% of the day's requests are used"
DAYS = {
    "there is no limit": (DAY._replace(limit=0), DailyAllowance(None)),
    "nothing is used": (DAY, DailyAllowance(8)),
    "some is used": (DAY._replace(used=5), DailyAllowance(3)),
    "the last one is used": (DAY._replace(used=7), DailyAllowance(1)),
    "calls in progress are used already": (DAY._replace(used=5, running=2), DailyAllowance(3)),
    "all is used: until the first call is a day old": (
        DAY._replace(used=8, nth_call_at=NOW - 3_600),
        DailyAllowance(0, PauseLane(DAY_S - 3_600, decide_direct.DAILY, USED_UP)),
    ),
    "more than all is used": (
        DAY._replace(used=30, nth_call_at=NOW - 600),
        DailyAllowance(0, PauseLane(DAY_S - 600, decide_direct.DAILY, USED_UP)),
    ),
    "a second at least": (
        DAY._replace(used=8, nth_call_at=NOW - DAY_S),
        DailyAllowance(0, PauseLane(1.0, decide_direct.DAILY, USED_UP)),
    ),
    "a day where the calls are not known": (
        DAY._replace(used=8), DailyAllowance(0, PauseLane(DAY_S, decide_direct.DAILY, USED_UP)),
    ),
    "no pause while calls are in progress": (DAY._replace(used=8, running=1), DailyAllowance(0)),
    "no second pause": (DAY._replace(used=9, is_paused=True), DailyAllowance(0)),
    "a header alone": (DAY._replace(limit=0, header=HEADER), DailyAllowance(80)),
    "a header counts the calls in progress too": (
        DAY._replace(limit=0, header=RateLimit(100, 70, 9.0), running=4), DailyAllowance(46),
    ),
    "the lower of both binds": (DAY._replace(header=HEADER), DailyAllowance(8)),
    "a header that is used up: until its reset": (
        DAY._replace(limit=0, header=RateLimit(100, 20, 7_200.0)),
        DailyAllowance(0, PauseLane(7_200.0, decide_direct.DAILY, USED_UP)),
    ),
    "a header without a reset: a day": (
        DAY._replace(limit=0, header=RateLimit(100, 20, None)),
        DailyAllowance(0, PauseLane(DAY_S, decide_direct.DAILY, USED_UP)),
    ),
    "with both, the header knows when": (
        DAY._replace(used=8, nth_call_at=NOW - 600, header=RateLimit(100, 50, 7_200.0)),
        DailyAllowance(0, PauseLane(7_200.0, decide_direct.DAILY, USED_UP)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAYS)
def test_the_limit_of_a_day(name: str) -> None:
    use, allowance = DAYS[name]
    assert decide_daily_allowance(use, NOW) == allowance


FRESH = LineTries(attempts=0, tries=0, free=0, lost=0)
GOING = LaneStanding(is_setup_at_fault=False, succeeded_at=NOW)
SILENT = LaneStanding(is_setup_at_fault=False, succeeded_at=float("-inf"))
STOPPED = LaneStanding(is_setup_at_fault=True, succeeded_at=NOW)
READY_FREE, HELD_FREE = Verdict(ArtistState.READY, counted=False), Verdict(ArtistState.HELD, counted=False)
LATER_FREE = Verdict(ArtistState.WAITING, NOW + 60.0, counted=False)


def failed(failure: FailureClass, delivery: Delivery = Delivery.ANSWERED, has_job_failed: bool = False) -> EndedCall:
    call = EndedCall(SENT, delivery, failure)
    return call._replace(has_job_failed=True) if has_job_failed else call


FALLING = GOING._replace(falls_back=True)
LOST_CALL = failed(FailureClass.MISSING, Delivery.LOST)
VERDICTS = {
    "not sent": (failed(FailureClass.SERVER, Delivery.UNSENT), FRESH, SILENT, READY_FREE),
    "refused for its rate": (failed(FailureClass.RATE_LIMIT), FRESH, GOING, READY_FREE),
    "refused by flex": (FULL, FRESH, GOING, Verdict(ArtistState.WAITING, NOW + 30.0, counted=False)),
    "refused by flex the eleventh time": (
        FULL, FRESH._replace(free=10), GOING, Verdict(ArtistState.WAITING, NOW + 600.0, counted=False),
    ),
    "refused by flex the tenth time, and it falls back": (
        FULL, FRESH._replace(free=9), FALLING, Verdict(ArtistState.WAITING, NOW + 600.0, counted=False),
    ),
    "refused by flex the eleventh time, and it falls back": (FULL, FRESH._replace(free=10), FALLING, READY_FREE),
    "refused by flex although it did not ask for it": (
        FULL._replace(is_flex=False), FRESH._replace(free=10), FALLING,
        Verdict(ArtistState.WAITING, NOW + 600.0, counted=False),
    ),
    "refused by flex, with a Retry-After": (
        FULL._replace(wait_s=7.0), FRESH, GOING, Verdict(ArtistState.WAITING, NOW + 7.0, counted=False),
    ),
    "refused for the quota": (failed(FailureClass.QUOTA), FRESH, GOING, READY_FREE),
    "refused for the setup": (failed(FailureClass.SETUP), FRESH, GOING, READY_FREE),
    "invalid": (failed(FailureClass.INVALID), FRESH, GOING, Verdict(ArtistState.DEAD)),
    "invalid, and the setup is at fault": (failed(FailureClass.INVALID), FRESH, STOPPED, READY_FREE),
    "unusable, and the setup is at fault": (failed(FailureClass.UNUSABLE), FRESH, STOPPED, READY_FREE),
    "unusable": (failed(FailureClass.UNUSABLE), FRESH, GOING, Verdict(ArtistState.READY)),
    "unusable for the last time": (
        failed(FailureClass.UNUSABLE), FRESH._replace(attempts=2, tries=2), GOING, Verdict(ArtistState.DEAD),
    ),
    "unusable, and all attempts are used": (
        failed(FailureClass.UNUSABLE), FRESH._replace(attempts=7), GOING, Verdict(ArtistState.DEAD),
    ),
    "the job's code failed": (failed(FailureClass.UNUSABLE, has_job_failed=True), FRESH, GOING, HELD_FREE),
    "lost": (LOST_CALL, FRESH, GOING, LATER_FREE),
    "lost for the second time": (LOST_CALL, FRESH._replace(lost=LOST_BEFORE_HELD), GOING, HELD_FREE),
    "lost, and the setup is at fault": (LOST_CALL, FRESH, STOPPED, LATER_FREE),
    "a server error while nothing succeeds": (failed(FailureClass.SERVER), FRESH, SILENT, LATER_FREE),
    "a server error when the free tries are used": (
        failed(FailureClass.SERVER),
        FRESH._replace(free=FREE_TRIES),
        SILENT,
        Verdict(ArtistState.WAITING, NOW + 0.5),
    ),
    "a server error while others succeed": (
        failed(FailureClass.SERVER), FRESH, GOING, Verdict(ArtistState.WAITING, NOW + 0.5),
    ),
    "a server error while another was answered at that moment": (
        failed(FailureClass.SERVER), FRESH, GOING._replace(succeeded_at=SENT), Verdict(ArtistState.WAITING, NOW + 0.5),
    ),
    "a server error for the last time": (
        failed(FailureClass.SERVER), FRESH._replace(attempts=3, tries=3), GOING, Verdict(ArtistState.DEAD),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VERDICTS)
def test_what_becomes_of_a_line(name: str) -> None:
    call, tries, lane, verdict = VERDICTS[name]
    assert decide_direct_verdict(RULES, call, tries, lane, NOW, jitter=0.0) == verdict


def test_a_success_has_no_verdict() -> None:
    with pytest.raises(ValueError, match=r"^a call that succeeded needs no verdict$"):
        decide_direct_verdict(RULES, EndedCall(SENT, Delivery.ANSWERED), FRESH, GOING, NOW, 0.0)
