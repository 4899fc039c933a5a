"""Unsent lines that were planned with another version of the job than today's: what differs, and what to do."""

from collections.abc import Mapping, Sequence

import orjson

from batcher.core.model import JobVersion
from batcher.state.versions import UnsentCount

_NAMES = {
    "name": "name of the job folder",
    "model": "[model] name",
    "endpoint": "[model] endpoint",
    "max_output_tokens": "[model] max_output_tokens",
    "system": "prompt",
    "template": "prompt",
    "schema": "schema",
    "schema_name": "schema",
    "parameters": "[model] parameters",
    "cache": "[model] cache",
}
"""What the user calls the parts of a version."""


def describe_outdated_lines(unsent: UnsentCount, planned: Sequence[JobVersion], today: JobVersion) -> str:
    """Return what differs between today's version and those that unsent lines were planned with, and the remedy.

    The room for an answer is reported with its figures: where none is set, its default may have changed rather than the
    user's settings.
    """
    now = _encode_parts(today)
    differing = {name for each in planned for name, part in _encode_parts(each).items() if part != now[name]}
    before = sorted({each.max_output_tokens for each in planned})
    names = list(dict.fromkeys(_NAMES[name] for name in _NAMES if name in differing))
    if "max_output_tokens" in differing:
        figures = f" ({', '.join(f'{most:,}' for most in before)}; now {today.max_output_tokens:,})"
        names[names.index(_NAMES["max_output_tokens"])] += figures
    lines = f"{unsent.lines:,} unsent line{'s' if unsent.lines != 1 else ''}"
    shards = f" in {unsent.shards:,} shard{'s' if unsent.shards != 1 else ''}" if unsent.shards else ""
    sentence = (
        f"{lines}{shards} {'were' if unsent.lines != 1 else 'was'} planned with another {' and '.join(names)}; "
        "`batcher plan --replan` cuts them again (what was submitted stays as it is)"
    )
    if differing == {"max_output_tokens"} and len(before) == 1:
        return f"{sentence}; to go on as they are, set max_output_tokens = {before[0]} in [model]"
    return sentence


def _encode_parts(version: JobVersion) -> dict[str, bytes]:
    """Return what lines consist of, part by part; the order of a schema counts, as lines repeat it."""
    parts = {name: getattr(version, name) for name in _NAMES}
    return {name: orjson.dumps(dict(part) if isinstance(part, Mapping) else part) for name, part in parts.items()}
