"""Loading a job folder: job.py, system.md and user.md, checked before anything is sent.

Where job.py has messages(row), user.md must be missing, and system.md may be. Where answers are numbers, system.md must
be missing.
"""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from pydantic import BaseModel

from batcher.core.endpoints.table import FORMS, AnswerKind
from batcher.core.model import ARTIST_COLUMNS, TEXT_FIELD, Endpoint, RowColumns
from batcher.core.rendering import parse_placeholders
from batcher.errors import JobError
from batcher.job.job import Job, JobCodeGuard, accept_any_text, job_output_to_stderr
from batcher.job.numbers import accept_any_numbers, find_folder_fault, number_columns
from batcher.job.row import ROW_MODELS, find_row_columns
from batcher.job.schema import build_strict_schema, check_row_columns
from batcher.nouns import build_nouns, read_nouns

NEEDED_FIELDS = ("artist_id", "artist_name")
"""The fields that a model named Artist must have. One named Row says itself which of its fields these are."""
OUTPUT_MODELS = ("Bio", "Answer")
"""The names that the output model may have."""
TEXT_COLUMNS = (TEXT_FIELD,)
"""The column of an answer in plain text."""
ANSWER_NAMES: Mapping[AnswerKind, str] = {
    AnswerKind.WORDS: "text",
    AnswerKind.VECTOR: "vector",
    AnswerKind.FLAGS: "judgement",
}
"""What the acceptance check of a job without an output model is given."""


def load_job(folder: Path, endpoint: Endpoint = Endpoint.CHAT) -> Job:
    """Return the job in `folder`, for an endpoint. Raises JobError with the file and line of what is wrong."""
    _require_file(folder / "job.py")
    module = _import_job_module(folder / "job.py")
    _check_nouns(module, folder)
    answers = FORMS[endpoint].answer
    if answers is not AnswerKind.WORDS:
        _check_text_input(module, folder, endpoint)
    messages = _load_messages(module, folder)
    if messages is None:
        if endpoint.takes_prompt:
            _require_file(folder / "system.md")
        _require_file(folder / "user.md")
    row_name, artist = _find_row_model(module, folder)
    bio = _find_output_model(module, row_name, artist, folder) if answers is AnswerKind.WORDS else None
    fixed = () if bio is not None else TEXT_COLUMNS if answers is AnswerKind.WORDS else number_columns(answers)
    columns = _check_row_model(module, row_name, artist, messages is None, fixed, folder)
    template = _load_user_template(artist, row_name, columns, folder) if messages is None else ""
    accept = _load_accept_check(module, row_name, "" if bio is not None else ANSWER_NAMES[answers], folder)
    schema: Mapping[str, object] = {}
    if bio is not None:
        with JobCodeGuard(f"{folder / 'job.py'}: {bio.__name__} has no JSON schema"):
            schema = build_strict_schema(bio, columns)
    has_system = _is_file(folder / "system.md")
    system = _read_text(folder / "system.md") if has_system else ""
    if has_system and not system:
        raise JobError(f"{folder / 'system.md'} is empty; write into it what every request has in common")
    return Job(
        folder.name, artist, bio, accept, system, template, schema, _artist_columns(artist), messages, columns, answers,
        _find_text_id(artist, columns) if row_name == "Row" else None,
    )  # fmt: skip


def _require_file(path: Path) -> None:
    if not _is_file(path):
        raise JobError(f"{path.parent} is no job: {path.name} is missing; `batcher init` writes an example")


def _check_nouns(module: ModuleType, folder: Path) -> None:
    """Raise JobError for nouns that are no plain texts, or that cannot be read without running job.py."""
    with JobCodeGuard(f"{folder / 'job.py'}: NOUNS cannot be read"):
        nouns, given = read_nouns(folder), getattr(module, "NOUNS", None)
    if given is not None and build_nouns(given) != nouns:
        raise JobError(
            f"{folder / 'job.py'}: NOUNS has to be assigned once, at the start of a line, as plain texts: "
            'NOUNS = ("ticket", "label")'
        )


def _check_text_input(module: ModuleType, folder: Path, endpoint: Endpoint) -> None:
    """Raise JobError for what has no use in the folder of a job whose answers are numbers."""
    output = _choose_name(module, OUTPUT_MODELS, folder)
    has_messages = getattr(module, "messages", None) is not None
    fault = find_folder_fault(endpoint, _is_file(folder / "system.md"), has_messages, output)
    if fault:
        raise JobError(f"{folder}: {fault}")


def _load_messages(module: ModuleType, folder: Path) -> Callable[[Any], object] | None:
    """Return what gives the messages of a row; None for a job whose messages are system.md and user.md.

    Raises JobError where it cannot be called, or user.md would have no use beside it.
    """
    messages: object = getattr(module, "messages", None)
    if messages is None:
        return None
    if not callable(messages):
        raise JobError(f"{folder / 'job.py'}: messages is no function; write messages(row), or give it another name")
    with JobCodeGuard(f"{folder / 'job.py'}: messages cannot be looked at"):
        signature = inspect.signature(messages)
        try:
            signature.bind(None)
        except TypeError:
            raise JobError(
                f"{folder / 'job.py'}: messages{signature} does not take a row; write messages(row)"
            ) from None
    if _is_file(folder / "user.md"):
        raise JobError(
            f"{folder}: user.md has no use beside messages(row) of job.py, which gives what stands behind system.md; "
            "remove one of the two"
        )
    return messages


