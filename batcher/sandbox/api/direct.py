"""The synchronous endpoints: token buckets with real limits, the x-ratelimit headers, and stored completions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

import orjson

from batcher.sandbox.answers import models
from batcher.sandbox.answers.answers import build_answer, use_cache
from batcher.sandbox.answers.caching import PromptCache
from batcher.sandbox.answers.requests import (
    CHAT,
    TEXT_ENDPOINTS,
    Body,
    find_body_error,
    find_value_error,
    parse_model_request,
)
from batcher.sandbox.api.batches import parse_metadata
from batcher.sandbox.api.dialect import quote_text, spoil_answer
from batcher.sandbox.api.ledger import BilledExecution, Ledger
from batcher.sandbox.base.chance import seeded_bytes
from batcher.sandbox.base.errors import ApiError, missing_parameter_error, model_not_found_error
from batcher.sandbox.base.faults import ANSWERED, LINE_ERRORS, draw_line_fault
from batcher.sandbox.base.settings import SandboxSettings

_DEFAULT_OUTPUT = 600  # tokens counted for a request that names no maximum
_LIMITS_PAGE = "https://platform.openai.com/account/rate-limits"


def format_go_duration(seconds: float) -> str:
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
class RateBucket:
    """A limit per `period_s` seconds that refills evenly."""

    limit: int
    period_s: float
    used: float = 0.0
    at: float = 0.0

    def refill(self, now: float) -> None:
        """Take off what has been refilled since the last call."""
        self.used = max(0.0, self.used - max(0.0, now - self.at) * self.limit / self.period_s)
        self.at = max(now, self.at)

    def wait_seconds(self, amount: float) -> float:
        """Return the seconds until `amount` fits; 0 where it fits now."""
        return max(0.0, self.used + amount - self.limit) * self.period_s / self.limit

    @property
    def remaining(self) -> int:
        """What fits now, in whole units."""
        return max(0, int(self.limit - self.used))

    @property
    def reset_seconds(self) -> float:
        """Seconds until the bucket is full again."""
        return self.used * self.period_s / self.limit


@dataclass
class ModelBuckets:
    """The limits of one model."""

    requests: RateBucket
    tokens: RateBucket
    daily: RateBucket | None

    def admit_request(self, tokens: int, now: float, model: str, organization: str) -> None:
        """Count a request, or raise the 429 without counting it."""
        rows = [
            (self.requests, 1, "requests", "requests per min (RPM)"),
            (self.tokens, tokens, "tokens", "tokens per min (TPM)"),
        ]
        if self.daily:
            rows.append((self.daily, 1, "requests", "requests per day (RPD)"))
        for bucket, amount, kind, label in rows:
            bucket.refill(now)
            if bucket.wait_seconds(amount) > 0:
                raise self._rate_limit_error(bucket, amount, kind, f"{model} in organization {organization} on {label}")
        for bucket, amount, _, _ in rows:
            bucket.used += amount

    def _rate_limit_error(self, bucket: RateBucket, amount: int, kind: str, where: str) -> ApiError:
        wait = bucket.wait_seconds(amount)
        if amount > bucket.limit:
            message = f"Request too large for {where}: Limit {bucket.limit}, Requested {amount}."
        else:
            message = (
                f"Rate limit reached for {where}: Limit {bucket.limit}, Used {round(bucket.used)}, Requested {amount}. "
                f"Please try again in {format_go_duration(wait)}. Visit {_LIMITS_PAGE} to learn more."
            )
        retry = {"retry-after": str(max(1, round(wait + 0.5))), "retry-after-ms": str(max(1, round(wait * 1000)))}
        return ApiError(429, message, kind, None, "rate_limit_exceeded", {**self.rate_limit_headers(), **retry})

    def rate_limit_headers(self) -> dict[str, str]:
        """Return the x-ratelimit headers; an account with a daily limit shows that one for the requests."""
        requests = self.daily or self.requests
        return {
            "x-ratelimit-limit-requests": str(requests.limit),
            "x-ratelimit-limit-tokens": str(self.tokens.limit),
            "x-ratelimit-remaining-requests": str(requests.remaining),
            "x-ratelimit-remaining-tokens": str(self.tokens.remaining),
            "x-ratelimit-reset-requests": format_go_duration(requests.reset_seconds),
            "x-ratelimit-reset-tokens": format_go_duration(self.tokens.reset_seconds),
        }


@dataclass(frozen=True)
class DirectReply:
    """The JSON body of a 200, and the x-ratelimit headers that go with it."""

    body: dict[str, object]
    headers: Mapping[str, str]


@dataclass
class DirectEndpoints:
    """The direct endpoints. The caller holds the sandbox's lock."""

    ledger: Ledger
    settings: SandboxSettings
    cache: PromptCache
    stored: dict[str, dict[str, object]] = field(default_factory=dict)
    _buckets: dict[str, ModelBuckets] = field(default_factory=dict)

    def apply_settings(self, settings: SandboxSettings) -> None:
        """Use other settings from now on."""
        self.settings = settings

    def answer_request(self, endpoint: str, body: Body, now: float) -> DirectReply:
        """Answer one request, or raise its error."""
        self._check_request(endpoint, body, now)
        request = parse_model_request(endpoint, body)
        buckets = self._buckets_for_model(request.model)
        buckets.admit_request(
            request.estimated_tokens + (_DEFAULT_OUTPUT if request.max_tokens is None else request.max_tokens),
            now,
            request.model,
            self.settings.organization,
        )
        custom_id = ledger_key(body)
        attempt = self.ledger.count_attempt(custom_id)
        tier = "flex" if body.get("service_tier") == "flex" else "default"
        fault = draw_line_fault(self.settings.faults, self.settings.seed, custom_id, attempt, now, tier == "flex")
        if fault and fault not in ANSWERED:
            raise _line_fault_error(fault, buckets, self.settings.faults.quoted_text)
        ident = seeded_bytes(16, self.settings.id_seed, "direct", custom_id, attempt).hex()
        request = use_cache(request, self.cache, now, self.settings.cache_writes)
        found = build_answer(request, body, ident, int(now), fault, self.settings)
        if endpoint not in TEXT_ENDPOINTS:
            found.body["service_tier"] = tier
        if found.outcome == "ok":
            spoil_answer(found.body, self.settings.faults, self.settings.seed, custom_id)
        execution = BilledExecution(custom_id, None, models.resolve_snapshot(request.model), found.outcome, now, tier)
        self.ledger.record_execution(execution, found.usage)
        self.ledger.flush()
        if body.get("store") is True and endpoint == CHAT:
            self.stored[str(found.body["id"])] = found.body
        return DirectReply(found.body, buckets.rate_limit_headers())

    def _check_request(self, endpoint: str, body: Body, now: float) -> None:
        finding = find_body_error(endpoint, body)
        if finding and finding[0] == "streaming_unsupported":
            raise ApiError(400, "The sandbox does not stream.", param="stream", code="unsupported_value")
        if finding:
            raise missing_parameter_error(finding[2])
        out_of_range = find_value_error(body, endpoint)
        if out_of_range:
            raise out_of_range
        model = str(body["model"])
        if model not in models.list_available(now, self.settings.limits):
            raise model_not_found_error(model)
        parse_metadata(body.get("metadata"))

    def _buckets_for_model(self, model: str) -> ModelBuckets:
        family = models.family_name(model)
        if family not in self._buckets:
            rpd = self.settings.rpd
            daily = RateBucket(rpd, 86_400.0) if rpd else None
            self._buckets[family] = ModelBuckets(
                RateBucket(self.settings.rpm, 60.0), RateBucket(self.settings.tpm, 60.0), daily
            )
        return self._buckets[family]

    def find_stored_completions(
        self, model: str | None, metadata: Mapping[str, str], newest_first: bool
    ) -> list[dict[str, object]]:
        """Return the stored completions of a model whose metadata holds all the given pairs."""
        wanted = None if model is None else models.answering_name(model)
        found = [
            each
            for each in self.stored.values()
            if wanted in (None, each["model"]) and _has_metadata(each.get("metadata"), metadata)
        ]
        return found[::-1] if newest_first else found


