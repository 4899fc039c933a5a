"""Loading a job folder: what to ask, of whom, and which answers are good enough.

A job is a folder with `job.py` (`Artist` with `prompt_values`, `Bio`, `accept`), `system.md` and `user.md`. It says
what to ask, never how to send it.
"""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from pydantic import BaseModel, ValidationError

from batcher.core.model import Endpoint, Failure, JobVersion
from batcher.core.rendering import placeholders
from batcher.core.retry import FailureClass
from batcher.errors import BatcherError, InputError, JobError

NEEDED_FIELDS = ("artist_id", "artist_name")
COLLECTED = (
    "artist_id", "artist_name", "priority", "model", "finish_reason", "tokens_input", "tokens_cached", "tokens_output",
    "cost_usd", "lane", "shard", "batch_id", "attempts", "completed_at",
)  # fmt: skip
"""The columns that `collect` writes beside the job's own: no field of Bio may take one of these names."""


class JobCode:
    """While this lasts, the job's own code runs: whatever it raises becomes a JobError that names the place."""

    def __init__(self, where: object) -> None:
        self._where = where

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Raises JobError for any error but Batcher's own."""
        if isinstance(error, Exception | SystemExit) and not isinstance(error, BatcherError):
            raise JobError(f"{self._where}: {_line_of(error)}{_told(error)}; mend job.py") from error


def aside() -> AbstractContextManager[object]:
    """While this lasts, what a job prints goes to stderr: stdout is for the answer, which a machine may be reading."""
    return redirect_stdout(sys.stderr)


def _line_of(error: BaseException) -> str:
    """The last line of a job.py that the error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename).name == "job.py" and f.filename != __file__]
    return f"job.py, line {lines[-1]}: " if lines else ""


def _told(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


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
    columns: Collection[str] | None = None
    """The columns of a table that Artist looks at; None: perhaps all."""

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

    def read_row(self, row: Mapping[str, object], where: object) -> Any:
        """The artist of an input row; empty texts count as absent. Raises InputError naming row and column."""
        given = {column: value for column, value in row.items() if value is not None and value != ""}
        for column, value in given.items():
            if type(value) is str and "\0" in value and self._reads(column):
                raise InputError(
                    f"{where}, column {column}: holds a NUL character, which no request can carry; remove it"
                )
        # As JobCode, at no cost where all is well: this is done for every row.
        try:
            return self.artist.__pydantic_validator__.validate_python(given)
        except ValidationError as error:
            raise InputError(f"{where}, {_row_fault(error, row)}") from None
        except (Exception, SystemExit):
            with JobCode(where):
                raise

    def _reads(self, column: str) -> bool:
        fields = self.artist.model_fields
        return column in fields or any(field.validation_alias is not None for field in fields.values())

    def restore(self, data: str) -> Any:
        """The artist of a row as the state keeps it (JSON). Raises JobError when today's job.py refuses it."""
        try:
            return self.artist.model_validate_json(data, by_alias=True, by_name=True)
        except ValidationError as error:
            raise JobError(f"job.py refuses a row that was planned, {_fault(error)}; undo the change") from None
        except (Exception, SystemExit):
            with JobCode("a row that was planned"):
                raise

    def prompt_values(self, artist: Any, where: object) -> Mapping[str, str]:
        """What the artist puts into user.md. Raises JobError naming the row when the job's code fails."""
        try:
            values = artist.prompt_values()
        except (Exception, SystemExit):
            with JobCode(where):
                raise
        if type(values) is not dict and not isinstance(values, Mapping):
            raise JobError(f"{where}: prompt_values gives {type(values).__name__}; return a dict of texts")
        for name, value in values.items():
            if type(value) is not str and not isinstance(value, str | int | float):
                raise JobError(f"{where}: prompt_values gives {type(value).__name__} for {name}; give a text")
        return values

    def judge(self, artist: Any, text: str) -> tuple[str, None] | tuple[None, Failure]:
        """The accepted bio as compact JSON, or why the text is none (class UNUSABLE)."""
        try:
            bio = self.bio.model_validate_json(text)
        except ValidationError as error:
            return None, Failure(FailureClass.UNUSABLE, "invalid_output", _fault(error)[:300])
        except (Exception, SystemExit):
            with JobCode(f"artist {artist.artist_id}"):
                raise
        return self._accepted(artist, bio)

    def _accepted(self, artist: Any, bio: BaseModel) -> tuple[str, None] | tuple[None, Failure]:
        try:
            reason = self.accept(artist, bio)
            data = bio.model_dump_json(by_alias=True)
        except (Exception, SystemExit):
            with JobCode(f"artist {artist.artist_id}"):
                raise
        if reason is None:
            return data, None
        if not isinstance(reason, str):
            where = f"artist {artist.artist_id}: accept"
            raise JobError(f"{where} gives {type(reason).__name__}; return None to accept, else the reason")
        return None, Failure(FailureClass.UNUSABLE, "not_accepted", reason[:300])


