"""Draws the faults of calls and lines. What is drawn is a hash of the seed, so that a run can be repeated."""

from collections import Counter
from collections.abc import Mapping

from batcher.sandbox.base.chance import seeded_fraction
from batcher.sandbox.base.errors import INVALID, QUOTA_GONE, build_error_object
from batcher.sandbox.base.settings import Faults, Span

ANSWERED = frozenset({"refusal", "length", "invalid_json", "empty"})  # kinds that answer 200, and are billed
_PERMANENT = frozenset({"content_policy", "context_length"})  # a 400 stays a 400

# kind -> (HTTP status, error object) for the kinds that answer with an error
LINE_ERRORS: Mapping[str, tuple[int, dict[str, object]]] = {
    "rate_limit": (
        429,
        build_error_object(
            "You've exceeded the 1000 request/min rate limit, please slow down and try again.",
            "requests",
            None,
            "rate_limit_exceeded",
        ),
    ),
    "resource_unavailable": (
        429,
        build_error_object("Resource Unavailable", "resource_unavailable", None, "resource_unavailable"),
    ),
    "insufficient_quota": (429, build_error_object(QUOTA_GONE, "insufficient_quota", None, "insufficient_quota")),
    "server": (
        500,
        build_error_object(
            "An error occurred while processing your request. You can retry your request, or contact us if the "
            "error persists.",
            "server_error",
            None,
            "server_error",
        ),
    ),
    "content_policy": (
        400,
        build_error_object(
            "Your request was rejected as a result of our safety system.", INVALID, None, "content_policy_violation"
        ),
    ),
    "context_length": (
        400,
        build_error_object(
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 128001 tokens. "
            "Please reduce the length of the messages.",
            INVALID,
            "messages",
            "context_length_exceeded",
        ),
    ),
}

# What happens to a call: nothing, 503 without effect, connection closed without effect, effect without an answer.
FINE, REFUSED, RESET, LOST = "fine", "refused", "reset", "lost"


class FaultSampler:
    """Counts the calls of each operation and draws each one's fate."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls: Counter[str] = Counter()

    def draw_fate(self, faults: Faults, operation: str) -> str:
        """Return the fate of the next call of this operation."""
        self._calls[operation] += 1
        chances = ((REFUSED, faults.refuse_before), (RESET, faults.reset_before), (LOST, faults.lose_answer))
        for name, rates in chances:
            rate = rates.get(operation, 0.0)
            if rate and self._draw_fraction(name, operation) < rate:
                return name
        return FINE

    def should_truncate(self, faults: Faults) -> bool:
        """Return whether the current download is cut off; called once per download."""
        return bool(faults.truncate_download) and self._draw_fraction("truncate", "content") < faults.truncate_download

    def draw_cut(self, faults: Faults) -> str:
        """Return where this download of a result file is cut, a kind of CUTS, or ""; called once per download."""
        return _pick_fault_kind(faults.cut_output, self._draw_fraction("cut", "content")) if faults.cut_output else ""

    def should_time_out(self, operation: str) -> bool:
        """Return whether a lost answer shows as a time-out rather than as a closed connection."""
        return self._draw_fraction("timeout", operation) < 0.5

    def _draw_fraction(self, what: str, operation: str) -> float:
        return seeded_fraction(self._seed, what, operation, self._calls[operation])


def is_within_span(span: Span | None, time: float) -> bool:
    """Return whether a time lies in a span; its end is not part of it."""
    return span is not None and span[0] <= time < span[1]


def draw_line_fault(faults: Faults, seed: int, custom_id: str, attempt: int, time: float, is_flex: bool = False) -> str:
    """Return the kind of failure of one execution (the first attempt is 1), or "" for none. is_flex: of the request."""
    if is_within_span(faults.quota_gone_between, time):
        return "insufficient_quota"
    if custom_id in faults.poison:
        return "server"
    if not faults.line_failures:
        return ""
    kind = _pick_fault_kind(faults.line_failures, seeded_fraction(seed, "line", custom_id))
    if kind == "resource_unavailable" and not is_flex:
        return ""
    passing = faults.transient_failures and kind not in _PERMANENT
    return "" if passing and attempt > 1 else kind


def _pick_fault_kind(rates: Mapping[str, float], point: float) -> str:
    for kind in sorted(rates):
        if point < rates[kind]:
            return kind
        point -= rates[kind]
    return ""
