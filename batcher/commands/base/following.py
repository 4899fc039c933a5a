"""What a user sees of a job that is at work: the live view on a terminal, lines with their times elsewhere.

All of it happens in the one thread of the process: a lane that sleeps redraws the screen, and reads the state again
where that is due.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from rich.console import RenderableType

from batcher.commands.base.json_lines import write_json_line
from batcher.commands.base.session import Session
from batcher.commands.base.signals import suspendable_screen
from batcher.core import events
from batcher.errors import ExitCode, StateError, compute_exit_code
from batcher.state.reports.span import read_job_span
from batcher.state.reports.status import Status, read_status
from batcher.state.snapshot import load_saved_prices
from batcher.views.events import format_event
from batcher.views.live.counts import is_job_open
from batcher.views.live.frame import Frame, JobName, RecentEvent
from batcher.views.live.reports import event_to_json, progress_to_json
from batcher.views.live.screen import draw_live
from batcher.views.live.sentences import describe_progress
from batcher.views.progress import PLAIN_EVERY_S
from batcher.views.sheet import format_size

if TYPE_CHECKING:  # piped commands draw no screen
    from rich.live import Live

REDRAW_S = 1.0
"""Seconds between two drawings of the screen: its clock and its ages move, and a resize is followed."""
LEAST_REDRAW_S = 0.2
"""Seconds between two drawings at least, however much happens."""
READ_AFTER_ROUND_S = 2.0
"""Seconds between two readings of the state at least, after something was done."""
READ_S = 10.0
"""Seconds between two readings of the state at least, while nothing is done here: other processes may act."""
READ_SHARE = 20.0
"""How long no reading follows one, as a multiple of its duration: readings take at most a twentieth of the time."""
PATIENCE_S = 0.5
"""Seconds for which a reading waits for another process; without it the last one stays on the screen."""
EVENTS_KEPT = 100
"""The newest events that are kept for the screen."""


class JobFollower:
    """Shows a job while its lane works. Its clock counts epoch seconds, its timer seconds from any start."""

    def __init__(
        self,
        session: Session,
        sleep: Callable[[float], None],
        is_ending: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session, self._sleep, self._is_ending, self._clock, self._timer = session, sleep, is_ending, clock, timer
        self._events = deque[RecentEvent](maxlen=EVENTS_KEPT)
        self._status: Status | None = None
        self._name: JobName | None = None
        self._note, self._note_until = "", 0.0
        self._live: Live | None = None
        self._read_at = self._drawn_at = float("-inf")
        self._read_took_s = 0.0
        self._line_at = timer()

    @contextmanager
    def show(self) -> Iterator[None]:
        """Show the job while the context lasts; its last state stays on the terminal.

        Raises StateError where the state cannot be read at the start.
        """
        self._read_status()
        display, is_piped = self._session.display, not sys.stdout.isatty()
        if not display.has_screen or (self._session.json and not is_piped):
            yield
            return
        from rich.live import Live

        # What another program reads on stdout is no part of the screen.
        live = Live(
            console=display.console, screen=True, auto_refresh=False, get_renderable=self._draw,
            redirect_stdout=not is_piped,
        )  # fmt: skip
        try:
            with (
                live,
                display.divert_lines(self.add_line, self.set_note),
                suspendable_screen(display.console.file),
            ):
                self._live = live
                self._redraw()
                yield
                self._read_quietly()
        finally:
            self._live = None
            self._note = ""
            display.leave_screen(self._draw(rows_left=3))  # for the answer and the prompt of the shell

    def watch_job(self) -> ExitCode:
        """Show the job until nothing of it is in flight or waits to be sent; return as `poll --once` does."""
        with self.show():
            self._tell_progress()
            while self._status is not None and is_job_open(self._status):
                self.sleep(READ_AFTER_ROUND_S)
        return compute_exit_code(self._status.states if self._status is not None else {})

    def report_event(self, event: events.Event) -> None:
        """Show an event. The state is read for none but an upload: at others a transaction may be open."""
        match event:
            case events.WaitStarted(until, reason):
                is_new = reason != self._note
                self.set_note(reason, until)
                if is_new:
                    self._tell(event, f"waiting: {reason}")
            case events.BytesSent(sent):
                self.set_note(f"uploading, {format_size(sent)} sent")
                self._refresh(READ_AFTER_ROUND_S)  # a round sends all shards that there is room for
                self._redraw()
            case events.LinesProgressed() | events.AnswersRecorded():
                pass  # the next reading of the state shows them
            case _:
                self.add_line(format_event(event), event)

    def sleep(self, seconds: float) -> None:
        """Sleep, or until the user asks to end; meanwhile the screen moves, or a line of progress is printed."""
        self._refresh(READ_AFTER_ROUND_S)
        piece = REDRAW_S if self._live is not None else PLAIN_EVERY_S
        left = seconds
        while left > 0 and not self._is_ending():
            self._sleep(min(left, piece))
            left -= piece
            self._refresh(READ_S)

    def add_line(self, text: str, event: events.Event | None = None) -> None:
        """Show a line: among the last events of the screen, or printed with its time."""
        self._events.append(RecentEvent(self._clock(), text))
        self._tell(event, text)
        self._redraw()

    def set_note(self, note: str, until: float = 0.0) -> None:
        """Change what the screen says that is done now. until: when that is over (epoch seconds); 0: not known."""
        self._note, self._note_until = note, until

    def _tell(self, event: events.Event | None, text: str) -> None:
        """Print an event where there is no screen, and as JSON where the command answers so."""
        if self._live is None:
            self._session.display.print_event(text)
        if self._session.streams and event is not None:
            from batcher.contracts.streams import EventLine

            write_json_line(EventLine.model_validate(event_to_json(event, self._clock(), text)).to_json())

    def _refresh(self, least_s: float) -> None:
        """Read the state where that is due, and show it. least_s: seconds since the last reading."""
        is_line_due = self._timer() - self._line_at >= PLAIN_EVERY_S
        is_reading_due = self._timer() - self._read_at >= max(least_s, READ_SHARE * self._read_took_s)
        if is_reading_due and (self._live is not None or is_line_due):
            self._read_quietly()
        if is_line_due:
            self._line_at = self._timer()
            self._tell_progress()
        if self._live is not None and self._timer() - self._drawn_at >= REDRAW_S:
            self._redraw()

    def _tell_progress(self) -> None:
        if self._status is None:
            return
        if self._live is None:
            self._session.display.print_event(describe_progress(self._status, None))
        if self._session.streams:
            from batcher.contracts.streams import ProgressLine

            write_json_line(ProgressLine.model_validate(progress_to_json(self._status)).to_json())

    def _read_quietly(self) -> None:
        """Read the state; what cannot be read now is shown as it was: only the lane fails where the state does."""
        with suppress(StateError):
            self._read_status(PATIENCE_S)

    def _read_status(self, patience_s: float | None = None) -> None:
        session, began = self._session, self._timer()
        with session.store.read_transaction(patience_s) as tx:
            self._status = read_status(tx, session.config, partial(load_saved_prices, tx))
            who = session.name_service(tx)
            started_at = read_job_span(tx).started_at
        config = session.config
        self._name = JobName(config.job.path.name, who.model, who.service, config.budget.max_usd, started_at)
        self._read_at = self._timer()
        self._read_took_s = self._read_at - began

    def _redraw(self) -> None:
        """Draw the screen, unless that was done just now."""
        if self._live is None or not self._session.display.has_screen:  # after `bg` the terminal is not ours
            return
        if self._timer() - self._drawn_at >= LEAST_REDRAW_S:
            self._drawn_at = self._timer()
            self._live.refresh()

    def _draw(self, rows_left: int = 0) -> RenderableType:
        """Return the screen as it is now. rows_left: rows of the terminal that stay free below it."""
        if self._status is None or self._name is None:
            return ""
        console = self._session.display.console
        width, height = console.size
        frame = Frame(
            width, max(1, height - rows_left), self._clock(), self._name, list(self._events), self._note,
            self._note_until, ascii=not console.encoding.lower().startswith("utf"),
        )  # fmt: skip
        return draw_live(self._status, frame)