def _row_fault(error: ValidationError, row: Mapping[str, object]) -> str:
    """What is wrong with a row. A needed column that is there and holds nothing is not missing, but empty."""
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "missing" and first["loc"][0] in row:
        return f"column {first['loc'][0]} is empty"
    return _fault(error)


def _fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    column = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if not column:
        return message
    message = message.removesuffix(".")
    # A sentence of the job's own may name the field itself: "born must be a whole number."
    named = message if message.startswith(f"{column} ") else f"{column}: {message}"
    shown = "" if first["type"] in {"missing", "value_error"} else f" (it is {_short(first['input'])})"
    return f"column {named}{shown}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def load_job(folder: Path) -> Job:
    """The job in `folder`. Raises JobError with the file and line of what is wrong."""
    for name in ("job.py", "system.md", "user.md"):
        if not _is_file(folder / name):
            raise JobError(f"{folder} is no job: {name} is missing; `batcher init` writes an example")
    module = _import(folder / "job.py")
    artist, bio = _model(module, "Artist", folder), _model(module, "Bio", folder)
    _check_artist(artist, folder)
    template = _template(folder)
    accept = _accept(module, folder)
    with JobCode(f"{folder / 'job.py'}: Bio has no JSON schema"):
        schema = strict_schema(bio)
    return Job(folder.name, artist, bio, accept, _system(folder), template, schema, _columns(artist))


def _accept(module: ModuleType, folder: Path) -> Callable[[Any, Any], str | None]:
    """The acceptance check. That it cannot be called must not show at the first answer, which is paid by then."""
    accept: object = getattr(module, "accept", None)
    if not callable(accept):
        raise JobError(f"{folder / 'job.py'} has no accept(artist, bio) function; return None to accept")
    with JobCode(f"{folder / 'job.py'}: accept cannot be looked at"):
        signature = inspect.signature(accept)
        try:
            signature.bind(None, None)
        except TypeError:
            raise JobError(
                f"{folder / 'job.py'}: accept{signature} does not take an artist and a bio; "
                "write accept(artist, bio), and return None to accept"
            ) from None
    return accept


def _system(folder: Path) -> str:
    text = _read(folder / "system.md")
    if not text:
        raise JobError(f"{folder / 'system.md'} is empty; write into it what every request has in common")
    return text


def _template(folder: Path) -> str:
    template = _read(folder / "user.md")
    try:
        names = placeholders(template)
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


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise JobError(f"{path}, line {line} is not UTF-8 (byte {error.start + 1}); save it as UTF-8") from None
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}") from error


