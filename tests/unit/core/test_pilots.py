"""What a pilot has shown, and what is done until its first answers are there."""

import pytest

from batcher.core.actions import Finish, Gather, Ingest, Wait
from batcher.core.admission import NO_ANSWER
from batcher.core.decide import PILOT_ANSWERED, decide_actions, decide_pilot_actions
from batcher.core.lifecycle import ShardState
from batcher.core.pilots import (
    PilotLine,
    PilotStage,
    RefusedFor,
    describe_failed_pilot,
    find_pilot_stage,
    is_enough_accepted,
    tally_pilot,
)
from tests.support.decide_kit import EMPTY, FULL, NOW, POLL, READY, RUNNING, SENT, soon


def _line(outcome: str | None, code: str | None = None, message: str | None = None, state: str = "done") -> PilotLine:
    bio = "{}" if state == "done" else None
    return PilotLine(
        "a", 1, 2.0, "Ana", state, None, None, 100, outcome, code, message, "b", None, 1, 100, 50, 0.1, 0, bio
    )


@pytest.mark.parametrize(
    ("accepted", "judged", "share", "enough"),
    [
        (180, 200, 0.9, True),
        (179, 200, 0.9, False),
        (9, 10, 0.9, True),
        (0, 0, 0.9, False),  # without an answer nothing is known
        (0, 10, 0.0, True),
        (3, 3, 1.0, True),
        (7, 10, 0.7, True),
    ],
)
def test_is_enough_accepted(accepted: int, judged: int, share: float, enough: bool) -> None:
    lines = [_line("bio")] * accepted + [_line("unusable", "not_accepted", "no")] * (judged - accepted)
    assert is_enough_accepted(tally_pilot(lines), share) is enough


def test_the_first_answers_are_counted_by_reason() -> None:
    lines = [
        *[_line("bio")] * 3,
        *[_line("unusable", "not_accepted", "urgency is out of range")] * 2,
        _line("unusable", "length", "cut off", "dead"),
        _line("unusable", "invalid_output", "no JSON", "waiting"),
        _line(None, state="in_batch"),
    ]
    tally = tally_pilot(lines)
    assert tally == (
        8, 7, 3,
        [
            RefusedFor("not_accepted", "urgency is out of range", 2),
            RefusedFor("invalid_output", "no JSON", 1),
            RefusedFor("length", "cut off", 1),
        ],
        1, 1, 1, 5, 0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("accepted", "refused", "open_shards", "open_lines", "is_resumed", "stage"),
    [
        (0, 0, 2, 10, False, PilotStage.ASKED),
        (1, 9, 1, 10, False, PilotStage.ASKED),  # the others are answered soon
        (10, 0, 0, 0, False, PilotStage.PASSED),
        (9, 1, 0, 1, False, PilotStage.REPEATED),
        (8, 2, 0, 2, False, PilotStage.FAILED),  # what was refused is not bought again
        (8, 2, 0, 2, True, PilotStage.REPEATED),
        (8, 2, 0, 0, True, PilotStage.PASSED),
        (0, 0, 0, 3, False, PilotStage.REPEATED),  # nobody knows yet
        (0, 0, 0, 0, False, PilotStage.FAILED),
    ],
)
def test_the_stages_of_a_pilot(
    accepted: int, refused: int, open_shards: int, open_lines: int, is_resumed: bool, stage: PilotStage
) -> None:
    tally = tally_pilot([_line("bio")] * accepted + [_line("unusable", "not_accepted", "no")] * refused)
    assert find_pilot_stage(tally, open_shards, open_lines, 0.9, is_resumed) is stage


