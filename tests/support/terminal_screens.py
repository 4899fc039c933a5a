"""Pictures of every command, and of the live view: `python -m tests.support.terminal_screens` writes docs/screens.

The commands are real ones, each at a terminal of its own, on the job that comes with the project and against the
sandbox. The moments of the live view are those of its tests.
"""

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console, RenderableType
from rich.text import Text

from batcher.views.live.frame import RecentEvent
from batcher.views.live.screen import draw_live
from tests.support import live_kit
from tests.support.shop import Shop, open_shop
from tests.support.terminal import draw_terminal, run_at_terminal
from tests.support.world import ROOT

SCREENS = ROOT / "docs" / "screens"
WIDTHS = (80, 120)
HEIGHT = 40
"""Rows of the terminal of the commands, which may print more."""
SIZES = ((24, 80), (40, 120))
"""Rows and columns of the pictures of the live view."""
SENT = [RecentEvent(live_kit.NOW - 180 + n, f"shard {n}: batch batch_{n:032x} created") for n in range(1, 7)]
MOMENTS = {
    "early": (live_kit.early, "batches are running", SENT),
    "middle": (live_kit.middle, "batches are running", live_kit.EVENTS),
    "paused": (live_kit.paused, "paused: by hand", live_kit.EVENTS),
    "ended": (live_kit.ended, "", live_kit.EVENTS),
}
UNTIL_CTRL_C = "timeout -s INT 3 "
"""Before a command that works until Ctrl-C."""
WITH_ADMIN_KEY = "OPENAI_ADMIN_KEY=sk-admin-of-the-sandbox "
"""Before a command that needs one: a user has it in the environment."""
HOME = "/home/ada/artists-and-their-bios"
"""Stands in the pictures for the folder of the job, cut to the same length."""
SLOW_S = (54_000, 72_000)
"""A batch that takes so long runs for half a minute: the screens that follow show it in flight."""


class Step(NamedTuple):
    """A command of the walk through a job, and the name of its picture."""

    name: str
    line: str
    answers: Sequence[str] = ()
    """What is typed at its questions."""
    service_s: tuple[float, float] = (200, 600)
    """How long batches take that are created now, in seconds of the sandbox."""

    @property
    def shown(self) -> str:
        """The command as a user types it."""
        return self.line.removeprefix(UNTIL_CTRL_C).removeprefix(WITH_ADMIN_KEY)


STEPS = (
    Step("help", "batcher --help"),
    Step("version", "batcher version"),
    Step("init", "batcher init my-job"),
    Step("doctor", "batcher doctor"),
    Step("preview", "batcher preview kiefer-anselm"),
    Step("plan", "batcher plan"),
    Step("plan-mistake", "batcher plan --input jobs/bios/artist.csv"),
    Step("forget", "batcher forget --artist sinan-mimar", ["n"]),
    Step("pilot", "batcher pilot --lines 40"),
    Step("submit", "batcher submit --shards 2", service_s=SLOW_S),
    Step("status", "batcher status"),
    Step("cancel", "batcher cancel", ["n"]),
    Step("pause", "batcher pause"),
    Step("status-paused", "batcher status"),
    Step("resume", "batcher resume"),
    Step("poll", "batcher poll"),
    Step("run", "batcher run --out bios.parquet --failed failed.csv"),
    Step("answers", "batcher answers --refused --limit 3"),
    Step("retry", "batcher retry --class invalid"),
    Step("direct", "batcher direct", ["y"]),
    Step("status-ended", "batcher status"),
    Step("show", "batcher show nevelson-louise"),
    Step("redo", "batcher redo --artist nevelson-louise", ["n"]),
    Step("judge", "batcher judge --dry-run"),
    Step("versions", "batcher versions"),
    Step("sql", "batcher sql"),
    Step("sql-question", 'batcher sql "SELECT state, count(*) AS lines FROM lines GROUP BY ALL ORDER BY lines DESC"'),
    Step("collect", "batcher collect --out bios.parquet"),
    Step("report", "batcher report --out report.html"),
    Step("bill", f"{WITH_ADMIN_KEY}batcher bill"),
    Step("log", "batcher log --lines 25"),
    Step("sandbox", f"{UNTIL_CTRL_C}batcher sandbox --port 0 --folder sandbox"),
    Step("demo", "batcher demo"),
)


def main() -> None:
    """Walk through a job at each width, draw the moments of the live view, and write an index of all pictures."""
    SCREENS.mkdir(exist_ok=True)
    for width in WIDTHS:
        with tempfile.TemporaryDirectory(prefix="screens-") as name, open_shop(Path(name)) as shop:
            for step in STEPS:
                save_picture(f"{step.name}-{width}", width, [Text(f"$ {step.shown}"), *draw_step(shop, step, width)])
    for rows, columns in SIZES:
        for moment, (build, note, happened) in MOMENTS.items():
            frame = live_kit.frame(columns, rows, note)._replace(events=happened)
            save_picture(f"live-{moment}-{rows}x{columns}", columns, [draw_live(build(), frame)])
    (SCREENS / "README.md").write_text(draw_index(), encoding="utf-8")


def draw_index() -> str:
    """Return the page of all pictures."""
    lines = [
        "# What Batcher shows", "",
        "`make screens` writes them: it runs each command on the job that comes with Batcher, against the sandbox.", "",
        "## The live view", "",
        "`run`, `poll` and `status --watch` show one screen that fits the terminal: here 24 x 80; "
        f"40 x 120: {', '.join(f'[{moment}](live-{moment}-40x120.svg)' for moment in MOMENTS)}.", "",
    ]  # fmt: skip
    lines += [f"![{moment}](live-{moment}-24x80.svg)" for moment in MOMENTS]
    lines += [
        "", "## The report", "", "`batcher report --out report.html`, light; also [dark](report-dark.png) and "
        "[390 pixels wide](report-390.png).", "", "![the report](report-light.png)", "", "## The commands", "",
        "Each at 80 columns; the link below shows 120.", "",
    ]  # fmt: skip
    for step in STEPS:
        lines += [f"![{step.name}]({step.name}-80.svg)", "", f"[{step.name} at 120 columns]({step.name}-120.svg)", ""]
    return "\n".join(lines)


def draw_step(shop: Shop, step: Step, width: int) -> list[Text]:
    """Run a command at a terminal; return the rows that stand there afterwards."""
    shop.sandbox.update_settings({"service_s": step.service_s})
    _, written = run_at_terminal(shop, ["sh", "-c", step.line], step.answers, width, HEIGHT, "xterm-256color")
    assert "Traceback" not in written, written
    folder = str(shop.folder)
    return draw_terminal(written.replace(folder, HOME[: len(folder)]), width)


def save_picture(name: str, width: int, parts: Sequence[RenderableType]) -> None:
    """Write a terminal as a picture."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for part in parts:
        console.print(part)
    picture = console.export_svg(title=name.rpartition("-")[0], unique_id=name)
    (SCREENS / f"{name}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
