"""Notices of a job: read its status now and then, and have what is new logged and sent.

The marks of what was sent are facts of the state. They are written when the process that sends has been started: one
that is killed between the two sends a notice twice, and never less than once.
"""

import importlib.util
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import orjson

from batcher.catalog.prices import resolve_prices
from batcher.commands.base.session import Session
from batcher.commands.notify.helper import Order
from batcher.config.sections import Config
from batcher.core import events
from batcher.core.lifecycle import count_open_artists
from batcher.core.notices.decide import Notice, NoticeView, Told, decide_notices
from batcher.disk.log_files import LOG_FILE
from batcher.errors import ConfigError, StateError
from batcher.state import facts
from batcher.state.reports.status import Status, read_status
from batcher.views.next_steps import describe_next_steps

LOOK_EVERY_S = 300.0
"""Seconds between two looks where nothing points to news."""
LEAST_BETWEEN_S = 5.0
"""Seconds between two looks at least: each reads the whole status."""
GOOD_NEWS = ("resumed", "finished")

_helpers: list["subprocess.Popen[bytes]"] = []
"""The helpers that may still run: one that is never waited for stays in the table of processes."""


class NoticeWatcher:
    """Finds what is new of a job, has it written into the log, and sent where `[notify]` says so.

    clock: counts seconds, from any start.
    """

    def __init__(self, session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        self._session, self._clock = session, clock
        self._looked_at = clock()
        self._reason = ""
        self._logged: Told = {}
        """The marks of what this process has logged; another one logs it again."""

    def watch_event(self, event: events.Event) -> None:
        """Look at the job where a lane waits for another reason than before, and every few minutes."""
        if not isinstance(event, events.WaitStarted):
            return
        since = self._clock() - self._looked_at
        if since >= LOOK_EVERY_S or (event.reason != self._reason and since >= LEAST_BETWEEN_S):
            self._reason = event.reason
            self.look()

    def look(self, problem: str = "") -> None:
        """Read the job, and send what is new. problem: why the command ends, where only the user can fix it.

        Where the state cannot be read or written now, the next look sends it.
        """
        self._looked_at = self._clock()
        session = self._session
        try:
            with session.store.read_transaction(patience_s=LEAST_BETWEEN_S) as tx:
                status = read_status(tx, session.config, resolve_prices)
                told = facts.read_told_marks(tx)
        except StateError:
            return
        view = build_notice_view(status, session.config, problem)
        steps = {step.kind: step.sentence for step in describe_next_steps(status)}
        logged = decide_notices(view, self._logged)
        self._logged = logged.told
        for notice in logged.notices:
            level = logging.INFO if notice.kind in GOOD_NEWS else logging.WARNING
            session.write_log(level, describe_notice(notice, steps))
        if session.config.notify.command or session.config.notify.urls:
            self._send_news(view, told, steps)

    def _send_news(self, view: NoticeView, told: Told, steps: Mapping[str, str]) -> None:
        session, telling = self._session, decide_notices(view, told)
        for notice in telling.notices:
            start_helper(session, notice, describe_notice(notice, steps))
        if telling.told != told:
            try:
                with session.store.transaction("told", patience_s=LEAST_BETWEEN_S) as tx:
                    facts.record_told_marks(tx, telling.told)
            except StateError as error:  # it is sent once more
                session.write_log(logging.WARNING, f"what was sent could not be recorded: {error}")


def build_notice_view(status: Status, config: Config, problem: str) -> NoticeView:
    """Return the job as the decision about notices sees it. problem: why a command ended that the user must fix."""
    pilot, view = status.pilot, status.expectation
    return NoticeView(
        done=status.states.get("done", 0),
        dead=status.states.get("dead", 0),
        held=status.states.get("held", 0),
        unended=count_open_artists(status.states),
        stopped=status.stopped or problem,
        pauses=tuple(pause.reason for pause in status.pauses),
        braked=tuple(brake.prompt for brake in status.brakes),
        failed_pilot=pilot.pilot if pilot is not None and pilot.failed else None,
        spent_usd=status.costs.spent,
        max_usd=config.budget.max_usd,
        expected_s=view.forecast.expected_s,
        deadline_s=view.deadline_s,
        waits_for=view.waits_for,
    )


def describe_notice(notice: Notice, steps: Mapping[str, str]) -> str:
    """Return the sentence of a notice with what to do about it. steps: the next steps of the job, by kind."""
    todo = [steps[kind] for kind in notice.steps if kind in steps]
    return todo[0] if notice.kind == "stopped" and todo else " ".join([notice.sentence, *todo])


def check_notifier(config: Config) -> None:
    """Raise ConfigError where `[notify]` has urls and what sends to them is not installed."""
    if config.notify.urls and importlib.util.find_spec("apprise") is None:
        raise ConfigError("[notify] urls needs apprise: pip install 'batcher[notify]', or remove the urls")


def start_helper(session: Session, notice: Notice, sentence: str) -> None:
    """Start the process that sends a notice; it is not waited for. Where it cannot be started, the log says so."""
    config = session.config
    told = {
        "version": 1,
        "kind": notice.kind,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "job": config.job.path.name,
        "sentence": sentence,
        "numbers": dict(notice.numbers),
    }
    log = session.store.folder / LOG_FILE
    order = Order(told, config.notify.command, list(config.notify.urls), str(log.resolve()))
    _helpers[:] = [helper for helper in _helpers if helper.poll() is None]
    try:
        helper = subprocess.Popen(
            [sys.executable, "-P", "-m", "batcher.commands.notify.helper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _helpers.append(helper)
        assert helper.stdin is not None
        with helper.stdin as stdin:
            stdin.write(orjson.dumps(order._asdict()))
    except OSError as error:
        session.write_log(logging.WARNING, f"the notice {notice.kind!r} did not go out: {error.strerror}")
