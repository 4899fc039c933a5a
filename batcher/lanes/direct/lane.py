"""The direct lane: one synchronous call a line, as many at once as the limits and the crew allow.

Each call stands between its claim and the record of its answer, both committed; the answers that have come are recorded
together with the claims of the next calls. Calls run in threads; the state, the job's code and all decisions stay in
this one.
"""

import queue
from collections.abc import Sequence
from dataclasses import replace
from threading import Thread

from batcher import crashpoints
from batcher.core import events
from batcher.core.actions import INTERRUPTED, Finish, Wait
from batcher.core.decide_direct import LOOK_S, Claim, DirectLaneView, decide_direct_action
from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, JobVersion
from batcher.core.pacing import DAY_S, MINUTE_S, Pacer, RateHeaders, Workers, parse_rate_headers
from batcher.errors import JobError
from batcher.job.job import job_output_to_stderr
from batcher.lanes.context import LaneContext
from batcher.lanes.direct.outcomes import CallOutcome, CallRequest, CallResult, OutcomeJudge, outcome_from_answer
from batcher.lanes.direct.ready_lines import CALL_KEY, ReadyLines
from batcher.plan.retry_shards import recut_parked_lines
from batcher.service.service import CallError, CallRefused, CompletionResponse
from batcher.state import direct_calls, facts, quota_pauses, submissions
from batcher.state.db.transaction import Transaction
from batcher.state.direct_calls import Selection
from batcher.state.quota_pauses import QuotaRule, record_quota_failure
from batcher.state.snapshot import latest_valid_wait
from batcher.state.versions import register_wider_version

GROUP_S = 0.05
"""Answers that come within this time are recorded together: a transaction costs a few milliseconds of the state."""
LOW_SHARE = 0.10
"""What is left of a limit below which the user is warned."""
DAILY, RATE, QUOTA = "daily requests", "rate limit", "quota"
"""The reasons of this lane's pauses."""


