"""`batcher init`: a commented batcher.toml and a job: an example, or one that fits a table. Overwrites nothing."""

import shlex
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from batcher.commands.base.answer import CommandAnswer
from batcher.core.model import Endpoint
from batcher.errors import InputError, StateError

if TYPE_CHECKING:
    from batcher.contracts.planning import InitAnswer
    from batcher.scaffold.sources import JobPlan

NAMES = (
    "batcher.toml",
    "jobs/example/job.py",
    "jobs/example/system.md",
    "jobs/example/user.md",
    "jobs/example/artists.csv",
)
"""The files that are written; they have the same names in the package, under batcher/data/example."""
TABLES = (".csv", ".jsonl", ".parquet")
OTHER_TABLES = (
    ".xlsx",
    ".xls",
    ".ods",
    ".tsv",
    ".txt",
    ".json",
    ".ndjson",
    ".gz",
    ".zip",
    ".tab",
    ".feather",
    ".arrow",
)
"""Endings of files that hold tables of other kinds: a folder has none of them."""


class InitWish(NamedTuple):
    """What the user has said of the new job. target: a folder for the example, or a table; folder: where the files of a
    job for a table go; endpoint: one whose answers are numbers, by the last word of its path."""

    target: Path
    prompt: str | None = None
    schema: str | None = None
    id: str | None = None
    folder: Path | None = None
    endpoint: str | None = None


def run_init(wish: InitWish) -> "CommandAnswer[InitAnswer]":
    """Write a job for a table, or what is missing of the example; report each file, and what to do next.

    Raises InputError for a table or options that give no job, and StateError where the folder cannot be written.
    """
    if wish.target.suffix.lower() in TABLES or wish.target.is_file():
        lines = scaffold_table_job(wish)
    elif wish.target.suffix.lower() in OTHER_TABLES and not wish.target.exists():
        raise InputError(f"{wish.target} does not exist, and a table is .csv, .jsonl or .parquet; check the name")
    elif any(option is not None for option in wish[1:]):
        raise InputError(
            "--prompt, --schema, --id, --endpoint and --folder are for a table: batcher init --prompt ... tickets.csv"
        )
    else:
        lines = scaffold_job(wish.target)

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


def scaffold_table_job(wish: InitWish) -> list[str]:
    """Write a job that fits a table; return a line for each file, what was chosen, and what to do next.

    Raises InputError where a file is there already, and then nothing was written.
    """
    from batcher.scaffold import sources
    from batcher.scaffold.output_fields import parse_output_fields
    from batcher.scaffold.profile import profile_table

    fields = parse_output_fields(wish.schema) if wish.schema is not None else None
    endpoint = sources.parse_endpoint(wish.endpoint) if wish.endpoint is not None else None
    asked = sources.JobWish(wish.prompt, fields, wish.id, endpoint)
    plan = sources.plan_job_files(profile_table(wish.target), asked)
    folder, job = wish.folder or Path(), f"jobs/{sources.name_job(wish.target)}"
    files = {
        folder / job / "job.py": sources.write_job_source(plan),
        **({folder / job / "system.md": sources.write_system_prompt(plan)} if endpoint is None else {}),
        folder / job / "user.md": sources.write_user_prompt(plan),
        folder / "batcher.toml": sources.write_settings(plan, job, _locate_table(wish.target, folder)),
    }
    _write_new_files(files)
    return [*(f"{path} written" for path in files), *_describe_choice(plan), *_list_next_steps(folder, plan)]


def _locate_table(table: Path, folder: Path) -> str:
    """Return the path of a table from a folder; outside of it, its full path."""
    full, root = table.resolve(), folder.resolve()
    return (full.relative_to(root) if full.is_relative_to(root) else full).as_posix()


def _write_new_files(files: dict[Path, str]) -> None:
    """Write files that must not be there yet. Raises InputError where one is, before any is written."""
    present = next((path for path in files if path.exists() or path.is_symlink()), None)
    if present is not None:
        raise InputError(
            f"{present} is there already, and nothing was written: move it away, or name another folder by --folder"
        )
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise StateError(f"{path} cannot be written: {error.strerror}; name another folder by --folder") from error


def _describe_choice(plan: "JobPlan") -> Iterator[str]:
    """Yield what the columns of the table were taken for."""
    chosen = plan.chosen
    yield f"{chosen.id} is the id: {chosen.why}. --id COLUMN takes another one."
    if chosen.passed_over:
        yield chosen.passed_over
    if chosen.name is not None:
        yield f"{chosen.name} is the name."
    if chosen.priority is not None:
        yield f"{chosen.priority} is the priority: 1 is sent first."
    unread = [column.name for column in plan.table.columns if column.name not in plan.fields]
    if unread:
        yield f"No field can hold these columns, and none is sent: {', '.join(unread)}."


def _list_next_steps(folder: Path, plan: "JobPlan") -> Iterator[str]:
    begin = (
        "Next:"
        if plan.prompt is not None or plan.endpoint is not None
        else "Say in system.md what you ask for, and in job.py what an answer is; then:"
    )
    yield begin if folder == Path() else f"{begin[:-1]}, in {folder}:"
    if plan.endpoint is Endpoint.MODERATIONS:
        yield "    set enqueued_tokens under [limits] of batcher.toml (Settings > Limits at OpenAI shows it)"
    results = shlex.quote(f"{plan.table.path.stem}_answers.parquet")
    yield "    batcher preview                # what will be sent, with tokens and price"
    yield "    batcher plan                   # cuts the table; nothing is sent yet"
    yield f"    batcher run --out {results}   # with OPENAI_API_KEY set: sends, follows, and collects"
