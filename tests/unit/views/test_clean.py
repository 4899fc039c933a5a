"""What a name, an answer or a refusal holds is shown by the terminal, and never obeyed."""

import io
import json

import pytest
from rich.console import RenderableType
from rich.panel import Panel
from rich.text import Text

from batcher.views.clean import clean_json, clean_text
from batcher.views.progress import CleanConsole, Display
from batcher.views.sheet import build_table

HOSTILE = [
    "\x1b]52;c;aGVsbG8=\x07",  # sets the clipboard
    "\x1b[2J\x1b[H",  # clears the screen
    "\x9b2J",  # the same, of one character
    "\u202egnp.exe",  # turns the direction
    "a\rb\x00\x08c\x7f",
    "half \ud83d of an emoji",
]


def printed(what: RenderableType) -> str:
    file = io.StringIO()
    CleanConsole(file=file, force_terminal=True, width=100, legacy_windows=False).print(what)
    return file.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_obeys_no_text(text: str) -> None:
    told = f"Ana {text} Albers"
    for what in (Text(told), Panel(Text(told)), build_table(told, ["a", told], [[told, told]])):
        assert clean_text(plain := printed(what).replace("\x1b[1m", "").replace("\x1b[0m", "")) == plain
        assert "Ana " in plain
    assert "\x1b[1m" in printed(Text("bold", style="bold"))  # what rich itself draws with stays


@pytest.mark.parametrize("text", HOSTILE)
def test_neither_do_the_lines_and_the_bar_of_a_display(text: str) -> None:
    file = io.StringIO()
    display = Display(CleanConsole(file=file, force_terminal=True, width=100))
    display.print_line(f"shard 1: refused: {text}")
    assert clean_text(file.getvalue()) == file.getvalue()
    with display.show_progress("sending"):
        display.update_note(text)
    assert text not in file.getvalue()


def test_an_answer_in_json_keeps_its_meaning() -> None:
    answer = {"name": "\x1b[2J \x9b2J \u202e \x7f ü 艺"}
    text = clean_json(json.dumps(answer, ensure_ascii=False))
    assert clean_text(text) == text
    assert json.loads(text) == answer
    assert "ü 艺" in text


def test_names_between_colons_stay_as_they_are() -> None:
    file = io.StringIO()
    CleanConsole(file=file, width=100).print("artist :red_circle: at 10:30", markup=False)
    assert file.getvalue() == "artist :red_circle: at 10:30\n"
