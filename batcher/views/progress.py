"""What the user sees on stderr while a command works: lines, and a progress bar on a terminal.

stdout is kept for the answer. Without a terminal there is no bar, and progress is a plain line now and then.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from batcher.views.clean import clean_text

if TYPE_CHECKING:  # `status` shows no progress bar
    from rich.progress import Progress, TaskID

PLAIN_EVERY_S = 30.0
"""Seconds between two lines of progress where there is no terminal."""
WIDE = 200
"""Columns of an answer that does not go to a terminal: enough that nothing is shortened or folded."""


class CleanConsole(Console):
    """A console whose terminal acts on nothing that a text holds: the one place where text is printed.

    rich itself lets escape sequences of a text through.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what rich draws, with the texts cleaned; rich's own control sequences stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(clean_text(segment.text), segment.style)


class StdoutConsole(CleanConsole):
    """stdout. A reader that closes it early (`batcher status | head`) ends the command without an error."""

    def __init__(self) -> None:
        piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
        super().__init__(width=WIDE if piped else None)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError, which `main` handles."""
        raise BrokenPipeError


class Display:
    """Lines and progress for the user, on stderr. The clock counts seconds from any start."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._clock = clock
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = float("-inf")
        self._last_wait = ""
        self._printed: set[str] = set()

    def print_line(self, line: str) -> None:
        """Print a line, which a terminal folds between words; text from the service is not read as markup."""
        self.console.print(line, highlight=False, soft_wrap=not self.console.is_terminal, markup=False)

    def print_once(self, line: str) -> None:
        """Print a line that this command has not printed yet."""
        if line not in self._printed:
            self._printed.add(line)
            self.print_line(line)

    def update_note(self, note: str) -> None:
        """Change the note beside the progress bar; does nothing away from a terminal."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, note=note)

    def report_waiting(self, reason: str) -> None:
        """Show what is waited for: on the progress bar, or once as a line."""
        if self._progress is not None:
            self.update_note(reason)
        elif reason != self._last_wait:
            self.console.print(f"waiting: {reason}", highlight=False, markup=False)
        self._last_wait = reason

    def report_progress(self, what: str, done: int, total: int | None = None, note: str = "") -> None:
        """Show progress, `done` of `total`: on the progress bar, or as a line every PLAIN_EVERY_S seconds."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=what, completed=done, total=total, note=note)
        elif self._clock() - self._last_line >= PLAIN_EVERY_S:
            self._last_line = self._clock()
            of = f" of {total:,}" if total is not None else ""
            self.console.print(f"{done:,}{of} {what}{', ' + note if note else ''}", highlight=False, markup=False)

    @contextmanager
    def show_progress(self, what: str) -> Iterator[None]:
        """Show a progress bar with its time remaining while the context lasts, where there is a terminal."""
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
    from rich import progress

    columns = (
        progress.SpinnerColumn(), progress.TextColumn("{task.description}"), progress.BarColumn(bar_width=None),
        progress.MofNCompleteColumn(), progress.TimeRemainingColumn(), progress.TextColumn("[dim]{task.fields[note]}"),
    )  # fmt: skip
    return progress.Progress(*columns, console=console, transient=True, expand=True)
