"""The files of the sandbox: their descriptions in memory, their bytes in one directory.

A deleted file that a running batch still reads stays on disk until that batch ends ("pinned"); for callers it is gone.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from batcher.sandbox.base.chance import seeded_short_id
from batcher.sandbox.base.errors import (
    ApiError,
    file_not_found_error,
    invalid_type_error,
    invalid_value_error,
    missing_parameter_error,
    out_of_range_error,
)

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")  # CreateFileRequest
DEFAULT_LIFE_S = 2_592_000  # 30 days: "By default, files with purpose=batch expire after 30 days"
MIN_LIFE_S, MAX_LIFE_S = 3600, 2_592_000
_NOT_JSONL = "Invalid file format for Batch API. Must be .jsonl"
_FIRST_LINE_MAX = 64 << 20  # bytes: a longer first line is no request


@dataclass
class StoredFile:
    """One file; times in the sandbox's epoch seconds."""

    id: str
    bytes: int
    created_at: float
    filename: str
    purpose: str
    path: Path
    expires_at: float | None
    ready_at: float = 0.0  # not found before that, by a fault
    input_ready_at: float = 0.0  # not found as the input of a batch before that, by another
    pins: int = 0
    deleted: bool = False

    def to_json(self) -> dict[str, object]:
        """Return the OpenAIFile object."""
        return {
            "object": "file",
            "id": self.id,
            "purpose": self.purpose,
            "filename": self.filename,
            "bytes": self.bytes,
            "created_at": int(self.created_at),
            "expires_at": None if self.expires_at is None else int(self.expires_at),
            "status": "processed",
            "status_details": None,
        }


def parse_form_lifetime(fields: dict[str, str]) -> int | None:
    """Return the seconds of `expires_after`, or None where it isn't given: in parts of a form, or as JSON in one."""
    if "expires_after" in fields:
        return parse_lifetime("expires_after", _parse_json(fields["expires_after"]))
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if seconds is None:
        raise missing_parameter_error("expires_after.seconds")
    return parse_lifetime("expires_after", {"anchor": anchor, "seconds": _parse_json(seconds)})


def _parse_json(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def parse_lifetime(name: str, value: object) -> int:
    """Return the seconds of an expiration policy, or raise the 400 for one that cannot be."""
    if not isinstance(value, Mapping):
        raise invalid_type_error(name, "an object", value)
    if value.get("anchor") != "created_at":
        raise invalid_value_error(f"{name}.anchor", value.get("anchor"), ("created_at",))
    seconds = value.get("seconds")
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise invalid_type_error(f"{name}.seconds", "an integer", seconds)
    return check_lifetime(f"{name}.seconds", seconds)


def check_lifetime(name: str, seconds: int) -> int:
    """Return the seconds, or raise the 400 for a lifetime out of range."""
    if not MIN_LIFE_S <= seconds <= MAX_LIFE_S:
        raise out_of_range_error(name, seconds, MIN_LIFE_S, MAX_LIFE_S)
    return seconds


def check_first_line(path: Path) -> None:
    """Refuse what the upload already refuses: an empty file, or one whose first line isn't a JSON object.

    Lines that lack a field are accepted here; they fail the batch later.
    """
    with path.open("rb") as file:
        first = next((line for line in iter(lambda: file.readline(_FIRST_LINE_MAX), b"") if line.strip()), None)
        empty = file.tell() == 0
    if first is None and not empty:
        return  # only blank lines: a batch of it fails as empty
    try:
        good = first is not None and isinstance(orjson.loads(first), dict)
    except orjson.JSONDecodeError:
        good = False
    if not good:
        raise ApiError(400, _NOT_JSONL, extra={"detail": {"message": _NOT_JSONL, "code": None}})


class FileStore:
    """The files by id. The caller holds the sandbox's lock, and passes the time."""

    def __init__(self, directory: Path, id_seed: str) -> None:
        self.directory = directory
        self._id_seed = id_seed
        self._files: dict[str, StoredFile] = {}
        self._count = 0
        self._next_expiry = float("inf")
        directory.mkdir(parents=True, exist_ok=True)

    def add(self, source: Path, filename: str, purpose: str, now: float, life_s: int | None = None) -> StoredFile:
        """Take over the file at `source` (it is moved) under a new id."""
        self._count += 1
        file_id = f"file-{seeded_short_id(self._id_seed, 'file', self._count)}"
        path = self.directory / file_id
        size = source.stat().st_size
        shutil.move(source, path)
        if life_s is None and purpose in ("batch", "batch_output"):
            life_s = DEFAULT_LIFE_S
        expires_at = None if life_s is None else now + life_s
        self._next_expiry = min(self._next_expiry, expires_at or float("inf"))
        stored = StoredFile(file_id, size, now, filename, purpose, path, expires_at)
        self._files[file_id] = stored
        return stored

    def find(self, file_id: str, now: float) -> StoredFile | None:
        """Return the file as the batch machinery sees it: there until it is deleted or expired."""
        found = self._files.get(file_id)
        if found is None or found.deleted or (found.expires_at is not None and found.expires_at <= now):
            return None
        return found

    def get(self, file_id: str, now: float) -> StoredFile:
        """Return the file as a caller sees it, or raise the 404."""
        found = self.find(file_id, now)
        if found is None or now < found.ready_at:
            raise file_not_found_error(file_id)
        return found

    def list_files(self, purpose: str | None, now: float, newest_first: bool) -> list[StoredFile]:
        """Return the files of a purpose (None: of every one), in the order of their creation or the reverse."""
        found = [each for each in self._files.values() if self.find(each.id, now)]
        if purpose:
            found = [each for each in found if each.purpose == purpose]
        return found[::-1] if newest_first else found

    def delete(self, file_id: str, now: float) -> dict[str, object]:
        """Delete the file and return the object that says so, or raise the 404."""
        found = self.get(file_id, now)
        found.deleted = True
        self._delete_if_unpinned(found)
        return {"id": file_id, "object": "file", "deleted": True}

    def pin(self, stored: StoredFile) -> None:
        """Keep the bytes of a file on disk until it is unpinned, deleted or not."""
        stored.pins += 1

    def unpin(self, stored: StoredFile) -> None:
        """Undo one `pin`; remove the bytes of a deleted file that has no other."""
        stored.pins -= 1
        self._delete_if_unpinned(stored)

    def _delete_if_unpinned(self, stored: StoredFile) -> None:
        if stored.deleted and stored.pins <= 0:
            stored.path.unlink(missing_ok=True)
            self._files.pop(stored.id, None)

    def purge_expired(self, now: float) -> None:
        """Delete what has expired."""
        if now < self._next_expiry:
            return
        for stored in list(self._files.values()):
            if stored.expires_at is not None and stored.expires_at <= now:
                stored.deleted = True
                self._delete_if_unpinned(stored)
        left = (each.expires_at for each in self._files.values() if each.expires_at is not None and not each.deleted)
        self._next_expiry = min(left, default=float("inf"))
