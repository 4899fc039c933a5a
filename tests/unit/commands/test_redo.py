"""What `redo` says before and after lines are asked for again."""

import pytest

from batcher.commands.sending.redo import Redo
from batcher.nouns import Nouns, using_nouns
from batcher.state.asked_again import PromptLines
from batcher.state.redo import RedoneBios


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (1, "1 line is asked for again, with prompt 1: at most $0.5000; the copy that exists has cost $0.2500"),
        (2, "2 lines are asked for again, with prompt 1: at most $0.5000; the copies that exist have cost $0.2500"),
    ],
)
def test_one_answer_is_spoken_of_as_one(lines: int, told: str) -> None:
    outcome = Redo(lines, [PromptLines(1, lines, 0)], RedoneBios(lines, lines, 0.25), 0.5)
    with using_nouns(Nouns("file", "copy", "files", "copies")):
        assert outcome.describe() == told
