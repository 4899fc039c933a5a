"""The page of a report without a browser: every text is escaped, nothing comes from outside, charts are plain data."""

import hashlib
import json
import re
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from batcher.state.reports.report import LostLine, ReportData, SampleBio, TokenLevel
from batcher.views.report.charts import CONFIG, FATES, PHASES, build_charts
from batcher.views.report.page import LIBRARIES, build_page, load_asset
from tests.support.report_kit import SERVICE, finish_job, make_world, read_data
from tests.support.world import ROOT, World

ASSETS = ROOT / "batcher" / "data" / "report"
VERSIONS = {"vega": "6.4.0", "vega-lite": "6.5.0", "vega-embed": "7.3.0"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[2J\u202e{{charts}}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    """Return a job that has ended, with dead lines."""
    world = make_world(tmp_path_factory.mktemp("ended"), 120)
    finish_job(world)
    return read_data(world)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text within some."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("id") or ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[self._inside] = self.texts.get(self._inside, "") + data


def page_of(data: ReportData, refresh_s: int = 0) -> str:
    return build_page(data, "bios", SERVICE, refresh_s)


def test_a_hostile_text_is_shown_and_not_obeyed(data: ReportData) -> None:
    sample = SampleBio(HOSTILE, HOSTILE, 1, json.dumps({HOSTILE: HOSTILE, "bio": HOSTILE * 9}), 1)
    lost = LostLine(HOSTILE, HOSTILE, 1, "dead", HOSTILE, HOSTILE, HOSTILE, 1, False)
    fates = [fate._replace(class_=HOSTILE) for fate in data.fates]
    times = [count._replace(status=HOSTILE) for count in data.service_times]
    status = data.status._replace(stopped=HOSTILE)
    hostile = data._replace(samples=[sample], lost=[lost], fates=fates, service_times=times, status=status)
    page = build_page(hostile, HOSTILE, HOSTILE)
    elements = Elements(page).found
    assert [tag for tag, _ in elements].count("script") == 6
    assert not [tag for tag, _ in elements if tag == "img"]
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert page.count("&lt;/script&gt;&lt;script&gt;alert(1)") > 10


def test_nothing_is_loaded_from_outside(data: ReportData) -> None:
    elements = Elements(page_of(data)).found
    assert not [attributes for _, attributes in elements if attributes.keys() & {"src", "href", "srcset", "action"}]
    (policy,) = [a["content"] for tag, a in elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert not re.search(r"https?:|\*", policy)
    assert not re.search(r"url\(|@import", load_asset("report.css"))


def test_the_policy_allows_the_scripts_of_the_page_and_no_other(data: ReportData) -> None:
    page = page_of(data)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = {b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    assert len(scripts) == len(LIBRARIES) + 1
    assert set(re.findall(r"'sha256-([^']+)'", page)) == digests


def test_the_libraries_are_those_that_were_pinned_and_have_their_licenses() -> None:
    lines = [line.split() for line in (ASSETS / "SHA256SUMS").read_text().splitlines()]
    pinned = {name: digest for digest, name in lines}
    assert set(pinned) == {f"{name}.min.js" for name in LIBRARIES} == {path.name for path in ASSETS.glob("*.min.js")}
    for name, digest in pinned.items():
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == digest, name
    for name in LIBRARIES:
        assert "Redistribution and use in source and binary forms" in load_asset(f"LICENSE-{name}.txt")
    readme = load_asset("README.md")
    assert all(f"{name} {version}" in readme for name, version in VERSIONS.items())
    assert f'version="{VERSIONS["vega"]}"' in load_asset("vega.min.js")


def test_the_page_carries_the_licenses_of_what_it_carries(data: ReportData) -> None:
    page = page_of(data)
    for name in LIBRARIES:
        assert load_asset(f"LICENSE-{name}.txt") in page


def test_it_is_small(data: ReportData) -> None:
    assert len(page_of(data).encode()) < 1_500_000


def test_every_chart_is_plain_data(data: ReportData) -> None:
    charts = build_charts(data)
    assert list(charts) == ["progress", "bios", "shards", "reserved", "service", "failures", "money"]
    for name, chart in charts.items():
        assert chart.spec is not None, name
        assert json.loads(json.dumps(chart.spec)) == chart.spec
        assert chart.note.endswith(".")
        assert not re.search(r"#[0-9a-f]{3}", json.dumps(chart.spec)), "colours are names of the style"


def colors_in(value: Any) -> set[str]:
    return set(re.findall(r"var\((--\w+)\)", json.dumps(value)))


def test_every_color_of_a_chart_is_in_the_style_of_each_medium(data: ReportData) -> None:
    used = colors_in([chart.spec for chart in build_charts(data).values()]) | colors_in(CONFIG)
    used |= colors_in(FATES) | {f"--phase{n + 1}" for n, _ in enumerate(PHASES)}
    blocks = re.findall(r":root \{(.*?)\}", load_asset("report.css"), re.DOTALL)
    assert len(blocks) == 3  # light, dark, paper
    for block in blocks:
        assert used <= set(re.findall(r"(--\w+):", block))


def test_a_limit_far_above_is_told_in_words(data: ReportData) -> None:
    far = data._replace(limits=[TokenLevel(data.since, 40_000_000)], refusals=[])
    chart = build_charts(far)["reserved"]
    assert (
        chart.note
        == "Tokens reserved at the service; the limit of 40,000,000 and the threshold of 32,000,000 are far above."
    )
    assert chart.spec is not None
    assert {row["line"] for row in chart.spec["data"]["values"]} == {"reserved"}


def test_the_limit_and_the_threshold_are_drawn_and_refusals_marked(data: ReportData) -> None:
    chart = build_charts(data)["reserved"]
    assert chart.spec is not None
    assert {row["line"] for row in chart.spec["data"]["values"]} == {"reserved", "limit", "threshold", "refused"}
    assert chart.note == "Tokens reserved at the service; the service named a limit of 45,000 when it refused."


def test_a_price_that_is_not_known_is_said_to_be_so(data: ReportData) -> None:
    costs = data.status.costs._replace(spent=None, wasted=None, saved=None, reserved=None)
    unknown = data._replace(status=data.status._replace(costs=costs))
    assert build_charts(unknown)["money"].spec is None
    assert Elements(page_of(unknown)).texts["headline-spent"].startswith("not known")


def test_the_headline_numbers_are_those_of_the_state(data: ReportData) -> None:
    texts = Elements(page_of(data)).texts
    assert texts["headline-bios"] == f"{data.bios:,}"
    assert texts["headline-dead"] == f"{data.status.states['dead']:,}"
    assert texts["headline-open"] == "0"


def test_a_job_that_was_only_planned_says_so_in_words(tmp_path: Path) -> None:
    world: World = make_world(tmp_path, 12)
    page = page_of(read_data(world))
    assert {name for name, chart in build_charts(read_data(world)).items() if chart.spec} == set()
    for sentence in ("Nothing has been sent yet.", "No bio has come yet.", "No batch has ended yet.",
                     "Nothing has been spent yet.", "No line is dead or held."):  # fmt: skip
        assert sentence in page


def test_a_page_refreshes_itself_only_where_it_is_written_anew(data: ReportData) -> None:
    assert 'http-equiv="refresh"' not in page_of(data)
    assert '<meta http-equiv="refresh" content="60">' in page_of(data, 60)


def test_lines_that_are_not_listed_are_told(data: ReportData) -> None:
    states = {**data.status.states, "dead": 5_000}
    page = page_of(data._replace(status=data.status._replace(states=states)))
    assert f"The {len(data.lost):,} most urgent of 5,000 dead and held lines" in page
