"""`batcher init`: a commented batcher.toml and an example job. Overwrites nothing."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from batcher.commands.base.answer import CommandAnswer
from batcher.errors import StateError

if TYPE_CHECKING:
    from batcher.contracts.planning import InitAnswer

NAMES = (
    "batcher.toml",
    "jobs/example/job.py",
    "jobs/example/system.md",
    "jobs/example/user.md",
    "jobs/example/artists.csv",
)
"""The files that are written; they have the same names in the package, under batcher/data/example."""


def run_init(folder: Path) -> "CommandAnswer[InitAnswer]":
    """Write what is missing in a folder; report each file, and what to do next."""
    lines = scaffold_job(folder)

    def describe() -> "InitAnswer":
        from batcher.contracts.planning import InitAnswer

        return InitAnswer.model_validate({"told": lines})

    return CommandAnswer(lambda: "\n".join(lines), describe)


def scaffold_job(folder: Path) -> list[str]:
    """Write the files that are missing; return a line for each, written or left, and one on what to do next.

    Raises StateError when the folder cannot be written.
    """
    try:
        return list(_write_missing_templates(folder))
    except OSError as error:
        raise StateError(f"{folder} cannot be written: {error.strerror}; name another folder") from error


def _write_missing_templates(folder: Path) -> Iterator[str]:
    templates = resources.files("batcher").joinpath("data/example")
    for name in NAMES:
        target = folder / name
        content = templates.joinpath(name).read_bytes()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("xb") as file:
                file.write(content)
        except FileExistsError:
            yield f"{target} is there already, left as it is"
        else:
            yield f"{target} written"
    yield (
        "Put your table in place of jobs/example/artists.csv, look at `batcher plan --dry-run`, then export "
        "OPENAI_API_KEY and run `batcher plan`."
    )
