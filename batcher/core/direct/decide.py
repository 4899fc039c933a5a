"""The decisions of the direct lane: its next step, what follows each call, the limit of a day, and a line's verdict.

Pure functions of frozen values. The lane carries them out and passes the returned history in with the next call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from batcher.core.actions import Finish, Wait
from batcher.core.brake import Braked, describe_brake
from batcher.core.direct.flex import FlexHistory, decide_refused_line, find_lane_wait
from batcher.core.direct.pacing import DAY_S, MINUTE_S, RateLimit
from batcher.core.direct.workers import Workers
from batcher.core.failures import ErrorDetails, FailureClass, classify_direct_call
from batcher.core.lifecycle import ArtistState
from batcher.core.model import Failure
from batcher.core.retry import RetryRules, delay_after_call_failure, delay_after_failure
from batcher.core.snapshot import Pause
from batcher.core.verdicts import Verdict, decide_line_verdict

LOOK_S = 1.0
"""Seconds between two looks at the state while calls are in progress: another command may have paused the job."""
UNDER_WAY = "calls are under way"
"""The reason of a wait for the calls in progress."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An instruction to claim lines and make a call for each."""

    max_lines: int


@dataclass(frozen=True, slots=True)
class DirectLaneView:
    """All that the decision may know; counts, never a row per line."""

    ready: int
    """Lines that may be sent."""
    next_due: float | None = None
    """When the next of the waiting lines is due; None: none waits."""
    running: int = 0
    """Calls in progress."""
    workers: int = 2
    """Calls that may be in progress at the same time."""
    blocked_until: float = 0.0
    """Before this time nothing is sent: a call was refused for its rate, or the window of a minute is used."""
    blocked_by: str = ""
    """Why it is blocked, in words."""
    pauses: tuple[Pause, ...] = ()
    probing: bool = False
    """One call at a time: a quota pause or an outage is over, and nothing has succeeded since."""
    daily_left: int | None = None
    """Requests that today's limit leaves; None: no such limit is known."""
    stopped: str = ""
    """Why nothing is sent until the user has acted."""
    braked: Braked | None = None
    """By which further lines are kept back; None: there are none."""
    ending: bool = False
    """Whether the user asked to end, or the job's code failed: calls in progress are still waited for."""


def decide_direct_action(view: DirectLaneView, now: float) -> Claim | Wait | Finish:
    """Return the next step. The lane finishes only when no call is in progress."""
    if view.stopped or view.ending or (not view.ready and view.next_due is None):
        return Wait(now + LOOK_S, UNDER_WAY) if view.running else _finish_lane(view)
    waits = _blocking_waits(view, now)
    if waits:
        until = max(waits, key=lambda wait: wait.until)
        return Wait(min(until.until, now + LOOK_S) if view.running else until.until, until.reason)
    lines = min(view.workers - view.running, view.ready)
    if view.probing:
        lines = min(lines, 1 - view.running)
    if view.daily_left is not None:
        lines = min(lines, view.daily_left)
    if lines > 0:
        return Claim(lines)
    if view.running:
        return Wait(now + LOOK_S, UNDER_WAY)
    return Wait(view.next_due if view.next_due is not None else now + LOOK_S, "failed lines wait to be retried")


def _finish_lane(view: DirectLaneView) -> Finish:
    """Return how the lane ends; where the brake keeps lines back the user is asked."""
    if view.braked is None or view.stopped or view.ending:
        return Finish(view.stopped)
    return Finish(describe_brake(view.braked), asks=True)


def _blocking_waits(view: DirectLaneView, now: float) -> list[Wait]:
    """Return every wait that keeps the lane closed now; it opens at the end of the last one."""
    waits = [
        Wait(now + LOOK_S, f"paused: {p.reason}; `batcher resume` goes on")
        if p.until is None
        else Wait(p.until, f"paused: {p.reason}")
        for p in view.pauses
        if p.until is None or p.until > now
    ]
    if view.blocked_until > now:
        waits.append(Wait(view.blocked_until, view.blocked_by))
    return waits


