"""A job: what to ask, of whom, and which answers are good enough.

A job is loaded from a folder with `job.py` (`Row`, `Answer`, `accept`), `system.md` and `user.md`. It says what to ask,
never how to send it. Without `Answer` an answer is plain text; `messages` takes the place of user.md. The models may
be named `Artist` and `Bio` instead.
"""

import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from batcher.core.endpoints.embeddings import VectorLength
from batcher.core.endpoints.table import AnswerKind
from batcher.core.failures import FailureClass
from batcher.core.model import (
    ARTIST_COLUMNS,
    NO_PARAMETERS,
    TEXT_FIELD,
    Endpoint,
    Failure,
    JobVersion,
    Parameters,
    RowColumns,
)
from batcher.core.result_line import replace_odd_escapes
from batcher.errors import BatcherError, InputError, JobError, format_faulty_value
from batcher.job.messages import encode_messages
from batcher.job.numbers import read_numbers
from batcher.job.row import format_fields, format_id
from batcher.nouns import current_nouns

JOB_CODE_ERRORS = (Exception, SystemExit)
"""What the user's code may raise and must not end Batcher with: any error, and SystemExit (of `sys.exit()`), which is
no Exception. KeyboardInterrupt is not among them, as Ctrl-C is meant for Batcher."""


class JobCodeGuard:
    """A context that the job's own code runs in: its errors become a JobError that names the place and the line.

    Entering a context takes time, and a `try` none. Code that runs for every row or line is therefore called in a
    `try`, and its error is raised again within the guard: `except JOB_CODE_ERRORS: with JobCodeGuard(where): raise`.
    """

    def __init__(self, where: object) -> None:
        self._where = where

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Raise JobError for any error but Batcher's own."""
        if isinstance(error, JOB_CODE_ERRORS) and not isinstance(error, BatcherError):
            frames = traceback.extract_tb(error.__traceback__)
            lines = [f.lineno for f in frames if Path(f.filename).name == "job.py" and f.filename != __file__]
            place = f"job.py, line {lines[-1]}: " if lines else ""
            text = str(error).strip()
            kind = type(error).__name__
            reason = f"{kind}: {text.splitlines()[0]}" if text else kind
            told, logged = (f"{self._where}: {place}{what}; fix job.py" for what in (reason, kind))
            raise JobError(told, logged) from error


_IS_LEFT_ALONE = ContextVar("_IS_LEFT_ALONE", default=False)
"""Of this thread: whether what a job prints goes where the program prints."""


@contextmanager
def leave_job_output_alone() -> Iterator[None]:
    """Have what a job prints go where the program prints, in this thread, while the context lasts.

    sys.stdout belongs to the process: in a program with threads it must not be replaced.
    """
    before = _IS_LEFT_ALONE.set(True)
    try:
        yield
    finally:
        _IS_LEFT_ALONE.reset(before)


def job_output_to_stderr() -> AbstractContextManager[object]:
    """Return a context in which what a job prints goes to stderr: stdout is for the command's answer."""
    return nullcontext() if _IS_LEFT_ALONE.get() else redirect_stdout(sys.stderr)


