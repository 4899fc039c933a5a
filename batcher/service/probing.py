"""Trying out what a service can do that nobody has described: by calls that cost nothing, and never by a batch.

One file of one line is uploaded, looked for and deleted.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from batcher.core.remote import RemoteFile
from batcher.service.openai_service import OpenAIService
from batcher.service.profiles import Ability, load_profile
from batcher.service.service import CallError, CallRefused

NAME = "batcher-doctor-probe.jsonl"
_WITHOUT_EXPIRY = ("file_expiry",)
_FOLLOWS: dict[tuple[Ability, bool | None], str] = {
    ("list_batches", True): "a lost answer to a create: its batch is found, or shown to be absent",
    ("list_batches", False): "a lost answer to a create: its lines are held, and you decide",
    ("metadata", None): "without it a batch is known by its input file",
    ("file_expiry", True): "files of a process that died are deleted after 30 days",
    ("file_expiry", False): "files of a process that died stay there",
    ("list_files", True): "the file of a lost upload is found and deleted",
    ("list_files", False): "the file of a lost upload stays there; it costs nothing",
    ("delete_files", True): "no batch can be made late of a file that was given up",
    ("delete_files", False): "files stay there; a create that no listing shows is held",
    ("file_expiry", None): "nothing can be sent before it takes a file",
    ("list_files", None): "not tried without a file",
    ("delete_files", None): "not tried without a file",
}


class ProbedAbility(NamedTuple):
    """What was found of one ability."""

    ability: Ability
    has: bool | None
    """None: it could not be tried."""
    found: str
    """What the service answered."""
    follows: str
    """What Batcher can promise there."""


def is_unknown_service(service: OpenAIService) -> bool:
    """Return whether a service answers, and is neither OpenAI nor the sandbox."""
    try:
        return not service.is_signed_as_openai()
    except CallError as error:
        is_silent = error.details.status is None or (isinstance(error, CallRefused) and error.refuses_key)
        return not is_silent and "openai-version" not in error.headers


def probe_abilities(service: OpenAIService, model: str) -> list[ProbedAbility]:
    """Return what the service can do. model: named in the line that is uploaded, and never asked. Raises no CallError.

    It is taken for one that has everything, so that what it lacks shows.
    """
    service, seen = service.with_profile(load_profile()), list[RemoteFile]()
    probed = [_probe("list_batches", service.check_access)]
    probed.append(_describe("metadata", None, "not tried: only a batch would show it"))
    file_id, expiry = _upload_line(service, model)
    probed.append(expiry)
    if file_id is None:
        return [*probed, _describe("list_files", None, ""), _describe("delete_files", None, "")]
    listed = _probe("list_files", lambda: seen.extend(service.find_files(NAME)))
    if listed.has and not seen:
        listed = _describe("list_files", False, "the listing does not show a new file by its name")
    probed.append(listed)
    deleted = _probe("delete_files", lambda: service.delete_file(file_id))
    if not deleted.has:
        deleted = deleted._replace(found=f"{deleted.found}; {file_id} stays there")
    return [*probed, deleted]


def choose_settings(probed: list[ProbedAbility]) -> str:
    """Return the lines of `[service]` that fit what was found; "" where none are needed."""
    lacking = [each.ability for each in probed if each.has is False]
    if not lacking:
        return ""
    named = [f'"{ability}"' for ability in lacking if load_profile("compatible").has(ability)]
    return '[service]\nprofile = "compatible"' + (f"\nlacks = [{', '.join(named)}]" if named else "")


def _upload_line(service: OpenAIService, model: str) -> tuple[str | None, ProbedAbility]:
    """Upload a line with an expiry, or else without one; return the file's id and what was found."""
    body = {"model": model, "messages": [{"role": "user", "content": "-"}], "max_completion_tokens": 1}
    line = {"custom_id": "probe", "method": "POST", "url": "/v1/chat/completions", "body": body}
    plain = service.with_profile(load_profile().model_copy(update={"lacks": _WITHOUT_EXPIRY}))
    with tempfile.TemporaryDirectory(prefix="batcher-probe-") as folder:
        path = Path(folder) / NAME
        path.write_text(json.dumps(line, separators=(",", ":")) + "\n", encoding="utf-8")
        try:
            return service.upload_file(path, NAME).file_id, _describe("file_expiry", True, "taken")
        except CallError as error:
            refusal = str(error)
        try:
            return plain.upload_file(path, NAME).file_id, _describe("file_expiry", False, refusal)
        except CallError as error:
            return None, _describe("file_expiry", None, f"no file is taken: {error}")


def _probe(ability: Ability, call: Callable[[], object]) -> ProbedAbility:
    try:
        call()
    except CallError as error:
        return _describe(ability, False, str(error))
    return _describe(ability, True, "yes")


def _describe(ability: Ability, has: bool | None, found: str) -> ProbedAbility:
    return ProbedAbility(ability, has, found, _FOLLOWS[ability, has])
