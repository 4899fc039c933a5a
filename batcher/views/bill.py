"""What was counted of a job beside what OpenAI says was used and billed, as JSON and for a terminal."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.service.admin_service import CostRow, UsageRow
from batcher.state.reports.bill import BillSpan, CountedUsage
from batcher.views.sheet import Cell, build_table, format_moment, format_usd

COLUMNS = ["", "requests", "input", "cached", "written", "output", "dollars"]
SAME = "the same"
LEAST_SHARE = 0.001
"""Differences of a smaller share are none: costs are rounded."""


class Bill(NamedTuple):
    """A job's own count, and what OpenAI says of its project for the same time."""

    project: str
    span: BillSpan
    models: Sequence[str]
    counted: Sequence[CountedUsage]
    usage: Sequence[UsageRow]
    """Of these models."""
    costs: Sequence[CostRow]
    """Of the whole days, of all models."""

    @property
    def counted_usd(self) -> float | None:
        """Dollars by our count; None where a price is not known."""
        amounts = [each.usd for each in self.counted]
        return None if None in amounts else sum(amount or 0.0 for amount in amounts)

    @property
    def billed_usd(self) -> float:
        """Dollars that are billed for the models of the job."""
        return sum(row.usd for row in self.costs if self.is_of_job(row))

    def is_of_job(self, row: CostRow) -> bool:
        """Return whether a line item is of a model of the job ("gpt-6-luna, input_tokens")."""
        return is_of_models(row.item.partition(",")[0].strip(), self.models)


def is_of_models(name: str, models: Sequence[str]) -> bool:
    """Return whether a name is one of these models, or a version of one by its date."""
    return any(name == model or name.startswith(f"{model}-20") for model in models)


def bill_to_json(bill: Bill) -> dict[str, object]:
    """Return the bill as JSON."""
    counted_usd = bill.counted_usd
    return {
        "project": bill.project,
        "start": bill.span.start,
        "end": bill.span.end,
        "models": list(bill.models),
        "counted": [row._asdict() for row in bill.counted],
        "usage": [row._asdict() for row in bill.usage],
        "costs": [{**row._asdict(), "is_of_job": bill.is_of_job(row)} for row in bill.costs],
        "counted_usd": counted_usd,
        "billed_usd": bill.billed_usd,
        "difference_usd": None if counted_usd is None else bill.billed_usd - counted_usd,
    }


def draw_bill(bill: Bill) -> RenderableType:
    """Return the drawing of a bill: tokens by who counted them, costs by line item, and how they differ."""
    parts: list[RenderableType] = [
        Text(
            f"{', '.join(bill.models)} in {bill.project}, {format_moment(bill.span.start)} to {_format_end(bill)} UTC"
        ),
        build_table("Used", COLUMNS, _usage_rows(bill), 1, ["written", "cached"]),
    ]
    if bill.costs:
        rows: list[Sequence[Cell]] = [
            (row.item, "" if bill.is_of_job(row) else "another model", format_usd(row.usd)) for row in bill.costs
        ]
        parts.append(build_table("Billed on these days", ["line item", "", "dollars"], rows, 2))
    return Group(*parts, *map(Text, _describe_differences(bill)))


def _format_end(bill: Bill) -> str:
    return format_moment(bill.span.end)


def _usage_rows(bill: Bill) -> Iterator[Sequence[Cell]]:
    for each in bill.counted:
        counts = (each.requests, each.input, each.cached, each.written, each.output)
        yield (f"counted, {each.lane}{_name_model(bill, each.model)}", *counts, format_usd(each.usd))
    if len(bill.counted) != 1:
        yield ("counted, all", *_sum_counts(bill.counted), format_usd(bill.counted_usd))
    for row in sorted(bill.usage, key=lambda row: (row.model, not row.is_batch)):
        counts = (row.requests, row.input, row.cached, row.written, row.output)
        yield (f"OpenAI, {'batch' if row.is_batch else 'direct'}{_name_model(bill, row.model)}", *counts, "")
    if len(bill.usage) != 1:
        yield ("OpenAI, all", *_sum_counts(bill.usage), "")


def _name_model(bill: Bill, model: str) -> str:
    return f", {model}" if len(bill.models) > 1 else ""


def _sum_counts(rows: Sequence[CountedUsage] | Sequence[UsageRow]) -> tuple[int, ...]:
    """Return the sums of requests, input, cached, written and output."""
    return (
        sum(row.requests for row in rows),
        sum(row.input for row in rows),
        sum(row.cached for row in rows),
        sum(row.written for row in rows),
        sum(row.output for row in rows),
    )


def _describe_differences(bill: Bill) -> Iterator[str]:
    tokens = sum(row.input + row.output for row in bill.usage)
    ours = sum(each.input + each.output for each in bill.counted)
    difference = _compare(tokens, ours, f"{abs(tokens - ours):,} tokens")
    yield f"OpenAI counts {'the same number of tokens' if difference == SAME else difference}."
    counted = bill.counted_usd
    if counted is None:
        yield "What was counted has no price, as that of a model is not known."
        return
    billed = bill.billed_usd
    difference = _compare(billed, counted, format_usd(abs(billed - counted)))
    yield f"Billed for these models: {format_usd(billed)}; counted: {format_usd(counted)}. OpenAI bills {difference}."
    yield "Usage is of whole hours or days, costs of whole days (UTC), of all work of the project; both may come late."


def _compare(theirs: float, ours: float, amount: str) -> str:
    if abs(theirs - ours) <= LEAST_SHARE * max(ours, theirs):
        return SAME
    share = f" ({abs(theirs / ours - 1):.1%})" if ours else ""
    return f"{amount} {'more' if theirs > ours else 'less'}{share}"