class _Loader(SourceFileLoader):
    """Loads a job and leaves nothing beside it."""

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Keeps no bytecode: a job's folder is the user's."""


def _import(path: Path) -> ModuleType:
    name = f"batcher_job_{path.parent.name}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with aside(), JobCode(f"{path} cannot be loaded"):
        try:
            spec.loader.exec_module(module)
        except SyntaxError as error:
            line = f", line {error.lineno}" if error.lineno else ""
            raise JobError(f"{error.filename or path}{line}: {error.msg}; mend the file") from None
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


def _columns(artist: type[BaseModel]) -> Collection[str] | None:
    """The columns that the model looks at; None where others may matter to it, or to code of its own."""
    code = artist.__pydantic_custom_init__ or artist.__pydantic_decorators__.model_validators
    if code or artist.model_config.get("extra", "ignore") != "ignore":
        return None
    names = [field.validation_alias or name for name, field in artist.model_fields.items()]
    plain = [name for name in names if isinstance(name, str)]
    return {*artist.model_fields, *plain} if plain == names else None


def strict_schema(model: type[BaseModel]) -> Mapping[str, object]:
    """The model's JSON schema as strict structured output wants it: all required, nothing additional, no defaults.

    Source: OpenAI, guides/structured-outputs. Raises JobError for a field that it cannot express.
    """
    for name, field in model.model_fields.items():
        if not field.is_required():
            raise JobError(f"{model.__name__}.{name} has a default; structured output needs every field (use X | None)")
    raw = model.model_json_schema()
    properties = _fields(raw)
    if not properties:
        raise JobError(f"{model.__name__} has no field; give it one for each part of an answer")
    for name in properties:
        if name.lower() in COLLECTED:
            raise JobError(f"{model.__name__}.{name} has the name of a column that `collect` writes; rename it")
    _check_expressible(raw, model.__name__)
    schema = _strict(raw)
    assert isinstance(schema, dict)
    return schema


def _check_expressible(node: Mapping[str, Any], place: str) -> None:
    """Raises JobError for what strict mode cannot say: values of any type, and free mappings."""
    if not node.keys() - {"title", "description"}:
        raise JobError(f"{place} may be anything; structured output needs a type")
    if node.get("type") == "object" and "properties" not in node:
        raise JobError(f"{place} is a mapping with free keys; structured output needs a model with named fields")
    for name, sub in {**node.get("properties", {}), **node.get("$defs", {})}.items():
        _check_expressible(sub, f"{place}.{name}")
    items = node.get("items")
    for sub in [*node.get("anyOf", []), *([items] if isinstance(items, dict) else [])]:
        _check_expressible(sub, place)


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


_COLUMN_TYPES = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}
_TYPE_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def output_columns(job: Job) -> dict[str, str]:
    """The job's output fields and their DuckDB types, for `collect`; what is no scalar stays JSON text."""
    defs = job.schema.get("$defs", {})
    return {name: _column_type(_kinds(field, defs)) for name, field in _fields(job.schema).items()}


def _fields(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a model's schema; that of a model which holds itself is a reference."""
    properties: Mapping[str, Any] = _followed(schema, schema.get("$defs", {})).get("properties", {})
    return properties


def _followed(node: Mapping[str, Any], defs: Any) -> Mapping[str, Any]:
    while "$ref" in node:
        node = defs[node["$ref"].rpartition("/")[2]]
    return node


def _kinds(node: Mapping[str, Any], defs: Any) -> set[str]:
    """The types of what a field may hold, in JSON's words; "" for any that the schema does not tell."""
    node = _followed(node, defs)
    options = node.get("anyOf") or node.get("oneOf") or node.get("allOf")
    if options:
        return {kind for option in options for kind in _kinds(option, defs)}
    if "type" in node:
        return {str(node["type"])}
    values = node.get("enum", [node["const"]] if "const" in node else [])  # of mixed types, which have no `type`
    return {_TYPE_NAMES.get(type(value), "") for value in values} or {""}


def _column_type(kinds: set[str]) -> str:
    """The type that holds them all: texts beside numbers are texts, and so are numbers beside truths."""
    named = kinds - {"null"}
    if named == {"integer", "number"}:
        return "DOUBLE"
    if len(named) == 1:
        return _COLUMN_TYPES.get(named.pop(), "JSON")
    return "VARCHAR" if named and named <= _COLUMN_TYPES.keys() else "JSON"


def encode_row(artist: BaseModel) -> str:
    """The row as the state keeps it: what a line is rendered from again. Raises JobError when it has no JSON."""
    try:
        return artist.__pydantic_serializer__.to_json(artist, exclude_none=True).decode()
    except (Exception, SystemExit):
        with JobCode(f"artist {getattr(artist, 'artist_id', '')}: the row cannot be kept as JSON"):
            raise
