"""Which notices of a job are sent: each once, until it changes."""

from collections.abc import Mapping

import pytest

from batcher.core.notices.decide import NoticeView, decide_notices

CALM = NoticeView(
    done=500, dead=0, held=0, unended=500, stopped="", pauses=(), braked=(), failed_pilot=None, spent_usd=1.0,
    max_usd=0, expected_s=3600.0, deadline_s=7200.0, waits_for="",
)  # fmt: skip

NEWS: Mapping[str, tuple[NoticeView, str]] = {
    "stopped": (CALM._replace(stopped="the service refuses us: no."), "Stopped: the service refuses us: no."),
    "paused": (CALM._replace(pauses=("quota", "by hand", "quota")), "Paused: by hand, quota."),
    "brake": (CALM._replace(braked=(3, 1)), "The brake has tripped: nothing more of prompt 1, 3 is sent."),
    "pilot_failed": (CALM._replace(failed_pilot=2), "Pilot 2 has failed."),
    "budget_80": (
        CALM._replace(spent_usd=8.0, max_usd=10.0),
        "$8.00 of the budget of $10.00 is spent (80%).",
    ),
    "forecast_past_deadline": (
        CALM._replace(expected_s=10_800.0),
        "The end is expected 1.0 h after the deadline.",
    ),
    "dead_share": (CALM._replace(done=989, dead=11), "11 of 1,000 ended lines (1.1%) are dead."),
    "finished": (
        CALM._replace(unended=0, done=990, dead=9, held=1),
        "Nothing is left to send: 990 bios, 9 dead, 1 held, $1.00 spent.",
    ),
}


@pytest.mark.parametrize("kind", NEWS)
def test_each_is_told_once_and_again_after_it_was_over(kind: str) -> None:
    view, sentence = NEWS[kind]
    first = decide_notices(view, {})
    assert [(notice.kind, notice.sentence) for notice in first.notices] == [(kind, sentence)]
    again = decide_notices(view, first.told)
    assert (again.notices, again.told) == ((), first.told)
    over = decide_notices(CALM, first.told)
    assert [notice.kind for notice in over.notices] == (["resumed"] if kind == "paused" else [])
    assert over.told == {}
    assert [notice.kind for notice in decide_notices(view, over.told).notices] == [kind]


def test_a_small_amount_is_not_nothing_and_one_is_no_plural() -> None:
    end = CALM._replace(unended=0, done=1, dead=0, held=0, spent_usd=0.0015)
    (notice,) = decide_notices(end, {}).notices
    assert notice.sentence == "Nothing is left to send: 1 bio, 0 dead, 0 held, $0.0015 spent."


QUIET: Mapping[str, NoticeView] = {
    "a job under way": CALM,
    "nothing was ever planned": CALM._replace(unended=0, done=0),
    "the price is not known": CALM._replace(spent_usd=None, max_usd=10.0),
    "less than 80% of the budget": CALM._replace(spent_usd=7.99, max_usd=10.0),
    "no budget": CALM._replace(spent_usd=1_000.0),
    "1% is dead": CALM._replace(done=990, dead=10),
    "few have ended": CALM._replace(done=50, dead=40),
    "late, but it waits for a person": CALM._replace(expected_s=1e6, waits_for="credit is added"),
    "late, but over": CALM._replace(unended=0, done=0, expected_s=1e6),
}


@pytest.mark.parametrize("case", QUIET)
def test_what_is_not_told(case: str) -> None:
    assert decide_notices(QUIET[case], {}).notices == ()


def test_around_a_bound_nothing_is_told_twice() -> None:
    told = {"forecast_past_deadline": "past", "dead_share": "over"}
    near = CALM._replace(expected_s=7_000.0, done=9_905, dead=95)
    assert decide_notices(near, told).told == told
    assert decide_notices(near._replace(waits_for="credit is added", expected_s=0.0), told).told == told
    assert decide_notices(near._replace(expected_s=6_000.0, dead=80), told).told == {}


def test_a_pause_for_another_reason_is_told_and_what_belongs_to_a_notice_is_named() -> None:
    both = decide_notices(CALM._replace(pauses=("quota", "by hand")), {"paused": "quota"})
    assert [notice.steps for notice in both.notices] == [("quota", "paused")]
    (end,) = decide_notices(CALM._replace(unended=0, done=9, dead=1, spent_usd=None), {"dead_share": "over"}).notices
    assert end.numbers == {"done": 9, "dead": 1, "held": 0, "spent_usd": None}
    assert end.sentence == "Nothing is left to send: 9 bios, 1 dead, 0 held."
