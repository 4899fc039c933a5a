"""The report as one page: template, style, charts and libraries in one text that needs nothing from outside."""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources

from batcher import __version__
from batcher.nouns import capitalize, current_nouns
from batcher.state.reports.report import ReportData
from batcher.views.report.charts import CONFIG, Chart, build_charts
from batcher.views.report.html import build_element, fill_template, text_to_html
from batcher.views.report.sections import (
    build_chart,
    build_headline,
    build_lost,
    build_money,
    build_prompts,
    build_samples,
)
from batcher.views.sheet import format_date

LIBRARIES = ("vega", "vega-lite", "vega-embed")
"""The libraries that draw the charts, in the order in which they are loaded."""


@cache
def load_asset(name: str) -> str:
    """Return a file of the page that ships with the package."""
    return resources.files("batcher").joinpath("data/report", name).read_text(encoding="utf-8")


def build_page(data: ReportData, job: str, service: str, refresh_s: int = 0) -> str:
    """Return the page. job: its name; service: model and address; refresh_s: seconds after which an open page is loaded
    again, 0: never."""
    charts = build_charts(data)
    scripts = [load_asset(f"{name}.min.js") for name in LIBRARIES] + [load_asset("report.js")]
    return fill_template(
        load_asset("page.html"),
        {
            "policy": build_policy(scripts),
            "refresh": f'<meta http-equiv="refresh" content="{refresh_s}">\n' if refresh_s else "",
            "version": text_to_html(__version__),
            "title": text_to_html(f"{job}: report"),
            "style": fill_template(load_asset("report.css"), {"row": current_nouns().row}),
            "heading": text_to_html(job),
            "service": text_to_html(service),
            "times": text_to_html(_describe_times(data, refresh_s)),
            "sections": _build_sections(data, charts),
            "footer": text_to_html(f"Made by Batcher {__version__}. All times are UTC. The page needs no network."),
            "charts": embed_json(
                {"config": CONFIG, "charts": {name: chart.spec for name, chart in charts.items() if chart.spec}}
            ),
            "licenses": "\n".join(f"{name}:\n{load_asset(f'LICENSE-{name}.txt')}" for name in LIBRARIES),
            "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
        },
    )


def build_policy(scripts: Sequence[str]) -> str:
    """Return the content security policy: only these scripts run, and nothing is loaded from anywhere."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def embed_json(value: object) -> str:
    """Return JSON that may stand within a script element: no text in it ends the element."""
    text = json.dumps(value, separators=(",", ":"), default=str)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _describe_times(data: ReportData, refresh_s: int) -> str:
    text = f"As of {format_date(data.status.now)} UTC; planned {format_date(data.planned_at)} UTC"
    return f"{text}; loaded again every {refresh_s} s while the job runs." if refresh_s else f"{text}."


def _build_sections(data: ReportData, charts: dict[str, Chart]) -> str:
    nouns = current_nouns()
    money = build_chart("money", "Spent over time", charts["money"]) + build_money(data)
    parts = [
        build_headline(data),
        _build_section("Progress", _build_cards(
            build_chart("progress", "Share done by priority", charts["progress"]),
            build_chart("bios", capitalize(nouns.answers), charts["bios"]),
        )),
        _build_section("Shards", _build_cards(
            build_chart("shards", "What each shard was in", charts["shards"], is_wide=True),
            build_chart("reserved", "Reserved tokens", charts["reserved"]),
            build_chart("service", "Service times", charts["service"]),
        )),
        _build_section("Failures", _build_cards(
            build_chart("failures", "Failures by class", charts["failures"], is_wide=True)
        )),
        _build_section("Money", _build_cards(money)),
        _build_section("Prompts", build_prompts(data.prompts)),
        _build_section("Dead and held lines", build_lost(data)),
        _build_section(f"Sample {nouns.answers}", build_samples(data.samples)),
    ]  # fmt: skip
    return "\n".join(parts)


def _build_section(title: str, content: str) -> str:
    return build_element("section", build_element("h2", text_to_html(title)) + "\n" + content)


def _build_cards(*cards: str) -> str:
    return build_element("div", "\n".join(cards), class_="cards")
