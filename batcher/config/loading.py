"""Reading batcher.toml and the environment: parsed once, checked together. An unknown key is an error that names the
valid ones.

`BATCHER_SECTION__KEY` in the environment overrides a key. Secrets are not settings: OPENAI_API_KEY and
OPENAI_BASE_URL stay in the environment, where the client library reads them.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from batcher.config.sections import Config
from batcher.errors import ConfigError, format_faulty_value

PREFIX = "BATCHER_"
"""The beginning of the names of variables that override a key."""
OF_TESTS = ("BATCHER_TEST_", "BATCHER_WRITE_DOCS")
"""The beginnings of the names of variables that only the tests of the project use."""
NAMED_FAULTS = 5
"""The most errors in the settings that one message names."""


def load_config(path: Path) -> Config:
    """Return the settings of `path`, with relative paths taken from its folder. Raises ConfigError."""
    data = _read_toml(path)
    for name, place in _environment_overrides():
        _set_nested_key(data, place, os.environ[name])
    try:
        config = Config(**data)
    except ValidationError as error:
        raise ConfigError(_describe_validation_error(path, error)) from error
    if config.direct.service_tier != "auto" and "service_tier" in config.model.parameters.to_parameters():
        raise ConfigError(f"{path}: [direct] and [model.parameters] both set service_tier; remove one of them")
    if config.direct.service_tier == "flex" and not config.model.endpoint.takes_prompt:
        raise ConfigError(
            f'{path}: {config.model.endpoint} has no flex processing; set service_tier = "auto" in [direct]'
        )
    return _resolve_paths(config, path.resolve().parent)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; name a file with --config")
        if not path.is_file():
            raise ConfigError(f"{path} does not exist; `batcher init` writes one, --config names another")
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}; fix the line") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line} is not UTF-8; save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _environment_overrides() -> Iterator[tuple[str, list[str]]]:
    """Yield each variable that overrides a key, and the place of the key. Raises ConfigError for one that sets none."""
    for name in sorted(os.environ):
        if not name.upper().startswith(PREFIX) or name.upper().startswith(OF_TESTS):
            continue
        place = name.lower().removeprefix(PREFIX.lower()).split("__")
        if len(place) == 1:
            raise ConfigError(f"{name} in the environment sets nothing; keys are set as {PREFIX}SECTION__KEY")
        if place[0] not in Config.model_fields:
            raise ConfigError(f"{name} in the environment: unknown section {place[0]}; {_format_valid_keys([])}")
        yield name, place


def _set_nested_key(data: dict[str, Any], place: Sequence[str], value: str) -> None:
    """Set one key, making the tables that lead to it."""
    *tables, key = place
    for table in tables:
        if not isinstance(data.get(table), dict):
            data[table] = {}
        data = data[table]
    data[key] = value


def _resolve_paths(config: Config, folder: Path) -> Config:
    job = config.job.model_copy(update={"path": folder / config.job.path, "input": folder / config.job.input})
    state = config.state.model_copy(update={"dir": folder / config.state.dir})
    if job.done:
        job = job.model_copy(update={"done": str(folder / job.done)})
    return config.model_copy(update={"job": job, "state": state})


def _describe_validation_error(path: Path, error: ValidationError) -> str:
    """Return the errors in words, each with its place: all that are wrong can be corrected at once."""
    faults = [_describe_fault(path, fault) for fault in error.errors(include_url=False)]
    told = [faults[0], *(fault.removeprefix(f"{path}: ") for fault in faults[1:NAMED_FAULTS])]
    more = len(faults) - len(told)
    return "; and ".join(told) + (f"; and {more} more" if more else "")


def _describe_fault(path: Path, fault: Mapping[str, Any]) -> str:
    """Return one error in words: where, what, and for an unknown key the valid ones."""
    place = [str(part) for part in fault["loc"]]
    where, key = _setting_source(path, place), ".".join(place)
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key {key}; {_format_valid_keys(place[:-1])}"
    if fault["type"] in {"model_type", "dict_type"}:
        return f"{where}: {key} must be a table; {_format_valid_keys(place)}"
    message = fault["msg"].removeprefix("Value error, ")
    value = format_faulty_value(fault.get("input"))
    return f"{where}: {key} = {value} is not valid: {message[:1].lower()}{message[1:]}"


def _setting_source(path: Path, place: list[str]) -> str:
    """Return the variable that sets a key, else the file."""
    variable = PREFIX + "__".join(place).upper()
    names = [name for name in os.environ if name.upper() == variable]
    return f"{names[0]} in the environment" if names else str(path)


def _format_valid_keys(place: list[str]) -> str:
    model: Any = Config
    for part in place:
        model = model.model_fields[part].annotation
    where = f"[{'.'.join(place)}] has" if place else "the sections are"
    return f"{where} {', '.join(model.model_fields)}"
