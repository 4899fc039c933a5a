"""The page of a report in real Chromium, from a file, with the network off: drawn without a word on the console."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from batcher.collect.collect import collect_bios
from batcher.state.reports.report import ReportData
from batcher.views.report.charts import build_charts
from batcher.views.report.page import build_page
from tests.support.browser import Browser, find_chromium, open_browser
from tests.support.report_kit import SERVICE, finish_job, make_world, read_data, write_page

pytestmark = [
    pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium (Debian's package `chromium`)"),
    pytest.mark.slow("starts a browser"),
]
CHARTS = "Object.fromEntries([...document.querySelectorAll('[data-chart]')].map(e => [e.dataset.chart, {0}]))"


class Shown(NamedTuple):
    """A job that has ended, and its page."""

    path: Path
    data: ReportData
    bios: int
    """What `collect` has written."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = tmp_path_factory.mktemp("shown")
    world = make_world(folder, 120)
    finish_job(world)
    data = write_page(world, folder / "report.html")
    collected = collect_bios(world.store, world.job, folder / "bios.jsonl", None, only_new=False)
    return Shown(folder / "report.html", data, collected.bios)


def check_silent(browser: Browser, path: Path) -> None:
    """Check that the page has said nothing, has failed at nothing, and has asked for nothing but itself."""
    assert browser.said == []
    assert browser.evaluate("document.documentElement.dataset.failed ?? null") is None
    assert set(browser.requested) <= {path.resolve().as_uri(), "about:blank"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_chart_is_drawn_and_nothing_is_said(browser: Browser, shown: Shown, width: int, scheme: str) -> None:
    browser.open_page(shown.path, width=width, scheme=scheme)
    check_silent(browser, shown.path)
    marks = browser.evaluate(
        CHARTS.format("e.querySelectorAll('svg .mark-rect path, svg .mark-line path, svg .mark-area path').length")
    )
    assert set(marks) == set(build_charts(shown.data))
    assert all(count > 0 for count in marks.values()), marks
    widths = browser.evaluate(CHARTS.format("e.querySelector('svg').getBoundingClientRect().width"))
    assert all(150 < drawn <= width for drawn in widths.values()), widths
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_the_shards_are_drawn_with_each_of_their_phases(browser: Browser, shown: Shown) -> None:
    browser.open_page(shown.path)
    drawn = browser.evaluate("document.querySelectorAll('#chart-shards .mark-rect.role-mark path').length")
    assert drawn == len(shown.data.phases)


def test_the_numbers_are_those_of_collect_and_status(browser: Browser, shown: Shown) -> None:
    browser.open_page(shown.path)
    assert browser.evaluate("document.getElementById('headline-bios').textContent") == f"{shown.bios:,}"
    dead = shown.data.status.states["dead"]
    assert browser.evaluate("document.getElementById('headline-dead').textContent") == f"{dead:,}"
    assert browser.evaluate("document.querySelectorAll('.lost tbody tr').length") == dead
    assert browser.evaluate("document.querySelectorAll('.sample').length") == 20


def search(browser: Browser, text: str) -> list[str]:
    """Type a text into the search; return the artists of the rows that are shown."""
    browser.evaluate(
        f"(() => {{ const s = document.getElementById('search'); s.value = {text!r}; "
        "s.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    found = browser.evaluate(
        "[...document.querySelectorAll('.lost tbody tr')].filter(r => r.getBoundingClientRect().height > 0)"
        ".map(r => r.cells[0].textContent)"
    )
    return list(found)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_search_finds_lines_by_every_word(browser: Browser, shown: Shown, width: int) -> None:
    browser.open_page(shown.path, width=width)
    lost = shown.data.lost
    assert search(browser, "") == [line.artist_id for line in lost]
    assert search(browser, lost[1].artist_id.upper()) == [lost[1].artist_id]
    assert search(browser, "INVALID content_policy") == [line.artist_id for line in lost if line.class_ == "invalid"]
    assert search(browser, "no such artist") == []
    told = browser.evaluate("document.getElementById('found').textContent")
    assert told == f"0 of {len(lost):,} listed lines match."


def test_a_hostile_bio_does_nothing(browser: Browser, shown: Shown, tmp_path: Path) -> None:
    text = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    lost = [line._replace(artist_name=text, message=text) for line in shown.data.lost]
    samples = [
        sample._replace(artist_name=text, data='{"bio": "</script><img src=x onerror=alert(1)>"}')
        for sample in shown.data.samples
    ]
    path = tmp_path / "hostile.html"
    path.write_text(build_page(shown.data._replace(lost=lost, samples=samples), text, SERVICE), encoding="utf-8")
    browser.open_page(path)
    check_silent(browser, path)
    assert browser.evaluate("document.title") == f"{text}: report"
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert browser.evaluate("document.querySelector('.lost td:nth-child(2)').textContent") == text


def test_a_job_that_was_only_planned_is_shown(browser: Browser, tmp_path: Path) -> None:
    world = make_world(tmp_path, 12)
    path = tmp_path / "planned.html"
    write_page(world, path)
    browser.open_page(path)
    check_silent(browser, path)
    assert browser.evaluate("document.querySelectorAll('svg').length") == 0
    assert read_data(world).bios == 0


def test_a_job_under_way_is_shown(browser: Browser, tmp_path: Path) -> None:
    world = make_world(tmp_path, 200)
    world.act(once=True)
    world.clock.sleep(1_500)
    world.sandbox.run_due_events()
    world.act(once=True)
    path = tmp_path / "open.html"
    data = write_page(world, path, 60)
    assert data.is_open
    browser.open_page(path)
    check_silent(browser, path)
    assert browser.evaluate("document.querySelectorAll('#chart-shards svg').length") == 1
