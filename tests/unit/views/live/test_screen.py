"""The screen of a job fits its terminal at every size, and shows the same as it did when it was last looked at.

`BATCHER_WRITE_DOCS=1 pytest tests/unit/views` writes the snapshots again, which are then to be read.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from batcher.state.reports.status import Status
from batcher.views.live.frame import RecentEvent
from batcher.views.live.screen import draw_live
from batcher.views.progress import CleanConsole
from tests.support import live_kit
from tests.support.live_kit import SIZES, draw, frame

SNAPSHOTS = Path(__file__).parent / "snapshots"
MOMENTS = [
    live_kit.early, live_kit.middle, live_kit.late, live_kit.paused, live_kit.stopped, live_kit.ended,
]  # fmt: skip


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_a_screen_is_as_it_was(moment: Callable[[], Status], width: int, height: int) -> None:
    is_over = moment in {live_kit.ended, live_kit.stopped}
    drawn = "\n".join(draw(moment(), frame(width, height, "" if is_over else "batches are running"))) + "\n"
    kept = SNAPSHOTS / f"{moment.__name__}_{height}x{width}.txt"
    if os.environ.get("BATCHER_WRITE_DOCS"):
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(drawn, encoding="utf-8")
    assert drawn == kept.read_text(encoding="utf-8")


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_a_screen_fits_whatever_its_size(moment: Callable[[], Status]) -> None:
    for width in (1, 7, 20, 33, 59, 81, 100, 250):
        for height in (1, 2, 5, 9, 24, 100):
            draw(moment(), frame(width, height))


def test_a_console_prints_the_rows_as_they_are() -> None:
    file = io.StringIO()
    shown = frame(80, 24)
    CleanConsole(file=file, width=80, height=24).print(draw_live(live_kit.middle(), shown))
    assert [row.rstrip() for row in file.getvalue().splitlines()] == draw(live_kit.middle(), shown)


def test_foreign_text_cannot_widen_a_row() -> None:
    text = "shard 1: refused: \x1b[2J\r\n" + "艺" * 200 + "\t" * 9
    shown = frame(80, 24)._replace(events=[RecentEvent(live_kit.NOW, text)])
    rows = draw(live_kit.middle()._replace(stopped=text), shown)
    assert not any("\x1b" in row or "\r" in row for row in rows)


def test_more_rows_tell_more_batches() -> None:
    def shown(height: int) -> int:
        return sum(" in progress " in row for row in draw(live_kit.middle(), frame(120, height)))

    assert 0 < shown(24) < shown(40) == 12


def test_without_unicode_the_parts_of_the_bar_still_differ() -> None:
    rows = draw(live_kit.middle(), frame(80, 24)._replace(ascii=True))
    assert all(row.isascii() for row in rows)
    bar = next(row for row in rows if row.startswith("##"))
    assert [mark for mark in "#=~x." if mark in bar] == list("#=~x.")
