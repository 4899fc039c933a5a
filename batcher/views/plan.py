"""The plan as JSON, and as tables and sentences for a terminal."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.catalog.limits import lookup_effort, lookup_output_room, lookup_thinking_room
from batcher.catalog.prices import PriceOf
from batcher.config.caching import find_cache_problem
from batcher.config.sections import Config
from batcher.core.cache.keys import KEYS
from batcher.core.direct.flex import FLEX
from batcher.core.direct.workers import recommend_workers
from batcher.core.model import JobVersion
from batcher.core.pilots import FEWEST_LINES
from batcher.nouns import current_nouns
from batcher.plan.planner import PlanReport, PlanResult
from batcher.plan.reusing import ReusedAnswers
from batcher.state.reports.expectation import CostForecast, Expectation, build_expectation, forecast_lines_usd
from batcher.state.reports.outlook import OpenLines
from batcher.state.reports.status import to_json
from batcher.views.forecast import describe_expected_end
from batcher.views.sheet import MOST_SHARDS, Cell, build_table, format_count, format_duration, format_usd

MOST_COLUMNS = 12
"""Names of columns that a sentence has at most."""


class PlanSummary(NamedTuple):
    """What a plan reports beside its tables: totals of what is still to be sent, the room for it, and the forecast."""

    limit: int
    ceiling: int
    lines: int
    tokens: int
    bytes: int
    budget_usd: float
    """Dollars that are left of the budget; 0 where none are, or where it has no bound."""
    expectation: Expectation
    per_worker_s: float
    """Lines that one worker of the direct lane does in a second."""
    workers: int
    """Workers of the direct lane that would do all lines by the deadline."""
    warnings: Sequence[str] = ()
    """What the settings may not have meant."""
    unused_columns: Sequence[str] = ()
    """Columns of the table that the job does not read."""
    first_wave: int | None = None
    """Lines that may be in flight until an answer was judged, at least one shard; None: any number."""
    pilot_lines: int = 0
    """Lines of the pilot that `run` sends first; 0: none."""
    direct_tier: str = "auto"
    """The service tier that the direct lane asks for: auto or flex."""
    direct_falls_back: bool = False
    """Whether the direct lane asks at the standard price for what flex refuses for too long."""
    cache_prefix: int = 0
    """Counted tokens before the cache breakpoint of a line, the most of all; 0: no line has one."""
    saved_lines: int = 0
    """Lines that are not asked because others ask the same; all of the plan."""
    saved_usd: float | None = 0.0
    """What they would cost at batch rates; None where a price is not known."""
    reused_usd: float | None = 0.0
    """What the lines would cost that this plan needs not, as another job has the answers; None as above."""


def summarise_plan(
    report: PlanReport,
    config: Config,
    price_of: PriceOf,
    now: float,
    unused_columns: Sequence[str] = (),
    reused: Sequence[OpenLines] = (),
) -> PlanSummary:
    """Return totals, price and forecast of what is still to be sent. now: epoch seconds; unused_columns: of the table
    that was planned; reused: lines that the plan needs not, as another job has the answers."""
    outlook = report.outlook
    expectation = build_expectation(outlook, config, price_of, now)
    saved = [OpenLines(outlook.versions[s.version], s.lines, s.tokens, s.longest) for s in report.shared]
    has_pilot = outlook.open_line_count >= FEWEST_LINES and not outlook.measured.executed
    return PlanSummary(
        limit=outlook.room.limit,
        ceiling=outlook.room.ceiling,
        lines=outlook.open_line_count,
        tokens=outlook.open_token_count,
        bytes=sum(p.bytes for p in report.priorities),
        budget_usd=max(0.0, config.budget.max_usd - outlook.spent_usd - outlook.in_flight_usd),
        expectation=expectation,
        per_worker_s=outlook.per_worker_s,
        workers=recommend_workers(outlook.open_line_count, expectation.deadline_s / 3600, outlook.per_worker_s),
        warnings=[
            *_find_tight_outputs(part.version for part in outlook.open),
            *filter(None, [find_cache_problem(config)]),
        ],
        unused_columns=unused_columns,
        first_wave=outlook.load.first_wave,
        pilot_lines=config.pilot.lines if has_pilot else 0,
        direct_tier=config.direct.service_tier,
        direct_falls_back=config.direct.service_tier == FLEX and config.direct.flex_fallback,
        cache_prefix=max((part.prefix for part in outlook.open), default=0),
        saved_lines=sum(part.lines for part in saved),
        saved_usd=forecast_lines_usd(saved, outlook, price_of),
        reused_usd=forecast_lines_usd(reused, outlook, price_of),
    )


def _find_tight_outputs(versions: Iterable[JobVersion]) -> list[str]:
    """Return a sentence for each model, effort and bound that leave a model that thinks too little room to answer."""
    found = []
    for version in versions:
        most, room = version.max_output_tokens, lookup_output_room(version.model, version.effort)
        if most < room and lookup_thinking_room(version.model, version.effort):
            effort = lookup_effort(version.model, version.effort)
            found.append(
                f"{version.model} thinks before it answers (reasoning_effort {effort}): all {most:,} tokens of "
                f"max_output_tokens may be thinking, paid for without an answer; allow {room:,}, or a lower effort."
            )
    return list(dict.fromkeys(found))  # versions may differ in the prompt alone


def plan_to_json(result: PlanResult, report: PlanReport, summary: PlanSummary) -> dict[str, object]:
    """Return the plan as JSON."""
    return {
        "lines_planned": result.lines_planned,
        "artists_new": result.artists_new,
        "rows_read": result.rows_read,
        "changed_rows": result.changed_rows,
        "skipped_rows": [message for _, message in result.skipped],
        "left_out": result.left_out,
        "shared_rows": result.shared.rows,
        "answered_rows": result.shared.answered,
        "reused_rows": result.reused.lines,
        "reuse_refused": result.reused.refused,
        "done_unknown": result.done_unknown,
        "states": dict(report.states),
        "priorities": [p._asdict() for p in report.priorities],
        "shards": [s._asdict() for s in report.shards],
        **{name: to_json(value) for name, value in summary._asdict().items()},
    }


def draw_plan(result: PlanResult, report: PlanReport, summary: PlanSummary) -> RenderableType:
    """Return the drawing of a plan: priorities, shards, price, forecast."""
    parts: list[RenderableType] = [
        build_table(
            "By priority",
            ["priority", current_nouns().rows, "done before", "lines", "tokens", "MB"],
            [
                (str(p.priority), p.artists, p.done_before, p.lines, p.tokens, f"{p.bytes / 1e6:.1f}")
                for p in report.priorities
            ],
        )
    ]
    if report.shards:
        parts.append(
            build_table("Shards", ["shard", "priority", "state", "lines", "tokens", "MB"], _shard_rows(report), 3)
        )
    lines = [
        *_describe_changes(result),
        *_describe_shared(result, summary),
        *_describe_reused(result.reused, summary.reused_usd),
        *describe_unused_columns(summary.unused_columns),
        *_describe_outlook(summary, len(report.shards)),
    ]
    return Group(*parts, *map(Text, lines))


def describe_unused_columns(unused: Sequence[str]) -> list[str]:
    """Return a sentence on the columns of the table that the job does not use; none where it uses all, or may."""
    if not unused:
        return []
    more = f" and {len(unused) - MOST_COLUMNS} more" if len(unused) > MOST_COLUMNS else ""
    kind = "this column" if len(unused) == 1 else "these columns"
    names = ", ".join(name if name.strip() else "(without a name)" for name in unused[:MOST_COLUMNS])
    return [f"The job does not use {kind} of the table: {names}{more}."]


def _shard_rows(report: PlanReport) -> list[Sequence[Cell]]:
    shards = report.shards
    shown = shards if len(shards) <= MOST_SHARDS else shards[: MOST_SHARDS - 1]
    rows: list[Sequence[Cell]] = [
        (str(s.shard), str(s.priority), s.state, s.lines, s.tokens, f"{s.bytes / 1e6:.1f}") for s in shown
    ]
    rest = shards[len(shown) :]
    if rest:
        first, last = rest[0].priority, rest[-1].priority
        priorities = str(first) if first == last else f"{first} to {last}"
        lines, tokens, size = sum(s.lines for s in rest), sum(s.tokens for s in rest), sum(s.bytes for s in rest)
        rows.append((f"{rest[0].shard} to {rest[-1].shard}", priorities, "", lines, tokens, f"{size / 1e6:.1f}"))
    return rows


def _describe_changes(result: PlanResult) -> list[str]:
    nouns = current_nouns()
    lines = [
        f"{format_count(result.rows_read, 'row')} read: "
        f"{format_count(result.artists_new, f'new {nouns.row}', f'new {nouns.rows}')}, "
        f"{format_count(result.lines_planned, 'line')} planned."
    ]
    if result.left_out:
        left = f"{nouns.count_rows(result.left_out)} {'is' if result.left_out == 1 else 'are'} left out of this table"
        lines.append(f"{left}: `--limit N` takes N of them in, `--all` all.")
    if result.changed_rows:
        action = "the unsent ones were taken" if result.replanned else "--replan takes the unsent ones"
        verb = "differs" if result.changed_rows == 1 else "differ"
        lines.append(f"{format_count(result.changed_rows, 'row')} {verb} from what was planned; {action} anew.")
    if result.not_in_table:
        verb, they = ("is", "it stays") if result.not_in_table == 1 else ("are", "they stay")
        planned = format_count(result.not_in_table, f"planned {nouns.row}", f"planned {nouns.rows}")
        lines.append(
            f"{planned} {verb} not in this table any more; {they} planned "
            "(`batcher forget --not-in-table` takes them out)."
        )
    if result.done_unknown:
        verb, was = ("belongs", "was") if result.done_unknown == 1 else ("belong", "were")
        bios = nouns.count_answers(result.done_unknown)
        lines.append(f"{bios} of --done {verb} to no {nouns.row} of the input and {was} left out.")
    if result.skipped:
        lines.append(f"{format_count(len(result.skipped), 'bad row')} skipped, the first: {result.skipped[0][1]}.")
    if result.outdated_shards:
        were = "would be" if result.dry_run else "was" if result.outdated_shards == 1 else "were"
        lines.append(f"{format_count(result.outdated_shards, 'unsent shard')} {were} cut again.")
    return lines


def _describe_shared(result: PlanResult, summary: PlanSummary) -> list[str]:
    """Return how many rows ask the same as another one, and what is saved; nothing where none does."""
    if not summary.saved_lines:
        return []
    nouns, rows = current_nouns(), summary.saved_lines
    price = "" if summary.saved_usd is None else f" and about {format_usd(summary.saved_usd)}"
    asks, takes = ("asks", "takes") if rows == 1 else ("ask", "take")
    answered = result.shared.answered
    given = f" {answered:,} of them {'has' if answered == 1 else 'have'} it by this plan." if answered else ""
    return [
        f"{nouns.count_rows(rows)} {asks} the same as another one and {takes} its {nouns.answer}: "
        f"{format_count(rows, 'line')}{price} less.{given}"
    ]


def _describe_reused(reused: ReusedAnswers, saved_usd: float | None) -> list[str]:
    """Return how many answers of another job were taken over, or why none was; nothing where none was asked for."""
    if reused.version is None:
        return []
    nouns = current_nouns()
    if not reused.lines and not reused.refused:
        of_other = nouns.count_answers(reused.answers)
        why = "no row of this plan asks the same" if reused.known else "none of them was asked as this job asks"
        return [f"The other state has {of_other}, and {why}."]
    price = "" if saved_usd is None else f" and about {format_usd(saved_usd)}"
    was = "was" if reused.refused == 1 else "were"
    refused = f"; {reused.refused:,} more {was} refused by today's job" if reused.refused else ""
    if not reused.lines:
        return [
            f"{nouns.count_answers(reused.refused)} of the other state {was} refused by today's job: none is taken."
        ]
    takes = f"takes its {nouns.answer}" if reused.lines == 1 else f"take their {nouns.answers}"
    return [
        f"{nouns.count_rows(reused.lines)} {takes} from the other state, which asked the same: "
        f"{format_count(reused.lines, 'line')}{price} less{refused}."
    ]


def _describe_outlook(summary: PlanSummary, shards: int) -> list[str]:
    if not summary.lines:
        return ["Nothing is left to send."]
    view, money = summary.expectation.forecast, summary.expectation.dollars
    bounds = f"{format_usd(money.best)} at best, {format_usd(money.most)} at most"
    return [
        f"Price: about {format_usd(money.expected)} at batch rates, {bounds} "
        f"(standard price {format_usd(money.standard)})."
        if money.expected is not None
        else "Price: unknown for this model.",
        *_describe_cache(summary.cache_prefix, money),
        *_describe_budget_overrun(summary.budget_usd, money),
        *summary.warnings,
        f"Room: {summary.ceiling:,} of {summary.limit:,} enqueued tokens may be used, so "
        f"{format_count(shards, 'shard')} {'goes' if shards == 1 else 'go'} in "
        f"{format_count(view.waves, 'wave')}{_describe_first_sent(summary)}.",
        *describe_expected_end(summary.expectation),
        *_describe_direct_lane(summary),
    ]


def _describe_cache(prefix: int, money: CostForecast) -> list[str]:
    """Return what the prompt cache makes of the price; nothing where no line has a breakpoint."""
    if not prefix:
        return []
    first = f"Prompt cache: the first {prefix:,} tokens of each line"
    if money.input is None or money.cache_saved is None:
        return [f"{first} are written to it once and then read."]
    return [
        f"{first} are written to it once for each of {KEYS} keys and then read: the input is about "
        f"{format_usd(money.input)} instead of {format_usd(money.input + money.cache_saved)}."
    ]


def _describe_first_sent(summary: PlanSummary) -> str:
    """Return what is sent and judged before the waves, as a part of a sentence; "" where nothing is."""
    parts = (
        [f"a pilot of {format_count(summary.pilot_lines, 'line')} (by `batcher run`)"] if summary.pilot_lines else []
    )
    if summary.first_wave is not None and summary.first_wave < summary.lines:
        lines = f"{format_count(summary.first_wave, 'line')} (or one shard)" if summary.first_wave else "one shard"
        parts.append(f"a first wave of {lines}")
    return f", after {' and '.join(parts)}, of which answers are judged first" if parts else ""


def _describe_direct_lane(summary: PlanSummary) -> list[str]:
    """Return how long the direct lane would take for the same lines, with how many workers and at which price."""
    hours, rate = summary.expectation.deadline_s / 3600, summary.per_worker_s
    if not summary.lines or hours <= 0:
        return []
    seconds = summary.lines / (summary.workers * rate)
    takes = f"about {format_duration(seconds)} with {format_count(summary.workers, 'worker')}"
    money, is_flex = summary.expectation.dollars, summary.direct_tier == FLEX
    if money.standard is None or money.expected is None:
        return [f"`batcher direct --unreleased` would take {takes}, at the {'flex' if is_flex else 'standard'} price."]
    if is_flex:
        more = f", and up to {format_usd(money.standard)} where flex refuses lines" if summary.direct_falls_back else ""
        return [
            f"`batcher direct --unreleased` would take {takes}, where flex processing has room, and cost about "
            f"{format_usd(money.expected)}, as batches do{more}."
        ]
    return [
        f"`batcher direct --unreleased` would take {takes} and cost about {format_usd(money.standard)} instead of "
        f"{format_usd(money.expected)}."
    ]


def _describe_budget_overrun(budget: float, money: CostForecast) -> list[str]:
    if not budget or money.most is None or money.expected is None or money.most <= budget:
        return []
    how = "is expected to pass" if money.expected > budget else "may pass"
    return [f"That {how} what is left of the budget, {format_usd(budget)}: what does not fit is not sent."]
