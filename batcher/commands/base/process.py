"""The one acting process of a lane: it holds the lock, has checked the service, and ends at a safe point."""

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress

from batcher.catalog.prices import resolve_prices
from batcher.commands.base.following import JobFollower
from batcher.commands.base.notices import NoticeWatcher, check_notifier
from batcher.commands.base.session import Session, read_service_address
from batcher.commands.base.signals import InterruptHandler, handled_signals
from batcher.config.sections import Config
from batcher.config.services import find_service_profile
from batcher.core import events
from batcher.core.failures import FailureClass, classify_call_error, is_redirect
from batcher.core.retry import Jitter
from batcher.disk.locks import LockOwner, lane_lock
from batcher.errors import SetupError, StateError
from batcher.lanes.batch.runner import BatchRunner
from batcher.lanes.context import LaneContext
from batcher.plan.checks import check_sending
from batcher.service.address import is_unencrypted
from batcher.service.bounds import never_ends
from batcher.service.connecting import connect_service
from batcher.service.openai_service import OpenAIService
from batcher.service.profiles import ServiceProfile
from batcher.service.service import CallError, Service
from batcher.state import facts, submissions
from batcher.state.submissions import SubmissionAtService
from batcher.views.event_log import EventLog
from batcher.views.events import EventReporter
from batcher.views.sheet import format_count

BATCHES_PROBED = 3
"""Batches, not settled or perhaps created, that are looked up where the state does not tell whose service has them."""


class WorkDoneElsewhere(Exception):  # noqa: N818 - an outcome, and read as one
    """Raised when the owner of the lock has done our work while we waited for the lock."""


WORK_CHECK_S = 1.0
"""Seconds between two checks whether the owner of the lock has done our work."""


def _always_false() -> bool:
    return False


@contextmanager
def open_lane_context(
    session: Session,
    lane: str,
    is_work_done: Callable[[], bool] = _always_false,
    sends: bool = True,
    follows: bool = False,
) -> Iterator[LaneContext]:
    """Become the one acting process of a lane, with its lock held, the service checked and signals caught.

    is_work_done: whether the owner of the lock has done by now what this process is for; WorkDoneElsewhere is raised
    then. sends: whether it may send what waits. follows: whether the job is shown while the context lasts. Raises
    StateError without a plan, ConfigError where today's job and settings are not those of what waits, SetupError where
    the service refuses us, and LockedError where another process has the lane and the session does not wait.
    """
    job = session.load_job()
    check_notifier(session.config)
    with session.store.read_transaction() as tx:  # a plan must be there before anything is locked or called
        session.check_origin(tx)
        if sends:
            check_sending(tx, session.config, job, resolve_prices)
    interrupt = InterruptHandler(session.display, requested=session.host.end)
    rules = session.config.retry.to_rules()
    dice = random.SystemRandom()
    service = _connect_service(session.config, interrupt.sleep, dice.random, interrupt.is_requested)
    _warn_of_plain_text(session)
    # A program is given the events; a person sees the job.
    shows = follows and session.host.asks
    follower = JobFollower(session, interrupt.sleep, interrupt.is_requested) if shows else None
    watcher = NoticeWatcher(session)
    notify = _build_notify(session, follower or EventReporter(session.display), watcher)
    sleep = follower.sleep if follower else interrupt.sleep
    context = LaneContext(
        session.store, service, job, session.config, rules, resolve_prices, dice.random,
        time.time, sleep, notify, interrupt.is_requested,
    )  # fmt: skip
    with closing(service), handled_signals(interrupt) if session.host.handles_signals else nullcontext():
        lock_sleep = _build_lock_sleep(interrupt, is_work_done, time.monotonic)
        owner = LockOwner(os.getpid(), session.command, time.time())
        patience_s, held = None if session.waits else 0.0, lambda why: notify(events.LockHeld(why))
        with lane_lock(session.store.folder, lane, held, lock_sleep, patience_s, owner):
            _contact_service(session, context.service, lane)
            with follower.show() if follower else nullcontext():
                yield context
            watcher.look()


def _build_notify(
    session: Session, reporter: EventReporter | JobFollower, watcher: NoticeWatcher
) -> Callable[[events.Event], None]:
    """Return what is called with each event: log, display, watcher, and the program that runs the command."""
    listeners: list[Callable[[events.Event], None]] = [
        EventLog(session.write_log, time.monotonic).record_event,
        reporter.report_event,
        watcher.watch_event,
    ]
    if session.host.report_event is not None:
        listeners.append(session.host.report_event)

    def notify(event: events.Event) -> None:
        for listen in listeners:
            listen(event)

    return notify


