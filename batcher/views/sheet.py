"""Tables, time spans and amounts as a terminal shows them."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

from batcher import errors

LONG_ID = 26
"""Characters from which on an id is shortened where there is no room."""
SHORT_ID = 14
"""Characters that are left of a shortened id: batch_64d2c3ca…"""
MOST_SHARDS = 12
"""Rows of a table of shards at most; the rest of the shards is summed up in the last one."""

Cell = str | int | None
"""What a table shows in one place: numbers with separators, all else as it is."""


def format_duration(seconds: float) -> str:
    """Return a time span (seconds) in the unit that reads best."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 3570:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    if hours < 72:
        return f"{hours:.0f} h" if hours >= 9.95 or abs(hours - round(hours)) < 0.05 else f"{hours:.1f} h"
    return f"{hours / 24:.1f} days"


def format_time(seconds: float | None) -> str:
    """Return a moment (epoch seconds) in UTC; "" for none."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") if seconds else ""


def format_count(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 shard", "1,824 shards". plural: where it is not made by an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def format_size(bytes: int) -> str:
    """Return the size of a file: "4 kB", "2.0 MB"."""
    return f"{bytes / 1e6:.1f} MB" if bytes >= 1e6 else f"{math.ceil(bytes / 1e3)} kB"


def format_moment(at: float) -> str:
    """Return a moment (epoch seconds) as a person reads it, in UTC: 18 Nov 15:56."""
    return datetime.fromtimestamp(at, UTC).strftime("%-d %b %H:%M")


def format_date(at: float) -> str:
    """Return a moment (epoch seconds) with its year, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%-d %b %Y %H:%M")


def format_usd(amount: float | None) -> str:
    """Return an amount of dollars, as fine as it has to be."""
    return "price unknown" if amount is None else errors.format_usd(amount)


def format_usd_column(amounts: Sequence[float | None]) -> list[str]:
    """Return amounts of dollars that stand below each other: all as fine as the least of them has to be."""
    least = min((amount for amount in amounts if amount), default=0.0)
    decimals = len(format_usd(least).partition(".")[2])
    return [f"${amount:,.{decimals}f}" if amount else format_usd(amount) for amount in amounts]


class TitledTable:
    """A plain table under its title, as wide as its contents; all but the first `text_columns` are aligned right.

    Where the terminal is too narrow, the columns of `spare` are left out, in their order, then long ids are shortened
    (they are to be copied, so they go last; --json has them in full); only what is still too wide is folded.
    """

    def __init__(
        self,
        title: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[Cell]],
        text_columns: int,
        spare: Sequence[str],
    ) -> None:
        self.title, self.columns, self.text_columns, self.spare = title, list(columns), text_columns, spare
        self.rows = [[f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in rows]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what rich draws."""
        yield Text(self.title, style="bold")
        yield self._fit_to_width(options.max_width)
        yield Text()

    def _fit_to_width(self, width: int) -> Table:
        rows, kept = self.rows, list(range(len(self.columns)))
        for name in self.spare:
            if self._table_width(rows, kept) > width and len(kept) > 1:
                kept.remove(self.columns.index(name))
        if self._table_width(rows, kept) > width:
            rows = [[" ".join(map(shorten_id, cell.split(" "))) for cell in row] for row in rows]
        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for place in kept:
            justify: JustifyMethod = "left" if place < self.text_columns else "right"
            drawn.add_column(Text(self.columns[place]), justify=justify, overflow="fold")
        for row in rows:
            drawn.add_row(*(Text(row[place]) for place in kept))
        return drawn

    def _table_width(self, rows: Sequence[Sequence[str]], kept: Sequence[int]) -> int:
        """Return the width of these columns in cells; three cells separate two columns (padding and edge)."""
        widths = [max(cell_len(cell) for cell in (self.columns[k], *(row[k] for row in rows))) for k in kept]
        return sum(widths) + 3 * (len(kept) - 1)


def name_with_id(row_id: str, name: str, id_first: bool = False) -> str:
    """Return a row's name and id; the id alone where that stands in for a name."""
    first, second = (row_id, name) if id_first else (name, row_id)
    return first if first == second else f"{first} ({second})"


def shorten_id(text: str) -> str:
    """Return an id of the service, cut to the part by which it differs from the others of its list."""
    return text if len(text) < LONG_ID or " " in text else f"{text[:SHORT_ID]}…"


def build_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], text_columns: int = 1, spare: Sequence[str] = ()
) -> TitledTable:
    """Return a table of texts and numbers. spare: columns that a narrow terminal does without, in this order."""
    return TitledTable(title, columns, rows, text_columns, spare)
