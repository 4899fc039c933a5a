"""The result of a synchronous call: an accepted bio, or a class of failure and what becomes of the line."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from batcher.core.direct.decide import (
    Delivery,
    EndedCall,
    LaneStanding,
    build_call_failure,
    decide_direct_verdict,
)
from batcher.core.endpoints.embeddings import VectorLength
from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, Failure, Lane, LineResult
from batcher.core.result_line import parse_response_body
from batcher.core.verdicts import (
    Reason,
    SetupProblem,
    find_answer_problem,
    find_main_reason,
    find_setup_problem,
    is_reason_new,
)
from batcher.errors import JobError
from batcher.lanes.context import LaneContext
from batcher.lanes.direct.calls import CallOutcome, CallRequest
from batcher.service.service import CallUnknown
from batcher.state import direct_calls
from batcher.state.bios import load_vector_length
from batcher.state.db.transaction import Transaction
from batcher.state.direct_calls import CallRecord
from batcher.state.results import load_reason_history
from batcher.state.versions import load_version

JOB_FAILED = "job_failed"
"""The code of a line on whose answer the job's own code failed."""


RECENT_ANSWERS = 100
"""How many lines are looked at for a reason that most of them share."""


class RecentAnswer(NamedTuple):
    """A bio, or the first answer of no use for its line: further ones say more of the line than of the setup."""

    answered_at: float
    code: str
    """Why it was of no use; "" for a bio."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """The outcome of a call with its result, before it is decided what becomes of the line."""

    outcome: CallOutcome
    result: LineResult
    """Its text is the accepted bio."""

    @property
    def failure(self) -> Failure | None:
        """Why there is no bio; None where there is one."""
        return self.result.failure

    def to_ended_call(self, paced_until: float = float("-inf")) -> EndedCall:
        """Return the call as the decisions see it.

        paced_until: until when the last line had to wait for a window of the minute (epoch seconds).
        """
        return EndedCall(
            sent_at=self.outcome.request.sent_at,
            delivery=self.outcome.delivery,
            failure=self.failure.failure if self.failure is not None else None,
            wait_s=self.outcome.wait_s,
            error=str(self.outcome.error or "no answer that could be read"),
            has_room=paced_until <= self.outcome.request.sent_at,
            has_job_failed=self.failure is not None and self.failure.code == JOB_FAILED,
            is_flex=self.outcome.request.is_flex,
        )


class OutcomeJudge:
    """Turns outcomes into results, and results into the records of their calls and lines."""

    def __init__(self, context: LaneContext) -> None:
        self._context = context
        self._counts: Counter[tuple[FailureClass, str]] = Counter()
        self._bios = 0
        self._recent: deque[RecentAnswer] = deque(maxlen=RECENT_ANSWERS)
        """The last answers, which are to this lane what a batch is to the other."""
        self._succeeded_at = float("-inf")
        """When a call was last answered with a completion."""
        self._lengths: dict[int, VectorLength | None] = {}
        """Of the vectors of each version that was asked."""
        self.setup_problem = SetupProblem()
        """Why the whole lane stops."""
        self.error: JobError | None = None
        """The error of the job's code on an answer. Nothing more is sent, and the lane raises it at its end."""

    def judge_outcome(self, outcome: CallOutcome) -> CallResult:
        """Return the bio or the failure of one call."""
        custom_id = outcome.request.custom_id
        if outcome.reply is None:
            details = outcome.error_details
            failure = build_call_failure(details, outcome.delivery, isinstance(outcome.error, CallUnknown))
            return CallResult(outcome, LineResult(custom_id, failure=failure, status=details.status))
        result = parse_response_body(custom_id, outcome.reply, outcome.request.endpoint)
        if result.text is not None:
            result = self._judge_bio_text(outcome, result, result.text)
        return CallResult(outcome, result)

    def _judge_bio_text(self, outcome: CallOutcome, result: LineResult, text: str) -> LineResult:
        """Return the result with the accepted bio, or with a failure.

        An answer on which the job's code fails is paid for: it is recorded before the error is raised.
        """
        try:
            artist = self._context.job.restore_artist(outcome.request.data)
            bio, failure = self._context.job.validate_answer(artist, text, self._find_length(outcome.request))
        except JobError as error:
            self.error = error
            return result._replace(text=None, failure=Failure(FailureClass.UNUSABLE, JOB_FAILED, str(error)[:300]))
        return result._replace(text=bio, failure=failure)

    def _find_length(self, request: CallRequest) -> VectorLength | None:
        """Return the length of the vectors of a request's version; None where answers are no vectors."""
        if request.endpoint is not Endpoint.EMBEDDINGS:
            return None
        if request.version not in self._lengths:
            with self._context.store.read_transaction() as tx:
                version, _ = load_version(tx, request.version)
                self._lengths[request.version] = load_vector_length(tx, request.version, version)
        return self._lengths[request.version]

    def decide_lines(self, tx: Transaction, results: Sequence[CallResult]) -> list[CallRecord]:
        """Return the records of these calls. Sets `setup_problem` where the setup is at fault."""
        self._count_results(tx, results)
        return [self._build_call_record(tx, result) for result in results]

    def _count_results(self, tx: Transaction, results: Iterable[CallResult]) -> None:
        for result in results:
            outcome, failure = result.outcome, result.failure
            if outcome.answer is not None and outcome.delivery is Delivery.ANSWERED:
                self._succeeded_at = max(self._succeeded_at, outcome.answered_at)
            if failure is None:
                self._bios += 1
                self._recent.append(RecentAnswer(outcome.answered_at, ""))
            elif outcome.delivery is Delivery.ANSWERED:
                self._counts[failure.failure, failure.code] += 1
                if _is_first_of_no_use(tx, result):
                    self._recent.append(RecentAnswer(outcome.answered_at, failure.code))
                if failure.failure is FailureClass.SETUP:
                    reason = failure.message or failure.code
                    self.setup_problem = SetupProblem(
                        f"the service refused the request: {reason.rstrip('.')}; fix it and run again"
                    )
        counts = [(failure, code, n) for (failure, code), n in self._counts.items()]
        bios_of_job = direct_calls.count_service_bios(tx) + self._bios
        self.setup_problem = (
            self.setup_problem
            or find_setup_problem(self._context.rules, counts, self._bios, bios_of_job)
            or self._find_new_problem(tx)
        )

    def _find_new_problem(self, tx: Transaction) -> SetupProblem:
        """Return why the lane must stop where most of the last answers are suddenly of no use."""
        codes = Counter(answer.code for answer in self._recent if answer.code)
        first = [Reason(code, n) for code, n in codes.most_common()]
        reason = find_main_reason(self._context.rules, first, len(self._recent))
        if reason is None:
            return SetupProblem()
        history = load_reason_history(tx, reason.code, self._recent[0].answered_at)
        is_new = is_reason_new(reason, len(self._recent), history)
        return find_answer_problem(reason, len(self._recent)) if is_new else SetupProblem()

    def _build_call_record(self, tx: Transaction, call: CallResult) -> CallRecord:
        outcome, result, usage = call.outcome, call.result, call.result.usage
        prices = outcome.request.prices
        is_paid = outcome.answer is not None and outcome.delivery is Delivery.ANSWERED
        record = CallRecord(
            outcome.request.call, outcome.request.artist_id, "bio", result.text, result.model, result.finish_reason,
            usage.input, usage.cached, usage.output, usage.written, usage.reasoning,
            prices.rates_for(Lane.DIRECT, outcome.is_flex_answer).usage_cost(usage) if is_paid and prices else None,
            result.completed_at, status_code=result.status, version=outcome.request.version,
        )  # fmt: skip
        failure = call.failure
        if failure is None:
            return record
        verdict = decide_direct_verdict(
            self._context.rules,
            call.to_ended_call(),
            direct_calls.load_line_tries(tx, outcome.request.artist_id, failure.failure),
            LaneStanding(bool(self.setup_problem), self._succeeded_at, self._context.config.direct.flex_fallback),
            tx.now,
            self._context.jitter(),
        )
        is_answered = outcome.delivery is Delivery.ANSWERED
        return replace(
            record, outcome=failure.failure.value if is_answered else outcome.delivery.value,
            code=failure.code, message=failure.message,
            state=verdict.state.value, wait_until=verdict.wait_until, counted=verdict.counted,
        )  # fmt: skip


def _is_first_of_no_use(tx: Transaction, result: CallResult) -> bool:
    """Return whether an answer was of no use for a line to which that has not happened before."""
    if result.failure is None or result.failure.failure is not FailureClass.UNUSABLE:
        return False
    tries = direct_calls.load_line_tries(tx, result.outcome.request.artist_id, FailureClass.UNUSABLE)
    return not tries.tries and not tries.free
