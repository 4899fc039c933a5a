"""The tables of `data/limits.toml`, with their sources and dates: enqueued-token limits by model and usage tier, and
the output that models need which think before they answer; and which of them take cache breakpoints."""

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

ANSWER_TOKENS = 600
"""Room for an answer alone, in tokens: a few sentences in a schema."""


@cache
def _load_tables() -> dict[str, Any]:
    tables: dict[str, Any] = tomllib.loads(
        resources.files("batcher").joinpath("data/limits.toml").read_text(encoding="utf-8")
    )
    return tables


def lookup_tier_limit(model: str, tier: int) -> int | None:
    """Return the enqueued tokens that a model allows at a tier; None where the table does not have them.

    A name with a date behind it (gpt-6-luna-2026-07-01) counts as its model.
    """
    tiers_of = {name: group["tiers"] for group in _load_tables()["group"] for name in group["models"]}
    tiers = tiers_of.get(model) or tiers_of.get(_family_name(model))
    return tiers[tier - 1] if tiers and tier <= len(tiers) else None


def lookup_vector_length(model: str) -> int | None:
    """Return how many numbers the vectors of a model have where a request names none; None where that is not known."""
    length = _load_tables()["vector_lengths"].get(model)
    return None if length is None else int(length)


def _family_name(model: str) -> str:
    """Return the name without the date behind it; the name itself where there is none."""
    family, date = model[:-11], model[-11:]
    is_dated = family != "" and date[0] == "-" and date[1:].replace("-", "").isdigit()
    return family if is_dated else model


def lookup_effort(model: str, effort: str | None) -> str:
    """Return the reasoning effort of a model, where `effort` (None: none is named) is asked for; "none" where it does
    not think."""
    for group in _load_tables()["thinking"]:
        if _is_covered(model, group["models"]):
            return effort or str(group["effort"])
    return "none"


def _is_covered(model: str, names: Sequence[str]) -> bool:
    """Return whether a model is one of these, or its name begins with one of them and a dash."""
    family = _family_name(model)
    return any(family == name or family.startswith(f"{name}-") for name in names)


def lookup_thinking_room(model: str, effort: str | None) -> int:
    """Return the tokens to allow for what a model thinks before an answer. effort: as for `lookup_effort`."""
    return int(_load_tables()["thinking_tokens"][lookup_effort(model, effort)])


def lookup_output_room(model: str, effort: str | None) -> int:
    """Return the tokens to allow for an answer and what is thought before it. effort: as for `lookup_effort`."""
    return ANSWER_TOKENS + lookup_thinking_room(model, effort)


def lookup_cache_minimum(model: str) -> int | None:
    """Return the fewest tokens of a prefix that a model caches at a breakpoint; None where it takes no breakpoints."""
    caching = _load_tables()["caching"]
    return int(caching["min_tokens"]) if _is_covered(model, caching["models"]) else None
