"""Drawing reports for a terminal: pure functions from data to rich's tables."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from batcher.core.forecast import Forecast
from batcher.core.model import Measured
from batcher.state.costs import Costs, total
from batcher.state.status import Dollars, Expectation, PlanSummary, Status

if TYPE_CHECKING:
    from batcher.cli.doctor import Finding
    from batcher.plan.planner import PlanReport, PlanResult

LONG_ID, SHORT_ID = 26, 14
"""Ids of so many characters are cut to so many, where there is no room: batch_64d2c3ca…"""
MOST_SHARDS = 12
"""Rows of the table of shards; the rest is summed up in one."""


def span(seconds: float) -> str:
    """A time span in the unit that reads best."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 3570:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    if hours < 72:
        return f"{hours:.0f} h" if hours >= 9.95 or abs(hours - round(hours)) < 0.05 else f"{hours:.1f} h"
    return f"{hours / 24:.1f} days"


def at(seconds: float | None) -> str:
    """A moment, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") if seconds else ""


def usd(amount: float | None) -> str:
    """Dollars, in cents or finer where it is little."""
    if amount is None:
        return "price unknown"
    if amount == 0 or amount >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.001 else f"${amount:.6f}"


class Sheet:
    """A plain table under its title, as wide as its contents; all but the first `text_columns` stand to the right.

    Where the terminal is too narrow, long ids are shortened (--json has them whole), then the columns of `spare` go,
    in their order; only what is still too wide is folded.
    """

    def __init__(
        self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], text_columns: int, spare: Sequence[str]
    ) -> None:
        self.title, self.columns, self.text_columns, self.spare = title, list(columns), text_columns, spare
        self.rows = [[f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in rows]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich draws."""
        yield Text(self.title, style="bold")
        yield self._drawn(options.max_width)
        yield Text()

    def _drawn(self, width: int) -> Table:
        rows, kept = self.rows, list(range(len(self.columns)))
        if self._width(rows, kept) > width:
            rows = [[short_id(cell) for cell in row] for row in rows]
        for name in self.spare:
            if self._width(rows, kept) > width and len(kept) > 1:
                kept.remove(self.columns.index(name))
        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for place in kept:
            justify: JustifyMethod = "left" if place < self.text_columns else "right"
            drawn.add_column(Text(self.columns[place]), justify=justify, overflow="fold")
        for row in rows:
            drawn.add_row(*(Text(row[place]) for place in kept))
        return drawn

    def _width(self, rows: Sequence[Sequence[str]], kept: Sequence[int]) -> int:
        """What a table of these columns takes; between two columns stand three cells (its padding and its edge)."""
        widths = [max(cell_len(cell) for cell in (self.columns[k], *(row[k] for row in rows))) for k in kept]
        return sum(widths) + 3 * (len(kept) - 1)


def short_id(text: str) -> str:
    """An id of the service's, cut to what tells it from the others at hand."""
    return text if len(text) < LONG_ID or " " in text else f"{text[:SHORT_ID]}…"


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], text_columns: int = 1, spare: Sequence[str] = ()
) -> Sheet:
    """A table of texts and numbers. spare: columns that a narrow terminal can do without, the first to go first."""
    return Sheet(title, columns, rows, text_columns, spare)


def draw_plan(result: "PlanResult", report: "PlanReport", summary: PlanSummary) -> RenderableType:
    """The plan: priorities, shards, price, forecast."""
    parts: list[RenderableType] = [
        table(
            "By priority",
            ["priority", "artists", "done before", "lines", "tokens", "MB"],
            [
                (str(p.priority), p.artists, p.done_before, p.lines, p.tokens, f"{p.bytes / 1e6:.1f}")
                for p in report.priorities
            ],
        )
    ]
    if report.shards:
        parts.append(table("Shards", ["shard", "priority", "state", "lines", "tokens", "MB"], _shard_rows(report), 3))
    parts += [Text(line) for line in [*_changes(result), *_outlook(summary, len(report.shards))]]
    return Group(*parts)


def _shard_rows(report: "PlanReport") -> list[Sequence[Any]]:
    shards = report.shards
    shown = shards if len(shards) <= MOST_SHARDS else shards[: MOST_SHARDS - 1]
    rows: list[Sequence[Any]] = [
        (str(s.shard), str(s.priority), s.state, s.lines, s.tokens, f"{s.bytes / 1e6:.1f}") for s in shown
    ]
    rest = shards[len(shown) :]
    if rest:
        lines, tokens, size = sum(s.lines for s in rest), sum(s.tokens for s in rest), sum(s.bytes for s in rest)
        rows.append(
            (f"{len(rest)} more", f"{rest[0].priority}-{rest[-1].priority}", "", lines, tokens, f"{size / 1e6:.1f}")
        )
    return rows