@contextmanager
def open_batch_runner(
    session: Session, is_work_done: Callable[[], bool] = _always_false, sends: bool = True, follows: bool = False
) -> Iterator[BatchRunner]:
    """Become the one acting process of the batch lane; parameters and errors are those of `open_lane_context`."""
    with open_lane_context(session, "batch", is_work_done, sends, follows) as context:
        runner = BatchRunner(context)
        runner.prepare_run()
        yield runner


def _build_lock_sleep(
    interrupt: InterruptHandler, is_work_done: Callable[[], bool], clock: Callable[[], float]
) -> Callable[[float], None]:
    """Return how to sleep while another process has the lock. clock: counts seconds, from any start."""
    checked_at = clock()

    def sleep(seconds: float) -> None:
        nonlocal checked_at
        if clock() - checked_at >= WORK_CHECK_S:
            checked_at = clock()
            if is_work_done():
                raise WorkDoneElsewhere
        interrupt.sleep_or_interrupt(seconds)

    return sleep


def check_service_reachable(session: Session) -> None:
    """Check the service before `run` has done anything. Raises SetupError."""
    with suppress(StateError), session.store.read_transaction() as tx:  # there may be no plan
        session.check_origin(tx)
    with closing(_connect_service(session.config, time.sleep, random.random)) as service:
        _warn_of_plain_text(session)
        _check_service(service, session.store.exists(), "batch", find_service_profile(session.config))


def _connect_service(
    config: Config, sleep: Callable[[float], None], jitter: Jitter, is_ending: Callable[[], bool] = never_ends
) -> OpenAIService:
    rules, profile = config.retry.to_rules(), find_service_profile(config)
    return connect_service(config.api.timeout_s, rules, sleep, jitter, is_ending, profile)


def _warn_of_plain_text(session: Session) -> None:
    """Print a warning, once a command, where the way to the service is not encrypted."""
    origin = read_service_address(session.config)
    if is_unencrypted(origin):
        session.display.print_once(f"warning: key and prompts go to {origin} unencrypted; use https://")


def _contact_service(session: Session, service: Service, lane: str) -> None:
    """Check the service and record that it is the one of this job. Raises SetupError where it is not, or refuses us."""
    with session.store.read_transaction() as tx:
        session.check_origin(tx)  # again: another process may have recorded one while we waited for the lock
        known = facts.has_reached_service(tx)
        is_named = bool(facts.read_service_origin(tx)) or session.service_moved
        work = [] if is_named else submissions.load_submissions_at_service(tx)
    address = read_service_address(session.config)
    is_reached = _check_service(service, known, lane, find_service_profile(session.config))
    is_ours = not work or _find_our_work(service, work, address)
    model = session.config.model.name
    with session.store.transaction("reached") as tx:
        if is_ours:
            facts.record_service_origin(tx, address)
        if is_reached:
            facts.record_service_reached(tx)
            facts.save_prices(tx, model, resolve_prices(model))


def _find_our_work(service: Service, work: Sequence[SubmissionAtService], address: str) -> bool:
    """Return whether the service has work of a state that does not tell whose it is, as those of earlier versions.

    False: it does not say now. Raises SetupError where it knows nothing of what is in flight: once it were recorded as
    the service of this job, the right one would be refused.
    """
    try:
        for each in work[:BATCHES_PROBED]:
            if each.batch_id is not None and service.retrieve_batch(each.batch_id) is not None:
                return True
            if service.can_see_file(each.file_id):
                return True
    except CallError:
        return False
    count = format_count(len(work), "batch", "batches")
    raise SetupError(
        f"{address} knows nothing of this job's {count} in flight; "
        "set OPENAI_BASE_URL and OPENAI_API_KEY as they were sent with, or give this service a [state] dir of its own "
        "(where it is the same service at a new address: --service-moved)"
    )


def _check_service(service: Service, known: bool, lane: str, profile: ServiceProfile) -> bool:
    """Return whether the service answers. Raises SetupError for a wrong key or address.

    known: it was reached before, so that silence is an outage and not a mistake of the user. lane: which one is to
    start; "direct" needs no Batch API.
    """
    where, key = profile.address_variable or "OPENAI_BASE_URL", profile.key_variables[0]
    try:
        if lane == "direct":
            service.check_key()
        else:
            service.check_access()
    except CallError as error:
        failure = classify_call_error(error.details)
        if is_redirect(error.details):
            raise SetupError(f"the service cannot be reached: {error}; check {where}") from error
        if failure is FailureClass.SETUP:
            raise SetupError(f"the service refuses the key: {error}; check {key}") from error
        if error.details.status is None and not known:
            raise SetupError(f"the service cannot be reached: {error}; check {where}") from error
        if failure is FailureClass.SHARD_REFUSED:
            raise SetupError(f"the address does not speak the Batch API: {error}; check {where}") from error
        return False
    return True