@dataclass(frozen=True, slots=True)
class Job:
    """A loaded job."""

    name: str
    artist: type[BaseModel]
    """The model of a row."""
    bio: type[BaseModel] | None
    """The output model; None: an answer is plain text."""
    accept: Callable[[Any, Any], str | None]
    """Is given the artist, and the answer as the output model, as text or as numbers."""
    system: str
    template: str
    schema: Mapping[str, object]
    """Of the output model; empty for plain text."""
    columns: Collection[str] | None = None
    """The columns of a table that Artist reads; None: perhaps all."""
    messages: Callable[[Any], object] | None = None
    """Gives the messages of a row, in place of user.md, which is empty then; None: the job has none of its own."""
    row_columns: RowColumns = ARTIST_COLUMNS
    """Which fields of a row are its id, name and priority."""
    answers: AnswerKind = AnswerKind.WORDS
    """What an answer is. One in numbers has no output model."""
    text_id: str | None = None
    """The column of the table that holds the id, where whole numbers in it are read as texts."""

    def build_version(
        self,
        model: str,
        endpoint: Endpoint,
        max_output_tokens: int,
        parameters: Parameters = NO_PARAMETERS,
    ) -> JobVersion:
        """Return what this job asks with these settings."""
        return JobVersion(
            self.name,
            model,
            endpoint,
            max_output_tokens,
            self.system,
            self.template,
            self.schema,
            self.bio.__name__.lower() if self.bio else "",
            parameters,
        )

    def parse_artist_row(self, row: Mapping[str, object], where: object) -> Any:
        """Return the artist of an input row; empty texts count as absent.

        Raises InputError naming row and column, and JobError where the job's code fails.
        """
        given = {column: value for column, value in row.items() if value is not None and value != ""}
        if self.text_id is not None and type(given.get(self.text_id)) in {int, float}:
            given[self.text_id] = format_id(given[self.text_id])
        for column, value in given.items():
            if type(value) is str and "\0" in value and self._may_read_column(column):
                raise InputError(
                    f"{where}, column {column}: holds a NUL character, which no request can carry; remove it"
                )
        try:
            # What `model_validate` calls, without its frame of Python: this is done for each row of the table.
            return self.artist.__pydantic_validator__.validate_python(given)
        except ValidationError as error:
            raise InputError(f"{where}, {_describe_row_error(error, row)}") from None
        except JOB_CODE_ERRORS:
            with JobCodeGuard(where):
                raise

    def _may_read_column(self, column: str) -> bool:
        fields = self.artist.model_fields
        return column in fields or any(info.validation_alias is not None for info in fields.values())

    def read_id(self, artist: Any) -> str:
        """Return the id of a row; "" where it has none."""
        return format_id(getattr(artist, self.row_columns.id, None))

    def read_name(self, artist: Any) -> str:
        """Return the name of a row; its id where it has none."""
        value = getattr(artist, self.row_columns.name, None) if self.row_columns.name is not None else None
        return str(value) if value is not None else self.read_id(artist)

    def encode_row(self, artist: BaseModel) -> str:
        """Return the row as the JSON that the state keeps, of which a line is rendered again.

        Raises JobError where it has no JSON.
        """
        try:
            # The serializer of the artist's own class: a validator may have returned a subclass with fields of its own,
            # which the serializer of Artist would drop. `model_dump_json` calls it, too.
            return artist.__pydantic_serializer__.to_json(artist, exclude_none=True).decode()
        except JOB_CODE_ERRORS:
            with JobCodeGuard(f"{current_nouns().row} {self.read_id(artist)}: the row cannot be kept as JSON"):
                raise

    def restore_artist(self, data: str) -> Any:
        """Return the artist of a row that `encode_row` wrote. Raises JobError where today's job.py refuses it."""
        try:
            return self.artist.model_validate_json(data, by_alias=True, by_name=True)
        except ValidationError as error:
            raise JobError(
                f"job.py refuses a row that was planned, {_describe_validation_error(error)}; undo the change"
            ) from None
        except JOB_CODE_ERRORS:
            with JobCodeGuard("a row that was planned"):
                raise

    def prompt_values(self, artist: Any, where: object) -> Mapping[str, str]:
        """Return what the row puts into user.md: its fields as texts where it has no prompt_values.

        Raises JobError naming the row where the job's code fails.
        """
        if not hasattr(self.artist, "prompt_values"):
            return format_fields(artist)
        try:
            values = artist.prompt_values()
        except JOB_CODE_ERRORS:
            with JobCodeGuard(where):
                raise
        if type(values) is not dict and not isinstance(values, Mapping):
            raise JobError(f"{where}: prompt_values gives {type(values).__name__}; return a dict of texts")
        for name, value in values.items():
            if type(value) is not str and not isinstance(value, str | int | float):
                raise JobError(f"{where}: prompt_values gives {type(value).__name__} for {name}; give a text")
        return values

    def render_messages(self, artist: Any, endpoint: Endpoint, where: object) -> str:
        """Return the messages that the job writes for an artist, as JSON. Raises JobError naming the row where the
        job's code fails, or what it gives are no messages."""
        if self.messages is None:
            raise JobError(
                f"{where}: the line was planned with messages(row) of job.py, which is gone; undo the change"
            )
        with JobCodeGuard(where):
            messages = self.messages(artist)
        try:
            return encode_messages(endpoint, messages)
        except JobError as error:
            raise JobError(f"{where}: {error}") from None

    def validate_answer(
        self, artist: Any, text: str, length: VectorLength | None = None
    ) -> tuple[str, None] | tuple[None, Failure]:
        """Return the accepted bio as compact JSON, or why the text is none (class UNUSABLE).

        Raises JobError where the job's code fails.
        """
        if self.answers is not AnswerKind.WORDS:
            numbers = read_numbers(self.answers, text, length)
            if numbers.fault:
                return None, Failure(FailureClass.UNUSABLE, "invalid_output", numbers.fault)
            return self._accept_bio(artist, numbers.value, numbers.data)
        if self.bio is None:
            return self._accept_bio(artist, text, _encode_text(text))
        try:
            bio = self.bio.model_validate_json(replace_odd_escapes(text))
        except ValidationError as error:
            return None, Failure(FailureClass.UNUSABLE, "invalid_output", _describe_validation_error(error)[:300])
        except JOB_CODE_ERRORS:
            with JobCodeGuard(f"{current_nouns().row} {self.read_id(artist)}"):
                raise
        return self._accept_bio(artist, bio)

    def accepts_kept_bio(self, data: str, bio: str) -> bool:
        """Return whether `judge_kept_bio` finds nothing against a bio. Raises JobError as it does."""
        return self.judge_kept_bio(data, bio) is None

    def judge_kept_bio(self, data: str, bio: str) -> Failure | None:
        """Return why a bio of another row, which asks the same, is none for this one; None where it is accepted.

        data: the row, bio: its bio, both as the state keeps them. Raises JobError where the job's code fails, or
        today's job.py refuses the row.
        """
        artist = self.restore_artist(data)
        if self.bio is None:
            return self._accept_bio(artist, self._read_kept_value(bio))[1]
        try:
            kept = self.bio.model_validate_json(bio, by_alias=True, by_name=True)
        except ValidationError as error:
            return Failure(FailureClass.UNUSABLE, "invalid_output", _describe_validation_error(error)[:300])
        except JOB_CODE_ERRORS:
            with JobCodeGuard(f"{current_nouns().row} {self.read_id(artist)}"):
                raise
        return self._accept_bio(artist, kept)[1]

    def _read_kept_value(self, bio: str) -> object:
        """Return what `accept` is given of a bio without an output model: a text, numbers, or a judgement's fields."""
        fields = orjson.loads(bio)
        return fields if self.answers is AnswerKind.FLAGS else next(iter(fields.values()))

    def _accept_bio(self, artist: Any, bio: object, data: str = "") -> tuple[str, None] | tuple[None, Failure]:
        """Return as `validate_answer` does. data: the answer as JSON; "" for an output model, whose JSON is made."""
        try:
            reason = self.accept(artist, bio)
            data = bio.model_dump_json(by_alias=True) if isinstance(bio, BaseModel) else data
        except JOB_CODE_ERRORS:
            with JobCodeGuard(f"{current_nouns().row} {self.read_id(artist)}"):
                raise
        if reason is None:
            return data, None
        if not isinstance(reason, str):
            where = f"{current_nouns().row} {self.read_id(artist)}: accept"
            raise JobError(f"{where} gives {type(reason).__name__}; return None to accept, else the reason")
        return None, Failure(FailureClass.UNUSABLE, "not_accepted", reason[:300])


def accept_any_text(_artist: object, text: str) -> str | None:
    """Return None for a text that is not blank, else the reason: the check of a job of plain text without its own."""
    return None if text.strip() else "the answer is blank"


def _encode_text(text: str) -> str:
    return orjson.dumps({TEXT_FIELD: text}).decode()


def _describe_row_error(error: ValidationError, row: Mapping[str, object]) -> str:
    """Return what is wrong with a row. A needed column that is there and holds nothing is empty, not missing."""
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "missing" and first["loc"][0] in row:
        return f"column {first['loc'][0]} is empty"
    return _describe_validation_error(error)


def _describe_validation_error(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    column = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if not column:
        return message
    message = message.removesuffix(".")
    # A message that the job wrote may name the field itself: "born must be a whole number."
    named = message if message.startswith(f"{column} ") else f"{column}: {message}"
    shown = "" if first["type"] in {"missing", "value_error"} else f" (it is {format_faulty_value(first['input'])})"
    return f"column {named}{shown}"