def _has_metadata(metadata: object, pairs: Mapping[str, str]) -> bool:
    held = metadata if isinstance(metadata, Mapping) else {}
    return all(held.get(key) == value for key, value in pairs.items())


def ledger_key(body: Body) -> str:
    """Return what the ledger counts a direct request under: metadata.custom_id, or a hash of the body without its tier,
    as a line that was asked for in two tiers is one line."""
    metadata = body.get("metadata")
    named = metadata.get("custom_id") if isinstance(metadata, Mapping) else None
    asked = {key: value for key, value in body.items() if key != "service_tier"}
    return str(named) if named else "sha256:" + sha256(orjson.dumps(asked)).hexdigest()


def _line_fault_error(fault: str, buckets: ModelBuckets, quoted_text: str) -> ApiError:
    """Return the HTTP error for a kind of line failure; those that only a batch can show become a 500."""
    status, error = LINE_ERRORS.get(fault, LINE_ERRORS["server"])
    code, param = error["code"], error["param"]
    headers = {**buckets.rate_limit_headers(), **({"retry-after": "1"} if fault == "rate_limit" else {})}
    return ApiError(
        status,
        quote_text(str(error["message"]), quoted_text),
        str(error["type"]),
        None if param is None else str(param),
        None if code is None else str(code),
        headers,
    )
