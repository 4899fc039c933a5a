"""The question before something that cannot be taken back: asked on a terminal alone."""

from pathlib import Path

import pytest

from batcher.commands.base.confirm import confirm_on_terminal, confirm_or_refuse
from batcher.commands.base.session import Session
from batcher.config.sections import Config
from batcher.errors import DecisionError, InputError
from batcher.state.db.store import Store
from batcher.views.progress import CleanConsole, Display


def make_session(tmp_path: Path, json: bool = False) -> Session:
    return Session(Config(), Store(tmp_path, lambda: 0.0, lambda _: None), Display(CleanConsole(stderr=True)), json)


def answer(monkeypatch: pytest.MonkeyPatch, text: bool) -> list[str]:
    asked: list[str] = []

    def confirm(question: str, err: bool) -> bool:
        assert err
        asked.append(question)
        return text

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", confirm)
    return asked


def test_the_option_agrees_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, False)
    confirm_or_refuse(make_session(tmp_path), "3 lines would be sent", "--yes", True)
    assert asked == []


def test_nobody_is_asked_away_from_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    with pytest.raises(InputError, match=r"^3 lines would be sent; nothing was changed, --yes agrees$"):
        confirm_or_refuse(make_session(tmp_path), "3 lines would be sent", "--yes", False)


def test_nobody_is_asked_where_the_answer_is_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, True)
    with pytest.raises(InputError):
        confirm_or_refuse(make_session(tmp_path, json=True), "3 lines would be sent", "--yes", False)
    assert asked == []


def test_a_person_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = answer(monkeypatch, True)
    confirm_or_refuse(make_session(tmp_path), "3 lines would be sent", "--yes", False)
    assert asked == ["Go on?"]
    assert capsys.readouterr().err == "3 lines would be sent.\n"
    answer(monkeypatch, False)
    with pytest.raises(DecisionError, match=r"^nothing was changed$"):
        confirm_or_refuse(make_session(tmp_path), "3 lines would be sent", "--yes", False)


def test_what_would_be_done_is_found_out_only_where_a_person_can_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def describe() -> str:
        described.append("once")
        return ""

    described: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    confirm_on_terminal(make_session(tmp_path), describe)
    assert described == []
    asked = answer(monkeypatch, False)
    confirm_on_terminal(make_session(tmp_path), describe)
    assert (described, asked) == (["once"], [])  # there is nothing to agree to