def _changes(result: "PlanResult") -> list[str]:
    lines = [
        f"{result.rows_read:,} rows read: {result.artists_new:,} new artists, {result.lines_planned:,} lines planned."
    ]
    if result.changed_rows:
        lines.append(_changed(result))
    if result.not_in_table:
        lines.append(f"{result.not_in_table:,} planned artists are not in this table any more; they stay planned.")
    if result.done_unknown:
        lines.append(f"{result.done_unknown:,} bios of --done belong to no artist of the input and were left out.")
    if result.skipped:
        lines.append(f"{len(result.skipped):,} bad rows skipped, the first: {result.skipped[0][1]}")
    if result.outdated_shards:
        lines.append(f"{result.outdated_shards} unsent shards were cut again.")
    return lines


def _changed(result: "PlanResult") -> str:
    told = f"{result.changed_rows:,} rows differ from what was planned"
    return f"{told}; {'the unsent ones were taken' if result.replanned else '--replan takes the unsent ones'} anew."


def _outlook(summary: PlanSummary, shards: int) -> list[str]:
    if not summary.lines:
        return ["Nothing is left to send."]
    view, money = summary.expectation.forecast, summary.expectation.dollars
    bounds = f"{usd(money.best)} at best, {usd(money.most)} at most"
    return [
        f"Price: about {usd(money.expected)} at batch rates, {bounds} (standard price {usd(money.standard)})."
        if money.expected is not None
        else "Price: unknown for this model.",
        *_over_budget(summary.budget_usd, money),
        f"Room: {summary.ceiling:,} of {summary.limit:,} enqueued tokens may be used, so {shards} shards go in "
        f"{view.waves} wave{'s' if view.waves != 1 else ''}.",
        *_end(summary.expectation),
        *_direct(summary),
    ]


def _direct(summary: PlanSummary) -> list[str]:
    """What the direct lane would take, with its arithmetic."""
    hours, rate = summary.expectation.deadline_s / 3600, summary.per_worker_s
    if not summary.lines or hours <= 0:
        return []
    needed = summary.lines / (hours * 3600) / rate
    return [
        f"By `batcher direct` instead: {summary.lines:,} lines / {hours:,.0f} h / {rate:.2f} lines a second and worker "
        f"= {needed:.2f}: {summary.workers} workers, at the standard price."
    ]


def _over_budget(budget: float, money: Dollars) -> list[str]:
    if not budget or money.most is None or money.expected is None or money.most <= budget:
        return []
    how = "is expected to pass" if money.expected > budget else "may pass"
    return [f"That {how} what is left of the budget, {usd(budget)}: what does not fit is not sent."]


def _end(expectation: Expectation) -> list[str]:
    """The expected end against the deadline, what it rests on, and what would help."""
    view, deadline = expectation.forecast, expectation.deadline_s
    basis = (
        f"from the {view.measured} batches that have ended"
        if view.measured
        else "assuming 1, 4 and 24 h a batch until one has ended"
    )
    start = "After `batcher resume` it ends" if expectation.waits_for_user else "End: expected"
    told = (
        f"{start} in {span(view.expected_s)} ({span(view.best_s)} at best, {span(view.worst_s)} at worst, {basis}): "
        f"{_fits(view, deadline)}."
    )
    help_ = [f"To be in time: {'; or '.join(expectation.advice)}."] if expectation.advice else []
    return [told, *help_]


def _fits(view: Forecast, deadline_s: float) -> str:
    if deadline_s <= 0:
        return f"the deadline was {span(-deadline_s)} ago"
    when = f"the deadline in {span(deadline_s)}"
    if view.worst_s <= deadline_s:
        return f"within {when}"
    if view.expected_s <= deadline_s:
        return f"probably within {when}"
    return f"probably PAST {when}" if view.best_s <= deadline_s else f"PAST {when}"


SHARD_WAITS_FOR = {
    "released": "to be uploaded again",
    "uploading": "to find out what became of its upload",
    "uploaded": "to be sent again: it was refused",
    "creating": "to find out what became of its batch",
}


