"""What the user sees on stderr while a command works: lines, and a progress bar on a terminal.

stdout is kept for the answer. Without a terminal there is no bar, and progress is a plain line now and then.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from batcher.views.clean import clean_text
from batcher.views.moments import format_iso

if TYPE_CHECKING:  # `status` shows no progress bar
    from rich.progress import Progress, TaskID

PLAIN_EVERY_S = 30.0
"""Seconds between two lines of progress where there is no terminal."""
WIDE = 200
"""Columns of an answer that does not go to a terminal: enough that nothing is shortened or folded."""


def is_in_foreground(file: IO[str]) -> bool:
    """Return whether this process may draw on a terminal: not one that a shell runs beside its prompt (`&`, `bg`)."""
    try:
        return os.tcgetpgrp(file.fileno()) == os.getpgrp()
    except OSError:  # it is not the terminal that decides over us
        return True


class CleanConsole(Console):
    """A console whose terminal acts on nothing that a text holds: the one place where text is printed.

    rich itself lets escape sequences of a text through, and makes pictures of names between colons.
    """

    def __init__(self, **options: Any) -> None:
        """options: of rich's console."""
        super().__init__(emoji=False, **options)

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


class ScreenLines(NamedTuple):
    """Where lines and notes go while a screen is shown."""

    add_line: Callable[[str], None]
    set_note: Callable[[str], None]


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
        self._screen: ScreenLines | None = None
        self._has_left_screen = False

    @property
    def has_screen(self) -> bool:
        """Whether there is a terminal on which a screen can be drawn now."""
        can_draw = self.console.is_terminal and not self.console.is_dumb_terminal and not self.console.quiet
        return can_draw and is_in_foreground(self.console.file)

    @property
    def has_left_screen(self) -> bool:
        """Whether the last state of a job stands on the terminal already."""
        return self._has_left_screen

    @contextmanager
    def divert_lines(self, add_line: Callable[[str], None], set_note: Callable[[str], None]) -> Iterator[None]:
        """Give lines and progress to a screen while the context lasts: printed, they would destroy it."""
        self._screen = ScreenLines(add_line, set_note)
        try:
            yield
        finally:
            self._screen = None

    def leave_screen(self, drawing: RenderableType) -> None:
        """Print the last state of a screen that has been taken off the terminal."""
        self._has_left_screen = True
        self.console.print(drawing)

    def print_line(self, line: str) -> None:
        """Print a line, which a terminal folds between words; text from the service is not read as markup."""
        if self._screen is not None:
            self._screen.add_line(line)
        else:
            self.console.print(line, highlight=False, soft_wrap=not self.console.is_terminal, markup=False)

    def print_event(self, line: str) -> None:
        """Print a line on what has happened just now: away from a terminal with its time, as it is read later."""
        self.print_line(line if self.has_screen else f"{format_iso(time.time())} {line}")

    def print_note(self, note: str) -> None:
        """Print a line from within a signal handler: on a screen it is shown with its next drawing.

        rich is not used, as it may be what the signal has interrupted: within an import of its own, or half-way through
        a line. Raises OSError where nobody reads any more.
        """
        if self._screen is not None:
            self._screen.set_note(note)
        elif not self.console.quiet:
            start = "\n" if self.console.is_terminal else ""  # behind the ^C, or a progress bar
            os.write(self.console.file.fileno(), f"{start}{note}\n".encode())

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
            self.print_event(f"waiting: {reason}")
        self._last_wait = reason

    def report_progress(self, what: str, done: int, total: int | None = None, note: str = "") -> None:
        """Show progress, `done` of `total`: on the progress bar, or as a line every PLAIN_EVERY_S seconds."""
        of = f" of {total:,}" if total is not None else ""
        line = f"{done:,}{of} {what}{', ' + note if note else ''}"
        if self._screen is not None:
            self._screen.set_note(line)
        elif self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=what, completed=done, total=total, note=note)
        elif self._clock() - self._last_line >= PLAIN_EVERY_S:
            self._last_line = self._clock()
            self.print_event(line)

    @contextmanager
    def show_progress(self, what: str) -> Iterator[None]:
        """Show a progress bar with its time remaining while the context lasts, where there is a terminal."""
        if not self.has_screen or self._screen is not None:
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

    class CountColumn(progress.ProgressColumn):
        """How many of how many, with separators."""

        def render(self, task: progress.Task) -> Text:
            of = f" of {int(task.total):,}" if task.total is not None else ""
            return Text(f"{int(task.completed):,}{of}")

    columns = (
        progress.SpinnerColumn(), progress.TextColumn("{task.description}"), progress.BarColumn(bar_width=None),
        CountColumn(), progress.TimeRemainingColumn(), progress.TextColumn("[dim]{task.fields[note]}"),
    )  # fmt: skip
    return progress.Progress(*columns, console=console, transient=True, expand=True)
