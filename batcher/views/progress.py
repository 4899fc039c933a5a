"""What the user sees while something runs: words for each thing told, a progress line on a terminal.

That goes to stderr; stdout is for the answer. Away from a terminal nothing moves: plain lines, few of them.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:  # a look moves no bar and hears no limits
    from rich.progress import Progress

    from batcher.core.pacing import RateHeaders

Data = Mapping[str, Any]

PLAIN_EVERY_S = 30.0
"""Away from a terminal, progress is one line in so many seconds."""
WIDE = 200
"""Columns where the answer does not go to a terminal: nothing is cut or folded for the eye."""


class StdoutConsole(Console):
    """stdout. A reader that has enough (`batcher status | head`) ends the command, and is no error."""

    def __init__(self) -> None:
        piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
        super().__init__(width=WIDE if piped else None)

    def on_broken_pipe(self) -> None:
        """Leaves it to `main`."""
        raise BrokenPipeError


def format_event(kind: str, data: Data) -> str:
    """The line for one thing that happened; "" for what only moves the progress."""
    make = _WORDS.get(kind)
    return make(data) if make else ""


def _format_settled(data: Data) -> str:
    failures = ", ".join(f"{n} {name}" for name, n in sorted(data["failures"].items()))
    tail = f"; failed: {failures}" if failures else ""
    tail += f"; odd: {data['odd']}" if data.get("odd") else ""
    return f"shard {data['shard']}: {data['status']}, {data['bios']:,} bios{tail}"


def format_rate_limits(heard: "RateHeaders") -> str:
    """The rate limits of an answer's headers, in words."""
    named = (("requests", heard.requests), ("tokens", heard.tokens), ("project tokens", heard.project_tokens))
    told = [f"{a.remaining:,} of {a.limit:,} {what} left" for what, a in named if a is not None]
    return ", ".join(told) or "no limits told"


_WORDS: Mapping[str, Callable[[Data], str]] = {
    "uploading": lambda d: f"shard {d['shard']}: uploading {d['lines']:,} lines, {d['bytes'] / 1e6:.1f} MB",
    "created": lambda d: f"shard {d['shard']}: batch {d['batch']} created",
    "adopted": lambda d: f"shard {d['shard']}: batch {d['batch']} found and adopted, nothing was sent again",
    "stray": lambda d: f"shard {d['shard']}: batch {d['batch']} of ours was not recorded; it counts as in flight",
    "cancelling": lambda d: f"shard {d['shard']}: batch {d['batch']} is to be cancelled",
    "refused": lambda d: f"shard {d['shard']}: refused: {d['why']}",
    "settled": _format_settled,
    "gathered": lambda d: f"shard {d['shard']}: cut from {d['lines']:,} lines of priority {d['priority']} to try again",
    "looking_for_batch": lambda d: (
        f"shard {d['shard']}: the answer was lost; looking for its batch before anything else"
    ),
    "absent": lambda d: f"shard {d['shard']}: no batch was made of it; it is sent anew",
    "upload_again": lambda d: f"shard {d['shard']}: the upload's answer was lost; uploading again",
    "call_failed": lambda d: f"{d['call']}: {d['why']}; trying again",
    "parked": lambda d: f"some planned lines stay in no shard: {d['why']}",
    "lock": lambda d: str(d["why"]),
    "rate_limits": lambda d: f"after {d['answers']:,} answers: {format_rate_limits(d['heard'])}",
    "rate_warning": lambda d: f"only {d['share']:.0%} of a rate limit is left; slowing down",
}


class Display:
    """Tells the user. `quiet` leaves out what only moves."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._clock = clock
        self._progress: Progress | None = None
        self._task: Any = None
        self._last_line = float("-inf")
        self._last_wait = ""
        self._answers = 0

    def report_event(self, kind: str, data: Data) -> None:
        """One thing that happened."""
        line = format_event(kind, data)
        if line:
            self.console.print(line, highlight=False, soft_wrap=True, markup=False)
        elif kind == "progress":
            self.report_progress(
                "lines done", int(data["done"]), int(data["lines"]), f"{data['running']} batches running"
            )
        elif kind == "answers":
            self._answers += int(data["bios"])
            self.report_progress("bios", self._answers)
        elif kind == "bytes_sent" and self._progress is not None:
            self._progress.update(self._task, note=f"uploading, {data['bytes'] / 1e6:.1f} MB sent")
        elif kind == "waiting":
            self._report_waiting(data)

    def _report_waiting(self, data: Data) -> None:
        reason = str(data["reason"])
        if self._progress is not None:
            self._progress.update(self._task, note=reason)
        elif reason != self._last_wait:
            self.console.print(f"waiting: {reason}", highlight=False, markup=False)
        self._last_wait = reason

    def report_progress(self, what: str, done: int, total: int | None = None, note: str = "") -> None:
        """Progress: `done` of `total`."""
        if self._progress is not None:
            self._progress.update(self._task, description=what, completed=done, total=total, note=note)
        elif self._clock() - self._last_line >= PLAIN_EVERY_S:
            self._last_line = self._clock()
            of = f" of {total:,}" if total is not None else ""
            self.console.print(f"{done:,}{of} {what}{', ' + note if note else ''}", highlight=False, markup=False)

    @contextmanager
    def show_progress(self, what: str) -> Iterator[None]:
        """While this lasts, a terminal shows a progress bar with its time remaining."""
        if not self.console.is_terminal:
            self._last_line = self._clock()
            yield
            return
        with _build_progress_bar(self.console) as progress:
            self._progress, self._task = progress, progress.add_task(what, total=None, note="")
            try:
                yield
            finally:
                self._progress = None


def _build_progress_bar(console: Console) -> "Progress":
    from rich import progress  # noqa: PLC0415 - most commands are done before a bar would show

    columns = (
        progress.SpinnerColumn(), progress.TextColumn("{task.description}"), progress.BarColumn(bar_width=None),
        progress.MofNCompleteColumn(), progress.TimeRemainingColumn(), progress.TextColumn("[dim]{task.fields[note]}"),
    )  # fmt: skip
    return progress.Progress(*columns, console=console, transient=True, expand=True)
