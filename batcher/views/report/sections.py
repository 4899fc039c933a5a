"""The sections of the report as HTML: headline numbers, money, prompts, dead and held lines, sample bios. Pure."""

from collections.abc import Mapping, Sequence

import orjson

from batcher.nouns import capitalize, current_nouns
from batcher.state.reports.prompts import PromptTotals
from batcher.state.reports.report import LostLine, ReportData, SampleBio
from batcher.views.next_steps import describe_next_steps
from batcher.views.report.charts import Chart
from batcher.views.report.html import Cell, build_element, build_table, sentence_to_html, text_to_html
from batcher.views.sheet import format_count, format_duration, format_moment, format_usd

TEXT_LENGTH = 1_200
"""Characters of a text of a sample bio that are shown."""
SHORT_FIELD = 80
"""Characters up to which a field of a bio stands in one line with others."""
OUTCOMES = (
    ("accepted", "accepted", ("done", "done_before")),
    ("flight", "in flight", ("in_batch", "in_direct")),
    ("waiting", "waiting", ("ready", "waiting")),
    ("held", "held", ("held",)),
    ("dead", "dead", ("dead",)),
)
"""What became of the lines: class of the style, name, and states."""


def build_headline(data: ReportData) -> str:
    """Return the headline numbers, and the bar of the lines by what became of them."""
    counts = {kind: sum(data.status.states.get(s, 0) for s in among) for kind, _, among in OUTCOMES}
    artists, nouns = sum(counts.values()), current_nouns()
    in_flight, waiting, held, dead = (counts[kind] for kind in ("flight", "waiting", "held", "dead"))
    tiles = [
        _build_tile(
            "bios",
            capitalize(nouns.answers),
            f"{data.bios:,}",
            f"{_describe_share(data.bios, artists)} of {artists:,} {nouns.rows}",
        ),
        _build_tile("open", "To come", f"{in_flight + waiting:,}", f"{in_flight:,} in flight, {waiting:,} waiting"),
        _build_tile("dead", "Given up", f"{dead:,}", f"dead; {held:,} held", "bad" if dead else ""),
        _build_money_tile(data),
        _build_end_tile(data),
    ]
    return build_element("div", "\n".join(tiles), class_="tiles") + _build_bar(counts) + _build_alerts(data)


def _describe_share(part: int, whole: int) -> str:
    """Return a share in percent; only what is whole is 100%."""
    if not whole:
        return "0%"
    return f"{min(part / whole, 0.999 if part < whole else 1.0):.1%}".replace(".0%", "%")


def _build_tile(id: str, name: str, value: str, more: str, tone: str = "") -> str:
    inner = (
        build_element("div", text_to_html(name), class_="name")
        + build_element("div", text_to_html(value), class_=f"value {tone}".strip(), id=f"headline-{id}")
        + build_element("div", sentence_to_html(more), class_="more")
    )
    return build_element("div", inner, class_="card tile")


def _build_money_tile(data: ReportData) -> str:
    spent = data.status.costs.spent
    if spent is None:
        return _build_tile("spent", "Spent", "not known", "the model's price is not known")
    budget = f"of a budget of {format_usd(data.max_usd)}" if data.max_usd else "no budget is set"
    return _build_tile("spent", "Spent", format_usd(spent), budget)


def _build_end_tile(data: ReportData) -> str:
    """Return when the job ends or has ended, against the deadline."""
    status, forecast = data.status, data.status.expectation.forecast
    deadline = status.now + status.expectation.deadline_s
    if not data.shards_sent and not data.bios:
        return _build_tile("end", "Planned", format_moment(data.planned_at), "UTC; nothing was sent yet")
    if not data.is_open:
        took = format_duration(data.until - data.since)
        is_late = data.until > deadline
        met = "past the deadline" if is_late else "within the deadline"
        more = f"UTC, after {took}; {met}"
        return _build_tile("end", "Ended", format_moment(data.until), more, "bad" if is_late else "")
    if status.expectation.waits_for:
        return _build_tile("end", "Ends", "waits", f"not before {status.expectation.waits_for}", "bad")
    is_late = forecast.expected_s > status.expectation.deadline_s
    worst = format_moment(status.now + forecast.worst_s)
    met = "past the deadline" if is_late else "within the deadline"
    about = format_moment(status.now + forecast.expected_s)
    return _build_tile("end", "Done about", about, f"UTC, {worst} at worst; {met}", "bad" if is_late else "")