def _load_accept_check(module: ModuleType, row_name: str, given: str, folder: Path) -> Callable[[Any, Any], str | None]:
    """Return the acceptance check. Raises JobError where it cannot be called: at the first answer it would be too late,
    as that is paid for.

    given: what it is given, where that is no output model; a job may do without the check then. "": an output model.
    """
    row, answer = ("row", "answer") if row_name == "Row" else ("artist", "bio")
    answer = given or answer
    taken = f"a row and {f'a {given}' if given else 'an answer'}" if row_name == "Row" else f"an artist and a {answer}"
    default = {"": None, ANSWER_NAMES[AnswerKind.WORDS]: accept_any_text}.get(given, accept_any_numbers)
    accept: object = getattr(module, "accept", default)
    if not callable(accept):
        raise JobError(f"{folder / 'job.py'} has no accept({row}, {answer}) function; return None to accept")
    with JobCodeGuard(f"{folder / 'job.py'}: accept cannot be looked at"):
        signature = inspect.signature(accept)
        try:
            signature.bind(None, None)
        except TypeError:
            raise JobError(
                f"{folder / 'job.py'}: accept{signature} does not take {taken}; "
                f"write accept({row}, {answer}), and return None to accept"
            ) from None
    return accept


def _load_user_template(artist: type[BaseModel], row_name: str, columns: RowColumns, folder: Path) -> str:
    template = _read_text(folder / "user.md")
    try:
        names = parse_placeholders(template)
    except JobError as error:
        raise JobError(f"{folder}/{error}") from None
    if not names:
        row, *examples = row_name.lower(), *(name for name in artist.model_fields if name != columns.id), columns.id
        where = f"write {{{columns.name or examples[0]}}} where the {'name' if columns.name else 'value'} belongs"
        raise JobError(f"{folder / 'user.md'} names no value of the {row}, so every prompt would be the same; {where}")
    if not hasattr(artist, "prompt_values") and artist.model_config.get("extra") != "allow":
        unknown = next((name for name in names if name not in artist.model_fields), None)
        if unknown is not None:
            raise JobError(
                f"{folder / 'user.md'} names {{{unknown}}}, which is no field of Row; it has "
                f"{', '.join(artist.model_fields)}"
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


def _find_row_model(module: ModuleType, folder: Path) -> tuple[str, type[BaseModel]]:
    """Return the model of a row, and by which name job.py has it. Raises JobError where it has none, or two."""
    name = _choose_name(module, ROW_MODELS, folder)
    if name is None:
        raise JobError(f"{folder / 'job.py'} has no pydantic model {' or '.join(reversed(ROW_MODELS))}")
    return name, _find_pydantic_model(module, name, folder)


def _choose_name(module: ModuleType, names: Sequence[str], folder: Path) -> str | None:
    """Return which of two names job.py defines; None: neither. Raises JobError where both are models."""
    models = [name for name in names if _is_model(getattr(module, name, None))]
    if len(models) > 1:
        raise JobError(
            f"{folder / 'job.py'} has both {' and '.join(models)}, which are two names of one thing; keep one"
        )
    return next(iter(models), next((name for name in names if hasattr(module, name)), None))


def _is_model(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _find_output_model(
    module: ModuleType, row_name: str, artist: type[BaseModel], folder: Path
) -> type[BaseModel] | None:
    """Return the output model; None for a job of plain text, which has none.

    Raises JobError for another model that is no part of a row: it may be the output model under a wrong name, and that
    answers come as plain text would be seen only once they are paid for.
    """
    chosen = _choose_name(module, OUTPUT_MODELS, folder)
    if chosen is not None:
        return _find_pydantic_model(module, chosen, folder)
    used = set(_find_row_models(artist, set()))
    output = "Answer" if row_name == "Row" else "Bio"
    for name, model in vars(module).items():
        is_own = isinstance(model, type) and issubclass(model, BaseModel) and model.__module__ == module.__name__
        if is_own and name[:1] != "_" and not any(issubclass(each, model) for each in used):
            raise JobError(
                f"{folder / 'job.py'} has no pydantic model {output}, and its model {name} is no part of {row_name}; "
                f"name it {output} where an answer has its fields, else _{name}: then answers are plain text"
            )
    return None


def _find_row_models(kind: object, seen: set[object]) -> Iterator[type[BaseModel]]:
    """Yield the models that a row consists of, from its own one on."""
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
        seen.add(kind)
        yield kind
        for field in kind.model_fields.values():
            yield from _find_row_models(field.annotation, seen)
    for part in get_args(kind):
        yield from _find_row_models(part, seen)


def _check_row_model(
    module: ModuleType,
    row_name: str,
    artist: type[BaseModel],
    has_template: bool,
    fixed: Collection[str],
    folder: Path,
) -> RowColumns:
    """Return which fields of the row are its id, name and priority. Raises JobError where it lacks what it needs.

    fixed: as for `check_row_columns`.
    """
    if row_name == "Row":
        columns = find_row_columns(module, artist, str(folder / "job.py"))
        check_row_columns(columns, fixed, str(folder / "job.py"))
        return columns
    missing = [name for name in NEEDED_FIELDS if name not in artist.model_fields]
    if missing:
        raise JobError(f"{folder / 'job.py'}: Artist has no field {', '.join(missing)}")
    if has_template and not callable(getattr(artist, "prompt_values", None)):
        raise JobError(f"{folder / 'job.py'}: Artist has no prompt_values() giving the values of user.md")
    return ARTIST_COLUMNS


def _find_text_id(artist: type[BaseModel], columns: RowColumns) -> str | None:
    """Return the column of the table that holds the id where it is declared as a text; else None."""
    field = artist.model_fields[columns.id]
    source = field.validation_alias or columns.id
    return source if field.annotation is str and isinstance(source, str) else None


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
