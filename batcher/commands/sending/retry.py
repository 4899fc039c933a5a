"""`batcher retry`: bring dead and held lines back, with today's prompt."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.catalog.tokens import TokenCounter
from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.choices import parse_failure_class
from batcher.commands.base.session import Session
from batcher.config.sections import Config
from batcher.core.lifecycle import ArtistState
from batcher.errors import InputError
from batcher.job.job import Job
from batcher.nouns import capitalize, current_nouns
from batcher.plan.checks import build_todays_version, check_unsent_lines
from batcher.plan.reversioning import give_todays_version
from batcher.state import asked_again, wishes
from batcher.state.asked_again import PromptLines
from batcher.state.db.transaction import Transaction
from batcher.state.reports.status import has_artist, read_artist
from batcher.state.snapshot import load_saved_prices
from batcher.state.wishes import RetriedLines, RetryFilter
from batcher.views.sheet import build_table, format_count

if TYPE_CHECKING:
    from batcher.contracts.sending import RetryAnswer


class BroughtBack(NamedTuple):
    """Lines that came back, the prompts that they have now, and how many stay held because they are perhaps paid."""

    lines: Sequence[RetriedLines]
    perhaps_paid: int
    prompts: Sequence[PromptLines]


def run_retry(
    session: Session, failure: str | None, artist: str | None, held: bool, dead: bool, same_prompt: bool
) -> "CommandAnswer[RetryAnswer]":
    """Bring lines back, of both states where neither or both are named.

    Raises InputError for a class or an artist that does not exist, and as `bring_back_lines` does.
    """
    chosen = ((held, ArtistState.HELD), (dead, ArtistState.DEAD))
    states = tuple(state for is_chosen, state in chosen if is_chosen or held == dead)
    choice = RetryFilter(parse_failure_class(failure), artist, states)
    with session.store.read_transaction() as tx:
        if artist is not None and not has_artist(tx, artist):
            raise InputError(f"the plan has no {current_nouns().row} {artist!r}; `batcher show` finds similar ones")
    brought = bring_back_lines(session, choice, same_prompt)
    why = _explain_nothing(session, artist) if artist is not None and not brought.lines else ""

    def describe() -> "RetryAnswer":
        from batcher.contracts.sending import RetryAnswer

        return RetryAnswer.model_validate(brought)

    return CommandAnswer(lambda: _draw_retry(brought, why), describe)


def _explain_nothing(session: Session, artist_id: str) -> str:
    """Return why the line of an artist did not come back, as a sentence."""
    with session.store.read_transaction() as tx:
        found = read_artist(tx, artist_id, partial(load_saved_prices, tx))
    if found is None or found.state in {"held", "dead"}:
        return ""
    nouns = current_nouns()
    redo = f"`batcher redo {nouns.id_option} {artist_id}` asks for its {nouns.answer} again"
    remedy = f"; {redo}" if found.state.startswith("done") else ""
    return f"{capitalize(nouns.row)} {artist_id!r} is {found.state.replace('_', ' ')}, neither held nor dead{remedy}."


def bring_back_lines(session: Session, choice: RetryFilter, same_prompt: bool) -> BroughtBack:
    """Bring lines back with today's prompt; same_prompt: with the prompt that each of them had.

    Raises ConfigError where unsent lines were planned with another version of the job than today's, InputError where a
    line is too long with today's prompt, and JobError where today's job.py refuses its row; then nothing was changed.
    """
    job = None if same_prompt else session.load_job()
    with session.store.transaction("retry") as tx:
        return bring_back_within(tx, session.config, job, choice)


def bring_back_within(tx: Transaction, config: Config, job: Job | None, choice: RetryFilter) -> BroughtBack:
    """Bring lines back with the prompt of this job, within a transaction that the caller may roll back.

    job: None: with the prompt that each of them had. Raises as `bring_back_lines` does.
    """
    if job is not None:
        check_unsent_lines(tx, build_todays_version(config, job))
    retried = wishes.retry_lines(tx, choice)
    if job is not None and retried.lines:
        with TokenCounter() as counter:
            give_todays_version(tx, config, job, counter)
    return BroughtBack(retried.lines, retried.perhaps_paid, asked_again.count_prompts(tx))


def _draw_retry(brought: BroughtBack, why: str) -> RenderableType:
    """Return the drawing of lines that came back. why: the reason where none did, "" where it is not known."""
    total = sum(row.lines for row in brought.lines)
    parts: list[RenderableType] = []
    if total:
        parts.append(build_table("Brought back", ["was", "after", "lines"], brought.lines, 2))
    ready = "1 line is ready again" if total == 1 else f"{total:,} lines are ready again"
    with_prompt = f", {describe_prompts(brought.prompts)}" if total else ""
    parts.append(Text(f"{ready}{with_prompt}" + ("; `batcher poll` goes on with them." if total else ".")))
    if why:
        parts.append(Text(why))
    if brought.perhaps_paid:
        n = brought.perhaps_paid
        parts.append(
            Text(
                f"{format_count(n, 'line')} whose answer was lost, and that may already be paid, "
                f"{'stays' if n == 1 else 'stay'} held: `batcher retry --class missing` buys them again."
            )
        )
    return Group(*parts)


def describe_prompts(prompts: Sequence[PromptLines]) -> str:
    """Return which prompt lines have now, and whether it is another than before."""
    parts = []
    for row in prompts:
        count = f"{row.lines:,} " if len(prompts) > 1 else ""
        before = f" ({row.changed:,} had another one before)" if row.changed else ""
        parts.append(f"{count}with prompt {row.prompt}{before}")
    return ", ".join(parts)
