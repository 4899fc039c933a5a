"""What a shell completes: ids of artists and numbers of shards, without opening the state.

DuckDB alone takes longer to import than a person waits for a completion. The ids are in a list that `plan` writes
beside the state, the numbers in the names of the shard files.
"""

import os
import tomllib
from contextlib import suppress
from pathlib import Path

import typer

from batcher.disk.id_list import find_listed_ids, list_shard_numbers

MOST = 50
"""Completions that are offered at most."""


def complete_artists(context: typer.Context, incomplete: str) -> list[str]:
    """Return ids of artists of the plan that begin so."""
    return find_listed_ids(_find_state_folder(context.params.get("config")), incomplete, MOST)


def complete_shards(context: typer.Context, incomplete: str) -> list[str]:
    """Return numbers of shards that begin so."""
    numbers = map(str, list_shard_numbers(_find_state_folder(context.params.get("config"))))
    return [number for number in numbers if number.startswith(incomplete)][:MOST]


def _find_state_folder(config: object) -> Path:
    """Return the state folder that a command would use, as far as that can be known without checking the settings."""
    path = Path(str(config)) if config else Path("batcher.toml")
    named = os.environ.get("BATCHER_STATE__DIR")
    if not named:
        with suppress(OSError, ValueError, AttributeError):
            named = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("state", {}).get("dir")
    return path.parent / (named if isinstance(named, str) else ".batcher")