class DirectLane:
    """Works through the lines of a selection until none is left to ask for."""

    def __init__(self, context: LaneContext, selection: Selection, crew: Workers) -> None:
        self._context, self.crew = context, crew
        self._settings = context.config.direct
        self._pacer = Pacer(self._settings.rpm, self._settings.tpm)
        self._stock = ReadyLines(context, selection, self._pacer)
        self._answering = OutcomeJudge(context)
        self._came: queue.SimpleQueue[CallOutcome | BaseException] = queue.SimpleQueue()
        self.calls = 0
        """Calls that were made."""
        self._running = self._answers = self._refused = self._outages = 0
        self._refused_at = self._outage_at = self._warned_at = float("-inf")
        self._busy_s = 0.0
        self._error: BaseException | None = None

    def prepare_run(self) -> None:
        """Finds out what became of the calls of a process that died, and forgets what an earlier one stopped for."""
        with self._context.store.transaction("begin") as tx:
            facts.clear_stop_reason(tx)
            self._stock.selection = replace(self._stock.selection, first=direct_calls.next_call_number(tx))
            run = submissions.load_run_id(tx)
            asked = tx.fetch_all("calls_of_the_last_minute", since=tx.now - MINUTE_S, now=tx.now)
        for at, tokens in asked:
            self._pacer.record_request(float(at), int(tokens))
        while self._recover_open_calls(run):
            pass
        recut_parked_lines(self._context.store, self._context.job, self._context.config)

    def run_until_idle(self, patient: bool = True) -> Finish:
        """Asks until nothing is left, or the user ends it; what is under way is always waited for.

        patient: it waits however long; else it ends where nothing can be asked for within a poll interval. Raises
        JobError where the job's code failed, once what was under way is recorded.
        """
        while True:
            step = self._run_round(self._drain_outcomes())
            if isinstance(step, Wait) and (patient or self._running or not self._is_long_wait(step)):
                self._wait_for_outcomes(step)
                continue
            error = self._error or self._answering.error
            if error is not None:
                raise error
            recut_parked_lines(self._context.store, self._context.job, self._context.config)
            if isinstance(step, Wait):
                return Finish()
            return Finish(INTERRUPTED) if not step.problem and self._context.interrupted() else step

    def _is_long_wait(self, wait: Wait) -> bool:
        return wait.until > self._context.clock() + self._context.config.poll.interval_s

    # --- what a dead process left -----------------------------------------------------------------------------------

    def _recover_open_calls(self, run: str) -> bool:
        """Ends the calls that are open, some at a time; whether there were any."""
        with self._context.store.read_transaction() as tx:
            calls = direct_calls.load_open_calls(tx)
            if not calls:
                return False
            materials = {call.version: self._stock.load_material(tx, call.version) for call in calls}
        came = []
        for call in calls:
            material = materials[call.version]
            asked = CallRequest(
                call.call, call.artist_id, call.custom_id, call.data, call.version,
                material.version.endpoint, {}, 0, material.prices,
            )  # fmt: skip
            stored = self._find_stored_answer(run, call.call, material.version)
            at = self._context.clock()
            came.append(
                CallOutcome(asked, at)
                if stored is None
                else outcome_from_answer(asked, at, CompletionResponse(stored, {}))
            )
        reads = [self._answering.read_outcome(each) for each in came]
        with self._context.store.transaction("recover_calls", patience_s=None) as tx:
            self._record_call_results(tx, reads)
        return True

    def _find_stored_answer(self, run: str, call: int, version: JobVersion) -> bytes | None:
        """The answer to a call that died, where OpenAI was asked to store it and lets us look."""
        if not self._settings.store or version.endpoint is not Endpoint.CHAT:
            return None
        n = 0
        while True:
            try:
                return self._context.service.find_stored_completion(version.model, {CALL_KEY: f"{run}-{call}"})
            except CallRefused:
                return None
            except CallError as error:
                self._context.notify(events.CallFailed(call="direct", reason=str(error)))
                self._context.sleep(self._context.next_delay_seconds(FailureClass.OUTAGE, n, error.wait_s))
                n += 1
                if self._context.interrupted():  # nothing was begun, and no sleep lasts any more
                    raise KeyboardInterrupt from error

    # --- one round --------------------------------------------------------------------------------------------------

    def _drain_outcomes(self) -> list[CallOutcome]:
        """What has come back since."""
        came: list[CallOutcome] = []
        while True:
            try:
                each = self._came.get_nowait()
            except queue.Empty:
                return came
            if isinstance(each, BaseException):
                self._error, self._running = each, self._running - 1
            else:
                came.append(each)

    def _run_round(self, came: Sequence[CallOutcome]) -> Wait | Finish:
        """Records what came, and claims what may be asked for now, in one transaction; then asks."""
        with job_output_to_stderr():
            reads = [self._answering.read_outcome(each) for each in came]
        self._load_ready_lines()
        asked: list[CallRequest] = []
        with self._context.store.transaction("direct", patience_s=None) as tx:
            self._running -= len(came)
            self._record_call_results(tx, reads)
            self._update_lane_limits(tx, reads)
            step: Claim | Wait | Finish = decide_direct_action(self._build_lane_view(tx), tx.now)
            if isinstance(step, Claim):
                asked = self._stock.claim_lines(tx, step.most)
                self._running += len(asked)
                self.calls += len(asked)
            if isinstance(step, Claim) and not asked:  # the windows are used, or the next is too dear
                step = self._step_without_claim(tx)
            if isinstance(step, Finish):
                self._record_worker_rate(tx)
        for each in asked:
            Thread(target=self._make_service_call, args=(each,), daemon=True).start()
        if isinstance(step, Claim):
            return Wait(self._context.clock() + GROUP_S, "")
        return step

    def _step_without_claim(self, tx: Transaction) -> Wait | Finish:
        if self._stock.too_dear and not self._running:  # else what is under way may cost less than it may
            return Finish(self._stock.too_dear)
        step = decide_direct_action(self._build_lane_view(tx), tx.now)
        if isinstance(step, Claim):
            return Wait(tx.now + (LOOK_S if self._running else GROUP_S), "")
        return step

    def _load_ready_lines(self) -> None:
        """Looks for lines. What the job's code fails on ends the lane, once what is under way has come."""
        if self._error is not None or self._answering.error is not None:
            return
        try:
            self._stock.load_next_lines()
        except JobError as error:
            self._error = error

    def _wait_for_outcomes(self, wait: Wait) -> None:
        if wait.reason:
            self._context.notify(events.WaitStarted(until=wait.until, reason=wait.reason))
        left = max(0.0, wait.until - self._context.clock())
        if not self._running:
            self._context.sleep(min(left, self._context.config.poll.interval_s))
            return
        try:
            self._came.put(self._came.get(timeout=left))
        except queue.Empty:
            return
        self._context.sleep(GROUP_S)

    def _make_service_call(self, asked: CallRequest) -> None:
        """One call, in a thread of its own."""
        came: CallOutcome | BaseException
        try:
            crashpoints.mark_reached("complete.before")
            answer = self._context.service.request_completion(asked.endpoint.value, asked.body)
            crashpoints.mark_reached("complete.after")
            came = outcome_from_answer(asked, self._context.clock(), answer)
        except CallError as error:
            came = CallOutcome(asked, self._context.clock(), None, error)
        except BaseException as error:  # noqa: BLE001 - raised by the lane's own thread
            came = error
        self._came.put(came)

    # --- recording --------------------------------------------------------------------------------------------------

    def _record_call_results(self, tx: Transaction, reads: Sequence[CallResult]) -> None:
        if not reads:
            return
        direct_calls.record_answers(tx, self._answering.decide_lines(tx, reads))
        room = self._context.config.retry.more_room
        cut_off = {r.came.asked.version for r in reads if r.failure is not None and r.failure.code == "length"}
        for version in cut_off if room else ():
            wider = register_wider_version(tx, version, room)
            if wider is not None:
                tx.fetch_all("widen_answers", version=wider, was=version)
        bios = [read.came.asked.asked_at for read in reads if read.failure is None]
        if bios:
            latest = latest_valid_wait(tx, self._context.config)
            tx.fetch_all("end_probed_pauses_at", asked_at=max(bios), latest=latest, now=tx.now)
        if len(bios) < len(reads):
            self._stock.mark_stale()
        done = len(bios)
        self._context.notify(events.AnswersRecorded(bios=done, failures=len(reads) - done))

    def _update_lane_limits(self, tx: Transaction, reads: Sequence[CallResult]) -> None:
        """What the answers mean for the lane: its windows, its crew, its pauses."""
        samples = [sample for read in reads if (sample := self._learn_from_result(tx, read))]
        if samples:
            tx.insert_rows("quota_samples", samples)
        if self._answering.problem:
            facts.stop_sending(tx, self._answering.problem)

    def _learn_from_result(self, tx: Transaction, read: CallResult) -> tuple[object, ...] | None:
        came, failure = read.came, read.failure
        self._answers += 1
        self._busy_s += max(0.0, came.answered_at - came.asked.asked_at)
        headers = came.answer.headers if came.answer else came.error.headers if came.error else {}
        heard = parse_rate_headers(headers)
        self._pacer.record_headers(heard, came.asked.asked_at, came.answered_at)
        kind = failure.failure if failure is not None else None
        if kind is FailureClass.RATE_LIMIT:
            self._handle_rate_refusal(tx, came)
        elif kind is FailureClass.QUOTA:
            wait = came.error.wait_s if came.error else None
            record_quota_failure(tx, self._quota_rule(), f"call {came.asked.call}", came.asked.asked_at, wait)
        elif came.is_unsent or came.is_lost or kind is FailureClass.SERVER:
            self._handle_service_outage(tx, came)
        else:  # it was answered, whatever the answer is worth
            self._refused = self._outages = 0
            self.crew.record_success(room=self._stock.paced_until <= came.asked.asked_at)
        self._report_rate_limits(heard, tx.now)
        return _quota_sample_row(tx.now, self._context.config.model.name, heard)

    def _handle_rate_refusal(self, tx: Transaction, came: CallOutcome) -> None:
        """One refusal slows all. Those of calls that were under way meanwhile tell of the same. Where the service says
        until when, that is kept to, however often; else the tries come to an end."""
        if came.asked.asked_at <= self._refused_at:
            return
        self._refused_at = tx.now
        self.crew.record_refusal()
        policy = self._context.rules.policies[FailureClass.RATE_LIMIT]
        wait = came.error.wait_s if came.error else None
        n = self._refused
        self._refused += wait is None
        if wait is None and policy.tries is not None and n >= policy.tries:
            until = tx.now + self._context.config.pause.duration_hours * 3600
            quota_pauses.pause_sending(tx, "direct", RATE, until, f"{n + 1} calls in a row were refused for their rate")
            self._refused = 0
            return
        self._delay_next_calls(
            tx,
            self._context.next_delay_seconds(FailureClass.RATE_LIMIT, n, wait),
            "the service has no room for more calls",
        )

    def _handle_service_outage(self, tx: Transaction, came: CallOutcome) -> None:
        """The service does not answer, or only that it cannot: quickly again at first, then as in an outage."""
        if came.asked.asked_at <= self._outage_at:
            return
        self._outage_at = tx.now
        delay_s = self._context.next_call_delay_seconds(self._outages, came.error.wait_s if came.error else None)
        self._outages += 1
        self._delay_next_calls(tx, delay_s, str(came.error or "no answer that could be read"))

    def _delay_next_calls(self, tx: Transaction, wait_s: float, why: str) -> None:
        facts.extend_wait(tx, facts.Wait.DIRECT, tx.now + wait_s)
        tx.record_event("direct_waits", f"{wait_s:.0f} s: {why}")
        self._context.notify(events.CallFailed(call="direct", reason=why))

    def _quota_rule(self) -> QuotaRule:
        pause_s = self._context.config.pause.duration_hours * 3600
        return QuotaRule(self._context.rules, self._context.jitter, pause_s)

    def _report_rate_limits(self, heard: RateHeaders, now: float) -> None:
        """The headers every so many answers, and a warning once a minute where little is left."""
        logging = self._context.config.logging
        if logging.quota_every and self._answers % logging.quota_every == 0:
            self._context.notify(events.RateLimitsSeen(answers=self._answers, headers=heard))
        if logging.rate_limit_warnings and heard.lowest_remaining_share < LOW_SHARE and now - self._warned_at >= 60:
            self._warned_at = now
            self._context.notify(events.RateLimitLow(share=heard.lowest_remaining_share))

    def _record_worker_rate(self, tx: Transaction) -> None:
        """Keeps what one worker does in a second, for the next recommendation."""
        if self._answers and self._busy_s > 0:
            facts.record_worker_rate(tx, self._answers / self._busy_s)

    # --- deciding and claiming --------------------------------------------------------------------------------------

    def _build_lane_view(self, tx: Transaction) -> DirectLaneView:
        tx.fetch_all("end_pauses_over", now=tx.now)
        left = self._daily_calls_left(tx)
        latest = latest_valid_wait(tx, self._context.config)
        asked_until, paced_until = facts.read_wait(tx, facts.Wait.DIRECT, latest), self._stock.paced_until
        blocks = [
            (asked_until, "the service wants no calls before"),
            (paced_until if paced_until <= tx.now + 2 * MINUTE_S else 0.0, "the minute's limit is used"),
        ]
        until, why = max(blocks)
        pauses = quota_pauses.load_open_pauses(tx, latest)
        probing = any(p.reason == QUOTA and p.until is not None and p.until <= tx.now for p in pauses)
        return DirectLaneView(
            ready=len(self._stock),
            next_due=self._stock.next_due if self._stock.is_fresh else tx.now,
            running=self._running,
            workers=self.crew.workers,
            blocked_until=until,
            blocked_by=why,
            pauses=pauses,
            probing=probing or self._outages > 0,
            daily_left=left,
            stopped=self._answering.problem,
            ending=self._context.interrupted() or bool(self._error or self._answering.error),
        )

    def _daily_calls_left(self, tx: Transaction) -> int | None:
        """What the day's limit leaves of its share; nothing: the lane pauses until its reset."""
        limit, told = self._settings.daily_requests, self._pacer.daily
        if not limit and told is None:
            return None
        used = int(tx.fetch_one("calls_since", since=tx.now - DAY_S)[0]) if limit else 0
        left, reset_s = (
            (int(limit * self._pause_threshold) - used, self._seconds_until_daily_room(tx, used))
            if limit
            else (1 << 31, DAY_S)
        )
        if told is not None:
            here = int(told.limit * self._pause_threshold) - (told.limit - told.remaining) - self._running
            left, reset_s = min(left, here), told.reset_s or DAY_S
        paused = any(
            p.reason == DAILY and (p.until or 0.0) > tx.now
            for p in quota_pauses.load_open_pauses(tx, latest_valid_wait(tx, self._context.config))
        )
        if left <= 0 and not self._running and not paused:
            said = f"{self._pause_threshold:.0%} of the day's requests are used"
            quota_pauses.pause_sending(tx, "direct", DAILY, tx.now + reset_s, said)
            self._pacer.daily = None  # what it says by then is worth knowing
        return max(0, left)

    def _seconds_until_daily_room(self, tx: Transaction, used: int) -> float:
        """Seconds until so many of the last day's calls are a day ago that another one fits."""
        over = max(0, used - int(self._settings.daily_requests * self._pause_threshold))
        rows = tx.fetch_all("nth_call_since", since=tx.now - DAY_S, n=over)
        return max(1.0, float(rows[0][0]) + DAY_S - tx.now) if rows else DAY_S

    @property
    def _pause_threshold(self) -> float:
        return self._context.config.pause.threshold


def _quota_sample_row(now: float, model: str, heard: RateHeaders) -> tuple[object, ...] | None:
    """A row of the quota history; None where an answer told nothing."""
    if heard == RateHeaders():
        return None
    tokens, requests = heard.tokens, heard.requests
    told = f"requests {requests.remaining:,} of {requests.limit:,} left" if requests else ""
    limit, left = (tokens.limit, tokens.remaining) if tokens else (None, None)
    return now, "header", model, limit, None, None, left, None, told