def find_longest_block(wait_until: float, paced_until: float, now: float) -> Wait:
    """Return the later of two times before which nothing is sent, with its reason.

    wait_until: the end of the wait that a failed call has set. paced_until: when the next line fits into the windows of
    a minute; where that is over two minutes away, the clock was set back, and it does not count.
    """
    return max(
        Wait(wait_until, "the service wants no calls before"),
        Wait(paced_until if paced_until <= now + 2 * MINUTE_S else 0.0, "the minute's limit is used"),
        key=lambda wait: (wait.until, wait.reason),
    )


DAILY, RATE, QUOTA = "daily requests", "rate limit", "quota"
"""The reasons of the pauses that the lane sets or probes."""


class Delivery(StrEnum):
    """How far a call came."""

    ANSWERED = "answered"
    """The service answered, with a completion or an error."""
    LOST = "lost"
    """No answer that could be read came. The completion may have been made, and paid."""
    UNSENT = "unsent"
    """Nothing was sent."""


class EndedCall(NamedTuple):
    """A call that has ended, as the decisions see it."""

    sent_at: float
    delivery: Delivery
    failure: FailureClass | None = None
    """None: its answer was accepted."""
    wait_s: float | None = None
    """The seconds of a Retry-After; None where the answer had none."""
    error: str = ""
    """How it failed, in words for the user."""
    has_room: bool = True
    """Whether nothing had to wait for a window of the minute since it was sent."""
    has_job_failed: bool = False
    """Whether the job's own code failed on its answer."""
    is_flex: bool = False
    """Whether it asked for flex processing."""


class LaneHistory(NamedTuple):
    """What the lane remembers of its calls."""

    workers: Workers
    """How many calls may be in progress now."""
    refusals: int = 0
    """Calls refused for their rate without a Retry-After, since one was answered or the lane paused for its rate."""
    refused_at: float = float("-inf")
    """When the last refusal was recorded. Calls that were sent before it belong to the same incident."""
    outages: int = 0
    """Calls in a row that the service did not answer, or answered with an error of its own."""
    outage_at: float = float("-inf")
    """When the last of these was recorded. Calls that were sent before it belong to the same incident."""
    flex: FlexHistory = FlexHistory()
    """The refusals of flex processing."""


class Block(NamedTuple):
    """Nothing is sent for `delay_s` seconds."""

    delay_s: float
    reason: str


class PauseLane(NamedTuple):
    """The direct lane pauses for `duration_s` seconds. The state keeps the pause, so a restarted process waits too."""

    duration_s: float
    reason: str
    """One of the reasons above."""
    details: str
    """A sentence for the history of the job."""


class PauseForQuota(NamedTuple):
    """The quota is used up, which pauses both lanes; for `wait_s` seconds at least, where that is known."""

    wait_s: float | None


class NoChange(NamedTuple):
    """The next calls are sent as before."""


Change = Block | PauseLane | PauseForQuota | NoChange
"""What a call means for the next ones."""


class CallDecision(NamedTuple):
    """What follows a call, and the history to judge the next one by."""

    change: Change
    history: LaneHistory


class LanePolicy(NamedTuple):
    """The settings that the decisions after a call need."""

    rules: RetryRules
    pause_s: float
    """Seconds for which the lane pauses when its tries have come to an end."""


def decide_after_call(
    policy: LanePolicy, history: LaneHistory, call: EndedCall, now: float, jitter: float
) -> CallDecision:
    """Return what follows a call that has ended. jitter: a number in [0, 1)."""
    if call.failure is FailureClass.RATE_LIMIT:
        return _decide_after_refusal(policy, history, call, now, jitter)
    if call.failure is FailureClass.QUOTA:
        return CallDecision(PauseForQuota(call.wait_s), history)
    if call.failure is FailureClass.RESOURCE_UNAVAILABLE:
        return _decide_after_flex_refusal(policy, history, call, now, jitter)
    if call.delivery is not Delivery.ANSWERED or call.failure is FailureClass.SERVER:
        return _decide_after_outage(policy, history, call, now, jitter)
    workers = history.workers.after_success(call.has_room)  # it was answered, even where no line is done by it
    flex = FlexHistory() if call.is_flex else history.flex
    return CallDecision(NoChange(), history._replace(workers=workers, refusals=0, outages=0, flex=flex))


