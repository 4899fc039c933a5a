"""docs/glossary.md held against the commands: their help texts use its words, and none that it rejects."""

import re
from collections.abc import Iterator

import pytest
from typer.main import get_command

from batcher.cli.app import app
from batcher.core.lifecycle import ArtistState, ShardState
from batcher.core.model import Lane
from tests.support.world import ROOT

TEXT = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = re.findall(r"(?m)^\| ([a-z ]+) \| (.+) \| (.+) \|$", TEXT)[1:]
REJECTED = sorted({word for _, _, words in ROWS for word in words.split(", ")})


def help_texts() -> Iterator[tuple[str, str]]:
    """Yield every text that `--help` shows, with the command and the option that it belongs to."""
    root = get_command(app)
    yield "batcher", root.help or ""
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        yield name, f"{command.help or ''} {command.short_help or ''} {command.epilog or ''}"
        for parameter in command.params:
            yield f"{name} {parameter.name}", getattr(parameter, "help", None) or ""


def test_the_table_is_read() -> None:
    assert len(ROWS) > 25
    assert {"job", "artist", "line", "shard", "submission", "batch", "try", "bio", "lane"} <= {row[0] for row in ROWS}
    assert len(list(help_texts())) > 60


@pytest.mark.parametrize("word", REJECTED)
def test_no_help_text_uses_a_word_that_the_glossary_rejects(word: str) -> None:
    pattern = re.compile(rf"\b{re.escape(word)}(s|es)?\b", re.IGNORECASE)
    assert [where for where, text in help_texts() if pattern.search(text)] == []


def test_a_word_is_not_rejected_and_used() -> None:
    assert {row[0] for row in ROWS} & set(REJECTED) == set()


def test_every_state_and_lane_is_named() -> None:
    for state in (*ArtistState, *ShardState, *Lane):
        assert state.value in TEXT, state


def test_help_texts_fit_every_job() -> None:
    """What a row and an answer are called is a matter of the job at hand, which `--help` does not know."""
    words = re.compile(r"(?<!\w)(?:artists?|bios?)(?!\w)", re.IGNORECASE)
    assert [where for where, text in help_texts() if words.search(text)] == []
