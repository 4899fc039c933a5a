"""What is said of answers that were judged again."""

import io

import pytest
from rich.console import Console

from batcher.review.judging import Judgement
from batcher.state.review.judging import JudgementCounts
from batcher.views.review import draw_judgement

COUNTS = JudgementCounts([], 2, [], [], 0)


@pytest.mark.parametrize(
    ("put_back", "sentence"),
    [(1, "1 line has its bio of an earlier run"), (2, "2 lines have their bio of an earlier run")],
)
def test_bios_of_earlier_runs_that_are_put_back_are_told(put_back: int, sentence: str) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(draw_judgement(Judgement(2, 0, [], COUNTS, 0, 2, put_back), dry_run=False, notes=[]))
    drawn = console.export_text()
    assert f"{sentence} (--done) again, in the place of one that was revoked; such a bio is not judged." in drawn
    assert "2 bios are refused now and revoked; lines that have no other are held" in drawn
