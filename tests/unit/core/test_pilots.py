"""What a pilot has shown."""

import pytest

from batcher.core.pilots import PilotLine, RefusedFor, is_enough_accepted, tally_pilot


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
