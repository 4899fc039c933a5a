"""`batcher versions`: the prompts that were asked with, and what differs between two of them."""

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import orjson
from rich.console import Group, RenderableType
from rich.text import Text

from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.session import Session
from batcher.core.endpoints.table import describe_plain_answer
from batcher.core.model import JobVersion
from batcher.errors import InputError, JobError
from batcher.nouns import current_nouns
from batcher.plan.checks import build_todays_version
from batcher.state.db.transaction import Transaction
from batcher.state.reports.prompts import PromptTotals, load_prompt_totals
from batcher.state.versions import find_version_number, load_prompt_numbers, load_versions
from batcher.views.sheet import build_table, format_time, format_usd

if TYPE_CHECKING:
    from batcher.contracts.results import DifferenceAnswer, VersionsAnswer

COLUMNS = ["prompt", "since", "model", "lines", "judged", "accepted", "cost"]
"""Of the table, before that of the answers. The prompt of today's job is marked; an effort that is set stands beside
its model."""
DATE = len("2026-11-27")


class Today(NamedTuple):
    """What the job asks today: the version (None: the job folder cannot be loaded), and its prompt's number where lines
    were planned with it."""

    version: JobVersion | None
    prompt: int | None
    problem: str
    """Why the job folder cannot be loaded; "" where it can."""


def run_versions(
    session: Session, first: int | None, second: int | None
) -> "CommandAnswer[VersionsAnswer] | CommandAnswer[DifferenceAnswer]":
    """List the prompts; first: what differs between this one and `second`, which is today's where it is not named.

    Raises InputError for a prompt that there is not, and JobError where today's prompt is needed and cannot be loaded.
    """
    return list_versions(session) if first is None else compare_versions(session, first, second)


def list_versions(session: Session) -> "CommandAnswer[VersionsAnswer]":
    """List the prompts."""
    with session.store.read_transaction() as tx:
        return _list_prompts(load_prompt_totals(tx), load_versions(tx), _load_today(tx, session))


def compare_versions(session: Session, first: int, second: int | None) -> "CommandAnswer[DifferenceAnswer]":
    """Return what differs between two prompts; second None: today's. Raises as `run_versions` does."""
    with session.store.read_transaction() as tx:
        versions = load_versions(tx)
        today = _load_today(tx, session)
        numbers = set(load_prompt_numbers(tx).values())
    for number in (first, second):
        if number is not None and number not in numbers:
            raise InputError(f"there is no prompt {number}; there are {', '.join(map(str, sorted(numbers)))}")
    later = versions[second] if second is not None else today.version
    if later is None:
        raise JobError(today.problem)
    name = f"prompt {second}" if second is not None else "today's prompt"
    diff = describe_difference(versions[first], later, f"prompt {first}", name)

    def describe() -> "DifferenceAnswer":
        from batcher.contracts.results import DifferenceAnswer

        to = second if second is not None else today.prompt
        return DifferenceAnswer.model_validate({"from": first, "to": to, "diff": diff})

    return CommandAnswer(lambda: diff or f"Prompt {first} and {name} are the same.", describe)


def _load_today(tx: Transaction, session: Session) -> Today:
    try:
        version = build_todays_version(session.config, session.load_job())
    except JobError as error:  # this is a look: it needs no job
        return Today(None, None, str(error))
    return Today(version, load_prompt_numbers(tx).get(find_version_number(tx, version)), "")


def _list_prompts(
    totals: Sequence[PromptTotals], versions: Mapping[int, JobVersion], today: Today
) -> "CommandAnswer[VersionsAnswer]":
    rows, data = [], []
    for total in totals:
        version, share = versions[total.prompt], total.accepted_share
        rows.append(
            (
                f"{total.prompt} today" if total.prompt == today.prompt else str(total.prompt),
                format_time(total.planned_at)[:DATE],
                f"{version.model} {version.effort or ''}".rstrip(),
                total.lines, total.judged, f"{share:.1%}" if share is not None else "",
                format_usd(total.cost_usd), total.bios,
            )
        )  # fmt: skip
        data.append(
            {
                **total._asdict(),
                "accepted_share": share,
                "model": version.model,
                "effort": version.effort,
                "is_today": total.prompt == today.prompt,
            }
        )
    parts: list[RenderableType] = [
        build_table("Prompts", [*COLUMNS, current_nouns().answers], rows, 3, ["judged", "lines"])
    ]
    if today.problem:
        parts.append(Text(f"Today's prompt is not known: {today.problem}"))
    elif today.prompt is None:
        parts.append(
            Text("No line was planned with today's prompt; `batcher versions N` shows what differs from prompt N.")
        )

    def describe() -> "VersionsAnswer":
        from batcher.contracts.results import VersionsAnswer

        return VersionsAnswer.model_validate({"prompts": data, "today": today.prompt})

    return CommandAnswer(lambda: Group(*parts), describe)


def describe_difference(one: JobVersion, other: JobVersion, first: str, second: str) -> str:
    """Return what differs between two versions as a unified diff; "" where nothing does."""
    lines = difflib.unified_diff(_write_version(one), _write_version(other), first, second, lineterm="")
    return "\n".join(lines)


def _write_version(version: JobVersion) -> list[str]:
    """Return a version as lines of text: settings, prompts, and the schema in its order."""
    schema = orjson.dumps(dict(version.schema), option=orjson.OPT_INDENT_2).decode()
    answer = (
        (f"# schema {version.schema_name}", *schema.splitlines())
        if version.schema
        else (f"# {describe_plain_answer(version.endpoint)}",)
    )
    prompt = ("# user.md", *version.template.splitlines()) if version.template else ("# messages(row) of job.py",)
    parts = {
        "job": version.name,
        "model": version.model,
        "endpoint": version.endpoint.value,
        "max_output_tokens": str(version.max_output_tokens),
        **{f"parameter {name}": str(value) for name, value in version.parameters.items()},
        **({"prompt cache": version.cache.value} if version.cache else {}),
    }
    return [
        *(f"{name}: {value}" for name, value in parts.items()),
        "# system.md", *version.system.splitlines(),
        *prompt,
        *answer,
    ]  # fmt: skip