def _decide_after_refusal(
    policy: LanePolicy, history: LaneHistory, call: EndedCall, now: float, jitter: float
) -> CallDecision:
    """Return what follows a refusal for the rate.

    A Retry-After is kept to, however often one comes. Without one the tries come to an end, and the lane pauses.
    """
    if call.sent_at <= history.refused_at:
        return CallDecision(NoChange(), history)
    history = history._replace(refused_at=now, workers=history.workers.after_refusal())
    n, tries = history.refusals, policy.rules.policies[FailureClass.RATE_LIMIT].tries
    if call.wait_s is None and tries is not None and n >= tries:
        pause = PauseLane(policy.pause_s, RATE, f"{n + 1} calls in a row were refused for their rate")
        return CallDecision(pause, history._replace(refusals=0))
    delay_s = delay_after_failure(policy.rules, FailureClass.RATE_LIMIT, n, jitter, call.wait_s)
    return CallDecision(
        Block(delay_s, "the service has no room for more calls"),
        history._replace(refusals=n + 1 if call.wait_s is None else n),
    )


def _decide_after_flex_refusal(
    policy: LanePolicy, history: LaneHistory, call: EndedCall, now: float, jitter: float
) -> CallDecision:
    """Return what follows a refusal of flex: other lines go on, until many were refused in a row."""
    if call.sent_at <= history.flex.refused_at:
        return CallDecision(NoChange(), history)
    flex = history.flex.after_refusal(now)
    delay_s = find_lane_wait(policy.rules, flex, jitter, call.wait_s)
    change = NoChange() if delay_s is None else Block(delay_s, "flex processing has no room")
    return CallDecision(change, history._replace(flex=flex))


def _decide_after_outage(
    policy: LanePolicy, history: LaneHistory, call: EndedCall, now: float, jitter: float
) -> CallDecision:
    """Return what follows a call that the service could not answer: a quick retry first, then waits as in an outage."""
    if call.sent_at <= history.outage_at:
        return CallDecision(NoChange(), history)
    delay_s = delay_after_call_failure(policy.rules, history.outages, jitter, call.wait_s)
    return CallDecision(Block(delay_s, call.error), history._replace(outage_at=now, outages=history.outages + 1))


def is_probing(pauses: Sequence[Pause], history: LaneHistory, now: float) -> bool:
    """Return whether calls are made one at a time, to find out whether a quota failure or an outage is over."""
    lapsed = any(p.reason == QUOTA and p.until is not None and p.until <= now for p in pauses)
    return lapsed or history.outages > 0


class DailyUse(NamedTuple):
    """How the limits of a day stand: the one from the settings, and the one in the headers."""

    limit: int
    """Requests a day from the settings; 0: no such limit."""
    threshold: float
    """The share of a day's limit that is used before the lane pauses."""
    used: int
    """Calls of the last 24 hours."""
    nth_call_at: float | None
    """When the call was made that must become a day old before another one fits; None: it is not known."""
    header: RateLimit | None
    """The newest limit of a day in the headers."""
    running: int
    """Calls in progress."""
    is_paused: bool
    """Whether the lane is paused for the day already."""


class DailyAllowance(NamedTuple):
    """What the limits of a day leave."""

    left: int | None
    """Requests; None: there is no such limit."""
    pause: PauseLane | None = None
    """The pause until there is room again, where nothing is left."""


def count_calls_over_daily_share(limit: int, threshold: float, used: int) -> int:
    """Return by how many calls the last day exceeds the usable share of its limit; negative: that many are left."""
    return used - int(limit * threshold)


