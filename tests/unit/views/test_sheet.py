"""Tables as a terminal of some width shows them."""

import io

import pytest
from rich.console import Console

from batcher.views.sheet import build_table, name_with_id, shorten_id


def drawn(what: object, width: int) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(what)
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_fits_its_terminal_without_folding(width: int) -> None:
    row = ("batch_" + "a1" * 16, "12", "1", "in_progress", "49,999 of 50,000", "23.9 h")
    sheet = build_table(
        "In flight", ["batch", "shard", "priority", "status", "lines", "for"], [row], 4, ["priority", "for"]
    )
    lines = drawn(sheet, width)
    assert max(map(len, lines)) <= width
    assert len([line for line in lines if line.strip()]) == 4  # title, head, rule, one row
    assert lines[0].strip() == "In flight"
    assert ("batch_" + "a1" * 16 in lines[3]) == (width >= 80)


def test_a_title_is_as_long_as_it_needs_to_be_and_markup_is_text() -> None:
    lines = drawn(build_table("A title that is longer than its table", ["a"], [["[red]x[/red] :heart:"]]), 80)
    assert lines[0].rstrip() == "A title that is longer than its table"
    assert "[red]x[/red] :heart:" in lines[3]
    assert shorten_id("file-short") == "file-short"


def test_an_id_that_stands_in_for_a_name_is_shown_once() -> None:
    assert name_with_id("a", "Ana") == "Ana (a)"
    assert name_with_id("a", "Ana", id_first=True) == "a (Ana)"
    assert name_with_id("17", "17") == "17"
