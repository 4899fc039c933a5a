"""Rows of a screen: texts that are cut or broken at words, so that none is wider than the screen."""

from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from batcher.views.clean import clean_text

INDENT = "  "
"""What stands before the rows of a section, and before the second row of a broken sentence."""


def flatten_text(text: str) -> str:
    """Return a text as one line without anything that a terminal would act on."""
    return clean_text(" ".join(text.split()))


def fit_text(text: str, width: int, style: str = "") -> Text:
    """Return a text as one row of at most `width` cells; what is too long ends in "..."."""
    if cell_len(text) > width:
        dots = "..."[:width]
        text = set_cell_size(text, max(0, width - len(dots))).rstrip() + dots
    return Text(text, style=style, no_wrap=True)


def wrap_text(text: str, width: int, indent: str = INDENT) -> list[str]:
    """Return a text broken at words into rows of at most `width` cells; all but the first are indented."""
    rows, row = list[str](), ""
    for word in _split_long_words(text.split(), max(1, width - len(indent))):
        longer = f"{row} {word}" if row.strip() else f"{row}{word}"
        if cell_len(longer) <= width or not row.strip():
            row = longer
        else:
            rows.append(row)
            row = f"{indent}{word}"
    return [*rows, row] if row.strip() else rows


def _split_long_words(words: Iterable[str], width: int) -> Iterator[str]:
    """Yield the words; one that is wider than a row comes in pieces."""
    for word in words:
        piece = ""
        for character in word:
            if cell_len(piece + character) > width:
                yield piece
                piece = ""
            piece += character
        yield piece


def limit_rows(rows: Sequence[Text], most: int, width: int, noun: str = "more") -> list[Text]:
    """Return at most `most` rows; where some are left out, the last says how many."""
    if len(rows) <= most:
        return list(rows)
    if most <= 0:
        return []
    kept = most - 1
    return [*rows[:kept], fit_text(f"{INDENT}and {len(rows) - kept:,} {noun}", width, "dim")]
