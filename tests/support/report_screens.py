"""Pictures of a report: `python -m tests.support.report_screens` writes docs/screens/report-*.png.

The job is the one that comes with the project, against the sandbox, with failures, too little room and a small budget.
"""

import tempfile
from pathlib import Path

from tests.support.browser import open_browser
from tests.support.report_kit import finish_job, make_world, write_page
from tests.support.world import ROOT

SCREENS = ROOT / "docs" / "screens"
TABLE = ROOT / "jobs" / "bios" / "artists.csv"
SHOTS = (("light", 1280, "light", 3000), ("dark", 1280, "dark", 3000), ("390", 390, "light", 3400))
"""Name, width, scheme and height (pixels) of each picture."""


def main() -> None:
    """Run the job, and take the pictures."""
    SCREENS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="batcher-screens-") as name, open_browser() as browser:
        folder = Path(name)
        world = finish_job(make_world(folder, table=TABLE, budget={"max_usd": 0.05}))
        write_page(world, folder / "report.html")
        for shot, width, scheme, height in SHOTS:
            browser.open_page(folder / "report.html", width=width, scheme=scheme)
            browser.save_screenshot(SCREENS / f"report-{shot}.png", width, height)
            assert browser.said == []


if __name__ == "__main__":
    main()
