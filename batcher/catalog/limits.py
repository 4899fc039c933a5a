"""The table of enqueued-token limits by model and usage tier (`data/limits.toml`, with its sources and dates)."""

import tomllib
from functools import cache
from importlib import resources


@cache
def _load_limit_table() -> dict[str, list[int]]:
    text = resources.files("batcher").joinpath("data/limits.toml").read_text(encoding="utf-8")
    return {model: group["tiers"] for group in tomllib.loads(text)["group"] for model in group["models"]}


def lookup_tier_limit(model: str, tier: int) -> int | None:
    """Return the enqueued tokens that a model allows at a tier; None where the table does not have them.

    A name with a date behind it (gpt-6-luna-2026-07-01) counts as its model.
    """
    family, date = model[:-11], model[-11:]
    is_dated = family != "" and date[0] == "-" and date[1:].replace("-", "").isdigit()
    tiers = _load_limit_table().get(model) or (_load_limit_table().get(family) if is_dated else None)
    return tiers[tier - 1] if tiers and tier <= len(tiers) else None
