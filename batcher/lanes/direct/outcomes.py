"""What a synchronous call came to: the bio, or the class of failure and what becomes of the line."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from batcher.catalog.prices import ModelPrices
from batcher.core.failures import ErrorDetails, FailureClass, classify_line_error
from batcher.core.lifecycle import ArtistState
from batcher.core.model import Endpoint, Failure, Lane, LineResult
from batcher.core.result_line import Json, parse_json_object, parse_response_body
from batcher.core.verdicts import Verdict, decide_line_verdict, find_setup_problem
from batcher.errors import JobError
from batcher.lanes.context import LaneContext
from batcher.service.service import CallError, CallUnknown, CallUnsent, CompletionResponse
from batcher.state.db.transaction import Transaction
from batcher.state.direct_calls import CallRecord

JOB_FAILED = "job_failed"
OF_THE_LANE = frozenset({FailureClass.RATE_LIMIT, FailureClass.QUOTA, FailureClass.SETUP})
"""Classes for which the whole lane waits or stops, and no line pays."""
FREE_TRIES = 5
"""So often a server error costs a line no try, where no other call succeeded meanwhile: it may be an outage."""
OF_A_SERVER, OF_THE_SETUP = frozenset({408, 409, 425}), frozenset({401, 402, 403, 405, 407})
"""Statuses of a refusal that says nothing of the line."""
LOST_BEFORE_HELD = 1
"""A line whose answer was lost is asked for again so often (promise 2); then it is held as perhaps paid."""


@dataclass(frozen=True, slots=True)
class CallRequest:
    """One call: the line that it is for, and what was sent."""

    call: int
    artist_id: str
    custom_id: str
    data: str
    version: int
    endpoint: Endpoint
    body: dict[str, object]
    tokens: int
    """What it takes of the minute's tokens: its input, and all that it may answer."""
    prices: ModelPrices | None
    asked_at: float = 0.0


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """What came back: an answer, an error, or (both None) nothing that anybody knows of."""

    asked: CallRequest
    answered_at: float
    answer: CompletionResponse | None = None
    error: CallError | None = None
    reply: Json | None = None
    """The answer's body, read; None where it cannot be."""

    @property
    def is_unsent(self) -> bool:
        """Whether nothing went out."""
        return isinstance(self.error, CallUnsent)

    @property
    def is_lost(self) -> bool:
        """Whether the answer may have been made, and did not come."""
        if self.answer is not None:
            return self.reply is None  # something in between, or an answer that was cut off
        if self.is_unsent:
            return False
        return self.error is None or (isinstance(self.error, CallUnknown) and self.error.details.status is None)

    @property
    def trouble(self) -> ErrorDetails:
        """How the call failed."""
        return self.error.details if self.error is not None else ErrorDetails()


def outcome_from_answer(asked: CallRequest, at: float, answer: CompletionResponse) -> CallOutcome:
    """What came back with an answer, its body read once."""
    return CallOutcome(asked, at, answer, reply=parse_json_object(answer.body))


@dataclass(frozen=True, slots=True)
class CallResult:
    """A call's outcome, before it is decided what becomes of the line."""

    came: CallOutcome
    result: LineResult
    """Its text is the accepted bio."""

    @property
    def failure(self) -> Failure | None:
        """Why there is no bio."""
        return self.result.failure


