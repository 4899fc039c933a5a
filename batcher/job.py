"""Loading a job folder: what to ask, of whom, and which answers are good enough.

A job is a folder with `job.py` (`Artist` with `prompt_values`, `Bio`, `accept`), `system.md` and `user.md`. It says
what to ask, never how to send it.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from batcher.errors import InputError, JobError
from batcher.model import Endpoint, Failure, JobVersion
from batcher.planning import placeholders
from batcher.retry import FailureClass

NEEDED_FIELDS = ("artist_id", "artist_name")


@dataclass(frozen=True, slots=True)
class Job:
    """A loaded job."""

    name: str
    artist: type[BaseModel]
    bio: type[BaseModel]
    accept: Callable[[Any, Any], str | None]
    system: str
    template: str
    schema: Mapping[str, object]

    def version(self, model: str, endpoint: Endpoint, max_output_tokens: int) -> JobVersion:
        """What this job asks with these settings."""
        return JobVersion(
            self.name,
            model,
            endpoint,
            max_output_tokens,
            self.system,
            self.template,
            self.schema,
            self.bio.__name__.lower(),
        )

    def read_row(self, row: Mapping[str, object], where: str) -> Any:
        """The artist of an input row; empty texts count as absent. Raises InputError naming row and column."""
        try:
            return self.artist.model_validate({key: value for key, value in row.items() if value not in ("", None)})
        except ValidationError as error:
            raise InputError(f"{where}, {_fault(error)}") from None
        except UnicodeEncodeError:
            raise InputError(f"{where}: a value holds a lone surrogate, which is not text; mend the row") from None

    def restore(self, data: str) -> Any:
        """The artist of a row as the state keeps it (JSON). Raises JobError when today's job.py refuses it."""
        try:
            return self.artist.model_validate_json(data)
        except ValidationError as error:
            raise JobError(f"job.py refuses a row that was planned, {_fault(error)}; undo the change") from None

    def judge(self, artist: Any, text: str) -> tuple[str, None] | tuple[None, Failure]:
        """The accepted bio as compact JSON, or why the text is none (class UNUSABLE)."""
        try:
            bio = self.bio.model_validate_json(text)
        except ValidationError as error:
            return None, Failure(FailureClass.UNUSABLE, "invalid_output", _fault(error)[:300])
        reason = self.accept(artist, bio)
        if reason is not None:
            return None, Failure(FailureClass.UNUSABLE, "not_accepted", reason[:300])
        return bio.model_dump_json(), None


def _fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    column = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    shown = "" if first["type"] in {"missing", "value_error"} else f" (it is {_short(first['input'])})"
    return f"column {column}: {message}{shown}" if column else message


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def load_job(folder: Path) -> Job:
    """The job in `folder`. Raises JobError with the file and line of what is wrong."""
    for name in ("job.py", "system.md", "user.md"):
        if not (folder / name).is_file():
            raise JobError(f"{folder} is no job: {name} is missing; `batcher init` writes an example")
    module = _import(folder / "job.py")
    artist, bio = _model(module, "Artist", folder), _model(module, "Bio", folder)
    _check_artist(artist, folder)
    template = _read(folder / "user.md")
    if not placeholders(template):
        raise JobError(f"{folder / 'user.md'} names no value of the artist, so every prompt would be the same")
    accept = getattr(module, "accept", None)
    if not callable(accept):
        raise JobError(f"{folder / 'job.py'} has no accept(artist, bio) function; return None to accept")
    return Job(folder.name, artist, bio, accept, _read(folder / "system.md"), template, strict_schema(bio))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise JobError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _import(path: Path) -> ModuleType:
    name = f"batcher_job_{path.parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise JobError(f"{error.filename or path}, line {error.lineno}: {error.msg}") from None
    except Exception as error:
        raise JobError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _model(module: ModuleType, name: str, folder: Path) -> type[BaseModel]:
    model = getattr(module, name, None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise JobError(f"{folder / 'job.py'} has no pydantic model {name}")
    return model


def _check_artist(artist: type[BaseModel], folder: Path) -> None:
    missing = [name for name in NEEDED_FIELDS if name not in artist.model_fields]
    if missing:
        raise JobError(f"{folder / 'job.py'}: Artist has no field {', '.join(missing)}")
    if not callable(getattr(artist, "prompt_values", None)):
        raise JobError(f"{folder / 'job.py'}: Artist has no prompt_values() giving the values of user.md")


def strict_schema(model: type[BaseModel]) -> Mapping[str, object]:
    """The model's JSON schema as strict structured output wants it: all required, nothing additional, no defaults.

    Source: OpenAI, guides/structured-outputs. Raises JobError for a field with a default.
    """
    for name, field in model.model_fields.items():
        if not field.is_required():
            raise JobError(f"{model.__name__}.{name} has a default; structured output needs every field (use X | None)")
    schema = _strict(model.model_json_schema())
    assert isinstance(schema, dict)
    return schema


def _strict(node: object) -> object:
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: _strict_entry(key, value) for key, value in node.items() if key not in {"title", "default"}}
    if node.get("type") == "object":
        out["additionalProperties"] = False
        out["required"] = list(node.get("properties", {}))
    return out


def _strict_entry(key: str, value: object) -> object:
    # The keys of `properties` and `$defs` are names of the user's, not keywords: none of them is dropped.
    if key in {"properties", "$defs"} and isinstance(value, dict):
        return {name: _strict(sub) for name, sub in value.items()}
    return _strict(value)


def output_columns(job: Job) -> dict[str, str]:
    """The job's output fields and their DuckDB types, for `collect`; what is no scalar stays JSON text."""
    types = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}
    properties = job.bio.model_json_schema().get("properties", {})
    return {name: types.get(str(prop.get("type")), "JSON") for name, prop in properties.items()}


def encode_row(artist: BaseModel) -> str:
    """The row as the state keeps it: what a line is rendered from again."""
    return orjson.dumps(artist.model_dump(exclude_none=True)).decode()