def draw_status(status: Status) -> RenderableType:
    """The job at one moment."""
    names = ["priority", "artists", "done before", "done", "in flight", "open", "held", "dead"]
    keys = ["priority", "artists", "done_before", "done", "in_flight", "open", "held", "dead"]
    parts: list[RenderableType] = [
        table("By priority", names, [[str(p[keys[0]]), *(p[key] for key in keys[1:])] for p in status.priorities])
    ]
    if status.batches:
        parts.append(_batches(status))
    if status.failures:
        rows = [(f["class"], f["code"] or "", f["times"]) for f in status.failures]
        parts.append(table("Failures so far", ["class", "code", "times"], rows, 2))
    if status.lost:
        lost = [(f["state"], f["class"], f["code"] or "", f["artists"]) for f in status.lost]
        parts.append(table("Given up or held", ["state", "class", "code", "artists"], lost, 3))
    if len(status.shard_costs) > 1:
        columns = ["shard", "bios", "reserved", "spent", "saved", "wasted"]
        parts.append(table("Money by shard", columns, _money_rows(status.shard_costs)))
    return Group(*parts, *(Text(line) for line in _sentences(status)))


def _batch_row(batch: Mapping[str, Any], now: float) -> tuple[Any, ...]:
    done = f"{batch['completed'] + batch['failed']:,} of {batch['lines']:,}"
    where = (batch["batch_id"], str(batch["shard"]), str(batch["priority"]), batch["status"])
    return (*where, done, span(max(0.0, now - batch["recorded_at"])))


def _batches(status: Status) -> Sheet:
    rows = [_batch_row(batch, status.now) for batch in status.batches]
    return table("In flight", ["batch", "shard", "priority", "status", "lines", "for"], rows, 4, ["priority", "for"])


def _sentences(status: Status) -> list[str]:
    lines = [
        f"Room: {status.reserved:,} of {status.ceiling:,} tokens are reserved (limit {status.limit:,}), "
        f"headroom {status.headroom:,}.",
        *_refused(status.refusals),
        _money_of_job(status),
        *_learned(status.expectation.measured),
    ]
    lines += [_line_wait(w) for w in status.waiting_lines]
    lines += [_shard_wait(w) for w in status.waiting_shards]
    lines += [_paused(p["reason"], p["until"], status.now) for p in status.pauses]
    if status.blocked_until > status.now:
        lines.append(f"The service has no room for more; asked again at {at(status.blocked_until)} UTC at the latest.")
    if status.outage_until > status.now:
        lines.append(f"The service does not answer; asked again at {at(status.outage_until)} UTC.")
    if status.direct_until > status.now:
        lines.append(f"The direct lane was refused or not answered; it calls again at {at(status.direct_until)} UTC.")
    if status.stopped:
        lines.append(f"Stopped: {status.stopped}.")
    return [*lines, *_outcome(status)]


def _line_wait(wait: Mapping[str, Any]) -> str:
    return f"{wait['lines']:,} lines wait after {wait['class']}, the first until {at(wait['first_at'])} UTC."


def _shard_wait(wait: Mapping[str, Any]) -> str:
    return f"Shard {wait['shard']} waits until {at(wait['until'])} UTC {SHARD_WAITS_FOR[wait['state']]}."


def _paused(reason: str, until: float | None, now: float) -> str:
    if until is not None and until <= now:
        return f"The pause ({reason}) is over: one shard at a time until one succeeds."
    return f"Paused ({reason}) until {_until(until)}."


def _until(moment: float | None) -> str:
    return f"{at(moment)} UTC" if moment else "`batcher resume`"


def _refused(refusals: Mapping[str, Any]) -> list[str]:
    if not refusals["times"]:
        return []
    named = f"; it named a limit of {refusals['named_limit']:,}" if refusals["named_limit"] else ""
    return [
        f"Refused for the limit {refusals['times']:,} times, last at {at(refusals['last_at'])} UTC with "
        f"{refusals['in_flight']:,} tokens reserved{named}."
    ]


def _money(costs: Costs) -> str:
    """What something has cost, and may."""
    if costs.spent is None or costs.reserved is None:
        return "The model's price is not known, so what is spent, saved, wasted and reserved is not known either"
    told = f"Spent {usd(costs.spent)}, of that {usd(costs.wasted)} on answers that gave no bio"
    if costs.saved:
        told += f"; {usd(costs.saved)} saved against the standard price"
    if costs.reserved:
        told += f"; at most {usd(costs.reserved)} in flight"
    return told


