"""The synchronous endpoints: token buckets with real limits, the x-ratelimit headers, and stored completions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

import orjson

from batcher.sandbox.answers import models
from batcher.sandbox.answers.answers import Usage, answer
from batcher.sandbox.answers.requests import CHAT, Body, body_error, read_ask, value_error
from batcher.sandbox.api.batches import read_metadata
from batcher.sandbox.api.ledger import Execution, Ledger
from batcher.sandbox.base.chance import digest
from batcher.sandbox.base.errors import ApiError, missing_parameter, no_model
from batcher.sandbox.base.faults import ANSWERED, LINE_ERRORS, line_fault
from batcher.sandbox.base.settings import SandboxSettings

_DEFAULT_OUTPUT = 600  # tokens counted for a request that names no maximum
_LIMITS_PAGE = "https://platform.openai.com/account/rate-limits"


def go_duration(seconds: float) -> str:
    """Write seconds as Go does: `0s`, `236ms`, `8.64s`, `1m4.296s`, `2h0m0s`."""
    millis = round(seconds * 1000)
    if millis < 1000:
        return f"{millis}ms" if millis else "0s"
    minutes, rest = divmod(millis, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


@dataclass
class Bucket:
    """A limit per `period_s` seconds that refills evenly."""

    limit: int
    period_s: float
    used: float = 0.0
    at: float = 0.0

    def refill(self, now: float) -> None:
        self.used = max(0.0, self.used - max(0.0, now - self.at) * self.limit / self.period_s)
        self.at = max(now, self.at)

    def wait(self, amount: float) -> float:
        """Return the seconds until `amount` fits; 0 where it fits now."""
        return max(0.0, self.used + amount - self.limit) * self.period_s / self.limit

    @property
    def remaining(self) -> int:
        return max(0, int(self.limit - self.used))

    @property
    def reset(self) -> float:
        """Seconds until the bucket is full again."""
        return self.used * self.period_s / self.limit


@dataclass
class Buckets:
    """The limits of one model."""

    requests: Bucket
    tokens: Bucket
    daily: Bucket | None

    def take(self, tokens: int, now: float, model: str, organization: str) -> None:
        """Count a request, or raise the 429 without counting it."""
        rows = [
            (self.requests, 1, "requests", "requests per min (RPM)"),
            (self.tokens, tokens, "tokens", "tokens per min (TPM)"),
        ]
        if self.daily:
            rows.append((self.daily, 1, "requests", "requests per day (RPD)"))
        for bucket, amount, kind, label in rows:
            bucket.refill(now)
            if bucket.wait(amount) > 0:
                raise self._refusal(bucket, amount, kind, f"{model} in organization {organization} on {label}")
        for bucket, amount, _, _ in rows:
            bucket.used += amount

    def _refusal(self, bucket: Bucket, amount: int, kind: str, where: str) -> ApiError:
        wait = bucket.wait(amount)
        if amount > bucket.limit:
            message = f"Request too large for {where}: Limit {bucket.limit}, Requested {amount}."
        else:
            message = (
                f"Rate limit reached for {where}: Limit {bucket.limit}, Used {round(bucket.used)}, Requested {amount}. "
                f"Please try again in {go_duration(wait)}. Visit {_LIMITS_PAGE} to learn more."
            )
        retry = {"retry-after": str(max(1, round(wait + 0.5))), "retry-after-ms": str(max(1, round(wait * 1000)))}
        return ApiError(429, message, kind, None, "rate_limit_exceeded", {**self.headers(), **retry})

    def headers(self) -> dict[str, str]:
        """Return the x-ratelimit headers; an account with a daily limit shows that one for the requests."""
        requests = self.daily or self.requests
        return {
            "x-ratelimit-limit-requests": str(requests.limit),
            "x-ratelimit-limit-tokens": str(self.tokens.limit),
            "x-ratelimit-remaining-requests": str(requests.remaining),
            "x-ratelimit-remaining-tokens": str(self.tokens.remaining),
            "x-ratelimit-reset-requests": go_duration(requests.reset),
            "x-ratelimit-reset-tokens": go_duration(self.tokens.reset),
        }


@dataclass(frozen=True)
class DirectAnswer:
    body: dict[str, object]
    headers: Mapping[str, str]


@dataclass
class Direct:
    """The direct endpoints. The caller holds the sandbox's lock."""

    ledger: Ledger
    settings: SandboxSettings
    stored: dict[str, dict[str, object]] = field(default_factory=dict)
    _buckets: dict[str, Buckets] = field(default_factory=dict)

    def call(self, endpoint: str, body: Body, now: float) -> DirectAnswer:
        """Answer one request, or raise its error."""
        self._check(endpoint, body, now)
        ask = read_ask(endpoint, body)
        buckets = self._buckets_of(ask.model)
        buckets.take(ask.estimate + (ask.max_tokens or _DEFAULT_OUTPUT), now, ask.model, self.settings.organization)
        custom_id = line_key(body)
        attempt = self.ledger.attempt(custom_id)
        fault = line_fault(self.settings.faults, self.settings.seed, custom_id, attempt, now)
        if fault and fault not in ANSWERED:
            raise _failure(fault, buckets)
        ident = digest(16, self.settings.seed, "direct", custom_id, attempt).hex()
        found = answer(endpoint, ask, body, ident, int(now), fault)
        self._bill(Execution(custom_id, None, models.resolved(ask.model), found.outcome, now), found.usage)
        if body.get("store") is True and endpoint == CHAT:
            self.stored[str(found.body["id"])] = found.body
        return DirectAnswer(found.body, buckets.headers())

    def _bill(self, execution: Execution, usage: Usage) -> None:
        self.ledger.bill(execution, usage)
        self.ledger.flush()

    def _check(self, endpoint: str, body: Body, now: float) -> None:
        finding = body_error(endpoint, body)
        if finding and finding[0] == "streaming_unsupported":
            raise ApiError(400, "The sandbox does not stream.", param="stream", code="unsupported_value")
        if finding:
            raise missing_parameter(finding[2])
        out_of_range = value_error(body)
        if out_of_range:
            raise out_of_range
        model = str(body["model"])
        if model not in models.available(now, self.settings.limits):
            raise no_model(model)
        read_metadata(body.get("metadata"))

    def _buckets_of(self, model: str) -> Buckets:
        family = models.family(model)
        if family not in self._buckets:
            rpd = self.settings.rpd
            daily = Bucket(rpd, 86_400.0) if rpd else None
            self._buckets[family] = Buckets(Bucket(self.settings.rpm, 60.0), Bucket(self.settings.tpm, 60.0), daily)
        return self._buckets[family]

    def find_stored(
        self, model: str | None, metadata: Mapping[str, str], newest_first: bool
    ) -> list[dict[str, object]]:
        """Return the stored completions of a model whose metadata holds all the given pairs."""
        found = [each for each in self.stored.values() if _holds(each, model, metadata)]
        return found[::-1] if newest_first else found


def _holds(body: Mapping[str, object], model: str | None, wanted: Mapping[str, str]) -> bool:
    metadata = body.get("metadata")
    pairs = metadata if isinstance(metadata, Mapping) else {}
    right_model = model is None or models.resolved(model) == body["model"]
    return right_model and all(pairs.get(key) == value for key, value in wanted.items())


def line_key(body: Body) -> str:
    """Return what the ledger counts a direct request under: metadata.custom_id, or a hash of the body."""
    metadata = body.get("metadata")
    named = metadata.get("custom_id") if isinstance(metadata, Mapping) else None
    return str(named) if named else "sha256:" + sha256(orjson.dumps(body)).hexdigest()


def _failure(fault: str, buckets: Buckets) -> ApiError:
    """Return the HTTP error for a kind of line failure; those that only a batch can show become a 500."""
    status, error = LINE_ERRORS.get(fault, LINE_ERRORS["server"])
    code, param = error["code"], error["param"]
    headers = {**buckets.headers(), **({"retry-after": "1"} if fault == "rate_limit" else {})}
    return ApiError(
        status,
        str(error["message"]),
        str(error["type"]),
        None if param is None else str(param),
        None if code is None else str(code),
        headers,
    )
