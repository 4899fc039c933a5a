"""Job versions: everything that was asked, stored so that a line can be rendered again."""

import math
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

import orjson

from batcher.core.cache.keys import count_prefix_tokens
from batcher.core.model import CacheMode, Endpoint, JobVersion
from batcher.state.db.transaction import Transaction


class StoredVersion(NamedTuple):
    """A version, and the tokens that each of its lines has in common with the others."""

    version: JobVersion
    constant_tokens: int

    @property
    def prefix_tokens(self) -> int:
        """The tokens of each line before its cache breakpoint; 0 where it has none."""
        return count_prefix_tokens(self.version, self.constant_tokens)


class UnsentCount(NamedTuple):
    """Lines that were never sent with their prompt, the shards that hold them, and the versions that they have."""

    lines: int
    shards: int
    versions: list[int]


class OpenVersionLines(NamedTuple):
    """Lines of a version that are neither sent nor ended, and their counted tokens."""

    version: int
    lines: int
    tokens: int
    longest: int
    """Counted tokens of the longest."""


def encode_version(version: JobVersion) -> str:
    """Return the version as the JSON that the state keeps. The schema keeps its order: a model answers in it, and
    lines repeat it. A version without parameters, or without a cache mode, is what it was before there were any."""
    data = {**version._asdict(), "parameters": dict(version.parameters)}
    for name in ("parameters", "cache"):
        if not data[name]:
            del data[name]
    return orjson.dumps(data).decode()


def decode_version(definition: str) -> JobVersion:
    """Return the version of which `encode_version` made this JSON."""
    data = orjson.loads(definition)
    mode = CacheMode(data.get("cache", CacheMode.UNSET))
    return JobVersion(**{**data, "endpoint": Endpoint(data["endpoint"]), "cache": mode})


def find_version_number(tx: Transaction, version: JobVersion) -> int:
    """Return the number of this version: its own where the state has it, else the next one."""
    fingerprint = _version_fingerprint(version)
    known = tx.fetch_all("versions")
    return next((int(number) for number, seen in known if seen == fingerprint), len(known) + 1)


def register_version(tx: Transaction, version: JobVersion, constant_tokens: int, prompt: int | None = None) -> int:
    """Record a version where it is new; return its number.

    prompt: the number of the prompt that it asks; None: one of its own, which has the number of the version.
    """
    number = find_version_number(tx, version)
    tx.fetch_all(
        "insert_version",
        version=number, fingerprint=_version_fingerprint(version), definition=encode_version(version),
        constant_tokens=constant_tokens, now=tx.now, prompt=prompt or number,
    )  # fmt: skip
    return number


def _version_fingerprint(version: JobVersion) -> str:
    return sha256(encode_version(version).encode()).hexdigest()


def load_version(tx: Transaction, number: int) -> StoredVersion:
    """Return a version by its number."""
    definition, constant_tokens = tx.fetch_one("version_definition", version=number)
    return StoredVersion(decode_version(definition), int(constant_tokens))


def load_versions(tx: Transaction) -> Mapping[int, JobVersion]:
    """Return every version that anything was planned with, by its number."""
    return {number: stored.version for number, stored in load_stored_versions(tx).items()}


def load_stored_versions(tx: Transaction) -> Mapping[int, StoredVersion]:
    """Return every version that anything was planned with, and what its lines have in common, by its number."""
    return {
        int(number): StoredVersion(decode_version(definition), int(constant_tokens))
        for number, definition, constant_tokens in tx.fetch_all("version_definitions")
    }


def register_wider_version(tx: Transaction, number: int, room: int) -> int | None:
    """Record a version that asks the same with `room` as max_output_tokens; return its number.

    None where the version allows as many output tokens already.
    """
    version, constant_tokens = load_version(tx, number)
    if version.max_output_tokens >= room:
        return None
    prompt = load_prompt_numbers(tx)[number]
    return register_version(tx, version._replace(max_output_tokens=room), constant_tokens, prompt)


def find_wider_versions(tx: Transaction, number: int) -> list[int]:
    """Return the versions that ask the same as this one, and have more room for the answer."""
    prompts, versions = load_prompt_numbers(tx), load_versions(tx)
    room = versions[number].max_output_tokens
    return [n for n, each in versions.items() if prompts[n] == prompts[number] and each.max_output_tokens > room]


def load_prompt_numbers(tx: Transaction) -> Mapping[int, int]:
    """Return the number of the prompt of each version, by the version's number.

    Versions that differ only in the room for answers that were cut off are of one prompt: that of the first of them.
    """
    return {int(version): int(prompt) for version, prompt in tx.fetch_all("prompt_numbers")}


def count_unsent_of_other_versions(tx: Transaction, version: int) -> UnsentCount:
    """Count the lines that were never sent with the prompt that they have, and have another version than this one."""
    return UnsentCount(*tx.fetch_one("unsent_of_other_versions", version=version))


def load_open_lines(tx: Transaction, long_from: float = math.inf) -> list[OpenVersionLines]:
    """Return the lines that are neither sent nor ended, by version, those of more counted tokens than `long_from` apart
    from the others."""
    return [OpenVersionLines(*row) for row in tx.fetch_all("open_by_version", long_from=long_from)]