def _build_bar(counts: Mapping[str, int]) -> str:
    """Return the lines by what became of them. counts: by the class of the style."""
    artists = sum(counts.values())
    shown = [(kind, name, counts[kind]) for kind, name, _ in OUTCOMES if counts[kind]]
    parts = "".join(f'<span class="{kind}" style="width:{100 * n / artists:.3f}%"></span>' for kind, _, n in shown)
    words = ", ".join(f"{n:,} {name}" for _, name, n in shown) or "no lines"
    bar = build_element("div", parts, class_="bar", role="img", aria_label=f"Lines: {words}")
    items = "".join(
        f'<li><i class="{kind}"></i>{text_to_html(f"{name} {n:,} ({_describe_share(n, artists)})")}</li>'
        for kind, name, n in shown
    )
    title = build_element("h3", "Lines by what became of them")
    return build_element(
        "div", title + bar + f'<ul class="legend">{items}</ul>', class_="card", style="margin-top:1rem"
    )


def _build_alerts(data: ReportData) -> str:
    """Return what waits for a person."""
    steps = (step for step in describe_next_steps(data.status) if step.kind != "collect")
    return "".join(build_element("p", sentence_to_html(step.sentence), class_="card alert") for step in steps)


def build_chart(name: str, title: str, chart: Chart, is_wide: bool = False) -> str:
    """Return the place of a chart with its heading, or the sentence that stands for it."""
    if chart.spec is None:
        inner = build_element("p", text_to_html(chart.note), class_="empty")
    else:
        plot = build_element("div", "", class_="plot", data_chart=name, role="group", aria_label=title)
        colors = "".join(
            f'<li><i style="background:{color}"></i>{text_to_html(name)}</li>' for name, color in chart.legend
        )
        legend = build_element("ul", colors, class_="legend")
        inner = build_element("p", sentence_to_html(chart.note), class_="note") + legend + plot
    heading = build_element("h3", text_to_html(title))
    return build_element("figure", heading + inner, class_="card wide" if is_wide else "card", id=f"chart-{name}")


def build_money(data: ReportData) -> str:
    """Return the amounts of money in words and numbers."""
    costs, dollars = data.status.costs, data.status.expectation.dollars
    to_come = "not known" if dollars.expected is None else format_usd(dollars.expected)
    most = f" (at most {format_usd(dollars.most)})" if dollars.expected and dollars.most else ""
    rows = [
        ("spent", _describe_amount(costs.spent)),
        ("of that wasted", _describe_amount(costs.wasted)),
        ("saved against the standard price", _describe_amount(costs.saved)),
        (f"{current_nouns().an_answer} of this run", _describe_price(costs.spent, costs.bios)),
        ("in flight, at most", _describe_amount(costs.reserved)),
        ("expected to come", to_come + most),
        ("budget", format_usd(data.max_usd) if data.max_usd else "none"),
    ]
    listed = "".join(
        build_element("dt", text_to_html(name)) + build_element("dd", text_to_html(value)) for name, value in rows
    )
    inner = build_element("h3", "In dollars") + build_element("dl", listed)
    return build_element("div", inner, class_="card", id="money")


def _describe_price(spent: float | None, bios: int) -> str:
    """Return what each bio has cost, what was wasted included."""
    return f"no {current_nouns().answer} yet" if not bios else _describe_amount(None if spent is None else spent / bios)


def _describe_amount(amount: float | None) -> str:
    return "not known" if amount is None else format_usd(amount)


def _list_prompt_columns() -> list[Cell]:
    """Return the columns of the prompts; a narrow page leaves the optional ones out."""
    return [
        ("prompt", ""), ("since (UTC)", "optional"), ("lines", "number"), ("judged", "number"), ("accepted", "number"),
        ("", "optional"), (text_to_html(current_nouns().answers), "number"), ("cost", "number optional"),
    ]  # fmt: skip


def _list_lost_columns() -> list[Cell]:
    """Return the columns of the dead and held lines."""
    return [
        (text_to_html(current_nouns().row), ""), ("name", ""), ("priority", "number"), ("state", ""), ("failure", ""),
        ("reason", ""), ("tries", "number"),
    ]  # fmt: skip


