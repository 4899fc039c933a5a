"""The lines of a job by what became of them, as one bar: bios that were accepted are counted, never executions."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from batcher.core.lifecycle import ArtistState, count_open_artists
from batcher.state.reports.status import Status


class LinePart(NamedTuple):
    """The lines that one thing became of."""

    name: str
    lines: int
    mark: str
    """The character of the bar, which distinguishes the parts without colour."""
    ascii_mark: str
    style: str


PARTS: Sequence[tuple[str, Sequence[ArtistState], str, str, str]] = (
    ("accepted", (ArtistState.DONE,), "█", "#", "green"),
    ("in flight", (ArtistState.IN_BATCH, ArtistState.IN_DIRECT), "▓", "=", "cyan"),
    ("to be retried", (ArtistState.WAITING,), "▒", "~", "yellow"),
    ("held", (ArtistState.HELD,), "?", "?", "yellow"),
    ("dead", (ArtistState.DEAD,), "x", "x", "bold red"),
    ("not sent", (ArtistState.READY,), "░", ".", "dim"),
)
"""Each part of the bar with its states, its marks and its style, in the order of the bar."""


def count_lines(states: Mapping[str, int]) -> list[LinePart]:
    """Return the parts, also those without lines. Bad rows and bios of an earlier run are in none."""
    return [
        LinePart(name, sum(states.get(state, 0) for state in among), mark, ascii_mark, style)
        for name, among, mark, ascii_mark, style in PARTS
    ]


def sum_lines(parts: Sequence[LinePart]) -> int:
    """Return the lines of all parts."""
    return sum(part.lines for part in parts)


def is_job_open(status: Status) -> bool:
    """Return whether a line is in flight, or waits to be sent."""
    return count_open_artists(status.states) > 0


def divide_bar(counts: Sequence[int], cells: int) -> list[int]:
    """Return the cells of a bar for each count, `cells` in all: at least one for each count that is not 0.

    Where there are fewer cells than counts, the last ones get none.
    """
    total = sum(counts)
    if total == 0 or cells <= 0:
        return [0] * len(counts)
    least = [1 if count else 0 for count in counts]
    spare = cells - sum(least)
    if spare < 0:
        return [one if before <= cells else 0 for one, before in zip(least, accumulate(least), strict=True)]
    # Rounding the bounds between the parts, and not the parts, makes these add up.
    bounds = [0, *(round(spare * reached / total) for reached in accumulate(counts))]
    return [one + end - start for one, start, end in zip(least, bounds[:-1], bounds[1:], strict=True)]


def format_share(part: int, total: int) -> str:
    """Return a share in per cent, rounded down: 100% is all."""
    if total == 0:
        return "0%"
    share = 100 * part / total
    return f"{int(share)}%" if share >= 10 or part in {0, total} else f"{int(share * 10) / 10:.1f}%"
