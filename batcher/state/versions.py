"""Job versions: what was asked, whole, so that a line can be rendered again."""

from collections.abc import Mapping
from hashlib import sha256

import orjson

from batcher.core.model import Endpoint, JobVersion
from batcher.state.db.transaction import Transaction


def encode_version(version: JobVersion) -> str:
    """The version as the state keeps it. The schema keeps its order: a model answers in it, and lines repeat it."""
    return orjson.dumps(version._asdict()).decode()


def decode_version(definition: str) -> JobVersion:
    """The version that `encode_version` wrote."""
    data = orjson.loads(definition)
    return JobVersion(**{**data, "endpoint": Endpoint(data["endpoint"])})


def find_version_number(tx: Transaction, version: JobVersion) -> int:
    """The number of this version: the one that it has, or the next."""
    fingerprint = _version_fingerprint(version)
    known = tx.fetch_all("versions")
    return next((int(number) for number, seen in known if seen == fingerprint), len(known) + 1)


def register_version(tx: Transaction, version: JobVersion, constant_tokens: int) -> int:
    """The number of this version, new or known."""
    number = find_version_number(tx, version)
    tx.fetch_all(
        "insert_version",
        version=number, fingerprint=_version_fingerprint(version), definition=encode_version(version),
        constant_tokens=constant_tokens, now=tx.now,
    )  # fmt: skip
    return number


def _version_fingerprint(version: JobVersion) -> str:
    return sha256(encode_version(version).encode()).hexdigest()


def load_version(tx: Transaction, number: int) -> tuple[JobVersion, int]:
    """A stored version and the tokens that each of its lines has in common."""
    definition, constant_tokens = tx.fetch_one("version_definition", version=number)
    return decode_version(definition), constant_tokens


def load_versions(tx: Transaction) -> Mapping[int, JobVersion]:
    """Every version that anything was planned with."""
    return {int(number): decode_version(definition) for number, definition in tx.fetch_all("version_definitions")}


def register_wider_version(tx: Transaction, number: int, room: int) -> int | None:
    """The version that asks the same with `room` as max_output_tokens; None where the version has as much."""
    version, constant_tokens = load_version(tx, number)
    if version.max_output_tokens >= room:
        return None
    return register_version(tx, version._replace(max_output_tokens=room), constant_tokens)