@pytest.mark.parametrize(
    ("accepted", "refused", "silent", "open_lines", "is_resumed", "stage"),
    [
        (1, 0, 11, 0, False, PilotStage.FAILED),  # one answer says nothing of the rest
        (5, 0, 7, 0, False, PilotStage.FAILED),
        (6, 0, 6, 0, False, PilotStage.PASSED),
        (1, 0, 11, 0, True, PilotStage.PASSED),
        (1, 0, 11, 11, False, PilotStage.REPEATED),
        (1, 4, 7, 7, False, PilotStage.FAILED),  # what is judged is bad: nothing is bought again
    ],
)
def test_a_pilot_of_which_few_lines_have_a_judged_answer_says_nothing(
    accepted: int, refused: int, silent: int, open_lines: int, is_resumed: bool, stage: PilotStage
) -> None:
    lines = [_line("bio")] * accepted + [_line("unusable", "length")] * refused + [_line(None, state="dead")] * silent
    assert find_pilot_stage(tally_pilot(lines), 0, open_lines, 0.9, is_resumed) is stage


@pytest.mark.parametrize(
    ("accepted", "refused", "question"),
    [
        (0, 0, "none of the 12 lines of the pilot has an answer that was judged, too few"),
        (1, 0, "only 1 of the 12 lines of the pilot has an answer that was judged, too few"),
        (5, 0, "only 5 of the 12 lines of the pilot have an answer that was judged, too few"),
        (1, 1, "1 of 2 answers of the pilot were accepted, [pilot] min_accepted asks for 90% (refused: 1 x length)"),
    ],
)
def test_the_question_says_whether_too_few_were_judged_or_accepted(accepted: int, refused: int, question: str) -> None:
    lines = [_line("bio")] * accepted + [_line("unusable", "length")] * refused
    lines += [_line(None, state="dead")] * (12 - accepted - refused)
    assert describe_failed_pilot(tally_pilot(lines), 0.9).startswith(question)


@pytest.mark.parametrize(
    ("states", "remedy"),
    [
        (["ready", "ready"], ""),
        (["held", "ready"], "`batcher retry` brings back the 1 that is held or given up, "),
        (["held", "dead"], "`batcher retry` brings back the 2 that are held or given up, "),
    ],
)
def test_retry_is_a_remedy_only_where_it_brings_lines_back(states: list[str], remedy: str) -> None:
    question = describe_failed_pilot(tally_pilot([_line(None, state=state) for state in states]), 0.9)
    assert f"says what became of them. {remedy}`batcher resume` goes on without" in question


# --- what is done until a pilot is answered --------------------------------------------------------------------------

S = ShardState
PILOT = READY._replace(shard=9, is_pilot=True, state=S.IN_FLIGHT)
ASKED = EMPTY._replace(shards=(PILOT,), batches=(RUNNING._replace(shard=9),))


def test_nothing_is_bought_again_before_the_pilot_has_its_first_answers() -> None:
    assert decide_actions(ASKED._replace(loose=(FULL,)), NOW) == [POLL]
    assert decide_actions(ASKED._replace(loose=(FULL,), shards=(PILOT._replace(is_pilot=False),)), NOW) == [
        Gather(1, 1)
    ]


def test_other_shards_are_sent_beside_a_pilot() -> None:
    assert decide_actions(ASKED._replace(loose=(FULL,), shards=(PILOT, READY)), NOW) == [SENT]


def test_a_pilot_is_followed_to_its_first_answers() -> None:
    assert decide_pilot_actions(ASKED, NOW) == [POLL]
    ended = RUNNING._replace(status="completed")
    assert decide_pilot_actions(ASKED._replace(batches=(ended,)), NOW) == [Ingest("b1")]
    assert decide_pilot_actions(EMPTY._replace(loose=(FULL,), shards=(READY,)), NOW) == [Finish(PILOT_ANSWERED)]


def test_what_is_in_flight_of_a_pilot_is_taken_in_where_the_job_stops() -> None:
    stopped = ASKED._replace(stopped="fix the key")
    assert decide_pilot_actions(stopped, NOW) == [POLL]
    waits = stopped._replace(batches=(), shards=(PILOT._replace(state=S.RELEASED),))
    assert decide_pilot_actions(waits, NOW) == [Finish("fix the key")]
    assert decide_pilot_actions(EMPTY._replace(stopped="fix the key"), NOW) == [Finish(PILOT_ANSWERED)]


def test_a_pilot_waits_out_an_outage() -> None:
    assert decide_pilot_actions(ASKED._replace(outage_until=soon(5)), NOW) == [Wait(soon(5), NO_ANSWER)]
