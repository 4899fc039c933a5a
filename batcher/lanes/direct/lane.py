"""The direct lane: one synchronous call for each line, as many at the same time as limits and workers allow.

Each call stands between the commit of its claim and the commit of its result. Results that have come are recorded in
the transaction that claims the lines of the next calls. Calls run in threads; the state, the job's code and all
decisions stay in the lane's own thread.
"""

from collections.abc import Sequence

from batcher.core import events
from batcher.core.actions import INTERRUPTED, Finish, Wait
from batcher.core.direct.decide import (
    LOOK_S,
    Claim,
    DirectLaneView,
    decide_direct_action,
    find_longest_block,
    is_probing,
)
from batcher.core.direct.pacing import Pacer
from batcher.core.direct.workers import Workers
from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, JobVersion
from batcher.errors import JobError
from batcher.job.job import job_output_to_stderr
from batcher.lanes.context import LaneContext
from batcher.lanes.direct.calls import CallOutcome, CallRequest, RunningCalls, outcome_from_answer
from batcher.lanes.direct.keeping import AnswerKeeper
from batcher.lanes.direct.limits import LaneLimits
from batcher.lanes.direct.outcomes import CallResult, OutcomeJudge
from batcher.lanes.direct.ready_lines import CALL_KEY, ReadyLines, SelectionWeight, weigh_beside_rest
from batcher.plan.retry_shards import recut_parked_lines
from batcher.service.service import CallError, CallRefused, CompletionResponse
from batcher.state import direct_calls, facts, quota_pauses, submissions
from batcher.state.db.transaction import Transaction
from batcher.state.direct_calls import OpenCall, Selection
from batcher.state.following.settling import settle_followers
from batcher.state.snapshot import latest_valid_wait, load_braked
from batcher.state.versions import register_wider_version

GROUP_S = 0.05
"""Answers that come within this time (seconds) are recorded together: a transaction costs a few milliseconds."""


