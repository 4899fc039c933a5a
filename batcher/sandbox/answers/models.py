"""The models that the sandbox knows: when they end, what they resolve to, and their queue limits by tier.

Sources (read in November 2026): shutdown dates from the provider's deprecations page; batch queue limits from the
model pages (June to October 2026), in input tokens, tiers 1 to 5; snapshots from the official API description.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

_LARGE = (90_000, 1_350_000, 50_000_000, 200_000_000, 5_000_000_000)
_SMALL = (2_000_000, 20_000_000, 40_000_000, 1_000_000_000, 15_000_000_000)
_MINI = (5_000_000, 20_000_000, 40_000_000, 1_000_000_000, 15_000_000_000)
_FRONTIER = (1_500_000, 3_000_000, 100_000_000, 200_000_000, 15_000_000_000)
# gpt-5 has no page of its own: tier 1 is reported as 900,000; the rest is taken from the other large ones.
_GPT_5 = (900_000, *_LARGE[1:])
_VECTORS = (3_000_000, 20_000_000, 100_000_000, 500_000_000, 4_000_000_000)
# Models with a batch price whose limits no page of ours gives: assumed to be like their neighbours.
_ASSUMED = {
    "gpt-4.1-nano": _SMALL,
    "omni-moderation-latest": _SMALL,
    **dict.fromkeys(("gpt-5.6-terra", "gpt-6.1-terra", "gpt-6.1-sol"), _FRONTIER),
}

QUEUE_LIMITS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("gpt-4o", "gpt-4.1", "o3-pro", "gpt-5-pro"), _LARGE),
    "gpt-5": _GPT_5,
    **dict.fromkeys(("gpt-4o-mini", "gpt-4.1-mini", "gpt-5-nano", "gpt-5.4-nano"), _SMALL),
    **dict.fromkeys(("gpt-5-mini", "gpt-5.4-mini", "gpt-5.6-luna", "gpt-6-luna", "gpt-5.1-codex-mini"), _MINI),
    "gpt-5.5": _FRONTIER,
    **dict.fromkeys(("text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"), _VECTORS),
    **_ASSUMED,
    "gpt-5.5-pro": (500_000, 1_000_000, 10_000_000, 20_000_000, 1_500_000_000),
    "gpt-5.4-pro": (900_000, 1_350_000, 100_000_000, 200_000_000, 15_000_000_000),
}

SHUTDOWN: Mapping[str, str] = {
    **dict.fromkeys(("gpt-5", "gpt-5-mini", "gpt-5-nano"), "2026-12-11"),
    **dict.fromkeys(("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini"), "2027-01-14"),
    "gpt-5.4-nano": "2027-04-01",
    "gpt-4.1-nano": "2026-10-23",
}

SNAPSHOT: Mapping[str, str] = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
    "gpt-5-pro": "gpt-5-pro-2025-10-06",
    "gpt-5.4-mini": "gpt-5.4-mini-2026-03-17",
    "gpt-5.4-nano": "gpt-5.4-nano-2026-03-17",
    "gpt-5.5": "gpt-5.5-2026-04-23",
    "gpt-5.5-pro": "gpt-5.5-pro-2026-04-23",
    "o3-pro": "o3-pro-2025-06-10",
    "omni-moderation-latest": "omni-moderation-2024-09-26",
}
_FAMILY = {dated: plain for plain, dated in SNAPSHOT.items()}

# Numbers in a vector where a request names no `dimensions` (guides/embeddings, 2026-07); the longest input in tokens.
VECTOR_LENGTHS: Mapping[str, int] = {
    "text-embedding-3-small": 1_536,
    "text-embedding-3-large": 3_072,
    "text-embedding-ada-002": 1_536,
}
FIXED_LENGTH = ("text-embedding-ada-002",)  # those whose vectors cannot be made shorter
EMBEDDING_CONTEXT = 8_192

LONG_REQUEST = 272_000  # input tokens above which a whole request is billed at the prices of long ones
LONG_INPUT, LONG_OUTPUT = 2.0, 1.5
BATCH_SHARE = 0.5  # of the standard price

# Dollars for a million tokens of the standard endpoints: input, read from the cache, written to it, output (from the
# model pages). Other models are executed, but the ledger says no dollars for them.
PRICES: Mapping[str, tuple[float, float, float, float]] = {
    "gpt-5-mini": (0.25, 0.025, 0.25, 2.0),
    "gpt-5.4-mini": (0.75, 0.075, 0.75, 4.5),
    "gpt-5.6-luna": (0.20, 0.02, 0.25, 1.2),
    "gpt-6-luna": (0.10, 0.01, 0.125, 0.5),
    "gpt-6-sol": (2.0, 0.2, 2.5, 10.0),
    "text-embedding-3-small": (0.02, 0.02, 0.02, 0.0),
    "text-embedding-3-large": (0.13, 0.13, 0.13, 0.0),
    "text-embedding-ada-002": (0.1, 0.1, 0.1, 0.0),
    "omni-moderation-latest": (0.0, 0.0, 0.0, 0.0),
}
_LONG_MODELS = ("gpt-5.6-luna", "gpt-6-luna", "gpt-6-sol")  # those with a context beyond LONG_REQUEST

# The first family that takes cache breakpoints; earlier ones refuse the parameters.
_BREAKPOINTS_SINCE = (5, 6)
_FAMILY_NUMBER = re.compile(r"gpt-(\d+)(?:\.(\d+))?(?:-|$)")

CREATED = 1_754_073_306  # of every model: the real dates do not matter here


def family_name(model: str) -> str:
    """Return the undated name of a model; a dated snapshot shares its limits and its end."""
    return _FAMILY.get(model, model)


def takes_breakpoints(model: str) -> bool:
    """Return whether a model takes `prompt_cache_options` and breakpoints; one without a number of its own does not."""
    found = _FAMILY_NUMBER.match(model)
    return found is not None and (int(found[1]), int(found[2] or 0)) >= _BREAKPOINTS_SINCE


def resolve_snapshot(model: str) -> str:
    """Return the snapshot that a name stands for, or the name itself where none is published."""
    return SNAPSHOT.get(model, model)


def answering_name(model: str) -> str:
    """Return the name under which the sandbox answers: no text of it can pass for one of the model itself."""
    return f"{resolve_snapshot(model)}-sandbox"


def _is_shut_down(model: str, now: float) -> bool:
    date = SHUTDOWN.get(family_name(model))
    return date is not None and datetime.fromtimestamp(now, UTC).date().isoformat() >= date


def bill_usd(model: str, tokens: tuple[int, int, int, int], is_half: bool) -> float | None:
    """Return the dollars of one request; None for a model without a price here.

    tokens: input, read from the cache, written to it, output. The first holds the next two. is_half: whether it came by
    a batch, or by flex processing.
    """
    prices = PRICES.get(family_name(model))
    if prices is None:
        return None
    whole, cached, written, output = tokens
    is_long = whole > LONG_REQUEST and family_name(model) in _LONG_MODELS
    costs = [n * price for n, price in zip((whole - cached - written, cached, written, output), prices, strict=True)]
    scaled = sum(costs[:3]) * (LONG_INPUT if is_long else 1) + costs[3] * (LONG_OUTPUT if is_long else 1)
    return scaled * (BATCH_SHARE if is_half else 1) / 1e6


def list_available(now: float, extra: Mapping[str, int]) -> list[str]:
    """Return the models that can be called at `now`: those of the table, their snapshots, and those given a limit."""
    names = {**dict.fromkeys(QUEUE_LIMITS), **dict.fromkeys(_FAMILY), **dict.fromkeys(extra)}
    return [name for name in names if not _is_shut_down(name, now)]


def default_queue_limit(model: str, tier: int) -> int:
    """Return the queue limit in input tokens of a model at a tier (1 to 5)."""
    row = QUEUE_LIMITS.get(family_name(model), _LARGE)
    return row[min(max(tier, 1), len(row)) - 1]


def model_to_json(model: str) -> dict[str, object]:
    """Return the Model object."""
    return {
        "id": model,
        "object": "model",
        "created": CREATED,
        "owned_by": "system",
        "shutdown_date": SHUTDOWN.get(family_name(model)),
    }