def build_prompts(prompts: Sequence[PromptTotals]) -> str:
    """Return the prompts with their accepted share and cost."""
    table = build_table(_list_prompt_columns(), map(_list_prompt_cells, prompts), "prompts")
    note = build_element("p", sentence_to_html("`batcher versions A B` shows what differs between two."), class_="note")
    return build_element("div", note + build_element("div", table, class_="scroll"), class_="card", id="prompts")


def _list_prompt_cells(row: PromptTotals) -> list[Cell]:
    contents = (
        str(row.prompt), format_moment(row.planned_at), f"{row.lines:,}", f"{row.judged:,}", _describe_accepted(row),
        _build_share(row.accepted_share), f"{row.bios:,}", _describe_amount(row.cost_usd),
    )  # fmt: skip
    return [(content, kind) for content, (_, kind) in zip(contents, _list_prompt_columns(), strict=True)]


def _describe_accepted(row: PromptTotals) -> str:
    return "none judged" if row.accepted_share is None else f"{row.accepted_share:.1%}"


def _build_share(share: float | None) -> str:
    return "" if share is None else f'<span class="share"><span style="width:{100 * share:.1f}%"></span></span>'


def build_lost(data: ReportData) -> str:
    """Return the table of dead and held lines, with its search."""
    total = data.lost_count
    if not total:
        return _build_empty("No line is dead or held.", "lost")
    listed, row = len(data.lost), text_to_html(current_nouns().row)
    if listed < total:
        count = f"The {listed:,} most urgent of {total:,} dead and held lines; `batcher collect --failed` writes all."
    else:
        count = f"{format_count(total, 'dead or held line')}."
    search = (
        f'<p class="search"><input type="search" id="search" placeholder="Search by {row}, class or reason" '
        'aria-label="Search the dead and held lines" aria-controls="lines" autocomplete="off"></p>'
    )
    found = build_element("p", sentence_to_html(count), class_="count", id="found", aria_live="polite")
    table = build_table(_list_lost_columns(), map(_list_lost_cells, data.lost), "lost")
    return build_element(
        "div", search + found + build_element("div", table, class_="scroll", id="lines"), class_="card", id="lost"
    )


def _list_lost_cells(line: LostLine) -> list[Cell]:
    failure = (line.class_ or "").replace("_", " ")
    code = f" ({line.code})" if line.code and line.code != line.class_ else ""
    state = f"{line.state}, has an earlier {current_nouns().answer}" if line.has_bio else line.state
    texts = (
        line.artist_id,
        line.artist_name,
        str(line.priority),
        state,
        failure + code,
        line.message or "",
        str(line.tries),
    )
    return [(text_to_html(text), kind) for text, (_, kind) in zip(texts, _list_lost_columns(), strict=True)]


def _build_empty(sentence: str, id: str) -> str:
    """Return the card of a section that has nothing to show."""
    return build_element("div", build_element("p", text_to_html(sentence), class_="empty"), class_="card", id=id)


def build_samples(samples: Sequence[SampleBio]) -> str:
    """Return the sample bios."""
    if not samples:
        return _build_empty(f"No {current_nouns().answer} has come yet.", "samples")
    return build_element("div", "\n".join(map(_build_sample, samples)), class_="samples", id="samples")


def _build_sample(sample: SampleBio) -> str:
    found = orjson.loads(sample.data)
    fields: Mapping[str, object] = found if isinstance(found, dict) else {current_nouns().answer: found}
    texts = {name: _show_value(value) for name, value in fields.items()}
    longs = [name for name, text in texts.items() if len(text) > SHORT_FIELD]
    longs = longs or list(texts)[:1]
    body = "".join(
        build_element(
            "p",
            (build_element("strong", text_to_html(name)) + " " if len(longs) > 1 else "") + text_to_html(texts[name]),
        )
        for name in longs
    )
    shorts = "; ".join(f"{name}: {text}" for name, text in texts.items() if name not in longs)
    rest = build_element("p", text_to_html(shorts), class_="fields") if shorts else ""
    prompt = f", prompt {sample.prompt}" if sample.prompt is not None else ", of an earlier run"
    heading = build_element("h3", text_to_html(sample.artist_name))
    note = build_element("div", text_to_html(f"{sample.artist_id}, priority {sample.priority}{prompt}"), class_="note")
    return build_element("article", heading + note + body + rest, class_="card sample")


def _show_value(value: object) -> str:
    """Return a value of a bio as text, cut where it is long."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= TEXT_LENGTH else f"{text[:TEXT_LENGTH]}..."