class DirectLane:
    """Works through the lines of a selection until none is left to send."""

    def __init__(self, context: LaneContext, selection: Selection, workers: Workers) -> None:
        self._context = context
        pacer = Pacer(context.config.direct.rpm, context.config.direct.tpm)
        self._selection = selection
        self._ready = ReadyLines(context, selection, pacer)
        self._judge = OutcomeJudge(context)
        self._keeper = AnswerKeeper(context)
        self._run_id = ""
        self.limits = LaneLimits(context, pacer, workers)
        self.calls = RunningCalls(context.service, context.clock)
        self._stopped = ""
        """Why the lane stops for the setup, as a sentence; "" while it goes on."""
        self._error: JobError | OSError | None = None
        """The error of the job's code on a line that was to be sent, or of the disk on an answer that was to be kept.
        Nothing more is sent, and it is raised later."""

    def prepare_run(self) -> None:
        """End the calls of a process that died, and forget why an earlier one stopped."""
        with self._context.store.transaction("begin") as tx:
            facts.clear_stop_reason(tx)
            self._ready.set_first_call(direct_calls.next_call_number(tx))
            self._run_id = submissions.load_run_id(tx)
            self.limits.load_recent_calls(tx)
            settle_followers(tx, self._judge_follower)
        while self._recover_open_calls():
            pass
        recut_parked_lines(self._context.store, self._context.job, self._context.config)

    def weigh_selection(self) -> tuple[SelectionWeight, int]:
        """Return what the lane is for, and how many lines it leaves out because they were not released."""
        with self._context.store.read_transaction() as tx:
            return weigh_beside_rest(tx, self._selection, self._context.config, self._context.prices)

    def run_until_idle(self, patient: bool = True) -> Finish:
        """Send lines until none is left, or the user ends it; return how it ended. Calls in progress are waited for.

        patient: wait however long; else end where nothing can be sent within a poll interval. Raises JobError where the
        job's code failed, and OSError where an answer could not be kept, after the results of the calls in progress are
        recorded.
        """
        while True:
            step = self.run_round()
            near = self._context.clock() + self._context.config.poll.interval_s
            if isinstance(step, Wait) and (patient or self.calls.running or step.until <= near):
                self.wait_for_outcomes(step)
                continue
            error = self._find_error()
            if error is not None:
                raise error
            recut_parked_lines(self._context.store, self._context.job, self._context.config)
            if isinstance(step, Wait):
                return Finish()
            return Finish(INTERRUPTED) if not step.problem and self._context.interrupted() else step

    def _find_error(self) -> BaseException | None:
        """Return the error that ends the lane; None where there is none."""
        return self.calls.error or self._error or self._judge.error

    def _recover_open_calls(self) -> bool:
        """End some of the calls that a dead process has left; return whether there were any."""
        with self._context.store.read_transaction() as tx:
            open_calls = direct_calls.load_open_calls(tx)
            if not open_calls:
                return False
            materials = {call.version: self._ready.load_material(tx, call.version) for call in open_calls}
        kept = self._keeper.find_answers(self._run_id, open_calls)
        outcomes = []
        for call in open_calls:
            material = materials[call.version]
            request = CallRequest(
                call.call, call.artist_id, call.custom_id, call.data, call.version,
                material.version.endpoint, {}, 0, material.prices,
            )  # fmt: skip
            stored = kept.get(call.call) or self._find_stored_answer(call, material.version)
            at = self._context.clock()
            outcomes.append(
                CallOutcome(request, at)
                if stored is None
                else outcome_from_answer(request, at, CompletionResponse(stored, {}))
            )
        self._keeper.keep_answers(self._run_id, [each for each in outcomes if each.request.call not in kept])
        results = [self._judge.judge_outcome(outcome) for outcome in outcomes]
        with self._context.store.transaction("recover_calls", patience_s=None) as tx:
            self._record_results(tx, results)
        return True

    def _find_stored_answer(self, call: OpenCall, version: JobVersion) -> bytes | None:
        """Return the answer to a call of a dead process, where OpenAI was asked to store it and has it; else None."""
        if not self._context.config.direct.store or version.endpoint is not Endpoint.CHAT:
            return None
        metadata, n = {CALL_KEY: f"{self._run_id}-{call.call}"}, 0
        while True:
            try:
                return self._context.service.find_stored_completion(version.model, metadata)
            except CallRefused:
                return None
            except CallError as error:
                self._context.notify(events.CallFailed(call="direct", reason=str(error)))
                self._context.sleep(self._context.next_delay_seconds(FailureClass.OUTAGE, n, error.wait_s))
                n += 1
                if self._context.interrupted():  # nothing has begun yet, and a sleep returns at once from now on
                    raise KeyboardInterrupt from error

    def run_round(self) -> Wait | Finish:
        """Record the outcomes so far and claim the next lines in one transaction, then send these.

        Returns what to wait for, or that the lane is done.
        """
        outcomes = self.calls.collect_outcomes()
        self._keep_answers(outcomes)
        with job_output_to_stderr():
            results = [self._judge.judge_outcome(outcome) for outcome in outcomes]
        self._load_ready_lines()
        requests: list[CallRequest] = []
        with self._context.store.transaction("direct", patience_s=None) as tx:
            self._record_results(tx, results)
            self.limits.record_results(tx, results, self._ready.paced_until)
            self._stop_for_setup(tx)
            step: Claim | Wait | Finish = decide_direct_action(self._build_view(tx), tx.now)
            if isinstance(step, Claim):
                requests = self._ready.claim_lines(tx, step.max_lines, self.limits.is_flex_over)
                if not requests:  # the windows of the minute are used, or the next line costs too much
                    step = self._decide_without_claim(tx)
            if isinstance(step, Finish):
                self.limits.record_worker_rate(tx)
        self.calls.start_calls(requests)
        return Wait(self._context.clock() + GROUP_S, "") if isinstance(step, Claim) else step

    def _keep_answers(self, outcomes: Sequence[CallOutcome]) -> None:
        """Keep answers as they came. What the disk refuses is raised later: they are paid for, and recorded first."""
        try:
            self._keeper.keep_answers(self._run_id, outcomes)
        except OSError as error:
            self._error = error

    def _stop_for_setup(self, tx: Transaction) -> None:
        """Stop where the setup is at fault. Where the brake has tripped for the same answers, it ends the lane."""
        problem = self._judge.setup_problem
        if not problem or self._stopped:
            return
        if not (problem.concerns_answers and load_braked(tx, self._context.config)):
            self._stopped = problem.sentence
            facts.stop_sending(tx, problem.sentence)

    def _decide_without_claim(self, tx: Transaction) -> Wait | Finish:
        """Return what follows where no line could be claimed although the lane is open."""
        running = self.calls.running
        if self._ready.budget_problem and not running:  # a call in progress may cost less than is reserved for it
            return Finish(self._ready.budget_problem)
        step = decide_direct_action(self._build_view(tx), tx.now)
        return Wait(tx.now + (LOOK_S if running else GROUP_S), "") if isinstance(step, Claim) else step

    def _load_ready_lines(self) -> None:
        """Load the next lines, where nothing has failed. An error of the job's code is raised later, see `_error`."""
        if self._find_error() is not None:
            return
        try:
            self._ready.load_next_lines()
        except JobError as error:
            self._error = error

    def wait_for_outcomes(self, wait: Wait) -> None:
        """Wait until a call has ended and others may have, or until the time of the wait."""
        if wait.reason:
            self._context.notify(events.WaitStarted(until=wait.until, reason=wait.reason))
        left_s = max(0.0, wait.until - self._context.clock())
        if not self.calls.running:
            self._context.sleep(min(left_s, self._context.config.poll.interval_s))
        elif self.calls.wait_for_outcome(left_s):
            self._context.sleep(GROUP_S)

    def _record_results(self, tx: Transaction, results: Sequence[CallResult]) -> None:
        """Record the results of calls, and move their lines on."""
        if not results:
            return
        direct_calls.record_answers(tx, self._judge.decide_lines(tx, results))
        room = self._context.config.retry.more_room
        cut_off = {r.outcome.request.version for r in results if r.failure is not None and r.failure.code == "length"}
        for version in cut_off if room else ():
            wider = register_wider_version(tx, version, room)
            if wider is not None:
                direct_calls.widen_answers(tx, version, wider)
        settled = settle_followers(tx, self._judge_follower)
        bios_sent_at = [result.outcome.request.sent_at for result in results if result.failure is None]
        if bios_sent_at:
            quota_pauses.end_probed_pauses(tx, max(bios_sent_at), latest_valid_wait(tx, self._context.config))
        bios, failures = len(bios_sent_at), len(results) - len(bios_sent_at)
        is_changed = failures or settled.promoted
        if is_changed or self._ready.braked is not None:  # a bio may lower the share so far that the brake goes off
            self._ready.mark_stale()
        self._context.notify(events.AnswersRecorded(bios=bios, failures=failures))

    def _judge_follower(self, data: str, bio: str) -> bool | None:
        """Judge an answer for a row that asks the same. An error of the job's code is raised later, see `_error`."""
        try:
            with job_output_to_stderr():
                return self._context.job.accepts_kept_bio(data, bio)
        except JobError as error:
            self._error = error
            return None

    def _build_view(self, tx: Transaction) -> DirectLaneView:
        running, history = self.calls.running, self.limits.history
        daily_left = self.limits.apply_daily_limit(tx, running)  # may pause the lane, so before the pauses are loaded
        pauses = self.limits.load_pauses(tx)
        wait_until = facts.read_wait(tx, facts.WaitFact.DIRECT, latest_valid_wait(tx, self._context.config))
        block = find_longest_block(wait_until, self._ready.paced_until, tx.now)
        return DirectLaneView(
            ready=len(self._ready),
            braked=self._ready.braked,
            next_due=self._ready.next_due if self._ready.is_fresh else tx.now,
            running=running,
            workers=history.workers.workers,
            blocked_until=block.until,
            blocked_by=block.reason,
            pauses=pauses,
            probing=is_probing(pauses, history, tx.now),
            daily_left=daily_left,
            stopped=self._stopped,
            ending=self._context.interrupted() or self._find_error() is not None,
        )
