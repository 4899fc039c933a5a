"""`batcher init`: a commented batcher.toml and an example job. Overwrites nothing."""

import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from batcher.errors import StateError


def scaffold(folder: Path) -> list[str]:
    """Writes what is missing; a line for each file, written or left. Raises StateError when the folder cannot be."""
    try:
        return list(_written(folder))
    except OSError as error:
        raise StateError(f"{folder} cannot be written: {error.strerror}") from error


def _written(folder: Path) -> Iterator[str]:
    templates = resources.files("batcher").joinpath("data/example")
    names = (
        "batcher.toml",
        "jobs/example/job.py",
        "jobs/example/system.md",
        "jobs/example/user.md",
        "jobs/example/artists.csv",
    )
    for name in names:
        target = folder / name
        if target.exists():
            yield f"{target} is there already, left as it is"
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with resources.as_file(templates.joinpath(name)) as source:
            shutil.copyfile(source, target)
        yield f"{target} written"
    yield "Put your table in place of jobs/example/artists.csv, export OPENAI_API_KEY, and run `batcher plan`."
