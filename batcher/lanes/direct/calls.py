"""Synchronous calls: what is sent, the threads that wait for the answers, and what comes back."""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from threading import Thread
from typing import ParamSpec, TypeVar

from batcher import crashpoints
from batcher.catalog.prices import ModelPrices
from batcher.core.direct.decide import Delivery
from batcher.core.direct.flex import FLEX
from batcher.core.endpoints.values import Json
from batcher.core.failures import ErrorDetails
from batcher.core.model import Endpoint
from batcher.core.result_line import parse_json_object
from batcher.service.service import CallError, CallUnknown, CallUnsent, CompletionResponse, Service

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CallRequest:
    """One call: the line that it is for, and what is sent."""

    call: int
    artist_id: str
    custom_id: str
    data: str
    version: int
    endpoint: Endpoint
    body: dict[str, object]
    tokens: int
    """What it takes of the minute's tokens: its input, and the longest answer that it allows."""
    prices: ModelPrices | None
    sent_at: float = 0.0
    """When its line was claimed, just before it was sent (epoch seconds)."""

    @property
    def is_flex(self) -> bool:
        """Whether it asks for flex processing."""
        return self.body.get("service_tier") == FLEX


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """The outcome of a call: an answer, an error, or neither where its process died."""

    request: CallRequest
    answered_at: float
    answer: CompletionResponse | None = None
    error: CallError | None = None
    reply: Json | None = None
    """The parsed body of the answer; None where it cannot be parsed."""

    @property
    def delivery(self) -> Delivery:
        """How far the call came. An answer that cannot be parsed was cut off, or made by a proxy: it counts as lost."""
        if self.answer is not None:
            return Delivery.LOST if self.reply is None else Delivery.ANSWERED
        if isinstance(self.error, CallUnsent):
            return Delivery.UNSENT
        if self.error is None or (isinstance(self.error, CallUnknown) and self.error.details.status is None):
            return Delivery.LOST
        return Delivery.ANSWERED

    @property
    def is_flex_answer(self) -> bool:
        """Whether the answer says that it came by flex processing, whatever the request asked for."""
        return self.reply is not None and self.reply.get("service_tier") == FLEX

    @property
    def error_details(self) -> ErrorDetails:
        """How the call failed; empty where there was no error."""
        return self.error.details if self.error is not None else ErrorDetails()

    @property
    def wait_s(self) -> float | None:
        """The seconds of a Retry-After; None where there was none."""
        return self.error.wait_s if self.error is not None else None


def outcome_from_answer(request: CallRequest, at: float, answer: CompletionResponse) -> CallOutcome:
    """Return the outcome of a call that was answered at `at`; its body is parsed here, once."""
    return CallOutcome(request, at, answer, reply=parse_json_object(answer.body))


class DaemonExecutor(Executor):
    """Runs each task in a daemon thread of its own.

    A ThreadPoolExecutor joins its threads when the interpreter exits, even after `shutdown(wait=False)`: a second
    Ctrl-C would wait for every call in progress. Starting a thread costs nothing compared with a call of a second.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Start a task; return the future of its result."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def run_task() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - a future keeps it for its reader
                future.set_exception(error)

        Thread(target=run_task, daemon=True).start()
        return future


class RunningCalls:
    """The calls in progress. Their threads do nothing but wait for the service; the lane's own thread does the rest."""

    def __init__(self, service: Service, clock: Callable[[], float]) -> None:
        self._service, self._clock = service, clock
        self._executor = DaemonExecutor()
        self._futures: list[Future[CallOutcome]] = []
        self.made = 0
        """Calls that were started."""
        self.error: BaseException | None = None
        """What a call has raised that is no error of the service, such as a KeyboardInterrupt. The lane raises it."""

    @property
    def running(self) -> int:
        """Calls in progress, and those whose outcome is not collected yet."""
        return len(self._futures)

    def start_calls(self, requests: Iterable[CallRequest]) -> None:
        """Start a call for each request."""
        started = [self._executor.submit(self._make_call, request) for request in requests]
        self._futures += started
        self.made += len(started)

    def _make_call(self, request: CallRequest) -> CallOutcome:
        try:
            crashpoints.mark_reached("complete.before")
            answer = self._service.request_completion(request.endpoint.value, request.body)
            crashpoints.mark_reached("complete.after")
        except CallError as error:
            return CallOutcome(request, self._clock(), None, error)
        return outcome_from_answer(request, self._clock(), answer)

    def wait_for_outcome(self, timeout_s: float) -> bool:
        """Wait in real time until a call has ended; return False where none has after `timeout_s` seconds."""
        return bool(wait(self._futures, timeout_s, FIRST_COMPLETED).done)

    def collect_outcomes(self) -> list[CallOutcome]:
        """Return the outcomes since the last time, in the order of their answers. An error of another kind is kept."""
        ended = [future for future in self._futures if future.done()]
        self._futures = [future for future in self._futures if future not in ended]
        outcomes = []
        for future in ended:
            error = future.exception()
            if error is None:
                outcomes.append(future.result())
            else:
                self.error = error
        return sorted(outcomes, key=lambda outcome: outcome.answered_at)