def _money_of_job(status: Status) -> str:
    told, to_come = _money(status.costs), status.expectation.dollars
    if to_come.expected is None and status.costs.spent is not None:
        return f"{told}; the price of what is to come is not known."
    if not to_come.expected:
        return f"{told}."
    return f"{told}; about {usd(to_come.expected)} to come ({usd(to_come.best)} at best, {usd(to_come.most)} at most)."


def _money_rows(costs: Sequence[Costs]) -> list[Sequence[Any]]:
    """A row each, those beyond MOST_SHARDS as one."""
    shown = costs if len(costs) <= MOST_SHARDS else costs[: MOST_SHARDS - 1]
    rest = costs[len(shown) :]
    named = [("direct" if c.shard is None else str(c.shard), c) for c in shown]
    if rest:
        named.append((f"{len(rest)} more", total(rest)))
    return [(name, c.bios, *(usd(n) for n in (c.reserved, c.spent, c.saved, c.wasted))) for name, c in named]


def _learned(seen: Measured) -> list[str]:
    if not seen.enough:
        return []
    taken = "" if seen.ratio == seen.input / seen.counted else f" (taken as {seen.ratio:g})"
    return [
        f"Measured on {seen.executed:,} lines: {seen.input / seen.counted:.3f} tokens for each counted one{taken}, "
        f"{seen.output / seen.executed:.0f} tokens an answer, {seen.again_share:.1%} of the lines go again."
    ]


def _outcome(status: Status) -> list[str]:
    """Where it will end, and what waits for a word of the user's; that it has ended where it has."""
    if not any(status.states.get(state) for state in ("ready", "waiting", "in_batch", "in_direct")):
        return ["Nothing is in flight or waits to be sent."]
    planned = next((s for s in status.shards if s["state"] == "planned"), None)
    told = _end(status.expectation)
    if planned:
        told.append(f"{_shards(planned['shards'])} planned and not released; `batcher submit` releases.")
    return told


def _shards(count: int) -> str:
    return f"{count:,} shard is" if count == 1 else f"{count:,} shards are"


TRY_COLUMNS = ("at (UTC)", "outcome", "code", "batch", "tokens in", "out", "cost")


def draw_artist(artist: Mapping[str, Any]) -> RenderableType:
    """One artist's whole history."""
    head = Text(f"{artist['artist_name']} ({artist['artist_id']}), priority {artist['priority']}: {artist['state']}")
    parts: list[RenderableType] = [head]
    if artist["failure"]:
        parts.append(Text(f"last failure: {artist['failure']}, {artist['code']}: {artist['message']}"))
    if artist["bio"]:
        parts.append(Text("\n" + _bio_text(artist["bio"]["data"]) + "\n"))
    parts.append(Text(f"{_money(Costs(**artist['costs']))}."))
    rows = [_try_row(t) for t in artist["attempts_made"]]
    if rows:
        parts.append(table("Tries", TRY_COLUMNS, rows, 4, ["tokens in", "out", "cost"]))
    events = [_event_row(e) for e in artist["events"]]
    if events:
        parts.append(table("History of its line and its shards", ["at (UTC)", "event", "shard", "detail"], events, 4))
    return Group(*parts)


def _try_row(made: Mapping[str, Any]) -> tuple[Any, ...]:
    where = made["batch_id"] or made["lane"]
    tokens = (made["tokens_input"], made["tokens_output"])
    return (at(made["happened_at"]), made["outcome"], made["code"] or "", where, *tokens, usd(made["cost_usd"]))


def _event_row(event: Mapping[str, Any]) -> tuple[str, ...]:
    detail = " ".join(short_id(word) for word in str(event["detail"] or "").split())
    return at(event["happened_at"]), event["kind"].replace("_", " "), str(event["shard"] or ""), detail


def draw_findings(findings: "Sequence[Finding]") -> RenderableType:
    """What the doctor found: a line each, and under it what to do."""
    marks = {"ok": "[green]ok   [/]", "note": "[yellow]note [/]", "wrong": "[red]wrong[/]"}
    parts: list[RenderableType] = []
    for finding in findings:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(min_width=5)
        grid.add_column(min_width=8)
        grid.add_column()
        grid.add_row(marks[finding.level], finding.what, escape(finding.found))
        if finding.todo:
            grid.add_row("", "", escape(f"-> {finding.todo}"))
        parts.append(grid)
    return Group(*parts)


def _bio_text(data: str) -> str:
    fields = orjson.loads(data)
    return str(fields.get("bio") or data)