class OutcomeJudge:
    """Reads what came back, and decides the lines."""

    def __init__(self, context: LaneContext) -> None:
        self._context = context
        self._counts: Counter[tuple[FailureClass, str]] = Counter()
        self._bios = 0
        self.problem = ""
        """What stops the whole lane."""
        self.error: JobError | None = None
        """The job's code failed on an answer: nothing more is asked for, and this is raised in the end."""
        self.succeeded_at = float("-inf")
        """When a call last gave an answer that could be read."""

    def read_outcome(self, came: CallOutcome) -> CallResult:
        """The bio or the failure of one call."""
        if came.reply is None:
            return CallResult(
                came, LineResult(came.asked.custom_id, failure=_build_call_failure(came), status=came.trouble.status)
            )
        result = parse_response_body(came.asked.custom_id, came.reply, came.asked.endpoint)
        if result.text is not None:
            result = self._judge_bio_text(came, result, result.text)
        return CallResult(came, result)

    def _judge_bio_text(self, came: CallOutcome, result: LineResult, text: str) -> LineResult:
        """The result with the accepted bio. What the job's code fails on is paid for: it is recorded, and then told."""
        try:
            bio, failure = self._context.job.validate_answer(self._context.job.restore_artist(came.asked.data), text)
        except JobError as error:
            self.error = error
            return result._replace(text=None, failure=Failure(FailureClass.UNUSABLE, JOB_FAILED, str(error)[:300]))
        return result._replace(text=bio, failure=failure)

    def decide_lines(self, tx: Transaction, reads: Sequence[CallResult]) -> list[CallRecord]:
        """What is to be recorded. Sets `problem` where these failures are the setup's fault."""
        self._count_outcomes(tx, reads)
        return [self._build_call_record(tx, read) for read in reads]

    def _count_outcomes(self, tx: Transaction, reads: Iterable[CallResult]) -> None:
        for read in reads:
            if read.came.answer is not None and not read.came.is_lost:
                self.succeeded_at = max(self.succeeded_at, read.came.answered_at)
            if read.failure is None:
                self._bios += 1
            elif not (read.came.is_unsent or read.came.is_lost):
                self._counts[read.failure.failure, read.failure.code] += 1
                if read.failure.failure is FailureClass.SETUP:
                    told = read.failure.message or read.failure.code
                    self.problem = f"the service refuses: {told}; mend it and run again"
        counts = [(failure, code, n) for (failure, code), n in self._counts.items()]
        of_job = int(tx.fetch_one("bios_of_job")[0]) + self._bios
        self.problem = self.problem or find_setup_problem(self._context.rules, counts, self._bios, of_job)

    def _build_call_record(self, tx: Transaction, read: CallResult) -> CallRecord:
        came, result, usage = read.came, read.result, read.result.usage
        prices = came.asked.prices
        paid = came.answer is not None and not came.is_lost
        base = CallRecord(
            came.asked.call, came.asked.artist_id, "bio", result.text, result.model, result.finish_reason,
            usage.input, usage.cached, usage.output,
            prices.rates_for(Lane.DIRECT).usage_cost(usage) if paid and prices is not None else None,
            result.completed_at, status_code=result.status,
        )  # fmt: skip
        if read.failure is None:
            return base
        outcome = "unsent" if came.is_unsent else "lost" if came.is_lost else read.failure.failure.value
        verdict = self._decide_line_verdict(tx, read, read.failure)
        return replace(
            base, outcome=outcome, code=read.failure.code, message=read.failure.message,
            state=verdict.state.value, wait_until=verdict.wait_until, counted=verdict.counted,
        )  # fmt: skip

    def _decide_line_verdict(self, tx: Transaction, read: CallResult, failure: Failure) -> Verdict:
        if read.came.is_unsent or failure.failure in OF_THE_LANE:
            return Verdict(ArtistState.READY, counted=False)
        if self.problem and failure.failure in {FailureClass.INVALID, FailureClass.UNUSABLE}:
            return Verdict(ArtistState.READY, counted=False)
        if failure.code == JOB_FAILED:
            return Verdict(ArtistState.HELD, counted=False)
        came = read.came
        attempts, tries, free, lost = tx.fetch_one(
            "tries_of", artist_id=came.asked.artist_id, failure=failure.failure.value
        )
        if came.is_lost:
            again = lost < LOST_BEFORE_HELD
            return self._retry_later_verdict(tx) if again else Verdict(ArtistState.HELD, counted=False)
        if failure.failure is FailureClass.SERVER and self.succeeded_at < came.asked.asked_at and free < FREE_TRIES:
            return self._retry_later_verdict(tx)  # an outage, as far as anybody knows
        return decide_line_verdict(
            self._context.rules, failure.failure, tries, attempts, tx.now, self._context.jitter()
        )

    def _retry_later_verdict(self, tx: Transaction) -> Verdict:
        """Another line is asked for first: whether it is the line or the service shows then."""
        return Verdict(
            ArtistState.WAITING, tx.now + self._context.next_delay_seconds(FailureClass.OUTAGE, 0), counted=False
        )


def _build_call_failure(came: CallOutcome) -> Failure:
    trouble = came.trouble
    if came.is_lost:
        return Failure(FailureClass.MISSING, "perhaps_paid", trouble.message or "no answer came that could be read")
    code = trouble.code or trouble.kind or (f"http_{trouble.status}" if trouble.status is not None else "no_connection")
    return Failure(_classify_failed_call(came), code, trouble.message)


def _classify_failed_call(came: CallOutcome) -> FailureClass:
    """The class of a call that failed. What answers in the service's stead, or says "later", is no fault of a line."""
    status = came.trouble.status
    if status in OF_A_SERVER or (isinstance(came.error, CallUnknown) and status is not None):
        return FailureClass.SERVER
    return FailureClass.SETUP if status in OF_THE_SETUP else classify_line_error(came.trouble)
