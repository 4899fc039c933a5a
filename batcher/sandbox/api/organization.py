"""What the organization's endpoints tell, for an admin key: the project, its limits, its usage and its costs.

Shapes: the types of openai-python 3.57.0 (2026-11), types/admin/organization.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from batcher.sandbox.answers import models
from batcher.sandbox.answers.answers import BilledTokens
from batcher.sandbox.api.ledger import Ledger, UsagePlace, UsageSum
from batcher.sandbox.base.errors import ApiError, invalid_value_error, missing_parameter_error
from batcher.sandbox.base.settings import SandboxSettings

WIDTHS: Mapping[str, tuple[int, int, int]] = {"1m": (60, 60, 1440), "1h": (3600, 24, 168), "1d": (86_400, 7, 31)}
"""Of the buckets of usage, by name: seconds, how many a page has, and at most."""
COST_WIDTHS: Mapping[str, tuple[int, int, int]] = {"1d": (86_400, 7, 180)}
Query = Mapping[str, Sequence[str]]
Groups = Iterable[tuple[UsagePlace, UsageSum]]


def describe_project(settings: SandboxSettings, now: float) -> dict[str, object]:
    """Return the only project."""
    return {
        "id": settings.project,
        "object": "organization.project",
        "name": "Sandbox",
        "created_at": int(now),
        "archived_at": None,
        "status": "active",
    }


def list_rate_limits(settings: SandboxSettings, now: float) -> list[dict[str, object]]:
    """Return the rate limits of the project, one for each model; the queue's limit stands for that of a day."""
    found = []
    for model in models.list_available(now, settings.limits):
        daily = {"max_requests_per_1_day": settings.rpd} if settings.rpd else {}
        set_to = settings.limits.get(model, settings.enqueued_tokens)
        queue = models.default_queue_limit(model, settings.tier) if set_to is None else set_to
        found.append(
            {
                "id": f"rl-{model}",
                "object": "project.rate_limit",
                "model": model,
                "max_requests_per_1_minute": settings.rpm,
                "max_tokens_per_1_minute": settings.tpm,
                "batch_1_day_max_input_tokens": queue,
                **daily,
            }
        )
    return found


def describe_spend_limit(settings: SandboxSettings, spent_usd: float | None) -> dict[str, object]:
    """Return the project's hard limit. Raises the 404 where it has none."""
    limit = settings.spend_limit_usd
    if limit is None:
        raise ApiError(404, "No spend limit is set for this project.", code="not_found")
    status = "enforcing" if (spent_usd or 0.0) >= limit else "inactive"
    return {
        "object": "project.spend_limit",
        "threshold_amount": round(limit * 100),
        "currency": "USD",
        "interval": "month",
        "enforcement": {"status": status},
    }


def describe_service_tiers(settings: SandboxSettings) -> dict[str, object]:
    """Return which service tiers the project may ask for."""
    return {
        "object": "project.service_tier_settings",
        "default": "standard",
        "enabled_tiers": list(settings.enabled_tiers),
    }


def list_usage(ledger: Ledger, query: Query, now: float) -> dict[str, object]:
    """Return a page of the usage of completions, in buckets of time."""
    batch = query.get("batch", [""])[-1]
    wanted = [
        (place, total)
        for place, total in ledger.usage.items()
        if batch not in ("true", "false") or place.is_batch == (batch == "true")
        if place.model in query.get("models", [place.model])
    ]

    def describe(groups: Groups, keys: Sequence[str]) -> list[object]:
        found: dict[tuple[object, ...], tuple[int, BilledTokens]] = {}
        for place, total in groups:
            values = {"model": place.model, "batch": place.is_batch, "service_tier": place.tier}
            key = tuple(values.get(name) for name in keys)
            requests, tokens = found.get(key, (0, BilledTokens(0, 0, 0)))
            found[key] = (requests + total.requests, tokens + total.tokens)
        return [_describe_usage(dict(zip(keys, key, strict=True)), *row) for key, row in found.items()]

    return _cut_buckets(wanted, query, WIDTHS, now, describe)


def _describe_usage(group: Mapping[str, object], requests: int, tokens: BilledTokens) -> dict[str, object]:
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": tokens.prompt,
        "input_cached_tokens": tokens.cached,
        "input_cache_write_tokens": tokens.written,
        "input_uncached_tokens": tokens.prompt - tokens.cached - tokens.written,
        "output_tokens": tokens.completion,
        "num_model_requests": requests,
        "project_id": None,
        "user_id": None,
        "api_key_id": None,
        "model": group.get("model"),
        "batch": group.get("batch"),
        "service_tier": group.get("service_tier"),
    }


def list_costs(ledger: Ledger, query: Query, now: float) -> dict[str, object]:
    """Return a page of the costs, in buckets of a day: of all, or by line item."""

    def describe(groups: Groups, keys: Sequence[str]) -> list[object]:
        found: dict[str | None, float] = {}
        for place, total in groups:
            parts = (("input_tokens", total.input_usd), ("output_tokens", total.output_usd))
            for kind, usd in parts:
                item = f"{place.model}, {kind}" if "line_item" in keys else None
                found[item] = found.get(item, 0.0) + (usd or 0.0)
        return [
            {
                "object": "organization.costs.result",
                "amount": {"value": usd, "currency": "usd"},
                "line_item": item,
                "project_id": None,
            }
            for item, usd in found.items()
        ]

    return _cut_buckets(list(ledger.usage.items()), query, COST_WIDTHS, now, describe)


def _cut_buckets(
    usage: Sequence[tuple[UsagePlace, UsageSum]],
    query: Query,
    widths: Mapping[str, tuple[int, int, int]],
    now: float,
    describe: Callable[[Groups, Sequence[str]], list[object]],
) -> dict[str, object]:
    """Return a page of buckets from `start_time` up to `end_time`. A page's cursor is the start of its first bucket."""
    name = query.get("bucket_width", ["1d"])[-1]
    if name not in widths:
        raise invalid_value_error("bucket_width", name, tuple(widths))
    width, default, most = widths[name]
    start, end = _read_time(query, "start_time", None), _read_time(query, "end_time", int(now) + 1)
    limit = min(max(_read_time(query, "limit", default), 1), most)
    at = _read_time(query, "page", start // width * width)
    buckets: list[object] = []
    while at < end and len(buckets) < limit:
        inside = [each for each in usage if at <= each[0].minute < min(at + width, end)]
        keys = [*query.get("group_by", ()), *query.get("group_by[]", ())]
        results = describe(inside, keys)
        buckets.append({"object": "bucket", "start_time": at, "end_time": at + width, "results": results})
        at += width
    has_more = at < end
    return {"object": "page", "data": buckets, "has_more": has_more, "next_page": str(at) if has_more else None}


def _read_time(query: Query, name: str, default: int | None) -> int:
    text = query.get(name, [""])[-1]
    if not text and default is None:
        raise missing_parameter_error(name)
    try:
        return int(json.loads(text)) if text else int(default or 0)
    except (ValueError, TypeError):
        raise ApiError(400, f"Invalid value for '{name}': {text}.", param=name, code="invalid_value") from None
