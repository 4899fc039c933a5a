"""Decide which notices of a job are sent: each once, until it changes. Pure.

What was sent is kept by kind as a mark, a short text that changes when the matter does. A mark that is gone may be sent
too (`resumed`).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from batcher.errors import format_usd
from batcher.nouns import current_nouns

BUDGET_SHARE = 0.8
"""The share of the budget that must be used for a notice that it will be used up soon."""
DEAD_SHARE = 0.01
"""The share of ended lines that must be dead for a notice."""
FEWEST_ENDED = 100
"""Ended lines below which the share of dead ones says nothing, unless the job is over."""
CALMED = 0.9
"""The share of a bound below which a notified matter counts as over: around the bound notices would repeat."""

Told = Mapping[str, str]
"""The marks of the notices that were sent, by kind."""


class NoticeView(NamedTuple):
    """A job as these decisions see it."""

    done: int
    dead: int
    held: int
    unended: int
    """Lines that are under way or to be sent."""
    stopped: str
    pauses: tuple[str, ...]
    """The reasons of the pauses that were not ended."""
    braked: tuple[int, ...]
    """The prompts of which nothing more is sent."""
    failed_pilot: int | None
    spent_usd: float | None
    """None: the price is not known."""
    max_usd: float
    """The budget; 0: no bound."""
    expected_s: float
    """Seconds until the expected end."""
    deadline_s: float
    """Seconds until the deadline; negative when it is past."""
    waits_for: str
    """What a person has to do before anything is sent; "" where nothing."""


class Notice(NamedTuple):
    """A notice to be sent."""

    kind: str
    sentence: str
    """What has happened, without what to do about it."""
    numbers: Mapping[str, float | int | None]
    steps: tuple[str, ...] = ()
    """The kinds of the next steps that belong to it."""


class Telling(NamedTuple):
    """The notices to send now, and the marks once they were sent."""

    notices: tuple[Notice, ...]
    told: Told


def decide_notices(view: NoticeView, told: Told) -> Telling:
    """Return the notices of a job that were not sent yet, in the order of their weight, and the new marks."""
    notices, marks = [], {}
    for kind, (find_mark, describe) in _KINDS.items():
        mark = find_mark(view, told.get(kind, ""))
        if mark:
            marks[kind] = mark
            if mark != told.get(kind):
                notices.append(describe(view))
        elif kind == "paused" and told.get(kind):
            notices.append(Notice("resumed", f"Sending goes on; it was paused ({told[kind]}).", {}))
    return Telling(tuple(notices), marks)


def _mark_stop(view: NoticeView, _told: str) -> str:
    return view.stopped


def _describe_stop(view: NoticeView) -> Notice:
    return Notice("stopped", f"Stopped: {view.stopped.rstrip('.')}.", {}, ("stopped",))


def _mark_pauses(view: NoticeView, _told: str) -> str:
    return ", ".join(sorted(set(view.pauses)))


def _describe_pauses(view: NoticeView) -> Notice:
    return Notice("paused", f"Paused: {', '.join(sorted(set(view.pauses)))}.", {}, ("quota", "paused"))


def _mark_brake(view: NoticeView, _told: str) -> str:
    return ", ".join(str(prompt) for prompt in sorted(view.braked))


def _describe_brake(view: NoticeView) -> Notice:
    return Notice(
        "brake", f"The brake has tripped: nothing more of prompt {_mark_brake(view, '')} is sent.", {}, ("brake",)
    )


def _mark_pilot(view: NoticeView, _told: str) -> str:
    return "" if view.failed_pilot is None else str(view.failed_pilot)


def _describe_pilot(view: NoticeView) -> Notice:
    return Notice("pilot_failed", f"Pilot {view.failed_pilot} has failed.", {}, ("pilot", "brake"))


def _mark_budget(view: NoticeView, _told: str) -> str:
    is_near = view.max_usd and view.spent_usd is not None and view.spent_usd >= BUDGET_SHARE * view.max_usd
    return f"{view.max_usd:g}" if is_near else ""


def _describe_budget(view: NoticeView) -> Notice:
    spent = view.spent_usd or 0.0
    sentence = f"{format_usd(spent)} of the budget of {format_usd(view.max_usd)} is spent ({spent / view.max_usd:.0%})."
    return Notice("budget_80", sentence, {"spent_usd": spent, "max_usd": view.max_usd})


def _mark_forecast(view: NoticeView, told: str) -> str:
    """Return whether the end is expected past the deadline; while the job waits for a person nothing is known of it."""
    if not view.unended:
        return ""
    if view.waits_for:
        return told
    bound = CALMED * view.deadline_s if told and view.deadline_s > 0 else view.deadline_s
    return "past" if view.expected_s > bound else ""


def _describe_forecast(view: NoticeView) -> Notice:
    late_h = (view.expected_s - view.deadline_s) / 3600
    sentence = f"The end is expected {late_h:,.1f} h after the deadline."
    return Notice("forecast_past_deadline", sentence, {"expected_s": view.expected_s, "deadline_s": view.deadline_s})


def _mark_dead_share(view: NoticeView, told: str) -> str:
    ended = view.done + view.dead
    if not view.dead or (ended < FEWEST_ENDED and view.unended):
        return ""
    bound = CALMED * DEAD_SHARE if told else DEAD_SHARE
    return "over" if view.dead > bound * ended else ""


def _describe_dead_share(view: NoticeView) -> Notice:
    ended = view.done + view.dead
    sentence = f"{view.dead:,} of {ended:,} ended lines ({view.dead / ended:.1%}) are dead."
    return Notice("dead_share", sentence, {"dead": view.dead, "ended": ended}, ("dead",))


def _mark_end(view: NoticeView, _told: str) -> str:
    is_over = not view.unended and (view.done or view.dead or view.held)
    return f"{view.done}, {view.dead}, {view.held}" if is_over else ""


def _describe_end(view: NoticeView) -> Notice:
    spent = "" if view.spent_usd is None else f", {format_usd(view.spent_usd)} spent"
    bios = current_nouns().count_answers(view.done)
    sentence = f"Nothing is left to send: {bios}, {view.dead:,} dead, {view.held:,} held{spent}."
    numbers = {"done": view.done, "dead": view.dead, "held": view.held, "spent_usd": view.spent_usd}
    return Notice("finished", sentence, numbers, ("perhaps_paid", "revoked", "held", "dead", "collect"))


_KINDS: Mapping[str, tuple[Callable[[NoticeView, str], str], Callable[[NoticeView], Notice]]] = {
    "stopped": (_mark_stop, _describe_stop),
    "paused": (_mark_pauses, _describe_pauses),
    "brake": (_mark_brake, _describe_brake),
    "pilot_failed": (_mark_pilot, _describe_pilot),
    "budget_80": (_mark_budget, _describe_budget),
    "forecast_past_deadline": (_mark_forecast, _describe_forecast),
    "dead_share": (_mark_dead_share, _describe_dead_share),
    "finished": (_mark_end, _describe_end),
}
"""Of each kind: how its mark is found ("": no notice), given the mark that was sent; and its notice."""
