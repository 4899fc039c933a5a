"""Loading a job folder: job.py, system.md and user.md, checked before anything is sent."""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Collection
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from batcher.core.rendering import parse_placeholders
from batcher.errors import JobError
from batcher.job.job import Job, JobCodeGuard, job_output_to_stderr
from batcher.job.schema import build_strict_schema

NEEDED_FIELDS = ("artist_id", "artist_name")


def load_job(folder: Path) -> Job:
    """Return the job in `folder`. Raises JobError with the file and line of what is wrong."""
    for name in ("job.py", "system.md", "user.md"):
        if not _is_file(folder / name):
            raise JobError(f"{folder} is no job: {name} is missing; `batcher init` writes an example")
    module = _import_job_module(folder / "job.py")
    artist, bio = _find_pydantic_model(module, "Artist", folder), _find_pydantic_model(module, "Bio", folder)
    _check_artist_model(artist, folder)
    template = _load_user_template(folder)
    accept = _load_accept_check(module, folder)
    with JobCodeGuard(f"{folder / 'job.py'}: Bio has no JSON schema"):
        schema = build_strict_schema(bio)
    system = _read_text(folder / "system.md")
    if not system:
        raise JobError(f"{folder / 'system.md'} is empty; write into it what every request has in common")
    return Job(folder.name, artist, bio, accept, system, template, schema, _artist_columns(artist))


def _load_accept_check(module: ModuleType, folder: Path) -> Callable[[Any, Any], str | None]:
    """Return the acceptance check. Raises JobError where it cannot be called: at the first answer it would be too late,
    as that is paid for."""
    accept: object = getattr(module, "accept", None)
    if not callable(accept):
        raise JobError(f"{folder / 'job.py'} has no accept(artist, bio) function; return None to accept")
    with JobCodeGuard(f"{folder / 'job.py'}: accept cannot be looked at"):
        signature = inspect.signature(accept)
        try:
            signature.bind(None, None)
        except TypeError:
            raise JobError(
                f"{folder / 'job.py'}: accept{signature} does not take an artist and a bio; "
                "write accept(artist, bio), and return None to accept"
            ) from None
    return accept


def _load_user_template(folder: Path) -> str:
    template = _read_text(folder / "user.md")
    try:
        names = parse_placeholders(template)
    except JobError as error:
        raise JobError(f"{folder}/{error}") from None
    if not names:
        raise JobError(
            f"{folder / 'user.md'} names no value of the artist, so every prompt would be the same; "
            "write {artist_name} where the name belongs"
        )
    return template


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise JobError(f"{path}, line {line} is not UTF-8 (byte {error.start + 1}); save it as UTF-8") from None
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}") from error


class _JobLoader(SourceFileLoader):
    """Loads job.py and writes no bytecode into its folder, which is the user's."""

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Do nothing."""


def _import_job_module(path: Path) -> ModuleType:
    name = f"batcher_job_{path.parent.name}"
    loader = _JobLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise JobError(f"{path} cannot be loaded as a module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with job_output_to_stderr(), JobCodeGuard(f"{path} cannot be loaded"):
        try:
            loader.exec_module(module)
        except SyntaxError as error:
            line = f", line {error.lineno}" if error.lineno else ""
            raise JobError(f"{error.filename or path}{line}: {error.msg}; fix the file") from None
    return module


def _find_pydantic_model(module: ModuleType, name: str, folder: Path) -> type[BaseModel]:
    model = getattr(module, name, None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise JobError(f"{folder / 'job.py'} has no pydantic model {name}")
    return model


def _check_artist_model(artist: type[BaseModel], folder: Path) -> None:
    missing = [name for name in NEEDED_FIELDS if name not in artist.model_fields]
    if missing:
        raise JobError(f"{folder / 'job.py'}: Artist has no field {', '.join(missing)}")
    if not callable(getattr(artist, "prompt_values", None)):
        raise JobError(f"{folder / 'job.py'}: Artist has no prompt_values() giving the values of user.md")


def _artist_columns(artist: type[BaseModel]) -> Collection[str] | None:
    """Return the columns that the model reads; None where it may read others.

    It may where it keeps extra fields, and where code of its own is given the whole row: a model validator, or an
    `__init__`. Pydantic has no public way to ask for these two; __pydantic_decorators__ and __pydantic_custom_init__
    are what its own code looks at.
    """
    has_own_code = artist.__pydantic_custom_init__ or artist.__pydantic_decorators__.model_validators
    if has_own_code or artist.model_config.get("extra", "ignore") != "ignore":
        return None
    names = [field.validation_alias or name for name, field in artist.model_fields.items()]
    texts = [name for name in names if isinstance(name, str)]  # an alias may also be a path, or a choice of names
    return {*artist.model_fields, *texts} if texts == names else None
