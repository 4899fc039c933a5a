"""`batcher redo`: ask for bios again that exist, with today's prompt."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from batcher.catalog.prices import resolve_prices
from batcher.catalog.tokens import TokenCounter
from batcher.collect.conditions import build_condition_query, describe_columns
from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.confirm import confirm_or_refuse
from batcher.commands.base.session import Session
from batcher.commands.sending.retry import describe_prompts
from batcher.core.pilots import FEWEST_LINES
from batcher.errors import InputError
from batcher.job.job import Job
from batcher.nouns import current_nouns
from batcher.plan.checks import build_todays_version, check_unsent_lines
from batcher.plan.reversioning import give_todays_version
from batcher.state import asked_again, redo
from batcher.state.asked_again import PromptLines
from batcher.state.db.transaction import Transaction
from batcher.state.redo import RedoFilter, RedoneBios
from batcher.state.snapshot import compute_charge, load_room
from batcher.state.versions import load_prompt_numbers, load_versions
from batcher.views.sheet import format_count, format_usd

if TYPE_CHECKING:
    from batcher.contracts.sending import RedoAnswer

FIRST_ANSWERS = (
    "Of a prompt that was not tried yet, a first wave is sent before the rest; `batcher run` sends a pilot first from "
    f"{FEWEST_LINES:,} lines on, `batcher pilot` of any number."
)


class RedoOptions(NamedTuple):
    """Which bios the user has named; None: not by this."""

    artists: Sequence[str] | None
    prompt: int | None
    where: str | None


class Redo(NamedTuple):
    """Lines that are asked for again: the prompts that they have now, what their bios have cost, and what they may
    cost at most in dollars; None where that is not known."""

    lines: int
    prompts: Sequence[PromptLines]
    bios: RedoneBios
    most_usd: float | None

    def describe(self) -> str:
        """Return what is asked for again, and the price."""
        if not self.lines:
            return "no line is asked for again"
        verb = "is" if self.lines == 1 else "are"
        text = f"{format_count(self.lines, 'line')} {verb} asked for again, "
        text += describe_prompts(self.prompts)
        most = f"at most {format_usd(self.most_usd)}" if self.most_usd is not None else "of a price that is not known"
        text += f": {most}"
        if self.bios.priced:
            nouns, is_one = current_nouns(), self.bios.priced == 1
            exist = f"{nouns.answer} that exists has" if is_one else f"{nouns.answers} that exist have"
            text += f"; the {exist} cost {format_usd(self.bios.cost_usd)}"
        return text


def run_redo(session: Session, options: RedoOptions, yes: bool) -> "CommandAnswer[RedoAnswer]":
    """Ask for bios again; the price is shown first, and the user asked where `yes` is not given.

    Raises InputError for artists, a prompt or a condition that name nothing, DecisionError where the user declines, and
    otherwise as `retry` does; then nothing was changed.
    """
    job = session.load_job()
    if not yes:
        with session.store.read_transaction() as tx:
            session.check_origin(tx)
        with session.store.dry_run_transaction() as tx, TokenCounter() as counter:
            expected = _ask_again(tx, session, job, options, counter)
        if expected.lines:
            confirm_or_refuse(session, expected.describe(), "--yes", is_given=False)
    with session.store.transaction("redo") as tx, TokenCounter() as counter:
        done = _ask_again(tx, session, job, options, counter)
    kept = f"Each {current_nouns().answer} stays until another one is accepted"
    goes_on = "`batcher poll` or `batcher run` goes on with them."
    text = done.describe() + (f". {kept}; {goes_on}" if done.lines else ".")
    if any(row.changed for row in done.prompts):
        text += f" {FIRST_ANSWERS}"

    def describe() -> "RedoAnswer":
        from batcher.contracts.sending import RedoAnswer

        bios_usd = done.bios.cost_usd if done.bios.priced == done.bios.bios else None
        return RedoAnswer.model_validate({**done._asdict(), "bios": done.bios.bios, "bios_usd": bios_usd})

    return CommandAnswer(lambda: Text(text[:1].upper() + text[1:]), describe)


def _ask_again(tx: Transaction, session: Session, job: Job, options: RedoOptions, counter: TokenCounter) -> Redo:
    """Make the lines ready with today's prompt, within a transaction that the caller may roll back."""
    check_unsent_lines(tx, build_todays_version(session.config, job))
    _check_options(tx, options)
    with _condition_errors(options, job):
        query = build_condition_query(tx, job, options.where) if options.where is not None else None
        lines = redo.choose_redos(tx, RedoFilter(options.artists, options.prompt, query))
    if not lines and options == RedoOptions(None, None, None):
        nouns = current_nouns()
        raise InputError(
            f"name the {nouns.answers} to ask for again by {nouns.id_option}, --version or --where; "
            f"no {nouns.answer} was revoked"
        )
    bios = redo.load_redone_bios(tx)
    redo.redo_lines(tx)
    give_todays_version(tx, session.config, job, counter)
    return Redo(lines, asked_again.count_prompts(tx), bios, _bound_price(tx, session))


def _check_options(tx: Transaction, options: RedoOptions) -> None:
    """Raise InputError for artists without a bio, and for a prompt that there is not."""
    unfit = redo.find_unfit_artists(tx, options.artists or [])
    if unfit:
        first, nouns = unfit[0], current_nouns()
        if first.state is None:
            raise InputError(f"the plan has no {nouns.row} {first.artist_id!r}; `batcher show` finds similar ones")
        remedy = "`batcher retry` brings it back" if first.state in {"held", "dead"} else "it is still to be made"
        raise InputError(
            f"{nouns.row} {first.artist_id!r} is {first.state} and has no finished {nouns.answer}; {remedy}"
        )
    prompts = sorted(set(load_prompt_numbers(tx).values()))
    if options.prompt is not None and options.prompt not in prompts:
        raise InputError(f"there is no prompt {options.prompt}; there are {', '.join(map(str, prompts))}")


@contextmanager
def _condition_errors(options: RedoOptions, job: Job) -> Iterator[None]:
    """Have an error of a condition name the condition and the columns that there are."""
    try:
        yield
    except InputError as error:
        if options.where is None or str(error).startswith("--where"):
            raise
        raise InputError(
            f"--where {options.where!r} cannot be used: {error}; the columns are {describe_columns(job)}"
        ) from None


def _bound_price(tx: Transaction, session: Session) -> float | None:
    """Return the most dollars that the lines may cost at the batch price, each asked once; None: not known.

    Each line is priced by the version that it has now: one that was given more room for its answer keeps it.
    """
    versions, room = load_versions(tx), load_room(tx, session.config)
    most = 0.0
    for part in asked_again.count_versions(tx):
        version = versions[part.version]
        prices = resolve_prices(version.model)
        if prices is None:
            return None
        most += compute_charge(version, prices, room).most_usd(part.tokens, part.lines, part.longest)
    return most
