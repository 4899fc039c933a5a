"""What OpenAI says of the project, in words: its settings, and what of it stands against the job."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from batcher.catalog.limits import lookup_tier_limit
from batcher.config.sections import Config
from batcher.core.direct.flex import FLEX
from batcher.service.admin_service import ProjectSettings
from batcher.views.sheet import format_usd


class ProjectNote(NamedTuple):
    """Something that a user should know: as a sentence without its full stop, and what to do."""

    sentence: str
    todo: str


def describe_project(project: ProjectSettings, model: str) -> str:
    """Return what is known of the project, in one line."""
    limits, parts = project.limits, []
    if limits is not None:
        named = (
            (limits.requests_a_minute, "requests a minute"),
            (limits.tokens_a_minute, "tokens a minute"),
            (limits.requests_a_day, "requests a day"),
            (limits.batch_tokens_a_day, "batch tokens a day"),
        )
        told = ", ".join(f"{count:,} {what}" for count, what in named if count is not None)
        parts.append(f"{told} for {model}" if told else f"no limits of {model}")
    if project.spend is not None:
        parts.append(f"a spend limit of {format_usd(project.spend.usd)} a month")
    if project.tiers is not None:
        parts.append(f"service tiers: {', '.join(['standard', *project.tiers])}")
    return f"{project.project}: {'; '.join(parts) or 'nothing more is known'}"


def describe_project_notes(project: ProjectSettings, config: Config, most_usd: float | None) -> Sequence[ProjectNote]:
    """Return what of the project's settings stands against the job. most_usd: the most that it may still cost."""
    return [
        *(ProjectNote(problem, "nothing else needs the admin key") for problem in project.problems),
        *_describe_limit(project, config),
        *_describe_spend(project, most_usd),
        *_describe_tiers(project, config),
    ]


def _describe_limit(project: ProjectSettings, config: Config) -> Iterator[ProjectNote]:
    hint = project.limits.batch_tokens_a_day if project.limits is not None else None
    own, table = config.limits.enqueued_tokens, lookup_tier_limit(config.model.name, config.limits.tier)
    if not hint or hint == (own or table):
        return
    told = f"OpenAI names {hint:,} batch tokens a day for {config.model.name} in {project.project}"
    if own is not None:
        yield ProjectNote(f"{told}, and [limits] enqueued_tokens = {own:,} counts", "see whether it is still right")
    elif table is not None:
        says = f"the table of tiers says {table:,} for tier {config.limits.tier}"
        yield ProjectNote(f"{told}, which is taken as the limit; {says}", "set [limits] tier to that of the account")


def _describe_spend(project: ProjectSettings, most_usd: float | None) -> Iterator[ProjectNote]:
    spend = project.spend
    if spend is None:
        return
    amount = f"the project's spend limit of {format_usd(spend.usd)} a month"
    if spend.is_enforced:
        yield ProjectNote(f"{amount} is reached: requests are refused", "raise it (OpenAI, Settings > Limits)")
    elif most_usd is not None and most_usd > spend.usd:
        yield ProjectNote(
            f"the lines that are left may cost {format_usd(most_usd)} at most, more than {amount}",
            "raise it (OpenAI, Settings > Limits), or set [budget] max_usd below it",
        )


def _describe_tiers(project: ProjectSettings, config: Config) -> Iterator[ProjectNote]:
    if config.direct.service_tier == FLEX and project.tiers is not None and FLEX not in project.tiers:
        yield ProjectNote(
            f'[direct] service_tier = "flex", and {project.project} does not allow flex',
            'allow it at OpenAI, or set service_tier = "auto"',
        )
