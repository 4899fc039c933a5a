"""The answer to a question in SQL: as a table that fits the width, as CSV, as plain values; and what may be asked."""

import csv
import io
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import orjson
from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from batcher.state.reports.query import QueryResult
from batcher.state.reports.views import ViewDescription
from batcher.views.clean import clean_text
from batcher.views.sheet import build_table, format_count

NARROWEST = 12
"""Cells that a column of text has at least; columns that then find no room are left out, and named below."""
_GAP = 3
"""Cells between two columns (padding and edge)."""
_LARGEST = 2**63
"""Whole numbers from here on are not written as numbers in JSON: most readers would round them."""


def format_value(value: Any) -> str:
    """Return a value in one line: times to the second with their zone, dollars without closing zeros, "" for NULL."""
    match value:
        case None:
            return ""
        case datetime():
            return value.isoformat(" ", "seconds")
        case str():
            return _clean_line(value)
        case _:
            return _to_field(value)


def _clean_line(text: str) -> str:
    """Return a text in one line, cleaned before its width is taken: what a terminal would obey has none."""
    return clean_text(" ".join(text.split()))


def to_plain(value: Any) -> Any:
    """Return a value as JSON has it: times in ISO 8601, decimals as numbers, bytes in hexadecimal."""
    match value:
        case dict():
            return {str(to_plain(key)): to_plain(part) for key, part in value.items()}
        case list() | tuple():
            return [to_plain(part) for part in value]
    return _to_plain_scalar(value)


def _to_plain_scalar(value: Any) -> str | float | None:
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return float(value)
        case bytes():
            return value.hex()
    fits = -_LARGEST <= value < _LARGEST if isinstance(value, int) else value is None or isinstance(value, str | float)
    return value if fits else str(value)


def _to_field(value: Any) -> str:
    """Return a value as CSV has it: a decimal to its last digit, lists and structures as JSON, "" for NULL."""
    if isinstance(value, Decimal):
        return f"{value.normalize():f}" if value.is_finite() else str(value)
    plain = to_plain(value)
    if isinstance(plain, dict | list | bool):
        return orjson.dumps(plain).decode()
    return "" if plain is None else str(plain)


def write_csv(result: QueryResult) -> str:
    """Return an answer as CSV with a header; times in ISO 8601, NULL as an empty field."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(column.name for column in result.columns)
    for row in result.rows:
        writer.writerow(_to_field(value) for value in row)
    return written.getvalue().removesuffix("\n")


class ResultTable:
    """An answer as a plain table, cut to the width: long texts first, then whole columns, which are named below."""

    def __init__(self, result: QueryResult) -> None:
        self._names = [_clean_line(column.name) for column in result.columns]
        self._rows = [[format_value(value) for value in row] for row in result.rows]
        self._are_text = [_is_text(result.rows, place) for place in range(len(self._names))]
        count = format_count(len(result.rows), "row")
        self._note = f"The first {count}; --limit takes more." if result.is_cut else f"{count}."

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what rich draws."""
        widths = self._choose_widths(options.max_width)
        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for place in range(len(widths)):
            justify = "left" if self._are_text[place] else "right"
            drawn.add_column(Text(_cut(self._names[place], widths[place])), justify=justify, no_wrap=True)  # type: ignore[arg-type]
        for row in self._rows:
            drawn.add_row(*(Text(_cut(row[place], width)) for place, width in enumerate(widths)))
        yield drawn
        yield Text()
        if len(widths) < len(self._names):
            left = ", ".join(self._names[len(widths) :])
            yield Text(f"No room for {left}: name fewer columns, or take --json or --csv.")
        yield Text(self._note)

    def _choose_widths(self, room: int) -> Sequence[int]:
        """Return the widths of the columns that fit, from the first one on, texts cut to the longest that does."""
        cells = zip(*([self._names, *self._rows]), strict=True)
        natural = [max(map(cell_len, column)) for column in cells]
        fixed = [min(n, NARROWEST) if text else n for n, text in zip(natural, self._are_text, strict=True)]
        shown = max((k for k in range(1, len(fixed) + 1) if _sum_widths(fixed[:k]) <= room), default=1)
        widths = fixed[:shown]
        while _sum_widths(widths) < room:
            narrow = [place for place in range(shown) if widths[place] < natural[place]]
            if not narrow:
                break
            widths[min(narrow, key=widths.__getitem__)] += 1
        return [min(width, room) for width in widths]


def _is_text(rows: Sequence[Sequence[Any]], place: int) -> bool:
    """Return whether a column is aligned left and may be cut: one of numbers, times or flags is not."""
    return any(isinstance(row[place], str | dict | list | tuple | bytes) for row in rows)


def _sum_widths(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else f"{set_cell_size(text, max(width - 1, 0)).rstrip()}…"


def draw_views(views: Sequence[ViewDescription]) -> RenderableType:
    """Return the list of the views."""
    rows = [(view.name, view.comment) for view in views]
    more = Text(f"`batcher sql --describe {views[0].name}` has the columns of one of them.")
    return Group(build_table("Views", ["view", "what it holds"], rows, 2), more)


def draw_columns(view: ViewDescription) -> RenderableType:
    """Return the columns of one view."""
    rows = [(column.name, column.type.replace(" WITH TIME ZONE", "TZ"), column.comment) for column in view.columns]
    return build_table(f"{view.name}: {view.comment}", ["column", "type", "what it holds"], rows, 3)
