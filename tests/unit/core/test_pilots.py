"""What a pilot has shown."""

import pytest

from batcher.core.pilots import (
    PilotLine,
    PilotStage,
    RefusedFor,
    describe_failed_pilot,
    find_pilot_stage,
    is_enough_accepted,
    tally_pilot,
)


def _line(outcome: str | None, code: str | None = None, message: str | None = None, state: str = "done") -> PilotLine:
    bio = "{}" if state == "done" else None
    return PilotLine("a", 1, 2.0, "Ana", state, None, None, 100, outcome, code, message, 1, 100, 50, 0.1, 0, bio)


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
        1, 1, 1, 5,
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
