"""What requests that are prompts have in common: their messages, and what they say of the prompt cache."""

from batcher.core.cache.keys import cache_key
from batcher.core.model import CacheMode, JobVersion


def build_messages(version: JobVersion, user_text: str, text_part: str) -> list[object]:
    """Return the messages of one line. text_part: what the endpoint calls a content part that is text.

    Of a version without a template, whose lines have messages of their own, `user_text` stands in their place.
    """
    system = [_build_system_message(version, text_part)] if version.system or version.template else []
    return [*system, {"role": "user", "content": user_text} if version.template else user_text]


def _build_system_message(version: JobVersion, text_part: str) -> dict[str, object]:
    """Return the system message, with the cache breakpoint at its end where the version has one."""
    if version.cache is not CacheMode.BREAKPOINT:
        return {"role": "system", "content": version.system}
    part = {"type": text_part, "text": version.system, "prompt_cache_breakpoint": {"mode": "explicit"}}
    return {"role": "system", "content": [part]}


def build_cache_options(version: JobVersion) -> dict[str, object]:
    """Return what a request says of the prompt cache: nothing, or that only breakpoints are written, and which key."""
    if not version.cache:
        return {}
    key = {"prompt_cache_key": cache_key(version, 0)} if version.cache is CacheMode.BREAKPOINT else {}
    return {"prompt_cache_options": {"mode": "explicit"}, **key}


def build_schema_format(version: JobVersion) -> dict[str, object]:
    """Return the strict schema of the answers, as `json_schema` in the terms of a request."""
    return {"name": version.schema_name, "strict": True, "schema": version.schema}