def decide_daily_allowance(use: DailyUse, now: float) -> DailyAllowance:
    """Return the requests that the day leaves, and a pause where none are left and no call is in progress."""
    if not use.limit and use.header is None:
        return DailyAllowance(None)
    lefts, reset_s = [], DAY_S
    if use.limit:
        lefts.append(-count_calls_over_daily_share(use.limit, use.threshold, use.used))
        reset_s = max(1.0, use.nth_call_at + DAY_S - now) if use.nth_call_at is not None else DAY_S
    if use.header is not None:
        used = use.header.limit - use.header.remaining
        lefts.append(int(use.header.limit * use.threshold) - used - use.running)
        reset_s = use.header.reset_s or DAY_S
    left = min(lefts)
    if left > 0 or use.running or use.is_paused:
        return DailyAllowance(max(0, left))
    return DailyAllowance(0, PauseLane(reset_s, DAILY, f"{use.threshold:.0%} of the day's requests are used"))


def build_call_failure(error: ErrorDetails, delivery: Delivery, may_be_done: bool) -> Failure:
    """Return the failure of a call that gave no completion. may_be_done: as for `classify_direct_call`."""
    if delivery is Delivery.LOST:
        return Failure(FailureClass.MISSING, "perhaps_paid", error.message or "no answer came that could be read")
    code = error.code or error.kind or (f"http_{error.status}" if error.status is not None else "no_connection")
    return Failure(classify_direct_call(error, may_be_done), code, error.message)


_OF_THE_LANE = frozenset({FailureClass.RATE_LIMIT, FailureClass.QUOTA, FailureClass.SETUP})
"""Classes after which the whole lane waits or stops; they cost no line a try."""
FREE_TRIES = 5
"""How often a server error costs a line no try while no other call succeeds: it may be an outage."""
LOST_BEFORE_HELD = 1
"""How often a line is sent again after its answer was lost. After that it is held as perhaps paid (promise 2)."""


class LineTries(NamedTuple):
    """The earlier attempts at a line."""

    attempts: int
    """Attempts that counted, in every class of failure."""
    tries: int
    """Those that failed with the class of now and counted."""
    free: int
    """Those that failed with the class of now and did not count."""
    lost: int
    """Calls whose answer was lost."""


class LaneStanding(NamedTuple):
    """What the lane knows beyond one line when it decides on it."""

    is_setup_at_fault: bool
    """Whether the lane stops because of the setup: no line pays for that."""
    succeeded_at: float
    """When a call was last answered with a completion; -inf: none was yet."""
    falls_back: bool = False
    """Whether lines that flex refuses for too long are asked for without it."""


def decide_direct_verdict(
    rules: RetryRules, call: EndedCall, tries: LineTries, lane: LaneStanding, now: float, jitter: float
) -> Verdict:
    """Return what becomes of the line of a failed call. jitter: a number in [0, 1). Raises ValueError for a success."""
    failure = call.failure
    if failure is None:
        raise ValueError("a call that succeeded needs no verdict")
    if failure is FailureClass.RESOURCE_UNAVAILABLE:
        falls_back = lane.falls_back and call.is_flex
        return decide_refused_line(rules, tries.free, falls_back, now, jitter, call.wait_s)
    is_of_setup = lane.is_setup_at_fault and failure in {FailureClass.INVALID, FailureClass.UNUSABLE}
    if call.delivery is Delivery.UNSENT or failure in _OF_THE_LANE or is_of_setup:
        return Verdict(ArtistState.READY, counted=False)
    if call.has_job_failed:
        return Verdict(ArtistState.HELD, counted=False)
    # Another line is sent first: that shows whether the line is at fault or the service.
    retry_later = Verdict(
        ArtistState.WAITING, now + delay_after_failure(rules, FailureClass.OUTAGE, 0, jitter), counted=False
    )
    if call.delivery is Delivery.LOST:
        return retry_later if tries.lost < LOST_BEFORE_HELD else Verdict(ArtistState.HELD, counted=False)
    if failure is FailureClass.SERVER and lane.succeeded_at < call.sent_at and tries.free < FREE_TRIES:
        return retry_later
    return decide_line_verdict(rules, failure, tries.tries, tries.attempts, now, jitter)
