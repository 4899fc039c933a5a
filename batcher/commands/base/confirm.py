"""The question before something that costs money or takes lines out of the plan."""

import sys
from collections.abc import Callable

import typer

from batcher.commands.base.session import Session
from batcher.errors import DecisionError, InputError
from batcher.views.folding import fold_for_terminal


def confirm_on_terminal(session: Session, describe: Callable[[], str]) -> None:
    """Ask on a terminal; return where the user agrees, or is no person: a script has decided.

    describe: returns a sentence that says what would be done, without a question mark, or "" where nothing would; it is
    called only where a person can be asked. Raises DecisionError where the user does not agree.
    """
    if _can_ask(session) and (question := describe()) and not _ask(question):
        raise DecisionError("nothing was done")


def _ask(question: str) -> bool:
    typer.echo(fold_for_terminal(f"{question}.", sys.stderr), err=True)
    try:
        return typer.confirm("Go on?", err=True)
    except typer.Abort:  # Ctrl-C, or Ctrl-D: whoever leaves a question does not agree
        typer.echo(err=True)
        return False


def _can_ask(session: Session) -> bool:
    return session.host.asks and not session.json and sys.stdin.isatty() and sys.stderr.isatty()


def confirm_or_refuse(session: Session, question: str, option: str, is_given: bool) -> None:
    """Ask on a terminal; return where the user agrees, or has given the option that agrees beforehand.

    question: a sentence that says what would be done, without a question mark. Raises DecisionError where the user
    does not agree, or a Python program has not agreed beforehand, and InputError away from a terminal: there no
    person can be asked.
    """
    if is_given:
        return
    if not session.host.asks:
        raise DecisionError(f"{question}; nothing was changed, {option.strip('-')}=True agrees")
    if not _can_ask(session):
        raise InputError(f"{question}; nothing was changed, {option} agrees")
    if not _ask(question):
        raise DecisionError("nothing was changed")
