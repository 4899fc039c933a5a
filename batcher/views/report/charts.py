"""The charts of the report as Vega-Lite specifications: plain data, of named values. Pure.

Colours are names of the page's style, so that one drawing serves light, dark and paper. Times are UTC. A chart of which
there is nothing to draw yet is a sentence that says so.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from batcher.nouns import capitalize, current_nouns
from batcher.state.reports.report import STEPS, MoneyLevel, ReportData, TokenLevel
from batcher.views.sheet import format_count, format_moment

Spec = Mapping[str, Any]

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'
CONFIG: Spec = {
    "background": None,
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)", "titleColor": "var(--muted)", "gridColor": "var(--grid)",
        "domainColor": "var(--line)", "tickColor": "var(--line)", "labelFontSize": 11, "titleFontSize": 11,
        "titleFontWeight": "normal", "labelOverlap": True,
    },
    "legend": {"disable": True},
}  # fmt: skip
"""What all charts share. Legends stand in the page beside them, where they are wrapped as text is."""
TIME_LABELS = {
    "seconds": "%H:%M:%S", "minutes": "%H:%M", "hours": "%H:%M", "day": "%e %b", "date": "%e %b", "week": "%e %b",
    "month": "%b %Y", "quarter": "%b %Y", "year": "%Y",
}  # fmt: skip
PRIORITY_COLORS = [f"var(--c{n})" for n in range(1, 9)]
PHASES = ("uploaded", "validating", "in progress", "finalizing", "taken in")
PHASE_COLORS = [f"var(--phase{n})" for n in range(1, 6)]
ANSWERED = "has a bio"
"""How the state calls the fate of a line that has its answer, for every job."""
FATES = {ANSWERED: "var(--good)", "still open": "var(--wait)", "held": "var(--held)", "dead": "var(--bad)"}
HEIGHT = 220
"""Pixels of a chart whose height does not depend on its rows."""
FAR_ABOVE = 5
"""From this multiple of the most ever reserved on, a limit is given in words: drawn, it would flatten the chart."""
LABELED_SHARDS = 40
"""The most shards that each have their number on the axis."""
NOTHING_SENT = "Nothing has been sent yet."


class Chart(NamedTuple):
    """A chart: its specification, or None with the sentence that stands for it."""

    spec: Spec | None
    note: str
    """What is to be known beside the chart, or why there is none."""

    @property
    def legend(self) -> list[tuple[str, str]]:
        """What the colours stand for: each name with its colour, in order."""
        if self.spec is None:
            return []
        scale = self.spec["encoding"]["color"]["scale"]
        return list(zip(scale["domain"], scale["range"], strict=True))


def build_charts(data: ReportData) -> dict[str, Chart]:
    """Return every chart of the report by its name, in the order of the page."""
    return {
        "progress": _build_progress(data),
        "bios": _build_bios(data),
        "shards": _build_shards(data),
        "reserved": _build_reserved(data),
        "service": _build_service_times(data),
        "failures": _build_failures(data),
        "money": _build_money(data),
    }


def _frame(values: Sequence[Mapping[str, object]], height: int, **parts: object) -> Spec:
    """Return a specification as wide as its place on the page. height: in pixels."""
    return {
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": list(values)},
        **parts,
    }


def _time_axis(field: str) -> Spec:
    """Return the encoding of a time. The data give its extent: a domain that is named is beyond the interpreter."""
    return {
        "field": field, "type": "temporal", "title": None, "scale": {"type": "utc", "nice": False},
        "axis": {"format": TIME_LABELS, "tickCount": {"expr": "max(2, floor(width / 110))"}, "grid": False},
    }  # fmt: skip


def _milliseconds(at: float) -> int:
    return round(at * 1000)


def _describe_priority(priority: int | None) -> str:
    return "others" if priority is None else f"priority {priority}"


def _frame_curves(data: ReportData, mark: Spec, shown: Spec, y: Spec, **channels: Spec) -> Spec:
    """Return the curves of the priorities. shown: the tooltip of the number that `y` encodes."""
    names = [_describe_priority(curve.priority) for curve in data.curves]
    encoding: dict[str, object] = {
        "x": _time_axis("at"),
        "y": {"type": "quantitative", "title": None, **y},
        "color": {
            "field": "priority",
            "scale": {"domain": names, "range": PRIORITY_COLORS[: len(names)]},
            "sort": None,
        },
        "tooltip": [{"field": "priority", "title": "of"}, shown, {"field": "when", "title": "at"}],
        **channels,
    }
    return _frame(_curve_rows(data), HEIGHT, mark=mark, encoding=encoding)


def _curve_rows(data: ReportData) -> list[dict[str, object]]:
    return [
        {
            "at": _milliseconds(data.since + n * data.step_s),
            "when": format_moment(data.since + n * data.step_s),
            "priority": _describe_priority(curve.priority),
            "place": place,
            "bios": bios,
            "share": round(bios / curve.artists, 5) if curve.artists else 0,
        }
        for place, curve in enumerate(data.curves)
        for n, bios in enumerate(curve.bios)
    ]


def _build_progress(data: ReportData) -> Chart:
    """Return the share of the artists of each priority that have a bio, over time."""
    if not data.shards_sent and not any(curve.bios[STEPS] for curve in data.curves):
        return Chart(None, NOTHING_SENT)
    nouns, bio = current_nouns(), current_nouns().an_answer
    shown = {"field": "share", "title": f"have {bio}", "format": ".1%"}
    y = {"field": "share", "scale": {"domain": [0, 1]}, "axis": {"format": ".0%", "tickCount": 5}}
    spec = _frame_curves(data, {"type": "line", "strokeWidth": 2}, shown, y=y)
    return Chart(spec, f"The share of the {nouns.rows} of each priority that have {bio}.")


def _build_bios(data: ReportData) -> Chart:
    """Return the number of bios over time, by priority."""
    nouns = current_nouns()
    if not any(curve.bios[STEPS] for curve in data.curves):
        return Chart(None, f"No {nouns.answer} has come yet.")
    shown = {"field": "bios", "title": nouns.answers, "format": ","}
    y = {"field": "bios", "stack": "zero", "axis": {"format": "~s", "tickCount": 5}}
    spec = _frame_curves(data, {"type": "area"}, shown, y=y, order={"field": "place", "sort": "ascending"})
    return Chart(spec, f"{capitalize(nouns.answers)} that exist, those of an earlier run included.")


def _build_shards(data: ReportData) -> Chart:
    """Return the phases of each shard over time."""
    if not data.phases:
        return Chart(None, NOTHING_SENT)
    shards = list(dict.fromkeys(phase.shard for phase in data.phases))
    rows = [
        {
            "shard": str(phase.shard),
            "phase": phase.phase,
            "begins": _milliseconds(phase.begins),
            "ends": _milliseconds(phase.ends),
            "from": format_moment(phase.begins),
            "to": format_moment(phase.ends),
        }
        for phase in data.phases
    ]
    is_labeled = len(shards) <= LABELED_SHARDS
    row_height = 16 if is_labeled else max(3, 640 // len(shards))
    encoding = {
        "x": _time_axis("begins"),
        "x2": {"field": "ends"},
        "y": {
            "field": "shard", "type": "nominal", "sort": [str(shard) for shard in shards], "title": None,
            "scale": {"paddingInner": 0.25 if is_labeled else 0.1},
            "axis": {"labels": is_labeled, "ticks": False, "domain": False, "labelOverlap": False},
        },
        "color": {"field": "phase", "scale": {"domain": list(PHASES), "range": PHASE_COLORS}, "sort": None},
        "tooltip": [{"field": name, "title": name} for name in ("shard", "phase", "from", "to")],
    }  # fmt: skip
    spec = _frame(rows, row_height * len(shards), mark={"type": "bar"}, encoding=encoding)
    few = "One row a shard, in the order of sending"
    note = few if data.every == 1 else f"One of every {data.every} of the {data.shards_sent:,} shards that were sent"
    return Chart(spec, f"{note}; times are those at which it was seen.")


def _build_reserved(data: ReportData) -> Chart:
    """Return the reserved tokens over time, against the limit and the threshold; refusals are marked."""
    if not data.reserved:
        return Chart(None, NOTHING_SENT)
    limits = [*data.limits, TokenLevel(data.until, data.limits[-1].tokens)] if data.limits else []
    peak = max(level.tokens for level in data.reserved)
    is_near = bool(limits) and min(level.tokens for level in limits) <= FAR_ABOVE * max(peak, 1)
    levels = [*data.reserved, TokenLevel(data.until, data.reserved[-1].tokens)]
    lines = [("reserved", levels)]
    if is_near:
        lines += [
            ("threshold", [TokenLevel(level.at, int(level.tokens * data.threshold)) for level in limits]),
            ("limit", limits),
        ]
    rows: list[dict[str, object]] = [
        {"line": name, "at": _milliseconds(level.at), "tokens": level.tokens, "when": format_moment(level.at)}
        for name, line in lines
        for level in line
    ]
    rows += [
        {
            "line": "refused",
            "at": _milliseconds(refusal.at),
            "tokens": refusal.limit or refusal.reserved,
            "when": format_moment(refusal.at),
            "named": f"{refusal.limit:,}" if refusal.limit else "none",
        }
        for refusal in data.refusals
        if refusal.limit or refusal.reserved
    ]
    names = [name for name, _ in lines] + (["refused"] if data.refusals else [])
    colors = {
        "reserved": "var(--flight)",
        "threshold": "var(--held)",
        "limit": "var(--bad)",
        "refused": "var(--ink)",
    }
    tooltip = [
        {"field": "line", "title": "what"},
        {"field": "tokens", "title": "tokens", "format": ","},
        {"field": "when", "title": "at"},
    ]
    encoding = {
        "x": _time_axis("at"),
        "y": {"field": "tokens", "type": "quantitative", "title": None, "axis": {"format": "~s", "tickCount": 5}},
        "color": {"field": "line", "scale": {"domain": names, "range": [colors[name] for name in names]}, "sort": None},
        "tooltip": tooltip,
    }
    layers = [
        _layer("reserved", {"type": "area", "interpolate": "step-after", "opacity": 0.55}),
        _layer("threshold", {"type": "line", "interpolate": "step-after", "strokeDash": [5, 4]}),
        _layer("limit", {"type": "line", "interpolate": "step-after", "strokeWidth": 2}),
        _layer("refused", {"type": "point", "shape": "diamond", "size": 70, "filled": True}),
    ]
    shown = [layer for name, layer in zip(colors, layers, strict=True) if name in names]
    return Chart(_frame(rows, HEIGHT, encoding=encoding, layer=shown), _describe_room(data, limits, is_near))


def _layer(line: str, mark: Mapping[str, object]) -> Spec:
    return {"transform": [{"filter": {"field": "line", "equal": line}}], "mark": mark}


def _describe_room(data: ReportData, limits: Sequence[TokenLevel], is_near: bool) -> str:
    """Return what the chart of reserved tokens cannot show."""
    parts = ["Tokens reserved at the service"]
    if limits and not is_near:
        limit = limits[-1].tokens
        parts.append(f"the limit of {limit:,} and the threshold of {int(limit * data.threshold):,} are far above")
    named = [refusal.limit for refusal in data.refusals if refusal.limit]
    if named:
        parts.append(f"the service named a limit of {named[-1]:,} when it refused")
    elif data.refusals:
        parts.append("the marks are refusals for the limit")
    return "; ".join(parts) + "."


def _build_service_times(data: ReportData) -> Chart:
    """Return the service times of the batches as bars."""
    if not data.service_times:
        return Chart(None, "No batch has ended yet.")
    longest = max(count.to_s for count in data.service_times)
    unit, seconds = next((u, s) for u, s, most in _UNITS if longest <= most)
    rows = [
        {
            "from": count.from_s / seconds,
            "to": count.to_s / seconds,
            "status": count.status.replace("_", " "),
            "batches": count.batches,
        }
        for count in data.service_times
    ]
    statuses = sorted({str(row["status"]) for row in rows}, key=lambda status: (status != "completed", status))
    colors = ["var(--flight)" if status == "completed" else "var(--held)" for status in statuses]
    encoding = {
        "x": {
            "field": "from", "type": "quantitative", "bin": "binned", "title": f"{unit} from creation to end",
            "scale": {"zero": True},
        },
        "x2": {"field": "to"},
        "y": {
            "field": "batches", "type": "quantitative", "title": "batches", "stack": "zero",
            "axis": {"format": ",d", "tickMinStep": 1, "tickCount": 5},
        },
        "color": {"field": "status", "scale": {"domain": statuses, "range": colors}, "sort": None},
        "tooltip": [{"field": name, "title": name} for name in ("status", "batches", "from", "to")],
    }  # fmt: skip
    total = sum(count.batches for count in data.service_times)
    spec = _frame(rows, HEIGHT, mark={"type": "bar", "binSpacing": 1}, encoding=encoding)
    return Chart(spec, f"{format_count(total, 'batch', 'batches')} that ended, in the service's clock.")


_UNITS = (("seconds", 1.0, 180.0), ("minutes", 60.0, 10_800.0), ("hours", 3_600.0, float("inf")))
"""The units of service times: name, seconds, and the longest time (seconds) that is shown in it."""


def _build_failures(data: ReportData) -> Chart:
    """Return the lines of each class of failure, by what became of them."""
    if not data.fates:
        return Chart(None, "Nothing has failed." if data.shards_sent or data.bios else NOTHING_SENT)
    names = {fate: f"has {current_nouns().an_answer}" if fate == ANSWERED else fate for fate in FATES}
    rows = [
        {"failure": fate.class_.replace("_", " "), "fate": names[fate.fate], "lines": fate.lines,
         "place": list(FATES).index(fate.fate)}
        for fate in data.fates
    ]  # fmt: skip
    classes = len({row["failure"] for row in rows})
    encoding = {
        "x": {
            "field": "lines", "type": "quantitative", "title": "lines", "stack": "zero",
            "axis": {"format": "~s", "tickMinStep": 1, "tickCount": {"expr": "max(2, floor(width / 90))"}},
        },
        "y": {
            "field": "failure", "type": "nominal", "title": None,
            "sort": {"field": "lines", "op": "sum", "order": "descending"},
            "axis": {"grid": False, "ticks": False, "domain": False, "labelColor": "var(--ink)", "labelFontSize": 12},
        },
        "color": {
            "field": "fate", "scale": {"domain": list(names.values()), "range": list(FATES.values())}, "sort": None,
        },
        "order": {"field": "place"},
        "tooltip": [
            {"field": "failure", "title": "class"}, {"field": "fate", "title": "now"},
            {"field": "lines", "title": "lines", "format": ","},
        ],
    }  # fmt: skip
    spec = _frame(rows, max(60, 30 * classes), mark={"type": "bar"}, encoding=encoding)
    return Chart(spec, "The lines to which each class of failure has happened, by what has become of them.")


def _build_money(data: ReportData) -> Chart:
    """Return the dollars spent and wasted over time, against the budget."""
    costs = data.status.costs
    if costs.spent is None:
        return Chart(None, "The model's price is not known, so neither is what was spent.")
    if not costs.spent:
        return Chart(None, "Nothing has been spent yet.")
    levels = [MoneyLevel(data.since, 0.0, 0.0), *data.money, data.money[-1]._replace(at=data.until)]
    points = [("spent", level.at, level.spent) for level in levels]
    points += [("wasted", level.at, level.wasted) for level in levels]
    is_bounded = 0 < data.max_usd <= FAR_ABOVE * costs.spent
    if is_bounded:
        points += [("budget", at, data.max_usd) for at in (data.since, data.until)]
    rows = [
        {"at": _milliseconds(at), "when": format_moment(at), "dollars": round(dollars, 6), "kind": kind}
        for kind, at, dollars in points
    ]
    names = ["spent", "wasted", *(["budget"] if is_bounded else [])]
    colors = {"spent": "var(--flight)", "wasted": "var(--bad)", "budget": "var(--held)"}
    encoding = {
        "x": _time_axis("at"),
        "y": {
            "field": "dollars", "type": "quantitative", "title": None, "stack": None,
            "axis": {"format": "$,.2f" if costs.spent >= 1 else "$,.4~f", "tickCount": 5},
        },
        "color": {"field": "kind", "scale": {"domain": names, "range": [colors[name] for name in names]}, "sort": None},
        "tooltip": [
            {"field": "kind", "title": "what"}, {"field": "dollars", "title": "dollars", "format": "$,.4f"},
            {"field": "when", "title": "at"},
        ],
    }  # fmt: skip
    area = {"type": "area", "interpolate": "step-after", "opacity": 0.75}
    layers = [
        {"transform": [{"filter": {"field": "kind", "oneOf": ["spent", "wasted"]}}], "mark": area},
        {
            "transform": [{"filter": {"field": "kind", "equal": "budget"}}],
            "mark": {"type": "line", "strokeDash": [5, 4]},
        },
    ]
    note = "Dollars spent, and of them wasted: paid for answers of no use, such as a second one."
    return Chart(_frame(rows, HEIGHT, encoding=encoding, layer=layers[: 2 if is_bounded else 1]), note)
